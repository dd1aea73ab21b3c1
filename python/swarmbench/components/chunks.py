"""What the streaming component's chunks hold and how they are coded, in plain NumPy.

The generators, the checksum, the survey and the numeric codec give the same bits as
`rust/core/src/operations/streaming/`.
"""

from __future__ import annotations

from functools import lru_cache, reduce
from typing import Literal

import numpy as np
import numpy.typing as npt

from swarmbench.components import philox

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]
Kind = Literal["text", "json", "int32", "float32", "random", "zeros"]
Content = Literal["numeric", "incompressible", "other"]

KINDS: tuple[Kind, ...] = ("text", "json", "int32", "float32", "random", "zeros")

DOMAIN = 0x53545200
_DOMAIN_VOCABULARY = DOMAIN + 0xFF
_RANK_BITS = 12
_ONSETS = ("b", "d", "f", "g", "l", "m", "n", "p", "r", "s", "t", "w", "th", "st", "pr", "tr")
_VOWELS = "aeio"
_ENDINGS = ("", "s", "n", "ed")
_SEPARATORS = (" ",) * 13 + (", ",) * 2 + (". ",)
_SENSORS = ("temp", "load", "fans", "volt", "amps", "freq", "disk", "link")
_EPOCH_MS = 1_700_000_000_000

