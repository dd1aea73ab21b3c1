"""What streaming's kernels must move: different bytes that each launch reads and writes, summed."""

from __future__ import annotations

from swarmbench.components.cuda.base import Cost
from swarmbench.components.cuda.streaming import DEVICE_CODECS, GROUP_BYTES, HEADER_BYTES, Shape
from swarmbench.components.streaming import PACK, STORED

#: Samples of a survey: groups and pieces of bytes.
_SAMPLES, _PIECES, _PIECE_BYTES = 8, 16, 256
#: Words that a block's checksum is folded out of.
_LANES = 64
#: A word of the state.
_WORD = 8


def of(
    op: str, shape: Shape, codec: int, length: int, is_numeric: bool, *, is_apart: bool = False
) -> Cost:
    """The cost of an op on a chunk of that shape, which the survey found numeric or not, and whose
    frame by `codec` is `length` bytes long; `is_apart` where restoring waits for the codec to be
    known, so that a frame of the host's is not looked at."""
    restored = _restored(shape, codec, length, delivers=op != "decompress")
    if op == "decompress":
        parts = [restored if codec in DEVICE_CODECS else _checksum(shape, delivers=False)]
    else:
        parts = [_survey(op, shape, is_numeric), _measured(shape, codec)]
        if op in ("auto", "pack", "compress"):
            parts.append(_packed(shape, codec, length))
        if op != "compress":
            if codec in DEVICE_CODECS or not is_apart:
                parts.append(restored)
            if codec not in DEVICE_CODECS:
                parts.append(_checksum(shape, delivers=True))
    return sum(parts, Cost(0, 0))


def _chunk_bytes(shape: Shape) -> int:
    return shape.groups * GROUP_BYTES


def _summed(shape: Shape) -> int:
    """Products of a checksum: one a word, and of each block its lanes and its sum folded in."""
    return _chunk_bytes(shape) // 4 + (_LANES + 1) * shape.blocks


def _survey(op: str, shape: Shape, is_numeric: bool) -> Cost:
    """Samples of the chunk, the second kind only where the first did not decide."""
    if op == "pack":
        return Cost(0, 3 * _WORD)
    quads = set[int]()
    if shape.groups >= _SAMPLES:
        for sample in range(_SAMPLES):
            first = sample * shape.groups // _SAMPLES * GROUP_BYTES // 16
            quads.update(range(first, first + GROUP_BYTES // 16))
    if not is_numeric:
        for piece in range(_PIECES):
            first = piece * (_chunk_bytes(shape) // _PIECES) // 16
            quads.update(range(first, first + _PIECE_BYTES // 16))
    return Cost(16 * len(quads), 3 * _WORD)


def _measured(shape: Shape, codec: int) -> Cost:
    """The chunk once; a block's checksum and length are written, and read where they are folded."""
    read = _chunk_bytes(shape) + 12 * shape.blocks + 2 * _WORD
    written = 16 * shape.blocks + HEADER_BYTES + 3 * _WORD
    if codec == PACK:
        written += 4 * shape.groups
    if codec == STORED:
        written += _chunk_bytes(shape)
    return Cost(read, written, multiply_adds=_summed(shape))


def _packed(shape: Shape, codec: int, length: int) -> Cost:
    """The chunk again, and the frame behind its table."""
    if codec != PACK:
        return Cost(_WORD, 0)
    read = _chunk_bytes(shape) + 4 * shape.groups + 4 * shape.blocks + _WORD
    return Cost(read, length - HEADER_BYTES - 4 * shape.blocks)


def _restored(shape: Shape, codec: int, length: int, *, delivers: bool) -> Cost:
    """The frame once and the chunk; of a frame of the host's only its head."""
    if codec not in DEVICE_CODECS:
        return Cost(12 + 2 * _WORD, 4 * _WORD)
    state = 5 if delivers else 2
    written = _chunk_bytes(shape) + 8 * shape.blocks + (6 if delivers else 4) * _WORD
    read = length + 8 * shape.blocks + state * _WORD
    return Cost(read, written, multiply_adds=_summed(shape))


def _checksum(shape: Shape, *, delivers: bool) -> Cost:
    """The chunk once."""
    read = _chunk_bytes(shape) + 8 * shape.blocks + (4 if delivers else 1) * _WORD
    written = 8 * shape.blocks + (5 if delivers else 2) * _WORD
    return Cost(read, written, multiply_adds=_summed(shape))
