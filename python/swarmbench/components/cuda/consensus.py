"""Consensus on a device: votes drawn, filed in cells, tallied and decided without leaving it."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import Any, ClassVar, cast

import numpy as np

from swarmbench.components.base import Arrays, Component, same_arrays
from swarmbench.components.consensus import DOMAIN_SCORES, Consensus
from swarmbench.components.cuda.base import Cost, CudaComponent, CudaOperation, Done
from swarmbench.components.cuda.consensus_boxes import (
    HEADER_WORDS,
    TOTALS,
    Kind,
    Shape,
    chance,
    packed,
    unpacked,
)
from swarmbench.components.cuda.consensus_lane import MEETING, SCRATCH, Lane, boxes
from swarmbench.components.cuda.consensus_tables import DIGEST, Tables
from swarmbench.components.philox import philox, stream_key
from swarmbench.gpu.device import Buffer

#: Votes of a batch above which the oracle looks at as many fewer operations.
_ORACLE_VOTES = 1 << 20
#: Candidates up to which every election is held anew.
_ELECTED_ANEW = 4096


class CudaConsensus(CudaComponent):
    """The stored votes on the device, and what `tally` must answer to them."""

    name: ClassVar[str] = "consensus"
    repeatable: ClassVar[frozenset[str]] = frozenset({"decide", "tally", "generate", "elect"})
    told_by_check = repeatable

    def build(self) -> None:
        self.consensus = cast(Consensus, self.component)
        self.progress("votes", 0.0)
        self.tables = Tables(self.consensus, self.device, self.seed)
        stored = self.tables.draw_stored()
        self.is_stored_right = self.tables.agree(stored, 0)
        self.progress("votes", 0.5)
        votes = {"key": np.zeros(1, np.uint64)} | unpacked(stored)
        self.tallied = self.native.evaluate("tally", votes)
        self.progress("votes", 1.0)

    def operation(self, kind: Kind | None = None, shape: Shape | None = None) -> ConsensusOperation:
        return ConsensusOperation(self, kind, shape)

    @classmethod
    def device_bytes(cls, component: Component, lanes: int) -> int:
        consensus = cast(Consensus, component)
        return Tables.nbytes(consensus) + lanes * Lane.nbytes(consensus)

    @classmethod
    def host_bytes(cls, component: Component, lanes: int) -> int:
        return lanes * Lane.host_bytes(cast(Consensus, component))

    def describe(self) -> dict[str, Any]:
        return {
            "quorum": self.consensus.quorum,
            "tolerated_faulty": self.consensus.tolerated,
            "faulty": self.consensus.faulty,
            "cells": {op: box.kind for op, box in boxes(self.consensus).items()},
        }


@dataclass(frozen=True, slots=True)
class _Last:
    """The last run: its first key, and how many keys it took."""

    op: str
    key: int
    count: int


class ConsensusOperation(CudaOperation):
    """One lane of consensus; `kind` and `shape` replace what the sizes would choose."""

    def __init__(
        self, cuda: CudaConsensus, kind: Kind | None = None, shape: Shape | None = None
    ) -> None:
        super().__init__(cuda.device)
        self.cuda, self.consensus = cuda, cuda.consensus
        self.lane = Lane(cuda.tables, self.stream, kind, shape)
        self._last = _Last("", 0, 0)
        self._is_checked = True

    def run(self, op: str, key: int) -> Done:
        return self.run_together(op, key, 1)

    def run_together(self, op: str, key: int, count: int) -> Done:
        """The operations of `count` consecutive keys of a lane in one launch.

        More than one only of `decide`, where one block decides a batch (`Lane.is_alone`), and up to
        `Lane.together` of them.
        """
        assert count == 1 or op == "decide"
        consensus, lane = self.consensus, self.lane
        self._last, self._is_checked = _Last(op, key, count), False
        match op:
            case "decide":
                lane.decide(key, count)
                return Done(count * consensus.batch)
            case "tally":
                lane.tally("tally", self.cuda.tables.stored, consensus.stored_votes, 0)
                return Done(consensus.stored_votes)
            case "generate":
                lane.generate(key)
                return Done(consensus.batch)
            case "elect":
                lane.elect(key)
                return Done(consensus.agents)
        raise ValueError(f"op: there is no op `{op}`")

    def verify(self) -> tuple[int, int]:
        if self._is_checked:
            return 0, 0
        self._is_checked = True
        last = self._last
        wrong = sum(not self._holds(last.op, last.key + n, n) for n in range(last.count))
        return last.count, wrong

    def _holds(self, op: str, key: int, place: int) -> bool:
        """Whether an answer is consistent and, where the key says so, the oracle's in every bit."""
        every = 1 if self.looks_closely else self.consensus.oracle_every
        batch = self.consensus.batch
        if op == "elect":
            return self._leads(key, chance(key) % every == 0)
        if op == "tally":
            answer = self.lane.answer()
            return (
                self.cuda.is_stored_right
                and answer.is_consistent(self.consensus.stored_votes)
                and same_arrays(answer.arrays(), self.cuda.tallied)
            )
        if every > 1:
            every *= max(1, batch // _ORACLE_VOTES)
        is_chosen = chance(key) % every == 0
        if op == "generate":
            return self.lane.is_as_sent() and (
                not is_chosen or self.cuda.tables.agree(self.lane.drawn(0, batch), key)
            )
        answer = self.lane.answer(place)
        return answer.is_consistent(batch) and (
            not is_chosen or same_arrays(answer.arrays(), self._oracle(key))
        )

    def _oracle(self, key: int) -> Arrays:
        """The native component's answer to votes that it draws itself."""
        keys = {"key": np.array([key], np.uint64)}
        native = self.cuda.native
        votes = native.evaluate("generate", keys | {"seed": np.array([self.cuda.seed], np.uint64)})
        return native.evaluate("decide", keys | votes)

    def _leads(self, key: int, is_chosen: bool) -> bool:
        """Whether the leader is a candidate whose own score is the highest that was drawn, and
        where it is looked at closely, whether nobody is above it."""
        packed_leader, highest = (int(word) for word in self.lane.leader)
        if is_chosen or self.consensus.agents <= _ELECTED_ANEW:
            right = self._elected(key)
            return (packed_leader, highest) == (right, right >> 32)
        agent = (packed_leader & 0xFFFFFFFF) - self.consensus.ballot(key).agent_first
        if not 0 <= agent < self.consensus.agents:
            return False
        counter = np.array([[agent // 4, 0, key & 0xFFFFFFFF, key >> 32]], np.uint32)
        score = philox(counter, stream_key(self.cuda.seed, DOMAIN_SCORES))[0, agent % 4]
        return packed_leader >> 32 == highest == int(score)

    def _elected(self, key: int, overlooked: int | None = None) -> int:
        """The leader by the reference as (score << 32 | id), or if one candidate is overlooked."""
        candidates = self.consensus.inputs("elect", self.cuda.seed, key)
        if overlooked is not None:
            seen = candidates["agent"] != overlooked
            candidates = {name: words[seen] for name, words in candidates.items()}
            if not seen.any():
                return 0
        right = self.consensus.reference("elect", candidates)
        return int(right["score"][0]) << 32 | int(right["leader"][0])

    def plant(self, fault: str) -> bool:
        if self._is_checked:
            return False
        last, draw = self._last, chance(self._last.key ^ 2)
        match last.op:
            case "generate":
                return self._damage_votes(fault, draw)
            case "elect":
                return self._damage_election(fault, draw)
        return self.lane.answer(draw % last.count).damage(fault, draw)

    def _damage_votes(self, fault: str, draw: int) -> bool:
        """A bit of a vote; a vote that was never written; one written over its neighbour."""
        place = draw % self.consensus.batch
        vote = self.lane.drawn(place, 1)
        damaged = vote.copy()
        match fault:
            case "flipped_bit":
                damaged[draw >> 21 & 3] ^= np.uint32(1 << (draw >> 16) % 32)
            case "lost_result":
                damaged[:] = 0
            case "doubled_result":
                damaged = self.lane.drawn((place + 1) % self.consensus.batch, 1)
        self.lane.redraw(place, damaged)
        return not np.array_equal(vote, damaged)

    def _damage_election(self, fault: str, draw: int) -> bool:
        """A bit of the leader or its score; the leader overlooked. A candidate seen twice changes
        no maximum."""
        leader = self.lane.leader
        match fault:
            case "flipped_bit":
                leader[:1] ^= np.uint64(1 << draw % 64)
            case "lost_result":
                elected = int(leader[0])
                leader[0] = self._elected(self._last.key, overlooked=elected & 0xFFFFFFFF)
            case _:
                return False
        return True

    def evaluate(self, op: str, inputs: Arrays) -> Arrays:
        match op:
            case "decide" | "tally":
                self._is_checked = True
                words = packed({name: array for name, array in inputs.items() if name != "key"})
                key = int(inputs["key"][0])
                self.lane.tally(op, self._given(words), len(words) // 4, key)
                return self.lane.answer().arrays()
            case "generate":
                if int(inputs["seed"][0]) != self.cuda.seed:
                    raise ValueError(f"seed: the component was built for seed {self.cuda.seed}")
                self._is_checked = True
                self.lane.generate(int(inputs["key"][0]))
                return unpacked(self.lane.drawn(0, self.consensus.batch))
            case "elect":
                self._is_checked = True
                count = len(inputs["agent"])
                if count == 0 or len(inputs["score"]) != count:
                    raise ValueError("agent: needs one candidate or more, with a score each")
                agent, score = self._given(inputs["agent"]), self._given(inputs["score"])
                self.lane.elect_among(agent, score, count)
                leader = int(self.lane.leader[0])
                return {
                    "leader": np.array([leader & 0xFFFFFFFF], np.uint32),
                    "score": np.array([leader >> 32], np.uint32),
                }
        raise ValueError(f"op: there is no op `{op}`")

    def _given(self, words: Any) -> Buffer:
        """Given words as the device sees them in the host's memory: it takes none of its own."""
        pinned = self.device.pinned(max(len(words), 4), np.uint32)
        pinned[: len(words)] = words
        return self.device.mapped(pinned)

    def cost(self, op: str) -> Cost:
        if op == "elect":
            blocks = 8 * MEETING if self.lane.elect_shape().grid > 1 else 0
            return Cost(blocks, 16 + blocks, random_draws=-(-self.consensus.agents // 4))
        batch = self.consensus.batch
        if op == "generate":
            read = self._zipf_bytes(batch) + 8 * DIGEST
            return Cost(read, 16 * batch + 8 * DIGEST, random_draws=batch)
        if op == "tally":
            return self._cost_of(op, 16 * self.consensus.stored_votes, self.consensus.stored_votes)
        shape = self.lane.shape_of(self.lane.boxes[op], batch)
        draws = self._last.count * drawn_by(shape.grid * shape.block, batch)
        return self._cost_of(op, self._zipf_bytes(batch), batch) + Cost(0, 0, random_draws=draws)

    def _zipf_bytes(self, draws: int) -> int:
        """Slots of the table that so many draws look at, of 8 bytes."""
        proposals = self.consensus.proposals
        if self.consensus.mix != "zipf":
            return 0
        return round(8 * proposals * (1.0 - exp(-draws / proposals)))

    def _cost_of(self, op: str, votes_read: int, votes: int) -> Cost:
        """What filing and settling move: cells that are used, all when they are emptied again, and
        in the answer what is not zero."""
        lane, box = self.lane, self.lane.boxes[op]
        answer = lane.answer()
        if box.kind == "shared":
            shape = lane.shape_of(box, votes)
            split = 4 * box.cells + 8 * SCRATCH if shape.grid > 1 else 0
            content = HEADER_WORDS + self.consensus.proposals * (self.consensus.values + 2)
            return Cost(votes_read + split, self._last.count * 4 * content + split)
        filed = (8 if box.slots else 4) * int(answer.header[0])
        tallies = (answer.decided, answer.evidence, answer.counts)
        added = 8 * np.count_nonzero(answer.header[:TOTALS]) + 4 * sum(
            np.count_nonzero(words) for words in tallies
        )
        moved = int(filed + 4 * box.words + added)
        return Cost(votes_read + moved, moved)


def drawn_by(threads: int, votes: int) -> int:
    """Votes that so many threads draw, two at a time each, those beyond the last one too."""
    return 2 * sum(min(threads, votes - first) for first in range(0, votes, 2 * threads))
