"""Batches that a spinning kernel decides: what its messages say, and what it is launched with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from swarmbench.components.cuda.consensus_boxes import Answer, Box
from swarmbench.components.cuda.consensus_tables import Tables
from swarmbench.gpu.device import Argument

Words = npt.NDArray[np.uint64]

#: Words of a message of 8 bytes each, and bytes of a line (`rust/core/src/cuda/ring.rs`).
PAYLOAD_WORDS = 15
LINE_BYTES = 128


class ConsensusRing:
    """The kernel `decide_ring` for one component: a block decides a batch by itself.

    Only where the cells of a batch fit a block's shared memory; raises `ValueError` elsewhere.
    """

    def __init__(self, tables: Tables) -> None:
        self.tables, consensus = tables, tables.consensus
        box = Box.of(consensus, consensus.batch)
        if box.kind != "shared":
            raise ValueError("agents: the cells of a batch do not fit a block's shared memory")
        words = Answer.length(consensus)
        self.kernel = tables.device.kernel("consensus_ring.cu", "decide_ring")
        self.answer_lines = -(-4 * words // LINE_BYTES)
        self.block = box.shape(consensus, consensus.batch, tables.device).block
        cells = consensus.agents + consensus.values + 2
        self.shared_bytes = 4 * consensus.proposals * cells

    @property
    def arguments(self) -> list[Argument]:
        """What follows the ring's own arguments at every launch."""
        return [*self.tables.source, *self.tables.sizes]

    def messages(self, keys: Sequence[int]) -> Words:
        """What asks for the batches of some keys, a row each."""
        consensus = self.tables.consensus
        rows = np.zeros((len(keys), PAYLOAD_WORDS), np.uint64)
        for row, key in zip(rows, keys, strict=True):
            ballot = consensus.ballot(key)
            row[:3] = (
                key,
                ballot.agent_first | ballot.round << 32,
                ballot.proposal_first | consensus.batch << 32,
            )
        return rows

    def answer(self, words: Words) -> Answer:
        """An answer out of its lines."""
        consensus = self.tables.consensus
        return Answer(consensus, words.view(np.uint32)[: Answer.length(consensus)])
