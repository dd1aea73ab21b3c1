"""The assistant's decoder over many blocks of a device: two launches a layer, one to choose."""

from __future__ import annotations

import numpy as np

from swarmbench.components.cuda.assistant_speech import ANSWER_TOKENS, Speech, Weights
from swarmbench.components.decoder import POSITIONS, Shape
from swarmbench.gpu.device import Argument, Buffer, Stream

_FILE = "assistant_stages.cu"
_HEAD_BLOCK, _SLICE_BLOCK, _CHOOSE_BLOCK = 512, 256, 256
#: Hidden values of a block, vectors of the stream that take turns.
_SLICE, _STREAMS = 32, 3


class StagedSpeech(Speech):
    """An answer launch by launch, where one block would be too slow.

    `block` and `grid` replace the threads of every block and the blocks that choose.
    """

    def __init__(
        self,
        weights: Weights,
        stream: Stream,
        block: int | None = None,
        grid: int | None = None,
    ) -> None:
        super().__init__(weights, stream)
        device = weights.device
        names = ("look_up", "attend_head", "think", "choose")
        self._kernels = {name: weights.kernel(_FILE, name) for name in names}
        self._blocks = [block or own for own in (_HEAD_BLOCK, _SLICE_BLOCK, _CHOOSE_BLOCK)]
        self._grid = grid or 2 * device.multiprocessors
        self._streams = device.empty(_STREAMS * weights.shape.width, np.uint64)
        self._said = device.empty(ANSWER_TOKENS, np.uint32)
        self._best = device.empty(2, np.uint64)
        self._layers = [self._layer(number) for number in range(weights.shape.layers)]
        self._step = 0
        stream.fill(self._best, 0)
        stream.fill(self._said, 0)
        stream.synchronize()

    def _layer(self, number: int) -> tuple[Buffer, Buffer, Buffer]:
        """A layer's weights, keys and values."""
        shape = self._weights.shape
        each, kept = shape.layer_parameters // shape.layers, POSITIONS * shape.width
        first = shape.parameters - shape.layer_parameters + number * each
        values = shape.layers * kept
        return (
            self._weights.bytes.part(first, each),
            self._cache.part(number * kept, kept),
            self._cache.part(values + number * kept, kept),
        )

    @classmethod
    def nbytes(cls, shape: Shape) -> int:
        own = 8 * _STREAMS * shape.width + 4 * ANSWER_TOKENS + 8 * 2
        return super().nbytes(shape) + own

    def _say(self, prompted: int, first: int, until: int, chosen: Buffer, digest: Buffer) -> None:
        begin = prompted + first - 1 if first else 0
        for position in range(begin, prompted + until - 1):
            self._take(position)
            answer = position + 1 - prompted
            if answer >= 0:
                self._choose(answer, answer + 1 == until, chosen, digest)

    def _take(self, position: int) -> None:
        """Enqueues a position through all layers."""
        weights, launch = self._weights, self._stream.launch
        embedding, place = self._embedding(), np.uint32(position)
        scale, narrow, look_up, _ = weights.scales()
        tokens = [embedding, self.asked, self._said, self._streams]
        arguments: list[Argument] = [*tokens, np.uint32(self._step), place, look_up]
        launch(self._kernels["look_up"], 1, self._blocks[0], arguments)
        for layer, keys, values in self._layers:
            kept = [layer, weights.rotations, keys, values, self._streams]
            launch(
                self._kernels["attend_head"],
                weights.shape.heads,
                self._blocks[0],
                [*kept, np.uint32(self._step), place, scale],
            )
            launch(
                self._kernels["think"],
                4 * weights.shape.width // _SLICE,
                self._blocks[1],
                [layer, self._streams, np.uint32(self._step + 1), scale, narrow],
            )
            # Three streams take turns, so that only the step's rest by 3 counts.
            self._step = (self._step + 2) % _STREAMS

    def _choose(self, answer: int, keeps: bool, chosen: Buffer, digest: Buffer) -> None:
        buffers = [self._embedding(), self._streams, self._best, self._said]
        numbers = [np.uint32(each) for each in (self._step, answer, keeps)]
        scale = self._weights.scales()[3]
        arguments: list[Argument] = [*buffers, chosen, digest, self.logits, *numbers, scale]
        self._stream.launch(self._kernels["choose"], self._grid, self._blocks[2], arguments)

    def _embedding(self) -> Buffer:
        shape = self._weights.shape
        return self._weights.bytes.part(0, shape.vocabulary * shape.width)

    @classmethod
    def moved_bytes(cls, shape: Shape, prompted: int, tokens: int) -> tuple[int, int]:
        """Every weight of the layers at each position, the embedding for each token."""
        positions, width = prompted + tokens - 1, shape.width
        kept = sum(8 * (position + 1) * width for position in range(positions)) * shape.layers
        stream, turned = 8 * width, 4 * width // shape.heads
        # A step reads the stream and what it adds to.
        steps = positions * shape.layers * (2 * 2 * stream + turned)
        read = positions * (shape.layer_parameters + width) + kept + steps
        read += tokens * (shape.vocabulary * width + stream)
        written = positions * (2 * stream + shape.layers * (stream + 2 * 2 * stream))
        return read, written + 32 * tokens + 4 * shape.vocabulary

    def _measured(self, positions: int, tokens: int) -> int:
        """Every block measures the stream, and the part of a vector that it adds."""
        shape = self._weights.shape
        slices = 4 * shape.width // _SLICE
        attending, thinking, choosing = (block // 32 for block in self._blocks)
        layer = attending * (shape.heads + 1) * shape.width
        layer += thinking * slices * (shape.width + _SLICE)
        chosen = choosing * self._grid * shape.width
        return positions * shape.layers * layer + tokens * chosen