_GROUP_WORDS, _ROWS, _LANES = 512, 32, 16
_CHECKSUM_LANES = 64
#: Long blocks are summed in pieces of so many bytes.
PIECE_BYTES = 64 << 10
_PRIME = 0x9E3779B1
_FOLD = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def generate(kind: Kind, seed: int, index: int, length: int) -> Bytes:
    """The chunk number `index` of `kind`: u8, `length` bytes (a multiple of 16)."""
    if kind == "zeros":
        return np.zeros(length, dtype=np.uint8)
    halves_needed = {"text": 3, "json": 80, "int32": 16, "float32": 8, "random": 4}[kind]
    count = -(-length // halves_needed)
    key = philox.stream_key(seed, DOMAIN + KINDS.index(kind))
    halves = philox.draws(key, index, (count + 1) // 2).view(np.uint32)[:count]
    if kind == "text":
        return _text(halves, seed, length)
    if kind == "json":
        return _json(halves, index, length)
    if kind == "int32":
        steps = halves.view(np.uint8).astype(np.uint32) - np.uint32(128)
        return np.cumsum(steps, dtype=np.uint32).view(np.uint8)[:length]
    if kind == "float32":
        pairs = np.stack([halves & np.uint32(0xFFF), halves >> np.uint32(16) & np.uint32(0xFFF)], 1)
        walk = np.cumsum(pairs.reshape(-1) - np.uint32(2048), dtype=np.uint32) + np.uint32(1 << 22)
        return (np.uint32(137 << 23) | walk & np.uint32((1 << 23) - 1)).view(np.uint8)[:length]
    return halves.view(np.uint8)[:length]


@lru_cache(maxsize=4)
def _vocabulary(seed: int) -> tuple[npt.NDArray[np.str_], ...]:
    """Every word with every separator behind it: array [separator] of words by rank."""
    key = philox.stream_key(seed, _DOMAIN_VOCABULARY)
    words = []
    for rank, drawn in enumerate(philox.draws(key, 0, (1 << _RANK_BITS) - 1), start=1):
        draw = int(drawn)
        syllables = 1 + (rank.bit_length() - 1) // 4 + (draw & 1)
        ending = _ENDINGS[draw >> 1 & 3]
        draw >>= 3
        spelled = ""
        for _ in range(syllables):
            spelled += _ONSETS[draw & 15] + _VOWELS[draw >> 4 & 3]
            draw >>= 6
        words.append(spelled + ending)
    return tuple(np.array([word + separator for word in words]) for separator in _SEPARATORS)


def _text(halves: Words, seed: int, length: int) -> Bytes:
    """Words of log-uniform rank (Zipf's law with exponent 1), separated by blanks and stops."""
    magnitudes = ((halves & np.uint32(0xFF)) * np.uint32(_RANK_BITS)) >> np.uint32(8)
    firsts = (np.uint32(1) << magnitudes) - np.uint32(1)
    ranks = firsts + ((halves >> np.uint32(8)) & firsts)
    vocabulary = np.stack(_vocabulary(seed))
    pieces = vocabulary[halves >> np.uint32(28), ranks]
    return np.frombuffer("".join(pieces.tolist()).encode(), dtype=np.uint8)[:length].copy()


def _json(halves: Words, index: int, length: int) -> Bytes:
    """One record of 80 bytes per draw."""
    times = _EPOCH_MS + index * 1_000_000 + np.cumsum(1 + (halves & 15).astype(np.int64))
    lines = [
        f'{{"ts":{time},"node":"n{draw >> 4 & 0xFF:03d}","sensor":"{_SENSORS[draw >> 12 & 7]}",'
        f'"value":2{(draw >> 15 & 0x3FF) // 1000}.{(draw >> 15 & 0x3FF) % 1000:03d},'
        f'"status":"{"ok" if draw >> 27 else "er"}"}}\n'
        for time, draw in zip(times.tolist(), halves.tolist(), strict=True)
    ]
    return np.frombuffer("".join(lines).encode(), dtype=np.uint8)[:length].copy()


def checksum(block: Bytes) -> int:
    """64 lanes of `rotate_left(lane ^ word, 13) * prime`, folded into 64 bits."""
    stripe_bytes = _CHECKSUM_LANES * 4
    padded = np.zeros(-(-len(block) // stripe_bytes) * stripe_bytes, dtype=np.uint8)
    padded[: len(block)] = block
    lanes = np.arange(1, _CHECKSUM_LANES + 1, dtype=np.uint32) * np.uint32(_PRIME)
    for stripe in padded.view("<u4").reshape(-1, _CHECKSUM_LANES):
        lanes = lanes ^ stripe
        lanes = (lanes << np.uint32(13) | lanes >> np.uint32(19)) * np.uint32(_PRIME)
    folded = len(block) * _FOLD & _MASK
    for lane in lanes.tolist():
        folded = (folded ^ lane) * _FOLD & _MASK
        folded ^= folded >> 32
    return folded


def pieced_checksum(block: Bytes) -> int:
    """The checksum of a block of any length: its first piece's, those of the others folded in."""
    pieces = range(0, max(1, len(block)), PIECE_BYTES)
    sums = [checksum(block[first : first + PIECE_BYTES]) for first in pieces]
    return reduce(_joined, sums)


def _joined(before: int, following: int) -> int:
    rotated = (before << 29 | before >> 35) & _MASK
    return (rotated ^ following) * _FOLD & _MASK


def folded_checksum(blocks: list[Bytes]) -> int:
    """The checksum of a chunk: its blocks', folded in order."""
    return reduce(_joined, map(checksum, blocks), 0)


def _codes(words: Words, before: int) -> Words:
    """Zigzag codes of each word's difference to the one before it."""
    left = np.concatenate([np.array([before], dtype=np.uint32), words[:-1]])
    difference = words - left
    sign: Words = (difference.view(np.int32) >> np.int32(31)).view(np.uint32)
    codes: Words = difference << np.uint32(1) ^ sign
    return codes


def pack(segment: Bytes) -> Bytes:
    """The numeric codec's bytes of a segment; the format is described in `pack.rs`."""
    groups = len(segment) // (_GROUP_WORDS * 4)
    body = segment[: groups * _GROUP_WORDS * 4]
    words = body.view("<u4")
    base = words[:1].copy() if groups else np.zeros(1, dtype=np.uint32)
    codes = _codes(words, int(base[0])).reshape(groups, _ROWS, _LANES)
    widths = np.array([int(group.max()).bit_length() for group in codes], dtype=np.uint8)
    parts = [base.view(np.uint8), widths]
    for group, width in zip(codes, widths.tolist(), strict=True):
        if width:
            bits = np.unpackbits(
                group.T.copy().view(np.uint8).reshape(_LANES, _ROWS, 4), axis=2, bitorder="little"
            )[:, :, :width]
            lanes = np.packbits(bits.reshape(_LANES, -1), axis=1, bitorder="little")
            parts.append(lanes.view("<u4").T.copy().view(np.uint8).reshape(-1))
    return np.concatenate([*parts, segment[len(body) :]])


def unpack(encoded: Bytes, length: int) -> Bytes:
    """The segment of `length` bytes that `pack` encoded."""
    groups = length // (_GROUP_WORDS * 4)
    base = int(encoded[:4].view("<u4")[0])
    widths, at = encoded[4 : 4 + groups].tolist(), 4 + groups
    codes = np.zeros((groups, _ROWS, _LANES), dtype=np.uint32)
    for group, width in enumerate(widths):
        packed = encoded[at : at + width * _LANES * 4]
        at += len(packed)
        if width:
            lanes = packed.view("<u4").reshape(width, _LANES).T.copy().view(np.uint8)
            bits = np.unpackbits(lanes, axis=1, bitorder="little").reshape(_LANES, _ROWS, width)
            weights = np.uint32(1) << np.arange(width, dtype=np.uint32)
            codes[group] = (bits * weights).sum(axis=2, dtype=np.uint32).T
    flat = codes.reshape(-1)
    differences = flat >> np.uint32(1) ^ (np.uint32(0) - (flat & np.uint32(1)))
    words = np.cumsum(differences, dtype=np.uint32) + np.uint32(base)
    return np.concatenate([words.view(np.uint8), encoded[at:]])


def survey(chunk: Bytes) -> Content:
    """What a chunk looks like: 8 groups' packed widths, then the byte counts of 16 pieces."""
    group_bytes = _GROUP_WORDS * 4
    groups = len(chunk) // group_bytes
    if groups >= 8:
        width = 0
        for sample in range(8):
            at = sample * groups // 8 * group_bytes
            words = chunk[at : at + group_bytes].view("<u4")
            width += int(_codes(words, int(words[0])).max()).bit_length()
        if width <= 20 * 8:
            return "numeric"
    if len(chunk) >= 4096:
        stride = len(chunk) // 16
        pieces = [chunk[piece * stride : piece * stride + 256] for piece in range(16)]
        counts = np.bincount(np.concatenate(pieces), minlength=256).astype(np.int64)
        if int((counts * counts).sum()) <= (4096 + 4096 * 4096 // 256) * 106 // 100:
            return "incompressible"
    return "other"
