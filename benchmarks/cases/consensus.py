"""Consensus beside Numba and NumPy: drawing votes, and tallying ten million of them.

Ours works as the pool does, one batch per thread; a peer splits one batch over its threads. The
peers' votes lie in one array per field, which suits them best; ours are 16-byte records. Ours also
looks for equivocation and sums what it receives, which the peers do not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np

from paired import Case
from swarmbench.components.base import Arrays
from swarmbench.components.consensus import DOMAIN_VOTES, Consensus
from swarmbench.components.philox import stream_key

SEED = 7
KEY = 12_345
THREADS = 2
BATCH = 1 << 20
#: Batches a round, so that it lasts long against the start of its threads.
BATCHES = 50
FIELDS = ("agent", "proposal", "value", "flags", "round")


@cache
def native(component: Consensus) -> Any:
    return component.prepare(seed=SEED).native


def ours(component: Consensus, op: str, count: int) -> float:
    """Votes per second of `count` batches on each thread."""
    result = native(component).run(op, count=count, threads=THREADS, verify=False)
    return float(result["units"] / result["elapsed_ns"] * 1e9)


def timed(work: Callable[[], int]) -> float:
    """Votes per second of a call that returns how many it did."""
    began = time.perf_counter_ns()
    votes = work()
    return votes / (time.perf_counter_ns() - began) * 1e9


def stored(component: Consensus) -> Arrays:
    """The stored votes, field by field, as the native generator draws them."""
    whole = component.model_copy(update={"batch": component.stored_votes, "stored_votes": 1})
    return dict(whole.prepare(seed=SEED).native.evaluate("generate", requested(0)))


def requested(key: int) -> Arrays:
    return {"key": np.array([key], np.uint64), "seed": np.array([SEED], np.uint64)}


def mixed(word: int) -> int:
    word = (word ^ word >> 16) * 0x7FEB352D & 0xFFFFFFFF
    word = (word ^ word >> 15) * 0x846CA68B & 0xFFFFFFFF
    return word ^ word >> 16


def shape(component: Consensus, key: int) -> tuple[np.uint32, ...]:
    """What a peer must know of the operation `key`: salt, sizes, agreement, first ids, round."""
    ballot = component.ballot(key)
    salt = mixed(key & 0xFFFFFFFF ^ mixed((key >> 32) + 0x9E3779B9 & 0xFFFFFFFF))
    sizes = (component.agents, component.proposals, component.values)
    agreement = int(component.agreement * 65536 + 0.5)
    words = (salt, *sizes, agreement, ballot.agent_first, ballot.proposal_first, ballot.round)
    return tuple(np.uint32(word) for word in words)


class NumbaDraw:
    """Numba's generator with its reused buffers."""

    def __init__(self, component: Consensus) -> None:
        import numba

        from peers import consensus_numba

        numba.set_num_threads(THREADS)
        low, high = stream_key(SEED, DOMAIN_VOTES)
        weyl = [(low + i * 0x9E3779B9, high + i * 0xBB67AE85) for i in range(10)]
        self.rounds = (np.array(weyl) & 0xFFFFFFFF).astype(np.uint32)
        self.key = (np.uint32(KEY & 0xFFFFFFFF), np.uint32(KEY >> 32))
        self.shape = shape(component, KEY)
        kinds = (np.uint32, np.uint32, np.uint16, np.uint16, np.uint32)
        self.votes = tuple(np.ones(component.batch, kind) for kind in kinds)
        self.draw = consensus_numba.draw

    def __call__(self, batches: int) -> int:
        for _ in range(batches):
            self.draw(self.key, self.rounds, self.shape, self.votes)
        return batches * len(self.votes[0])


