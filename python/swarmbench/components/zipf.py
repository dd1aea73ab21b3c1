"""Zipf's law with exponent 1.1 in exact integers: the same draws in Rust, NumPy and CUDA."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]


def _tenth_roots(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """x^0.1 for x >= 1 by ten Newton steps from x^0.125, in IEEE basic operations only."""
    root = np.sqrt(np.sqrt(np.sqrt(x)))
    for _ in range(10):
        squared = root * root
        fourth = squared * squared
        ninth = fourth * fourth * root
        root = root - (ninth * root - x) / (10.0 * ninth)
    return root


def zipf_table(ranks: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Thresholds and aliases of Zipf's law with exponent 1.1 (Vose, IEEE TSE 1991)."""
    rank = np.arange(1, ranks + 1, dtype=np.float64)
    weights = 1.0 / (rank * _tenth_roots(rank))
    total = 0.0
    for weight in weights.tolist():
        total += weight
    full = 1 << 32
    left: list[int] = [int(weight / total * float(ranks << 32)) for weight in weights.tolist()]
    left[0] += (ranks << 32) - sum(left)
    threshold, alias = [full - 1] * ranks, list(range(ranks))
    small = [index for index in range(ranks) if left[index] < full]
    large = [index for index in range(ranks) if left[index] >= full]
    while small and large:
        poor, rich = small.pop(), large[-1]
        threshold[poor], alias[poor] = left[poor], rich
        left[rich] -= full - left[poor]
        if left[rich] < full:
            small.append(large.pop())
    return np.array(threshold, np.uint64), np.array(alias, np.uint64)


def zipf_ranks(words: Words, ranks: int) -> Words:
    """The ranks that uniform words draw."""
    threshold, alias = zipf_table(ranks)
    product = words.astype(np.uint64) * np.uint64(ranks)
    column = (product >> np.uint64(32)).astype(np.int64)
    kept = (product & np.uint64(0xFFFFFFFF)) < threshold[column]
    answer: npt.NDArray[Any] = np.where(kept, column.astype(np.uint64), alias[column])
    return answer.astype(np.uint32)
