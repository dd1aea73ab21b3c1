"""The assistant's decoder as a user would write it: in PyTorch and in NumPy, in single precision.

Keys and values are kept in memory allocated before; a prompt is taken in at once, then one token at
a time. The weights are those of the component, as floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from swarmbench.components.decoder import POSITIONS, Decoder

Tokens = Sequence[int]


def angles(decoder: Decoder) -> tuple[Any, Any]:
    """Cosines and sines, shape (positions, half the width of a head)."""
    half = decoder.shape.width // decoder.shape.heads // 2
    turns = np.outer(np.arange(POSITIONS), 10_000.0 ** -(np.arange(half) / half))
    return np.cos(turns).astype(np.float32), np.sin(turns).astype(np.float32)


class TorchDecoder:
    """PyTorch in inference mode, on `threads` threads, or as many as it takes by itself."""

    def __init__(self, decoder: Decoder, threads: int | None) -> None:
        import torch

        self.torch = torch
        self.threads = threads
        self.threads_default = torch.get_num_threads()
        shape = decoder.shape
        self.heads, self.vocabulary = shape.heads, shape.vocabulary
        rows = (5 * np.arange(shape.vocabulary) + 17) % shape.vocabulary
        matrices = decoder.matrices()
        self.embedding = torch.tensor(matrices.embedding[rows], dtype=torch.float32)
        self.output = torch.tensor(matrices.output, dtype=torch.float32)
        self.layers = [
            [torch.tensor(part, dtype=torch.float32) for part in layer] for layer in matrices.layers
        ]
        cosine, sine = angles(decoder)
        self.cosine, self.sine = torch.from_numpy(cosine), torch.from_numpy(sine)
        size = (len(self.layers), shape.heads, POSITIONS, shape.width // shape.heads)
        self.keys, self.values = torch.ones(size), torch.ones(size)

    def normal(self, stream: Any) -> Any:
        return self.torch.nn.functional.rms_norm(stream, stream.shape[-1:], eps=1e-6)

    def rotated(self, heads: Any, first: int) -> Any:
        last = first + heads.shape[1]
        low, high = heads.chunk(2, dim=-1)
        cosine, sine = self.cosine[first:last], self.sine[first:last]
        return self.torch.cat([low * cosine - high * sine, low * sine + high * cosine], dim=-1)

    def take(self, tokens: Any, first: int) -> Any:
        """The logits after the last of `tokens`, which stand at position `first` and on."""
        functional = self.torch.nn.functional
        stream = self.embedding[tokens]
        count = len(tokens)
        last = first + count
        for number, (attend, merge, widen, narrow) in enumerate(self.layers):
            parts = functional.linear(self.normal(stream), attend)
            query, key, value = parts.view(count, 3, self.heads, -1).permute(1, 2, 0, 3)
            self.keys[number, :, first:last] = self.rotated(key, first)
            self.values[number, :, first:last] = value
            mixed = functional.scaled_dot_product_attention(
                self.rotated(query, first)[None],
                self.keys[None, number, :, :last],
                self.values[None, number, :, :last],
                is_causal=count > 1,
            )
            stream = stream + functional.linear(mixed[0].transpose(0, 1).reshape(count, -1), merge)
            hidden = functional.linear(self.normal(stream), widen).relu_()
            stream = stream + functional.linear(hidden, narrow)
        return functional.linear(self.normal(stream[-1]), self.output)

    def greedy(self, prompt: Tokens, count: int) -> list[int]:
        """`count` tokens after the prompt, each the likeliest."""
        self.torch.set_num_threads(self.threads or self.threads_default)
        with self.torch.inference_mode():
            logits = self.take(self.torch.tensor(prompt), 0)
            tokens = [int(logits.argmax())]
            while len(tokens) < count:
                position = len(prompt) + len(tokens) - 1
                logits = self.take(self.torch.tensor(tokens[-1:]), position)
                tokens.append(int(logits.argmax()))
            return tokens


class NumpyDecoder:
    """NumPy and its BLAS, a token at a time."""

    def __init__(self, decoder: Decoder) -> None:
        shape = decoder.shape
        rows = (5 * np.arange(shape.vocabulary) + 17) % shape.vocabulary
        matrices = decoder.matrices()
        self.embedding = matrices.embedding[rows].astype(np.float32)
        self.output = matrices.output.astype(np.float32)
        self.layers = [[part.astype(np.float32) for part in layer] for layer in matrices.layers]
        self.cosine, self.sine = angles(decoder)
        self.heads, self.head_width = shape.heads, shape.width // shape.heads
        size = (len(self.layers), shape.heads, POSITIONS, self.head_width)
        self.keys, self.values = np.ones(size, np.float32), np.ones(size, np.float32)

    @staticmethod
    def normal(stream: Any) -> Any:
        return stream / np.sqrt(stream @ stream / np.float32(len(stream)) + np.float32(1e-6))

    def rotated(self, heads: Any, position: int) -> Any:
        low, high = np.split(heads, 2, axis=1)
        cosine, sine = self.cosine[position], self.sine[position]
        return np.hstack([low * cosine - high * sine, low * sine + high * cosine])

    def take(self, token: int, position: int) -> Any:
        stream = self.embedding[token]
        for number, (attend, merge, widen, narrow) in enumerate(self.layers):
            parts = (attend @ self.normal(stream)).reshape(3, self.heads, -1)
            self.keys[number, :, position] = self.rotated(parts[1], position)
            self.values[number, :, position] = parts[2]
            keys = self.keys[number, :, : position + 1]
            values = self.values[number, :, : position + 1]
            query = self.rotated(parts[0], position)[:, :, None]
            scores = (keys @ query)[:, :, 0] / np.sqrt(np.float32(self.head_width))
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            stream = stream + merge @ (weights[:, None] @ values).reshape(-1)
            stream = stream + narrow @ np.maximum(widen @ self.normal(stream), np.float32(0))
        return self.output @ self.normal(stream)

    def greedy(self, prompt: Tokens, count: int) -> list[int]:
        """`count` tokens after the prompt, each the likeliest."""
        logits = np.zeros(0)
        for position, token in enumerate(prompt):
            logits = self.take(token, position)
        tokens = [int(np.argmax(logits))]
        while len(tokens) < count:
            logits = self.take(tokens[-1], len(prompt) + len(tokens) - 1)
            tokens.append(int(np.argmax(logits)))
        return tokens
