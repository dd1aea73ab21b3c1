"""One lane of consensus on a device: its memory, and the launches over it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swarmbench.components.consensus import Consensus
from swarmbench.components.cuda.consensus_boxes import (
    HEADER_WORDS,
    SETTLE_BLOCK,
    SETTLE_COUNTERS,
    SETTLE_QUADS,
    Answer,
    Box,
    Kind,
    Shape,
)
from swarmbench.components.cuda.consensus_tables import DIGEST, Tables, Words
from swarmbench.gpu.device import Argument, Buffer, Stream

#: Batches that are decided in one launch at most, and the bytes that their answers may take.
_TOGETHER = 1024
_TOGETHER_BYTES = 1 << 20
#: Words of 64 bits where the blocks of one batch meet, and those of one election.
SCRATCH, MEETING = 9, 3


def boxes(consensus: Consensus, kind: Kind | None = None) -> dict[str, Box]:
    """Where the cells of each op lie; `kind` where it is to be another than the best."""
    votes = {"decide": consensus.batch, "tally": consensus.stored_votes}
    return {op: Box.of(consensus, count, kind) for op, count in votes.items()}


def _together(length: int) -> int:
    """Answers of so many words that one launch may leave."""
    return max(1, min(_TOGETHER, _TOGETHER_BYTES // (4 * length)))


class Lane:
    """The memory of one lane; `kind` and `shape` replace what the sizes would choose."""

    def __init__(
        self, tables: Tables, stream: Stream, kind: Kind | None = None, shape: Shape | None = None
    ) -> None:
        device, consensus = tables.device, tables.consensus
        self.device, self.tables, self.consensus = device, tables, consensus
        self.stream, self.boxes, self._shape = stream, boxes(consensus, kind), shape
        self._cells = device.empty(max(box.words for box in self.boxes.values()), np.uint32)
        words = device.empty(SCRATCH + MEETING + DIGEST, np.uint64)
        self._scratch = words.part(0, SCRATCH)
        self._meeting = words.part(SCRATCH, MEETING)
        self._digest = words.part(SCRATCH + MEETING, DIGEST)
        self.votes = device.empty(4 * consensus.batch, np.uint32)
        self._length = Answer.length(consensus)
        self.together = _together(self._length)
        self._answers = device.pinned(self.together * self._length, np.uint32)
        self._mapped = device.mapped(self._answers)
        is_shared = all(box.kind == "shared" for box in self.boxes.values())
        self._device_answer = None if is_shared else device.empty(self._length, np.uint32)
        #: Digest of the votes last drawn into `votes`.
        self.sent = device.pinned(DIGEST, np.uint64)
        self._seen = device.pinned(DIGEST, np.uint64)
        #: The leader as (score << 32 | id), and by itself the highest score.
        self.leader = device.pinned(2, np.uint64)
        self._mapped_leader = device.mapped(self.leader)
        self._is_whole = True
        stream.fill(self._cells, 0xFF)
        stream.fill(words, 0)
        stream.fill(self.votes, 0)
        stream.synchronize()

    @staticmethod
    def nbytes(consensus: Consensus) -> int:
        """Device memory that a lane takes."""
        chosen = boxes(consensus).values()
        is_shared = all(box.kind == "shared" for box in chosen)
        answer = 0 if is_shared else 4 * Answer.length(consensus)
        words = 8 * (SCRATCH + MEETING + DIGEST)
        return 4 * max(box.words for box in chosen) + words + 16 * consensus.batch + answer

    @staticmethod
    def host_bytes(consensus: Consensus) -> int:
        """Pinned memory that a lane takes: answers, two digests and a leader."""
        length = Answer.length(consensus)
        return 4 * _together(length) * length + 8 * (2 * DIGEST + 2)

    @property
    def is_alone(self) -> bool:
        """Whether one block decides a batch, so that one launch can decide many."""
        box = self.boxes["decide"]
        return box.kind == "shared" and self.shape_of(box, self.consensus.batch).grid == 1

    def shape_of(self, box: Box, votes: int) -> Shape:
        """Grid and block of the launch that takes so many votes in."""
        return self._shape or box.shape(self.consensus, votes, self.device)

    def elect_shape(self) -> Shape:
        """Grid and block of an election, whose threads take four candidates at a time."""
        return self._shape or self.tables.spread_shape(-(-self.consensus.agents // 4))

    def decide(self, key: int, count: int) -> None:
        """Decides the batches of `count` consecutive keys, to the end."""
        box, batch = self.boxes["decide"], self.consensus.batch
        assert count == 1 or (self.is_alone and count <= self.together)
        if box.kind != "shared":
            self._file("file_drawn", self.tables.drawing(key, batch), box, batch)
            self._settle(box)
            return
        shape = self.shape_of(box, batch)
        source, turn = self.tables.source, self.tables.turn(key)
        votes: list[Argument] = [np.uint64(key), *source, *turn, np.uint32(batch)]
        answers: list[Argument] = [self._mapped, np.uint32(self._length)]
        self._launch_box("decide_shared", shape, count, [*votes, *self._meet(shape), *answers])

    def tally(self, op: str, votes: Buffer, count: int, key: int) -> None:
        """Decides a batch of votes that lie in memory, with the box of `op`, to the end."""
        box = self.boxes[op]
        given = [votes, *self.tables.ballot(key), np.uint32(count)]
        if box.kind != "shared":
            self._file("file_stored", given, box, count)
            self._settle(box)
            return
        shape = self.shape_of(box, count)
        self._launch_box("tally_shared", shape, 1, [*given, *self._meet(shape), self._mapped])

    def _meet(self, shape: Shape) -> list[Argument]:
        return [np.uint32(shape.grid), self._cells, self._scratch]

    def _launch_box(
        self, name: str, shape: Shape, count: int, arguments: Sequence[Argument]
    ) -> None:
        """A launch whose blocks write their answers into the host's memory."""
        consensus, kernel = self.consensus, self.tables.kernels[name]
        words = consensus.proposals * (consensus.agents + consensus.values + 2)
        grid = count * shape.grid
        self.stream.launch(kernel, grid, shape.block, arguments, shared_bytes=4 * words)
        self.stream.synchronize()
        self._is_whole = True

    def _file(self, name: str, votes_of: list[Argument], box: Box, votes: int) -> None:
        """Enqueues filing votes in the cells of an answer that is emptied before."""
        if box.slots and 4 * votes > 3 * box.slots:
            raise ValueError(f"agent: {votes} votes are too many for {box.slots} slots")
        assert self._device_answer is not None
        self.stream.fill(self._device_answer, 0)
        shape = self.shape_of(box, votes)
        arguments = [
            *votes_of,
            np.uint32(votes > box.cells),
            np.uint32(max(box.slots - 1, 0)),
            *self._bits(),
            self._cells,
            self._parts()[0],
        ]
        self.stream.launch(self.tables.kernels[name], shape.grid, shape.block, arguments)

    def _settle(self, box: Box) -> None:
        """Tallies the cells and brings the decisions back; evidence and counts stay there."""
        sizes = [np.uint32(self.consensus.agents), np.uint32(self.consensus.values)]
        block = self._shape.block if self._shape else SETTLE_BLOCK
        if box.slots:
            name, units, shared_words = "settle_slots", box.slots, 0
            cells: list[Argument] = [self._cells, np.uint32(units), *self._bits(), *sizes]
        else:
            name, units, shared_words = "settle_cells", box.cells, SETTLE_COUNTERS
            quads, counters = np.uint32(SETTLE_QUADS), np.uint32(SETTLE_COUNTERS)
            cells = [self._cells, np.uint32(units), quads, *sizes, counters]
            units = -(-units // (4 * SETTLE_QUADS))
        self.stream.launch(
            self.tables.kernels[name],
            min(-(-units // block), 8 * self.device.multiprocessors),
            block,
            [*cells, *self._parts()],
            shared_bytes=4 * shared_words,
        )
        self._download(0, HEADER_WORDS + self.consensus.proposals)
        self._is_whole = False

    def _bits(self) -> list[Argument]:
        """Bits of an agent and of a value in a slot."""
        consensus = self.consensus
        return [np.uint32((n - 1).bit_length()) for n in (consensus.agents, consensus.values)]

    def _parts(self) -> list[Buffer]:
        """Header, decisions, evidence and counts of the answer on the device."""
        answer, proposals = self._device_answer, self.consensus.proposals
        assert answer is not None
        lengths = (HEADER_WORDS, proposals, proposals, proposals * self.consensus.values)
        return [answer.part(sum(lengths[:place]), length) for place, length in enumerate(lengths)]

    def _download(self, first: int, last: int) -> None:
        """Words `first` to `last` of the answer on the device come to the host."""
        assert self._device_answer is not None
        part = self._device_answer.part(first, last - first)
        self.stream.download(self._answers[first:last], part)
        self.stream.synchronize()

    def answer(self, place: int = 0) -> Answer:
        """The answer to the batch of the last launch that has this place, as a whole."""
        if not self._is_whole:
            self._download(HEADER_WORDS + self.consensus.proposals, self._length)
            self._is_whole = True
        return Answer(self.consensus, self._answers[place * self._length :][: self._length])

    def generate(self, key: int) -> None:
        """Draws the votes of one key into `votes`; their digest comes back as `sent`."""
        batch, shape = self.consensus.batch, self._shape
        self.tables.draw(self.stream, key, batch, self.votes, self._digest, shape)
        self.stream.download(self.sent, self._digest)
        self.stream.synchronize()

    def drawn(self, first: int, count: int) -> Words:
        """Some of the votes last drawn, four words each."""
        words = np.empty(4 * count, np.uint32)
        self.stream.download(words, self.votes.part(4 * first, 4 * count))
        self.stream.synchronize()
        return words

    def redraw(self, first: int, words: Words) -> None:
        """Puts words in the place of some of the votes last drawn."""
        self.stream.upload(self.votes.part(4 * first, len(words)), words)
        self.stream.synchronize()

    def is_as_sent(self) -> bool:
        """Whether the votes in memory are those that were drawn into it."""
        batch, digest = self.consensus.batch, self._digest
        self.stream.fill(digest, 0)
        votes: list[Argument] = [self.votes, np.uint32(batch), digest]
        shape = self._shape
        self.tables.spread(self.stream, "digest_votes", batch, votes, shape)
        self.stream.download(self._seen, digest)
        self.stream.synchronize()
        return int(self.sent[0]) == batch and np.array_equal(self._seen, self.sent)

    def elect(self, key: int) -> None:
        """Elects among the agents of a key's group, to the end."""
        ballot, shape = self.consensus.ballot(key), self.elect_shape()
        group = [np.uint32(ballot.agent_first), np.uint32(self.consensus.agents)]
        drawn = [np.uint64(key), *self.tables.score_stream, *group]
        self._launch_election("elect_drawn", shape, drawn)

    def elect_among(self, agent: Buffer, score: Buffer, count: int) -> None:
        """Elects among candidates that lie in memory, to the end."""
        shape = self._shape or self.tables.spread_shape(count)
        self._launch_election("elect_stored", shape, [agent, score, np.uint32(count)])

    def _launch_election(self, name: str, shape: Shape, given: list[Argument]) -> None:
        arguments = [*given, self._meeting, self._mapped_leader]
        self.stream.launch(self.tables.kernels[name], shape.grid, shape.block, arguments)
        self.stream.synchronize()
