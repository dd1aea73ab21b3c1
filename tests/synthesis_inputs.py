"""Inputs of synthesis that are given rather than drawn by key, for its tests on every backend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swarmbench.components import forests
from swarmbench.components.base import Arrays


def byte_inputs(text: bytes, patterns: Sequence[Sequence[tuple[int, int]]], letters: int) -> Arrays:
    """A text of so many letters and patterns of (byte, flag) for `byte_match`."""
    flat = np.array([each for pattern in patterns for each in pattern], dtype=np.uint8)
    return {
        "text": np.frombuffer(text, dtype=np.uint8) % np.uint8(letters),
        "pattern_first": forests.starts(patterns),
        "pattern_bytes": flat[:, 0].copy(),
        "pattern_flags": flat[:, 1].copy(),
    }
