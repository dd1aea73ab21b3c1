"""The decoder of the `assistant` in plain NumPy and float64: seeded weights, one token at a time.

Pre-norm transformer with RMS norms, rotary positions, ReLU, tied embeddings and no biases; every
weight is an integer of 8 bits times the scale of its matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from swarmbench.components.philox import draws, stream_key

Model = Literal["small", "base"]
Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]

#: Tokens of a prompt and an answer together, and of a prompt, at most; what prompts begin with.
POSITIONS, PROMPT_MAX, BEGIN = 96, 32, 0
DOMAIN_WEIGHTS = 0xA551_0100
#: Standard deviation of a byte uniform in -128..127 whose -128 counts as -127.
_BYTE_DEVIATION = 73.6
_EMBEDDING_GAIN = 0.4
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a model."""

    layers: int
    width: int
    heads: int
    vocabulary: int

    @property
    def layer_parameters(self) -> int:
        """Weights of all layers, without the embedding."""
        return 12 * self.layers * self.width * self.width

    @property
    def parameters(self) -> int:
        """All weights, a byte each."""
        return self.layer_parameters + self.vocabulary * self.width

    def shared_bytes(self) -> int:
        """Weights and rotations."""
        return self.parameters + 4 * POSITIONS * self.width // self.heads

    def copy_bytes(self) -> int:
        """Keys, values and activations of one copy."""
        return 4 * (2 * self.layers * POSITIONS * self.width + 18 * self.width + self.vocabulary)

    def together_bytes(self) -> int:
        """The same of one of several answers in step."""
        return 4 * (2 * self.layers * POSITIONS * self.width + 14 * self.width + self.vocabulary)


SHAPES: dict[Model, Shape] = {
    "small": Shape(layers=3, width=192, heads=6, vocabulary=896),
    "base": Shape(layers=4, width=512, heads=8, vocabulary=24_576),
}


def drawn(seed: int, number: int, outputs: int, inputs: int) -> Matrix:
    """Matrix number `number` in units of its scale, shape (outputs, inputs)."""
    words = draws(stream_key(seed, DOMAIN_WEIGHTS + number), 0, outputs * inputs // 8)
    signed = np.maximum(words.astype("<u8").view(np.int8), -127)
    return signed.astype(np.float64).reshape(outputs, inputs)


def _scale(gain: float) -> float:
    return float(np.float32(gain / _BYTE_DEVIATION))


def matrix_scale(inputs: int) -> float:
    """What the weights of a layer's matrix are times."""
    return _scale(inputs**-0.5)


def embedding_scale() -> float:
    """What the embedding is times where tokens are looked up."""
    return _scale(_EMBEDDING_GAIN)


def logit_scale(width: int) -> float:
    """What the embedding is times where it gives the logits."""
    return float(np.float32(1.0 / (_BYTE_DEVIATION * width**0.5)))


@dataclass(frozen=True, slots=True)
class Matrices:
    """All weights: what a row of tokens is looked up in, what gives the logits, and by layer
    queries, keys and values; merging; widening; narrowing. None is transposed."""

    embedding: Matrix
    output: Matrix
    layers: list[list[Matrix]]


class Decoder:
    """A model with its weights in float64."""

    def __init__(self, model: Model, seed: int) -> None:
        self.shape = SHAPES[model]
        width = self.shape.width
        sizes = ((3 * width, width), (width, width), (4 * width, width), (width, 4 * width))
        self._embedding = drawn(seed, 0, self.shape.vocabulary, width)
        self._layers = [
            [
                drawn(seed, 1 + 4 * layer + part, outputs, inputs) * matrix_scale(inputs)
                for part, (outputs, inputs) in enumerate(sizes)
            ]
            for layer in range(self.shape.layers)
        ]

    def matrices(self) -> Matrices:
        """The weights with their scales."""
        output = self._embedding * logit_scale(self.shape.width)
        return Matrices(self._embedding * embedding_scale(), output, self._layers)

    def _rotated(self, vectors: Matrix, position: int) -> Matrix:
        """Heads, shape (heads, width of a head), each pair turned by its angle."""
        pairs = vectors.shape[1] // 2
        angles = position / 10_000.0 ** (np.arange(pairs) / pairs)
        first, second = vectors[:, :pairs], vectors[:, pairs:]
        cosine, sine = np.cos(angles), np.sin(angles)
        return np.hstack([first * cosine - second * sine, first * sine + second * cosine])

    def logits(self, tokens: Sequence[int]) -> Matrix:
        """The logits after each token, shape (tokens, vocabulary)."""
        session = Session(self)
        return np.array([session.take(token) for token in tokens])

    def greedy(self, prompt: Sequence[int], count: int) -> tuple[list[int], Vector]:
        """`count` tokens after the prompt, each the likeliest, and the logits of the last."""
        session, tokens = Session(self), list[int]()
        for token in prompt[:-1]:
            session.take(token)
        logits = session.take(prompt[-1])
        while True:
            tokens.append(int(np.argmax(logits)))
            if len(tokens) == count:
                return tokens, logits
            logits = session.take(tokens[-1])


class Session:
    """The keys and values of the tokens so far."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._keys: list[list[Matrix]] = [[] for _ in decoder._layers]
        self._values: list[list[Matrix]] = [[] for _ in decoder._layers]
        self._position = 0

    def take(self, token: int) -> Vector:
        """The logits after one more token."""
        decoder, shape = self._decoder, self._decoder.shape
        # Another row than that which gives its logit, or each token would be followed by itself.
        row = (5 * token + 17) % shape.vocabulary
        stream = decoder._embedding[row] * embedding_scale()
        for layer, (attend, merge, widen, narrow) in enumerate(decoder._layers):
            parts = (attend @ _normal(stream)).reshape(3, shape.heads, -1)
            query = decoder._rotated(parts[0], self._position)
            self._keys[layer].append(decoder._rotated(parts[1], self._position))
            self._values[layer].append(parts[2])
            keys, values = np.array(self._keys[layer]), np.array(self._values[layer])
            scores = np.einsum("hd,phd->hp", query, keys) / np.sqrt(query.shape[1])
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            stream = stream + merge @ np.einsum("hp,phd->hd", weights, values).reshape(-1)
            stream = stream + narrow @ np.maximum(widen @ _normal(stream), 0.0)
        self._position += 1
        logits: Vector = logit_scale(shape.width) * (decoder._embedding @ _normal(stream))
        return logits


def _normal(vector: Vector) -> Vector:
    normal: Vector = vector / np.sqrt(np.mean(vector * vector) + _EPSILON)
    return normal


@lru_cache(maxsize=2)
def decoder(model: Model, seed: int) -> Decoder:
    """The decoder of a model and a seed, drawn once."""
    return Decoder(model, seed)
