"""The assistant's decoder for many prompts at once: matrix products over all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from swarmbench.components.cuda.assistant_speech import (
    ANSWER_TOKENS,
    ASKED_WORDS,
    Weights,
    attended,
    cache_floats,
    sizes,
)
from swarmbench.components.cuda.base import Cost
from swarmbench.components.decoder import POSITIONS, Shape
from swarmbench.gpu.device import Argument, Buffer, Stream

_FILE = "assistant_batch.cu"
_BLOCK, _ATTEND_BLOCK, _PIECE = 256, 96, 16


#: Gets the number of a sequence and the logits of its last token.
Heard = Callable[[int, npt.NDArray[np.float32]], None]


def as_floats(weights: Weights, stream: Stream) -> list[Buffer]:
    """Every matrix of a model with its weights as floats, in the order of `sizes`."""
    shape, found = weights.shape, list[Buffer]()
    floats, first = weights.device.empty(shape.parameters, np.float32), 0
    pieces = np.uint32(shape.parameters // _PIECE)
    grid, widen = -(-int(pieces) // _BLOCK), weights.kernel(_FILE, "to_floats")
    stream.launch(widen, grid, _BLOCK, [weights.bytes, pieces, floats])
    for outputs, inputs in sizes(shape):
        found.append(floats.part(first, outputs * inputs))
        first += outputs * inputs
    stream.synchronize()
    return found


class BatchSpeech:
    """Answers to `sequences` prompts in step, position by position, with every weight as a float.

    `asked` are the prompts' records. From about 32 sequences on a product with cuBLAS takes less
    than as many of batch 1; its floats keep logits within `Assistant.tolerance`.
    """

    #: The host's memory for each answer: its tokens and their digest.
    HOST_BYTES = 4 * ANSWER_TOKENS + 8

    def __init__(
        self, weights: Weights, matrices: Sequence[Buffer], stream: Stream, sequences: int
    ) -> None:
        self._weights, self._matrices, self._stream = weights, matrices, stream
        self._count = sequences
        device, shape = weights.device, weights.shape
        names = ("embed_batch", "normal_batch", "attend_batch", "rectify", "choose_batch")
        self._kernels = {name: weights.kernel(_FILE, name) for name in names}
        self.asked = device.empty(sequences * ASKED_WORDS, np.uint32)
        self._said = device.empty(sequences * ANSWER_TOKENS, np.uint32)
        self._digests = device.empty(sequences, np.uint64)
        width = shape.width
        self._streams = device.empty(sequences * width, np.float32)
        self._inputs = device.empty(sequences * width, np.float32)
        self._hidden = device.empty(sequences * 4 * width, np.float32)
        self._logits = device.empty(sequences * shape.vocabulary, np.float32)
        self._cache = device.empty(sequences * cache_floats(shape), np.float32)
        self._tokens = device.pinned(sequences * ANSWER_TOKENS, np.uint32)
        #: Of each answer's tokens as they were chosen, once `speak` has ended.
        self.digests = device.pinned(sequences, np.uint64)
        # A kernel's threads read a whole record, of which a prompt is only the beginning.
        stream.fill(self.asked, 0)
        stream.fill(self._said, 0)
        stream.synchronize()

    @staticmethod
    def nbytes(shape: Shape, sequences: int) -> int:
        """Device memory of one for so many sequences, without the weights."""
        each = ASKED_WORDS + ANSWER_TOKENS + 6 * shape.width + shape.vocabulary
        return sequences * (4 * (each + cache_floats(shape)) + 8)

    def speak(
        self, lengths: Sequence[int], count: int, heard: Heard | None = None
    ) -> npt.NDArray[np.uint32]:
        """`count` tokens after each prompt of these lengths, shape (sequences, count)."""
        assert len(lengths) == self._count
        assert max(lengths) + count - 1 <= POSITIONS
        for position in range(max(lengths) + count - 1):
            self._take(position)
            if position + 1 >= min(lengths):
                self._choose(position, count)
            if heard is None:
                continue
            for sequence, length in enumerate(lengths):
                if length + count - 2 == position:
                    heard(sequence, self.logits()[sequence])
        self._stream.download(self._tokens, self._said)
        self._stream.download(self.digests, self._digests)
        self._stream.synchronize()
        return self._tokens.reshape(self._count, ANSWER_TOKENS)[:, :count].copy()

    @staticmethod
    def cost(shape: Shape, lengths: Sequence[int], tokens: int) -> Cost:
        """What the kernels of the answers must do, without the products between them; a row of the
        embedding counts for each sequence that looks it up."""
        count, width = len(lengths), shape.width
        positions = max(lengths) + tokens - 1
        chosen = positions - min(lengths) + 1
        kept = 8 * count * width
        normal = 4 * count * width
        # By position: rows looked up, streams written; by layer: two norms, heads, a ReLU.
        read, written = count * (width + 8), normal
        read += shape.layers * (2 * normal + 3 * normal + 4 * width // shape.heads + 4 * normal)
        written += shape.layers * (2 * normal + kept + normal + 4 * normal)
        read, written = read * positions, written * positions
        read += shape.layers * kept * positions * (positions + 1) // 2
        read += chosen * (normal + count * (4 * shape.vocabulary + 4)) + 8 * count * (tokens - 1)
        written += chosen * normal + 12 * count * tokens
        norms = (2 * shape.layers * positions + chosen) * width
        heads = shape.layers * sum(attended(shape, position) for position in range(positions))
        return Cost(read, written, multiply_adds=count * (norms + heads))

    def logits(self) -> npt.NDArray[np.float32]:
        """Those after the last position, shape (sequences, vocabulary)."""
        logits = np.empty(self._logits.count, np.float32)
        self._stream.download(logits, self._logits)
        self._stream.synchronize()
        return logits.reshape(self._count, -1)

    def _launch(self, name: str, threads: int, arguments: list[Argument]) -> None:
        self._stream.launch(self._kernels[name], -(-threads // _BLOCK), _BLOCK, arguments)

    def _take(self, position: int) -> None:
        """Enqueues a position of all sequences through all layers."""
        weights, stream, count = self._weights, self._stream, self._count
        shape, place = weights.shape, np.uint32(position)
        width, (scale, narrow, look_up, _) = shape.width, map(float, weights.scales())
        tokens = [weights.bytes, self.asked, self._said, self._streams]
        embed: list[Argument] = [*tokens, place, np.float32(look_up)]
        stream.launch(self._kernels["embed_batch"], count, 128, embed)
        projected = self._hidden.part(0, count * 3 * width)
        for layer in range(shape.layers):
            attend, merge, widen, narrowing = self._matrices[1 + 4 * layer : 5 + 4 * layer]
            self._normalise()
            stream.matmul(projected, self._inputs, attend, (count, 3 * width, width), scale=scale)
            kept = [projected, weights.rotations, self._cache, self._inputs]
            attended: list[Argument] = [*kept, np.uint32(layer), place]
            blocks = count * shape.heads
            stream.launch(self._kernels["attend_batch"], blocks, _ATTEND_BLOCK, attended)
            square = (count, width, width)
            stream.matmul(self._streams, self._inputs, merge, square, scale=scale, adds=True)
            self._normalise()
            wide = (count, 4 * width, width)
            stream.matmul(self._hidden, self._inputs, widen, wide, scale=scale)
            quads = count * width
            self._launch("rectify", quads, [self._hidden, np.uint32(quads)])
            back = (count, width, 4 * width)
            stream.matmul(self._streams, self._hidden, narrowing, back, scale=narrow, adds=True)

    def _normalise(self) -> None:
        arguments: list[Argument] = [self._streams, np.uint32(self._count), self._inputs]
        self._launch("normal_batch", 32 * self._count, arguments)

    def _choose(self, position: int, count: int) -> None:
        shape = self._weights.shape
        self._normalise()
        sides = (self._count, shape.vocabulary, shape.width)
        scale = float(self._weights.scales()[3])
        self._stream.matmul(self._logits, self._inputs, self._matrices[0], sides, scale=scale)
        numbers = [np.uint32(position), np.uint32(count)]
        buffers = [self._logits, self.asked, self._said, self._digests]
        arguments: list[Argument] = [*buffers, *numbers]
        self._stream.launch(self._kernels["choose_batch"], self._count, _BLOCK, arguments)
