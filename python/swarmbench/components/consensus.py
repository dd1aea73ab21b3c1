"""Consensus: batches of votes generated, validated, stripped of duplicates, tallied and decided."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from swarmbench.components.base import Arrays, Component, Op
from swarmbench.components.philox import philox, stream_key
from swarmbench.components.zipf import zipf_ranks

#: Streams of randomness, as in `consensus/votes.rs` and `consensus/election.rs`.
DOMAIN_VOTES = 0x636F_6E73_0000_0001
DOMAIN_SCORES = 0x636F_6E73_0000_0002

#: Sequence numbers of senders; a flag above is malformed.
SEQUENCE_MAX = 0x7FFF
#: Classes of votes, in the order in which a vote with several faults is filed.
CLASSES = (
    "tallied",
    "duplicates",
    "unauthorised",
    "unknown_proposal",
    "unknown_value",
    "wrong_round",
    "malformed",
)

#: The memory plan of `consensus/cells.rs`, `screen.rs` and `partition.rs`: values that fit into a
#: cell, counters that are few and the turns of each, bytes of a screening, cells of a partition,
#: words of a block.
_CODES = 254
_FEW = 1024
_TURNS = 4
_SCREENED = 4112
_CELLS = 1 << 18
_BLOCK = 1024
#: Votes that a worker keeps at most (`consensus/worker.rs`), and scores of an election.
_KEPT = 1 << 20
_SCORES = 1024

Words = npt.NDArray[np.uint32]
Mix = Literal["uniform", "zipf", "same", "byzantine", "duplicates"]


class Ballot(NamedTuple):
    """One round of one group: what a valid vote of a batch must name."""

    agent_first: int
    proposal_first: int
    round: int


class Consensus(Component):
    """Byzantine quorum decisions over batches of 16-byte votes.

    A proposal has n authorised agents, tolerates f = floor((n - 1) / 3) faulty ones and is decided
    for a value with at least q = ceil((n + f + 1) / 2) votes (Castro and Liskov, OSDI 1999; here
    for any n), unless more than f agents were caught equivocating. An agent's first vote is the
    one with the lowest sequence number (`flags`), among equal ones the lowest value; only it
    counts, so the answer depends neither on order nor on how a batch is split.
    """

    name: ClassVar[str] = "consensus"
    unit: ClassVar[str] = "votes"
    ops: ClassVar[tuple[Op, ...]] = (
        Op("decide", "votes", "cache_read_bytes_s", 16.0),
        Op("tally", "votes", "cache_read_bytes_s", 16.0),
        Op("generate", "votes", "cache_read_bytes_s", 16.0),
        Op("elect", "candidates", "cache_read_bytes_s", 4.0),
    )
    weights: ClassVar[dict[str, float]] = {"decide": 1.0}
    production_rate_s: ClassVar[float | None] = 100.0
    stress_in_flight: ClassVar[int] = 64
    claim: ClassVar[str] = "73.89 µs, ~49 µs and < 100 µs per decision, 10 M votes/s"

    #: Votes per operation.
    batch: int = Field(default=100, ge=1, le=1 << 24)
    #: Authorised agents of a proposal (n).
    agents: int = Field(default=16, ge=1, le=1 << 20)
    proposals: int = Field(default=4, ge=1, le=1 << 16)
    values: int = Field(default=4, ge=1, le=65_535)
    #: Independent consensus groups that the operations take turns in (the seed's `count`).
    groups: int = Field(default=1000, ge=1, le=1 << 12)
    mix: Mix = "uniform"
    #: Share of (agent, proposal) pairs that prefer the proposal's leading value.
    agreement: float = Field(default=0.9, ge=0.0, le=1.0)
    #: Under the mix of that name: share of the agents that equivocate, forge their identity or
    #: mistake the round.
    byzantine: float = Field(default=0.33, ge=0.0, le=1.0)
    #: Under the mix of that name: share of the votes that repeat an earlier one.
    duplicates: float = Field(default=0.5, ge=0.0, le=0.99)
    #: Votes kept in memory for `tally`.
    stored_votes: int = Field(default=65_536, ge=1, le=1 << 26)
    #: One operation in so many is recomputed by the oracle; all are checked for consistency.
    oracle_every: int = Field(default=16, ge=1, le=1 << 16)

    @model_validator(mode="before")
    @classmethod
    def _a_share_names_its_mix(cls, given: Any) -> Any:
        """`byzantine` or `duplicates` given without a mix mean the mix of that name."""
        if not isinstance(given, dict) or "mix" in given:
            return given
        shares = [name for name in ("byzantine", "duplicates") if name in given]
        if len(shares) > 1:
            raise ValueError("mix: is not given but two shares are; give byzantine or duplicates")
        return {**given, "mix": shares[0]} if shares else given

    @model_validator(mode="after")
    def _counts_fit(self) -> Self:
        if self.proposals * self.values > 1 << 24:
            raise ValueError(
                f"values: {self.values} for each of {self.proposals} proposals are too many; "
                f"give at most {(1 << 24) // self.proposals}"
            )
        return self

    @classmethod
    def small(cls) -> Self:
        """Votes of every class, over several proposals, all recomputed by the oracle."""
        return cls(
            batch=2000, agents=60, proposals=16, mix="byzantine", stored_votes=5000, oracle_every=1
        )

    @property
    def tolerated(self) -> int:
        """Most faulty agents that a proposal tolerates (f)."""
        return (self.agents - 1) // 3

    @property
    def quorum(self) -> int:
        """Votes that decide (q)."""
        return -(-(self.agents + self.tolerated + 1) // 2)

    @property
    def faulty(self) -> int:
        """Agents of a group, its first ones, that are faulty."""
        share = per_65536(self.byzantine) if self.mix == "byzantine" else 0
        return self.agents * share >> 16

    def ballot(self, key: int) -> Ballot:
        """What the votes of the operation `key` are about; no two keys share all three."""
        lane, ordinal = key >> 48, key & ((1 << 48) - 1)
        return Ballot(
            agent_first=ordinal % self.groups * self.agents,
            proposal_first=lane * self.proposals,
            round=ordinal // self.groups & 0xFFFFFFFF,
        )

    def resident_bytes(self, workers: int) -> int:
        stride = 1 << (self.agents - 1).bit_length()
        together = 1
        while together < self.proposals and stride * together * 2 <= _CELLS:
            together *= 2
        partitions = -(-self.proposals // together)
        together = min(together, self.proposals)
        counters = together * min(self.values, _CODES)
        turns = _TURNS if counters <= _FEW else 1
        cells = 5 * ((together - 1) * stride + self.agents) + 4 * counters * turns
        votes = max(self.batch, self.stored_votes)
        blocks = votes // (_BLOCK // 2) + 2 * partitions if partitions > 1 else 0
        box = 4 * self.proposals * (self.values + 2) + cells + _SCREENED
        chains = blocks * (4 * _BLOCK + 4) + 16 * partitions
        oracle = 7 * self.agents + 4 * self.values
        worker = box + chains + 16 * min(self.batch, _KEPT) + oracle + 4 * _SCORES
        table = 8 * (self.proposals if self.mix == "zipf" else 1)
        return 16 * self.stored_votes + table + workers * worker

    def fitted(self, budget_bytes: int, workers: int) -> tuple[Self, list[str]]:
        """Halves whichever size frees most until the budget holds; never fails, may end at 1."""
        sizes = ("stored_votes", "batch", "agents", "proposals", "values")
        fit = self
        while fit.resident_bytes(workers) > budget_bytes:
            halved = [
                fit.model_copy(update={name: getattr(fit, name) // 2})
                for name in sizes
                if getattr(fit, name) > 1
            ]
            if not halved:
                break
            fit = min(halved, key=lambda component: component.resident_bytes(workers))
        changed = [name for name in sizes if getattr(fit, name) != getattr(self, name)]
        return fit, [
            f"consensus.{name}: {getattr(self, name)} -> {getattr(fit, name)}" for name in changed
        ]

    def inputs(self, op: str, seed: int, key: int) -> Arrays:
        """Votes (`decide`, `tally`), seed and key (`generate`) or candidates (`elect`)."""
        keys = {"key": np.array([key], dtype=np.uint64)}
        if op == "generate":
            return keys | {"seed": np.array([seed], dtype=np.uint64)}
        if op == "elect":
            return self._candidates(seed, key)
        if op == "tally":
            return {"key": np.zeros(1, np.uint64)} | self.votes(seed, 0, self.stored_votes)
        return keys | self.votes(seed, key, self.batch)

    def reference(self, op: str, inputs: Arrays) -> Arrays:
        if op == "generate":
            return self.votes(int(inputs["seed"][0]), int(inputs["key"][0]), self.batch)
        if op == "elect":
            return _leader(inputs["agent"], inputs["score"])
        return self._decisions(inputs)

    def votes(self, seed: int, key: int, count: int) -> Arrays:
        """Votes 0 to `count` of the operation `key`; uint32 but for value and flags (uint16)."""
        return self.votes_at(seed, key, np.arange(count, dtype=np.uint32))

    def votes_at(self, seed: int, key: int, index: Words) -> Arrays:
        """The votes of the operation `key` that have these numbers, as `votes` has all."""
        return _Votes(self, key).draw(stream_key(seed, DOMAIN_VOTES), index)

    def _candidates(self, seed: int, key: int) -> Arrays:
        blocks = np.zeros((-(-self.agents // 4), 4), np.uint32)
        blocks[:, 0] = np.arange(len(blocks), dtype=np.uint32)
        blocks[:, 2:] = key & 0xFFFFFFFF, key >> 32
        scores = philox(blocks, stream_key(seed, DOMAIN_SCORES)).reshape(-1)[: self.agents]
        first = np.uint32(self.ballot(key).agent_first)
        return {"agent": first + np.arange(self.agents, dtype=np.uint32), "score": scores}

    def _classified(self, inputs: Arrays) -> tuple[npt.NDArray[np.intp], list[int]]:
        """Indices of the valid votes, and how many are invalid for each reason."""
        ballot = self.ballot(int(inputs["key"][0]))
        agent = inputs["agent"].astype(np.int64) - ballot.agent_first
        proposal = inputs["proposal"].astype(np.int64) - ballot.proposal_first
        faults = (
            (agent < 0) | (agent >= self.agents),
            (proposal < 0) | (proposal >= self.proposals),
            inputs["value"] >= self.values,
            inputs["round"] != ballot.round,
            inputs["flags"] > SEQUENCE_MAX,
        )
        valid = np.ones(len(agent), dtype=bool)
        invalid = []
        for fault in faults:
            invalid.append(int(np.count_nonzero(valid & fault)))
            valid &= ~fault
        return np.flatnonzero(valid), invalid

    def _decisions(self, inputs: Arrays) -> Arrays:
        """Sorts the valid votes by cell, sequence number and value, so that firsts come first."""
        ballot = self.ballot(int(inputs["key"][0]))
        valid, invalid = self._classified(inputs)
        agent = inputs["agent"][valid].astype(np.int64) - ballot.agent_first
        proposal = inputs["proposal"][valid].astype(np.int64) - ballot.proposal_first
        value = inputs["value"][valid].astype(np.int64)
        cell = proposal * self.agents + agent
        order = np.lexsort((value, inputs["flags"][valid], cell))
        cell, proposal, value = cell[order], proposal[order], value[order]

        _, first, group = np.unique(cell, return_index=True, return_inverse=True)
        counters = proposal[first] * self.values + value[first]
        counts = np.bincount(counters, minlength=self.proposals * self.values)
        equivocated = np.zeros(len(first), dtype=bool)
        np.logical_or.at(equivocated, group, value != value[first][group])
        evidence = np.bincount(proposal[first][equivocated], minlength=self.proposals)

        reached = counts.reshape(self.proposals, self.values) >= self.quorum
        trusted = evidence <= self.tolerated
        decision = np.where(reached.any(axis=1) & trusted, reached.argmax(axis=1), -1)
        classes = [len(first), len(valid) - len(first), *invalid]
        return {
            "counts": counts.astype(np.uint32),
            "evidence": evidence.astype(np.uint32),
            "decision": decision.astype(np.int32),
            "classes": np.array(classes, dtype=np.uint64),
        }


def _leader(agent: Words, score: Words) -> Arrays:
    """The highest score leads; among equal ones the highest id."""
    best = score.max()
    leader = agent[score == best].max()
    return {"leader": np.array([leader], np.uint32), "score": np.array([best], np.uint32)}


def _scaled(words: Words, bound: int) -> Words:
    product = words.astype(np.uint64) * np.uint64(bound)
    return (product >> np.uint64(32)).astype(np.uint32)


def mixed(words: Words) -> Words:
    """lowbias32 (Wellons, hash-prospector, 2018)."""
    words = (words ^ (words >> np.uint32(16))) * np.uint32(0x7FEB352D)
    words = (words ^ (words >> np.uint32(15))) * np.uint32(0x846CA68B)
    return words ^ (words >> np.uint32(16))


def per_65536(share: float) -> int:
    """A share in units of 2^-16, rounded to the nearest."""
    return int(share * 65536.0 + 0.5)


class _Votes:
    """The votes of one operation, in the plainest arrays; see `consensus/votes.rs`."""

    def __init__(self, consensus: Consensus, key: int) -> None:
        self.consensus = consensus
        self.ballot = consensus.ballot(key)
        self.key = np.array([key & 0xFFFFFFFF, key >> 32], dtype=np.uint32)
        high = mixed(self.key[1:] + np.uint32(0x9E3779B9))
        self.salt = mixed(self.key[:1] ^ high)

    def draw(self, stream: tuple[int, int], index: Words) -> Arrays:
        consensus, count = self.consensus, len(index)
        counters = np.zeros((count, 4), dtype=np.uint32)
        counters[:, 0] = self._origins(index) if consensus.mix == "duplicates" else index
        counters[:, 2:] = self.key
        words = philox(counters, stream)
        agent = _scaled(words[:, 0], consensus.agents)
        if consensus.mix == "zipf":
            proposal = zipf_ranks(words[:, 1], consensus.proposals)
        else:
            proposal = _scaled(words[:, 1], consensus.proposals)
        same = consensus.mix == "same"
        value = np.zeros(count, np.uint32) if same else self._preferences(agent, proposal)
        votes: Arrays = {
            "agent": agent + np.uint32(self.ballot.agent_first),
            "proposal": proposal + np.uint32(self.ballot.proposal_first),
            "value": value.astype(np.uint16),
            "flags": np.zeros(count, np.uint16),
            "round": np.full(count, self.ballot.round, np.uint32),
        }
        if consensus.mix == "byzantine":
            self._misbehave(votes, agent, words)
        return votes

    def _origins(self, index: Words) -> Words:
        """The draw that each vote sends: its own, or an earlier one where it repeats it."""
        kept = np.uint64(65536 - per_65536(self.consensus.duplicates))
        place = index.astype(np.uint64)
        before = (place * kept + np.uint64(65535)) >> np.uint64(16)
        after = ((place + np.uint64(1)) * kept + np.uint64(65535)) >> np.uint64(16)
        chance = mixed(index ^ self.salt).astype(np.uint64)
        earlier = (chance * before) >> np.uint64(32)
        return np.where(after > before, before, earlier).astype(np.uint32)

    def _preferences(self, agent: Words, proposal: Words) -> Words:
        """What an honest agent votes on a proposal, always the same within one operation."""
        values = self.consensus.values
        pair = (agent * np.uint32(0x9E3779B1)) ^ (proposal * np.uint32(0x85EBCA77))
        chance = mixed(pair ^ self.salt)
        leading = _scaled(proposal * np.uint32(0x9E3779B1) + self.salt, values)
        own = ((chance >> np.uint32(16)) * np.uint32(values)) >> np.uint32(16)
        agrees = (chance & np.uint32(0xFFFF)) < per_65536(self.consensus.agreement)
        return np.where(agrees, leading, own).astype(np.uint32)

    def _misbehave(self, votes: Arrays, agent: Words, words: Words) -> None:
        """Faulty agents: a third each contradict, forge their identity, mistake the round."""
        consensus = self.consensus
        faulty = agent < consensus.faulty
        kind = (words[:, 3] >> np.uint32(16)) * np.uint32(3) >> np.uint32(16)
        contradicts = faulty & (kind == 0)
        other = _scaled(words[:, 2], consensus.values).astype(np.uint16)
        sequence = (words[:, 3] & np.uint32(SEQUENCE_MAX)).astype(np.uint16)
        votes["value"][contradicts] = other[contradicts]
        votes["flags"][contradicts] = sequence[contradicts]
        votes["agent"][faulty & (kind == 1)] += np.uint32(consensus.agents)
        votes["round"][faulty & (kind == 2)] += np.uint32(1)
