"""Philox4x32-10 and stream keys in plain NumPy: the same bits as `rust/core/src/random.rs`.

Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]

_MASK = (1 << 64) - 1


def stream_key(seed: int, domain: int) -> tuple[int, int]:
    """The 64-bit key of one independent stream, as two 32-bit words (low, high)."""
    rotated = (domain * 0x9E3779B97F4A7C15) & _MASK
    rotated = ((rotated << 17) | (rotated >> 47)) & _MASK
    mixed = (seed ^ rotated) & _MASK
    mixed = (mixed + 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    mixed ^= mixed >> 31
    return mixed & 0xFFFFFFFF, mixed >> 32


def philox(counters: Words, key: tuple[int, int]) -> Words:
    """Philox4x32-10 of counters, shape (n, 4), under one key; returns shape (n, 4)."""
    c0, c1, c2, c3 = (counters[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    low32, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        low, high = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (high >> shift) ^ c1 ^ np.uint64(k0),
            high & low32,
            (low >> shift) ^ c3 ^ np.uint64(k1),
            low & low32,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def draws(key: tuple[int, int], high: int, count: int) -> npt.NDArray[np.uint64]:
    """The first `count` 64-bit draws of the stream (`key`, `high`), as `Stream::next_u64` gives."""
    blocks = np.arange((count + 1) // 2, dtype=np.uint64)
    counters = np.empty((len(blocks), 4), dtype=np.uint32)
    counters[:, 0] = blocks & np.uint64(0xFFFFFFFF)
    counters[:, 1] = blocks >> np.uint64(32)
    counters[:, 2] = high & 0xFFFFFFFF
    counters[:, 3] = high >> 32
    words = philox(counters, key).astype(np.uint64)
    pairs = np.stack(
        [words[:, 0] | words[:, 1] << np.uint64(32), words[:, 2] | words[:, 3] << np.uint64(32)],
        axis=1,
    )
    return pairs.reshape(-1)[:count]
