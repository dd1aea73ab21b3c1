"""The assistant's decoder on a device: its weights drawn there, and one lane that answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
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
from swarmbench.gpu.device import Argument, Buffer, Device, Kernel, Stream

#: Words of a prompt's record, and tokens of an answer, as `assistant_model.cuh` has them.
ASKED_WORDS, ANSWER_TOKENS = 40, 64
_FILE = "assistant_decode.cu"
#: Products of e^x.
_EXPONENTIAL = 10
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
    device: Device

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
        return cls(shape, weights, turned, device)

    def kernel(self, file: str, name: str) -> Kernel:
        """A kernel for the sizes of this model."""
        return self.device.kernel(file, name, defines(self.shape))

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


class Speech(ABC):
    """One lane that answers prompts: keys, values, logits; the tokens come back by themselves.

    `asked` is the prompt's record, written by the kernel `command`; whoever asks says how many
    tokens it has.
    """

    #: The host's memory of one lane: two answers and their digests.
    HOST_BYTES = 2 * (4 * ANSWER_TOKENS + 8)

    def __init__(self, weights: Weights, stream: Stream) -> None:
        self._weights, self._stream = weights, stream
        device, shape = weights.device, weights.shape
        self.asked = device.empty(ASKED_WORDS, np.uint32)
        self.logits = device.empty(shape.vocabulary, np.float32)
        self._cache = device.empty(cache_floats(shape), np.float32)
        self.tokens = device.pinned(ANSWER_TOKENS, np.uint32)
        self.digest = device.pinned(1, np.uint64)
        self._again = device.pinned(ANSWER_TOKENS, np.uint32)
        self._again_digest = device.pinned(1, np.uint64)
        self._answer = (device.mapped(self.tokens), device.mapped(self.digest))
        self._second = (device.mapped(self._again), device.mapped(self._again_digest))
        stream.fill(self.asked, 0)
        stream.synchronize()

    @classmethod
    def nbytes(cls, shape: Shape) -> int:
        """Device memory of one lane."""
        return 4 * (ASKED_WORDS + shape.vocabulary + cache_floats(shape))

    def speak(self, prompted: int, count: int) -> None:
        """Enqueues the answer to `asked`, of `count` tokens."""
        self._say(prompted, 0, count, *self._answer)

    def says_again(self, prompted: int, place: int) -> int:
        """The token at a place of the last answer, from those before it; waits for it."""
        self._say(prompted, place, place + 1, *self._second)
        self._stream.synchronize()
        return int(self._again[place])

    @abstractmethod
    def _say(self, prompted: int, first: int, until: int, chosen: Buffer, digest: Buffer) -> None:
        """Enqueues the tokens `first` to `until` of an answer; those before them were said."""

    @classmethod
    @abstractmethod
    def moved_bytes(cls, shape: Shape, prompted: int, tokens: int) -> tuple[int, int]:
        """Different bytes that each launch of an answer reads and writes, summed."""

    def multiply_adds(self, prompted: int, tokens: int) -> int:
        """Products of an answer: every weight with three digits, and attention."""
        shape, positions = self._weights.shape, prompted + tokens - 1
        heads = sum(attended(shape, position) for position in range(positions))
        digits = positions * shape.layer_parameters + tokens * shape.vocabulary * shape.width
        return 3 * digits + shape.layers * heads + self._measured(positions, tokens)

    @abstractmethod
    def _measured(self, positions: int, tokens: int) -> int:
        """Squares that are summed up before vectors become digits, by every warp for itself."""


class SmallSpeech(Speech):
    """A whole answer in one launch of one block."""

    def __init__(self, weights: Weights, stream: Stream, block: int | None = None) -> None:
        super().__init__(weights, stream)
        self._kernel = weights.kernel(_FILE, "speak")
        chosen = _SPEAK_BLOCK_EMULATED if weights.device.is_emulated else _SPEAK_BLOCK
        self._block = block or chosen

    def _say(self, prompted: int, first: int, until: int, chosen: Buffer, digest: Buffer) -> None:
        weights = self._weights
        buffers = [weights.bytes, weights.rotations, self.asked, self._cache, self._answer[0]]
        buffers += [chosen, digest, self.logits]
        bounds = [np.uint32(first), np.uint32(until)]
        arguments: list[Argument] = [*buffers, *bounds, *weights.scales()]
        self._stream.launch(self._kernel, 1, self._block, arguments)

    @classmethod
    def moved_bytes(cls, shape: Shape, prompted: int, tokens: int) -> tuple[int, int]:
        """Each weight once, keys and values of every position that was taken."""
        positions = prompted + tokens - 1
        kept = 8 * shape.layers * positions * shape.width
        turned = 4 * positions * shape.width // shape.heads
        read = shape.parameters + kept + turned + 4 * (1 + prompted)
        return read, kept + 4 * (tokens + shape.vocabulary) + 8

    def _measured(self, positions: int, tokens: int) -> int:
        shape = self._weights.shape
        return (3 * shape.layers * positions + tokens) * shape.width * (self._block // 32)


def attended(shape: Shape, position: int) -> int:
    """Products of a layer's attention: scores, weights and values of each position, then the mean
    of what every 32 of them gave, by each dimension on its own."""
    groups = position // 32 + 1
    scored = (position + 1) * (2 * shape.width + _EXPONENTIAL * shape.heads)
    return scored + shape.width * groups * (_EXPONENTIAL + 2)


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
