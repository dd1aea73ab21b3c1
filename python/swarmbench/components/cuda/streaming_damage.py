"""Damage to the bytes of an answer, as the CPU's backend does it (`streaming/planting.rs`)."""

from __future__ import annotations

import numpy as np

from swarmbench.components.chunks import Bytes

#: Bytes that are lost or doubled.
_PIECE_BYTES = 64


def damaged(answer: Bytes, fault: str, draw: int) -> bool:
    """Damages an answer by a bit, a piece left as zeros, or a piece written over the next one;
    False where nothing changed."""
    draw = (draw * 0x9E3779B9 & 0xFFFFFFFFFFFFFFFF) >> 4
    if fault == "flipped_bit":
        answer[draw % len(answer)] ^= 1 << draw % 8
        return True
    place = draw % (len(answer) - 2 * _PIECE_BYTES + 1)
    one = answer[place : place + _PIECE_BYTES]
    other = answer[place + _PIECE_BYTES : place + 2 * _PIECE_BYTES]
    left = np.zeros_like(one) if fault == "lost_result" else one
    is_changed = not np.array_equal(other, left)
    other[:] = left
    return is_changed
