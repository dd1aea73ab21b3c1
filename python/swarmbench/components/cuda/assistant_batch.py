"""The assistant's decoder for many prompts at once: matrix products over all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from swarmbench.components.cuda.assistant_speech import (
    ANSWER_TOKENS,
    ASKED_WORDS,
    Weights,
    cache_floats,
    sizes,
)
from swarmbench.components.decoder import POSITIONS
from swarmbench.gpu.device import Argument, Buffer, Stream

_FILE = "assistant_batch.cu"
_BLOCK, _ATTEND_BLOCK, _PIECE = 256, 96, 16


class BatchSpeech:
    """Answers to `sequences` prompts in step, position by position, with every weight as a float.

    From about 32 sequences on a product with cuBLAS takes less than as many of batch 1; its floats
    keep logits within `Assistant.tolerance`.
    """

    def __init__(self, weights: Weights, stream: Stream, sequences: int) -> None:
        self._weights, self._stream, self._count = weights, stream, sequences
        device, shape = weights.device, weights.shape
        names = ("to_floats", "embed_batch", "normal_batch", "attend_batch", "rectify")
        self._kernels = {name: weights.kernel(_FILE, name) for name in (*names, "choose_batch")}
        self._asked = device.empty(sequences * ASKED_WORDS, np.uint32)
        self._said = device.empty(sequences * ANSWER_TOKENS, np.uint32)
        width = shape.width
        self._streams = device.empty(sequences * width, np.float32)
        self._inputs = device.empty(sequences * width, np.float32)
        self._hidden = device.empty(sequences * 4 * width, np.float32)
        self._logits = device.empty(sequences * shape.vocabulary, np.float32)
        self._cache = device.empty(sequences * cache_floats(shape), np.float32)
        self._matrices = self._as_floats()

    def _as_floats(self) -> list[Buffer]:
        """Every matrix, in the order of `sizes`."""
        shape, found = self._weights.shape, list[Buffer]()
        floats, first = self._weights.device.empty(shape.parameters, np.float32), 0
        pieces = shape.parameters // _PIECE
        self._launch("to_floats", pieces, [self._weights.bytes, np.uint32(pieces), floats])
        for outputs, inputs in sizes(shape):
            found.append(floats.part(first, outputs * inputs))
            first += outputs * inputs
        self._stream.synchronize()
        return found

    def speak(self, prompts: Sequence[Sequence[int]], count: int) -> npt.NDArray[np.uint32]:
        """`count` tokens after each prompt, shape (sequences, count)."""
        assert len(prompts) == self._count
        asked = np.zeros((self._count, ASKED_WORDS), np.uint32)
        for row, prompt in zip(asked, prompts, strict=True):
            row[0] = len(prompt)
            row[1 : 1 + len(prompt)] = prompt
        self._stream.upload(self._asked, asked.reshape(-1))
        lengths = [len(prompt) for prompt in prompts]
        assert max(lengths) + count - 1 <= POSITIONS
        for position in range(max(lengths) + count - 1):
            self._take(position)
            if position + 1 >= min(lengths):
                self._choose(position, count)
        said = np.empty(self._said.count, np.uint32)
        self._stream.download(said, self._said)
        self._stream.synchronize()
        return said.reshape(self._count, ANSWER_TOKENS)[:, :count].copy()

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
        tokens = [weights.bytes, self._asked, self._said, self._streams]
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
        arguments: list[Argument] = [self._logits, self._asked, self._said, *numbers]
        self._stream.launch(self._kernels["choose_batch"], self._count, _BLOCK, arguments)