class NumbaTally:
    """Numba's two tallies with their reused buffers."""

    def __init__(self, component: Consensus, *, is_sorted: bool) -> None:
        import numba

        from peers import consensus_numba

        numba.set_num_threads(THREADS)
        votes = stored(component)
        self.votes = tuple(votes[name] for name in FIELDS)
        self.shape = shape(component, 0)
        self.counts = np.zeros((component.proposals, component.values), np.uint32)
        self.totals = np.zeros((THREADS, 2), np.int64)
        words = -(-component.agents // 64)
        if is_sorted:
            starts = np.zeros((THREADS, component.proposals + 1), np.int64)
            entries = np.ones(component.stored_votes, np.uint64)
            self.scratch = (starts, entries, np.zeros((THREADS, words), np.uint64))
            self.tally = consensus_numba.tally_sorted
        else:
            self.scratch = (np.zeros((component.proposals, words), np.uint64),)
            self.tally = consensus_numba.tally_sharded

    def __call__(self) -> int:
        self.tally(self.votes, self.shape, *self.scratch, self.counts, self.totals)
        return len(self.votes[0])

    def answer(self) -> tuple[np.ndarray, int, int]:
        """Counts, tallied votes and duplicates."""
        valid, tallied = self.totals.sum(axis=0)
        return self.counts.reshape(-1), int(tallied), int(valid - tallied)


class NumpyTally:
    """The first vote of each agent and proposal by `unique`, then `bincount`."""

    def __init__(self, component: Consensus) -> None:
        self.component, self.votes = component, stored(component)
        self.found: tuple[np.ndarray, int, int] = (np.zeros(0), 0, 0)

    def __call__(self) -> int:
        component, votes = self.component, self.votes
        agent, proposal, value = (votes[name] for name in FIELDS[:3])
        valid = (agent < component.agents) & (proposal < component.proposals)
        valid &= (value < component.values) & (votes["round"] == 0) & (votes["flags"] <= 0x7FFF)
        cell = proposal[valid].astype(np.uint64) * component.agents + agent[valid]
        _, first = np.unique(cell, return_index=True)
        counter = proposal[valid][first] * np.uint32(component.values) + value[valid][first]
        counts = np.bincount(counter, minlength=component.proposals * component.values)
        self.found = counts.astype(np.uint32), len(first), len(cell) - len(first)
        return len(agent)

    def answer(self) -> tuple[np.ndarray, int, int]:
        return self.found


def same_votes(component: Consensus, peer: Callable[[], NumbaDraw]) -> bool:
    votes = native(component).evaluate("generate", requested(KEY))
    drawn = zip(FIELDS, peer().votes, strict=True)
    return all(np.array_equal(votes[name], field) for name, field in drawn)


def same_tally(component: Consensus, peer: Callable[[], NumbaTally | NumpyTally]) -> bool:
    found = native(component).evaluate(
        "tally", {"key": np.zeros(1, np.uint64), **stored(component)}
    )
    counts, tallied, duplicates = peer().answer()
    reached = counts.reshape(component.proposals, -1) >= component.quorum
    decision = np.where(reached.any(axis=1), reached.argmax(axis=1), -1)
    classes = found["classes"][:2].tolist()
    same = np.array_equal(found["counts"], counts) and classes == [tallied, duplicates]
    return same and np.array_equal(found["decision"], decision)


def cases(large: bool) -> Iterator[Case]:
    """Votes per second on two threads; `large` are the ten million votes of the goals."""
    drawn = Consensus(batch=BATCH, stored_votes=1)
    draw = cache(lambda: NumbaDraw(drawn))
    yield Case(
        benchmark="consensus",
        case="generate Philox4x32-10 into reused buffers",
        unit="votes/s",
        goal=2.1,
        peer_name="numba",
        ours=partial(ours, drawn, "generate", BATCHES),
        peer=lambda: timed(lambda: draw()(BATCHES)),
        check=lambda: same_votes(drawn, draw),
        threads=THREADS,
    )
    size = 10_000_000 if large else 1_000_000
    counted = Consensus(batch=1, agents=size // 100, proposals=1024, stored_votes=size)
    peers: dict[str, tuple[float | None, int, Callable[[], NumbaTally | NumpyTally]]] = {
        "numba sharded bitset": (2.7, THREADS, lambda: NumbaTally(counted, is_sorted=False)),
        "numba sorted by proposal": (None, THREADS, lambda: NumbaTally(counted, is_sorted=True)),
        "numpy unique": (24.0, 1, lambda: NumpyTally(counted)),
    }
    for name, (goal, threads, make) in peers.items():
        peer = cache(make)
        yield Case(
            benchmark="consensus",
            case=f"tally {size:,} votes, 1024 proposals, first counts, quorum",
            unit="votes/s",
            goal=goal,
            peer_name=name if threads == THREADS else f"{name} (one thread)",
            ours=partial(ours, counted, "tally", 1 if large else 10),
            peer=lambda peer=peer: timed(peer()),
            check=lambda peer=peer: same_tally(counted, peer),
            threads=THREADS,
        )
