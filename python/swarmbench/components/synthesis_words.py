"""The synthesis component's templates, linearised trees and texts: the bits of the Rust side."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from swarmbench.components.base import Arrays
from swarmbench.components.forests import below, skewed
from swarmbench.components.philox import philox, stream_key

U32 = npt.NDArray[np.uint32]

#: Variables that an instance binds, and a binding that binds nothing.
VARIABLES, UNBOUND = 4, 0xFFFFFFFF
#: The variable of a part that ends with its literal.
NO_VARIABLE = 255
#: Tokens of a linearised tree.
TOKENS = 64

_TEXTS, _TEMPLATES, _INSTANCES = 0x73790003, 0x73790004, 0x73790005
_TREES, _MASKS = 0x73790007, 0x73790008
_TEXT, _BYTE_PATTERNS, _WILDCARDS = 0x73790009, 0x7379000A, 0x7379000B
_TEXT_LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz_0123.", np.uint8)
_LITERAL_LETTERS = np.frombuffer(b"(){}[]<>=+-*/,;:.&|! \n\treturnifx", np.uint8)
_ALPHABET = np.frombuffer(
    b" etaoinsrhldcumfpgwybvk,.xjqz-(){}=;:0123456789_ETAOINSRHLDCUMFP", np.uint8
)
_PARTS_MAX, _LITERAL_MAX, _LONG_TEXT_MAX = 6, 31, 256


def _blocks(seed: int, domain: int, *counter: npt.ArrayLike) -> U32:
    """Blocks of counters given by their first words (scalars or arrays), shape (n, 4)."""
    columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(each)) for each in counter))
    counters = np.zeros((len(columns[0]), 4), dtype=np.uint32)
    for at, column in enumerate(columns):
        counters[:, at] = column
    return philox(counters, stream_key(seed, domain))


def _below(words: U32, bound: int) -> U32:
    return (words.astype(np.uint64) * np.uint64(bound) >> np.uint64(32)).astype(np.uint32)


def _letters(seed: int, domain: int, number: int, length: int, letters: np.ndarray) -> np.ndarray:
    """Letters of an alphabet of 32, five bits of the stream each."""
    words = _blocks(seed, domain, number, 1 + np.arange(-(-length // 16)))
    drawn = words.astype("<u4").reshape(-1).view(np.uint8)[:length]
    chosen: np.ndarray = letters[drawn & 31]
    return chosen


def expansion(seed: int, index: int, count: int, templates: int, texts: int) -> Arrays:
    """Templates, texts and the `count` instances of the request number `index`."""
    numbers = np.arange(count)
    drawn = _blocks(seed, _INSTANCES, numbers, index, 0)[:, 0]
    bound = _blocks(seed, _INSTANCES, numbers, index, 1)
    return {
        **_templates(seed, templates),
        **_texts(seed, texts),
        "template": _below(drawn, templates),
        "binding": _below(bound, texts).reshape(-1),
    }


def _texts(seed: int, count: int) -> Arrays:
    words = _blocks(seed, _TEXTS, np.arange(count), 0)
    long = 32 + _below(words[:, 1], _LONG_TEXT_MAX - 31)
    lengths = np.where(words[:, 0] & 63 == 0, long, 4 + _below(words[:, 1], 20))
    texts = [
        _letters(seed, _TEXTS, number, int(length), _TEXT_LETTERS)
        for number, length in enumerate(lengths)
    ]
    return {
        "text_first": np.cumsum([0, *lengths.tolist()]).astype(np.uint32),
        "text": np.concatenate(texts),
    }


def _templates(seed: int, count: int) -> Arrays:
    literals: list[np.ndarray] = []
    first, start, lengths, variables = [0], 0, [], []
    for number in range(count):
        parts = 1 + below(_blocks(seed, _TEMPLATES, number, 0)[0, 0], _PARTS_MAX)
        for part in range(parts):
            words = _blocks(seed, _TEMPLATES, number, 0, 1 + part)[0]
            length = 1 + below(words[0], _LITERAL_MAX)
            own = number * _PARTS_MAX + part
            literals.append(_letters(seed, _TEMPLATES, own, length, _LITERAL_LETTERS))
            lengths.append(length)
            ends = part + 1 == parts and words[1] & 3 == 0
            variables.append(NO_VARIABLE if ends else int(words[1]) >> 2 & 3)
        first.append(len(lengths))
        start += parts
    return {
        "template_first": np.array(first, dtype=np.uint32),
        "part_start": np.cumsum([0, *lengths[:-1]]).astype(np.uint32),
        "part_length": np.array(lengths, dtype=np.uint16),
        "part_variable": np.array(variables, dtype=np.uint8),
        "literal": np.concatenate(literals),
    }


def tree_templates(seed: int, trees: int, templates: int) -> Arrays:
    """Linearised trees (`trees`, 64 tokens each), and the templates' tokens and flags (not zero:
    demanded): each is a tree of which a token in four is demanded, every other one altered."""
    places = np.arange(trees * 16)
    words = _blocks(seed, _TREES, places // 16, places % 16)
    tokens = skewed(words.reshape(-1), 64).astype(np.uint8).reshape(trees, TOKENS)
    numbers = np.arange(templates)
    drawn, masks = _blocks(seed, _MASKS, numbers, 0), _blocks(seed, _MASKS, numbers, 1)
    masks = masks.astype(np.uint64)
    lower = masks[:, 0] | masks[:, 1] << np.uint64(32)
    upper = masks[:, 2] | masks[:, 3] << np.uint64(32)
    special = (drawn[:, 1] & 63).astype(np.uint64)
    mask = lower & upper | np.uint64(1) << special
    flags = mask[:, None] >> np.arange(TOKENS, dtype=np.uint64) & np.uint64(1)
    chosen = tokens[_below(drawn[:, 0], trees)]
    odd = numbers[1::2]
    chosen[odd, special[odd].astype(np.intp)] ^= (1 + (drawn[odd, 2] & 31)).astype(np.uint8)
    return {
        "trees": tokens.reshape(-1),
        "template_tokens": chosen.reshape(-1),
        "template_flags": flags.astype(np.uint8).reshape(-1),
    }


def byte_patterns(seed: int, length: int, count: int, wildcards: float) -> Arrays:
    """A `text`, and patterns of 8 to 16 bytes: starts, bytes and flags (not zero: demanded)."""
    letters = _blocks(seed, _TEXT, np.arange(-(-length // 4))).reshape(-1)[:length]
    text = _ALPHABET[skewed(letters, 64)]
    numbers = np.arange(count)
    drawn = _blocks(seed, _BYTE_PATTERNS, numbers, 0)
    lengths = 8 + _below(drawn[:, 0], 9)
    starts = _below(drawn[:, 1], length).astype(np.int64)
    blocks = (np.repeat(numbers, 4), 1 + np.tile(np.arange(4), count))
    fresh = _ALPHABET[skewed(_blocks(seed, _BYTE_PATTERNS, *blocks).reshape(-1), 64)]
    wild = _blocks(seed, _WILDCARDS, *blocks).reshape(count, 16)
    places = np.arange(16)
    taken = text[(starts[:, None] + places) % length]
    rows = np.where((numbers % 16 == 0)[:, None], taken, fresh.reshape(count, 16))
    is_end = (places < 2) | (places + 2 >= lengths[:, None])
    flags = is_end | (wild >= np.uint64(int(wildcards * 4294967296.0)))
    inside = places < lengths[:, None]
    return {
        "text": text,
        "pattern_first": np.cumsum([0, *lengths.tolist()]).astype(np.uint32),
        "pattern_bytes": rows[inside],
        "pattern_flags": flags[inside].astype(np.uint8),
    }
