"""Where the cells of a batch of votes lie on a device, and what an answer is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from swarmbench.components.base import Arrays
from swarmbench.components.consensus import CLASSES, Consensus, mixed
from swarmbench.gpu.device import Device

Words = npt.NDArray[np.uint32]
Kind = Literal["shared", "dense", "hashed"]

#: Words of dynamic shared memory that a box may take: 48 KiB, which every card grants without being
#: asked and of which two blocks or more fit, less what the kernels keep of their own.
SHARED_WORDS = (48 << 10) // 4 - 64
#: Cells for each vote up to which all of them are kept; above it only those that are used.
DENSE_CELLS = 4
#: Votes that one block takes alone; more are split among blocks, which costs a second pass over the
#: cells.
ALONE = 8192
#: Fewest votes of a block where a batch is split: those for each cell, as each block adds each of
#: its cells to the others', and in all.
SPLIT_PER_CELL = 8
SPLIT_LEAST = 4096
#: Blocks of a multiprocessor where many take a batch in, and threads of each: what the registers
#: suffice for, so that all of a launch run at once.
SPLIT_BLOCKS, SPLIT_THREADS = 2, 512
#: What `settle_cells` is launched with: threads, loads of each and counters of a tile.
SETTLE_BLOCK = 256
SETTLE_QUADS = 4
SETTLE_COUNTERS = 2048
#: `HEADER_WORDS`, `TOTALS` and `VETO` of consensus.cuh.
TOTALS = len(CLASSES) + 1
HEADER_WORDS = 2 * TOTALS
VETO = 1 << 31


@dataclass(frozen=True, slots=True)
class Box:
    """The cells of one batch: `words` of device memory, all ones between two batches.

    `shared`: in a block's shared memory, and those of several blocks in device memory; `dense`: a
    word per (proposal, agent); `hashed`: a table of `slots` of 8 bytes.
    """

    kind: Kind
    cells: int
    slots: int = 0

    @classmethod
    def of(cls, component: Consensus, votes: int, kind: Kind | None = None) -> Self:
        """The box of batches of so many votes; `kind` where it is to be another than the best."""
        cells = component.agents * component.proposals
        if kind is None:
            fits = cells + component.proposals * (component.values + 2) <= SHARED_WORDS
            kind = "shared" if fits else "dense" if cells <= DENSE_CELLS * votes else "hashed"
        slots = 1 << (2 * votes - 1).bit_length() if kind == "hashed" else 0
        return cls(kind, cells, slots)

    @property
    def words(self) -> int:
        """Words of device memory; cells are read four at a time."""
        return 2 * self.slots if self.slots else -(-self.cells // 4) * 4

    def shape(self, component: Consensus, votes: int, device: Device) -> Shape:
        """Grid and block of the launch that takes the votes in."""
        blocks_max = SPLIT_BLOCKS * device.multiprocessors
        if self.kind != "shared":
            return Shape(min(max(votes // 2048, 1), blocks_max), SPLIT_THREADS)
        slices = votes // max(SPLIT_LEAST, SPLIT_PER_CELL * self.cells)
        if votes <= ALONE or slices <= 1:
            busy = max(votes, (self.cells + component.proposals * component.values) // 8)
            return Shape(1, min(-(-busy // 32) * 32, 1024))
        return Shape(min(slices, blocks_max), SPLIT_THREADS)


@dataclass(frozen=True, slots=True)
class Shape:
    """Blocks and threads of each."""

    grid: int
    block: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One decision in the words that the kernels write: header, decided, evidence, counts.

    The header has the votes of each class and the agents caught equivocating; a word of `decided`
    is one more than the value that reached the quorum (0: none did), with `VETO` set where more
    agents than are tolerated were caught.
    """

    component: Consensus
    words: Words

    @staticmethod
    def length(component: Consensus) -> int:
        """Words of an answer, an even number."""
        words = HEADER_WORDS + component.proposals * (component.values + 2)
        return words + words % 2

    @property
    def header(self) -> npt.NDArray[np.uint64]:
        return self.words[:HEADER_WORDS].view(np.uint64)

    @property
    def decided(self) -> Words:
        return self.words[HEADER_WORDS:][: self.component.proposals]

    @property
    def evidence(self) -> Words:
        return self.words[HEADER_WORDS + self.component.proposals :][: self.component.proposals]

    @property
    def counts(self) -> Words:
        first = HEADER_WORDS + 2 * self.component.proposals
        return self.words[first:][: self.component.proposals * self.component.values]

    def arrays(self) -> Arrays:
        """The answer as `Consensus.reference` has it."""
        word = self.decided.view(np.int32)
        return {
            "counts": self.counts.copy(),
            "evidence": self.evidence.copy(),
            "decision": np.where(word > 0, word - 1, -1).astype(np.int32),
            "classes": self.header[: len(CLASSES)].copy(),
        }

    def is_consistent(self, sent: int) -> bool:
        """Whether nothing was lost, doubled or altered between `sent` votes and the decisions.

        Votes are classed while they are filed, counts and evidence come from the cells after it.
        """
        component = self.component
        rows = self.counts.reshape(component.proposals, component.values)
        totals = rows.sum(axis=1, dtype=np.uint64)
        reached = rows >= component.quorum
        decided = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, 0).astype(np.uint32)
        decided[self.evidence > component.tolerated] |= np.uint32(VETO)
        return (
            int(self.header[: len(CLASSES)].sum()) == sent
            and int(totals.sum()) == int(self.header[0])
            and int(self.evidence.sum(dtype=np.uint64)) == int(self.header[len(CLASSES)])
            and bool((totals <= component.agents).all())
            and bool((self.evidence <= totals).all())
            and np.array_equal(self.decided, decided)
        )

    def damage(self, fault: str, draw: int) -> bool:
        """Alters a bit, leaves a decision or a vote out, or counts a vote twice, as `draw` says."""
        if fault == "flipped_bit":
            tallies = (self.decided, self.evidence, self.counts)[draw % 3]
            tallies[draw // 3 % len(tallies)] ^= np.uint32(1 << (draw >> 16) % 32)
            return True
        made = np.flatnonzero((self.decided != 0) & (self.decided < VETO))
        if fault == "lost_result" and draw % 2 == 0 and len(made):
            self.decided[made[0]] = 0
            return True
        counted = np.flatnonzero(self.counts)
        if not len(counted):
            return False
        change = 1 if fault == "doubled_result" else -1
        self.counts[counted[:1]] += np.uint32(change & 0xFFFFFFFF)
        self.header[:1] += np.uint64(change & ((1 << 64) - 1))
        return True


def packed(votes: Arrays) -> Words:
    """Votes as the kernels have them: agent, proposal, flags above value, and round, in turn."""
    length = len(votes["agent"])
    words = np.empty((length, 4), np.uint32)
    words[:, 0], words[:, 1], words[:, 3] = votes["agent"], votes["proposal"], votes["round"]
    words[:, 2] = votes["value"].astype(np.uint32) | votes["flags"].astype(np.uint32) << 16
    return words.reshape(-1)


def unpacked(words: Words) -> Arrays:
    """The inverse of `packed`."""
    rows = words.reshape(-1, 4)
    return {
        "agent": rows[:, 0].copy(),
        "proposal": rows[:, 1].copy(),
        "value": (rows[:, 2] & 0xFFFF).astype(np.uint16),
        "flags": (rows[:, 2] >> 16).astype(np.uint16),
        "round": rows[:, 3].copy(),
    }


def chance(key: int) -> int:
    """A word that decides, by the key alone, what of an operation is checked or damaged."""
    high = mixed(np.array([key >> 32 ^ 0x6F726163], np.uint32))
    return int(mixed(np.array([key & 0xFFFFFFFF], np.uint32) ^ high)[0])
