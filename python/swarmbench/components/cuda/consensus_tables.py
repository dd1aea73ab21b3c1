"""What all lanes of consensus read on a device: the stored votes and what votes are drawn with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from swarmbench.components.consensus import DOMAIN_SCORES, DOMAIN_VOTES, Consensus, per_65536
from swarmbench.components.cuda.consensus_boxes import Shape, packed
from swarmbench.components.philox import stream_key
from swarmbench.components.zipf import zipf_table
from swarmbench.gpu.device import Argument, Buffer, Device, Stream

Words = npt.NDArray[np.uint32]

#: The order of `Mix` in consensus.cuh.
MIXES = ("uniform", "zipf", "same", "byzantine", "duplicates")
#: The kernels by their files; all are loaded before a run.
_KERNELS = {
    "consensus.cu": ("decide_shared", "tally_shared", "generate", "digest_votes"),
    "consensus_cells.cu": ("file_drawn", "file_stored", "settle_cells", "settle_slots"),
    "consensus_elect.cu": ("elect_drawn", "elect_stored"),
}
#: Words of 64 bits of a digest: votes, sum of their lower halves, sum of their upper ones.
DIGEST = 3
#: Threads of a block that draws, digests or elects.
_BLOCK = 256
#: Drawn votes that are held against the reference at a time.
_SAMPLES = 4096


class Tables:
    """The stored votes, drawn on the device, and the table of a mix; built once."""

    def __init__(self, consensus: Consensus, device: Device, seed: int) -> None:
        self.consensus, self.device, self.seed = consensus, device, seed
        self.kernels = {
            name: device.kernel(file, name) for file, names in _KERNELS.items() for name in names
        }
        self.score_stream = _words(stream_key(seed, DOMAIN_SCORES))
        self._vote_stream = _words(stream_key(seed, DOMAIN_VOTES))
        self._zipf = device.uploaded(_zipf_slots(consensus))
        self._digest = device.empty(DIGEST, np.uint64)
        self.stored = device.empty(4 * consensus.stored_votes, np.uint32)
        #: What votes are drawn with, and agents, proposals and values, as the kernels take them.
        self.source = self._source()
        self.sizes: list[Argument] = [
            np.uint32(n) for n in (consensus.agents, consensus.proposals, consensus.values)
        ]

    @staticmethod
    def nbytes(consensus: Consensus) -> int:
        """Device memory that they take."""
        zipf = 8 * (consensus.proposals if consensus.mix == "zipf" else 1)
        return 16 * consensus.stored_votes + zipf + 8 * DIGEST

    def draw_stored(self) -> Words:
        """Draws the stored votes, which are those of key 0, and returns them."""
        stream, words = self.device.stream(), np.empty(4 * self.consensus.stored_votes, np.uint32)
        self.draw(stream, 0, self.consensus.stored_votes, self.stored, self._digest)
        stream.download(words, self.stored)
        stream.synchronize()
        return words

    def draw(
        self,
        stream: Stream,
        key: int,
        count: int,
        votes: Buffer,
        digest: Buffer,
        shape: Shape | None = None,
    ) -> None:
        """Enqueues drawing votes of one key into memory, with the digest of what was drawn."""
        stream.fill(digest, 0)
        arguments = [*self.drawing(key, count), votes, digest]
        self.spread(stream, "generate", count, arguments, shape)

    def spread(
        self,
        stream: Stream,
        name: str,
        units: int,
        arguments: list[Argument],
        shape: Shape | None = None,
    ) -> None:
        """Enqueues a kernel whose threads take turns among `units`."""
        shape = shape or self.spread_shape(units)
        stream.launch(self.kernels[name], shape.grid, shape.block, arguments)

    def spread_shape(self, units: int) -> Shape:
        """Grid and block of as many threads as there are `units`, up to what fills the device."""
        return Shape(min(max(1, -(-units // _BLOCK)), 8 * self.device.multiprocessors), _BLOCK)

    def agree(self, words: Words, key: int) -> bool:
        """Whether drawn votes, evenly spread, are those of the reference."""
        rows = words.reshape(-1, 4)
        index = np.arange(0, len(rows), -(-len(rows) // _SAMPLES), dtype=np.uint32)
        right = packed(self.consensus.votes_at(self.seed, key, index))
        return np.array_equal(rows[index].reshape(-1), right)

    def _source(self) -> list[Argument]:
        consensus = self.consensus
        repeated = per_65536(consensus.duplicates) if consensus.mix == "duplicates" else 0
        return [
            *self._vote_stream,
            np.uint32(MIXES.index(consensus.mix)),
            np.uint32(per_65536(consensus.agreement)),
            np.uint32(consensus.faulty),
            np.uint32(65_536 - repeated),
            self._zipf,
        ]

    def ballot(self, key: int) -> list[Argument]:
        """What valid votes must name, as the kernels take it."""
        ballot = self.consensus.ballot(key)
        named = (ballot.agent_first, ballot.round, ballot.proposal_first)
        return [*(np.uint32(n) for n in named), *self.sizes]

    def turn(self, key: int) -> list[Argument]:
        """The ballot as `decide_shared` takes it: that of later keys follows from it."""
        ballot, ordinal = self.consensus.ballot(key), key & ((1 << 48) - 1)
        groups = self.consensus.groups
        named = (ordinal % groups, groups, ballot.round, ballot.proposal_first)
        return [*(np.uint32(n) for n in named), *self.sizes]

    def drawing(self, key: int, votes: int) -> list[Argument]:
        """The arguments of what draws so many votes of one key."""
        return [np.uint64(key), *self.source, *self.ballot(key), np.uint32(votes)]


def _words(key: tuple[int, int]) -> list[Argument]:
    return [np.uint32(key[0]), np.uint32(key[1])]


def _zipf_slots(consensus: Consensus) -> Words:
    """Threshold and alias of each proposal, in turn; one slot where no mix asks for them."""
    ranks = consensus.proposals if consensus.mix == "zipf" else 1
    return np.stack(zipf_table(ranks), axis=1).astype(np.uint32).reshape(-1)
