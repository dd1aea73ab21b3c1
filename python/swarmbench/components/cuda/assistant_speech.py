"""The assistant's decoder on a device: its weights drawn there, and one lane that answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swarmbench.components.decoder import (
    DOMAIN_WEIGHTS,
    POSITIONS,
    SHAPES,
    Model,
    Shape,
    embedding_scale,
    logit_scale,
    matrix_scale,
)
from swarmbench.components.philox import stream_key
from swarmbench.gpu.device import Buffer, Device, Kernel, Stream

#: Words of a prompt's record, and tokens of an answer, as `assistant_model.cuh` has them.
ASKED_WORDS, ANSWER_TOKENS = 40, 64
_FILE = "assistant_decode.cu"
_PIECE, _DRAW_BLOCK, _SPEAK_BLOCK = 16, 256, 768
#: Every warp measures a vector for itself, which costs time only where warps take turns.
_SPEAK_BLOCK_EMULATED = 64


def sizes(shape: Shape) -> list[tuple[int, int]]:
    """Outputs and inputs of every matrix, in the order in which they are drawn and kept."""
    width = shape.width
    layer = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)]
    return [(shape.vocabulary, width), *layer * shape.layers]


def defines(shape: Shape) -> dict[str, int]:
    """A model's sizes, as its kernels are compiled with."""
    return {
        "MODEL_LAYERS": shape.layers,
        "MODEL_WIDTH": shape.width,
        "MODEL_HEADS": shape.heads,
        "MODEL_VOCABULARY": shape.vocabulary,
    }


def rotations(shape: Shape) -> npt.NDArray[np.float32]:
    """Cosine and sine by position, then by pair of a head's dimensions."""
    pairs = shape.width // shape.heads // 2
    rates = 10_000.0 ** (np.arange(pairs) / pairs)
    angles = np.arange(POSITIONS)[:, None] / rates
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32).reshape(-1)


@dataclass(frozen=True, slots=True)
class Weights:
    """A model on a device."""

    shape: Shape
    bytes: Buffer
    rotations: Buffer
    speak: Kernel

    @classmethod
    def drawn(cls, model: Model, device: Device, seed: int) -> Weights:
        """Draws every matrix where it is kept."""
        shape = SHAPES[model]
        weights, stream = device.empty(shape.parameters, np.int8), device.stream()
        draw, first = device.kernel(_FILE, "draw", defines(shape)), 0
        for number, (outputs, inputs) in enumerate(sizes(shape)):
            pieces, key = outputs * inputs // _PIECE, stream_key(seed, DOMAIN_WEIGHTS + number)
            matrix = weights.part(first, outputs * inputs)
            stream.launch(
                draw,
                -(-pieces // _DRAW_BLOCK),
                _DRAW_BLOCK,
                [matrix, *map(np.uint32, (pieces, *key))],
            )
            first += outputs * inputs
        stream.synchronize()
        turned = device.uploaded(rotations(shape))
        return cls(shape, weights, turned, device.kernel(_FILE, "speak", defines(shape)))

    @staticmethod
    def nbytes(model: Model) -> int:
        """Device memory of the weights and the rotations."""
        return SHAPES[model].shared_bytes()

    def scales(self) -> list[np.float32]:
        """Of all matrices, of narrowing ones, of the embedding as rows and as it gives logits."""
        width = self.shape.width
        return [
            np.float32(matrix_scale(width)),
            np.float32(matrix_scale(4 * width)),
            np.float32(embedding_scale()),
            np.float32(logit_scale(width)),
        ]


class Speech:
    """One lane that answers prompts: keys, values, logits; the tokens come back by themselves.

    `asked` is the prompt's record, written by the kernel `command`.
    """

    def __init__(self, weights: Weights, device: Device, stream: Stream, block: int | None) -> None:
        self._weights, self._stream = weights, stream
        chosen = _SPEAK_BLOCK_EMULATED if device.is_emulated else _SPEAK_BLOCK
        self._block = block or chosen
        shape = weights.shape
        self.asked = device.empty(ASKED_WORDS, np.uint32)
        self.logits = device.empty(shape.vocabulary, np.float32)
        self._cache = device.empty(cache_floats(shape), np.float32)
        self.tokens = device.pinned(ANSWER_TOKENS, np.uint32)
        self.digest = device.pinned(1, np.uint64)
        self._again = device.pinned(ANSWER_TOKENS, np.uint32)
        self._again_digest = device.pinned(1, np.uint64)
        self._views = [
            device.mapped(each)
            for each in (self.tokens, self.digest, self._again, self._again_digest)
        ]

    @staticmethod
    def nbytes(model: Model) -> int:
        """Device memory of one lane."""
        shape = SHAPES[model]
        return 4 * (ASKED_WORDS + shape.vocabulary + cache_floats(shape))

    def speak(self, count: int) -> None:
        """Enqueues the answer to `asked`, of `count` tokens."""
        self._launch(0, count, self._views[0], self._views[1])

    def says_again(self, place: int) -> int:
        """The token at a place of the last answer, from those before it; waits for it."""
        self._launch(place, place + 1, self._views[2], self._views[3])
        self._stream.synchronize()
        return int(self._again[place])

    def _launch(self, first: int, until: int, chosen: Buffer, digest: Buffer) -> None:
        weights = self._weights
        buffers = [weights.bytes, weights.rotations, self.asked, self._cache, self._views[0]]
        buffers += [chosen, digest, self.logits]
        bounds = [np.uint32(first), np.uint32(until)]
        self._stream.launch(weights.speak, 1, self._block, [*buffers, *bounds, *weights.scales()])


def cache_floats(shape: Shape) -> int:
    """Keys and values of all positions."""
    return 2 * shape.layers * POSITIONS * shape.width


def digest_of(tokens: npt.NDArray[np.uint32]) -> int:
    """The digest that the kernel keeps of tokens as it chooses them."""
    digest, mask = 0, (1 << 64) - 1
    for token in tokens.tolist():
        turned = (digest << 7 | digest >> 57) & mask
        digest = ((turned ^ token) * 0x9E3779B97F4A7C15) & mask
    return digest


def moved_bytes(shape: Shape, prompted: int, tokens: int) -> tuple[int, int]:
    """Different bytes that `speak` reads and writes: each weight once, keys and values of every
    position that was taken."""
    positions = prompted + tokens - 1
    kept = 8 * shape.layers * positions * shape.width
    turned = 4 * positions * shape.width // shape.heads
    read = shape.parameters + kept + turned + 4 * (1 + prompted)
    written = kept + 4 * (tokens + shape.vocabulary) + 8
    return read, written
