"""What the synthesis kernels read, laid out by NumPy: nodes, templates, byte patterns, tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from swarmbench.components.base import Arrays
from swarmbench.components.forests import COUNT, LISTED, NONE, TYPE, VALUE
from swarmbench.components.synthesis_words import NO_VARIABLE, TOKENS, VARIABLES

Words = npt.NDArray[np.uint32]

#: Patterns that have a bit of a word each; more are found by their index.
FEW_PATTERNS_MAX = 32
FEW_TABLES_WORDS = 3 * 256 + 1
#: Families of byte patterns, by which of their first four bytes they demand.
FAMILIES_MAX = 16
#: Nodes of a tile; the places of one in a tile have sixteen bits, of which two values say more.
TILE_NODES_MAX = 65_532
_BYTES_HEADER = 8
_ODD, _FAMILY_ODD = np.uint32(0x9E3779B1), np.uint32(0x7F4A7C15)


def looks(forest: Arrays) -> Words:
    """Each node as it is looked at first: type, count and the lower half of its value."""
    tokens = forest["type"].astype(np.uint32) | forest["count"].astype(np.uint32) << np.uint32(8)
    found: Words = tokens | forest["value"] << np.uint32(16)
    return found


def records(forest: Arrays) -> Words:
    """Each node as four words: value, first child, next sibling, type and count."""
    tokens = forest["type"].astype(np.uint32) | forest["count"].astype(np.uint32) << np.uint32(8)
    columns = (forest["value"], forest["first"], forest["next"], tokens)
    return np.stack(columns, axis=1).astype(np.uint32).reshape(-1)


def forest_of(made: Words, roots: Words) -> Arrays:
    """The arrays of a forest from its records."""
    columns = made.reshape(-1, 4)
    return {
        "type": columns[:, 3].astype(np.uint8),
        "count": (columns[:, 3] >> np.uint32(8)).astype(np.uint8),
        "value": columns[:, 0].copy(),
        "first": columns[:, 1].copy(),
        "next": columns[:, 2].copy(),
        "roots": roots,
    }


def preorder(forest: Arrays) -> Arrays:
    """The same forest with its nodes in preorder; raises `ValueError` where it is none."""
    first, following = forest["first"].tolist(), forest["next"].tolist()
    counts = forest["count"].tolist()
    nodes = len(counts)
    place = [NONE] * nodes
    order: list[int] = []
    waiting = forest["roots"].tolist()[::-1]
    while waiting:
        node = waiting.pop()
        if node >= nodes:
            raise ValueError(f"first: there is no node {node}")
        if place[node] != NONE:
            raise ValueError(f"first: node {node} is in two places")
        place[node] = len(order)
        order.append(node)
        below = [first[node]] if first[node] != NONE else []
        while below and len(below) <= counts[node] and below[-1] < nodes:
            if following[below[-1]] == NONE:
                break
            below.append(following[below[-1]])
        if len(below) != counts[node]:
            raise ValueError(f"first: node {node} has not the {counts[node]} children it counts")
        waiting += reversed(below)
    if len(order) != nodes:
        raise ValueError(f"roots: {nodes - len(order)} nodes hang on no root")
    places = np.array([*place, NONE], dtype=np.uint32)
    moved = {name: forest[name][order] for name in ("type", "count", "value")}
    for name in ("first", "next"):
        links = forest[name][order]
        moved[name] = places[np.where(links == NONE, nodes, links)]
    return moved | {"roots": places[forest["roots"]]}


def tiles(roots: Words, nodes: int, size: int) -> tuple[Words, int]:
    """Runs of whole trees of about `size` nodes: the first node and the first root of each, and of
    what is behind the last; and the nodes of the largest, rounded up to be even."""
    ends = np.append(roots, nodes).astype(np.int64)
    firsts = [0]
    while firsts[-1] < len(roots):
        end = int(np.searchsorted(ends, ends[firsts[-1]] + size, side="right")) - 1
        firsts.append(max(firsts[-1] + 1, end))
    cut = np.array(firsts, dtype=np.int64)
    largest = int(np.diff(ends[cut]).max(initial=0))
    both = np.stack((ends[cut], cut), axis=1)
    return both.astype(np.uint32).reshape(-1), largest + largest % 2


def few_tables(patterns: Arrays) -> Words:
    """For at most 32 patterns a bit each: by type, by count and by the value's lowest byte those
    whose root these leave, then those that nothing else decides against."""
    tables = np.zeros((3, 256), dtype=np.uint32)
    certain = 0
    first = patterns["pattern_first"]
    for number, (start, end) in enumerate(
        zip(first[:-1].tolist(), first[1:].tolist(), strict=True)
    ):
        flags = int(patterns["pattern_flags"][start])
        demands = (
            (flags & TYPE, int(patterns["pattern_type"][start])),
            (flags & (COUNT | LISTED), int(patterns["pattern_count"][start])),
            (flags & VALUE, int(patterns["pattern_value"][start]) & 0xFF),
        )
        for table, (is_demanded, wanted) in zip(tables, demands, strict=True):
            table[wanted if is_demanded else slice(None)] |= np.uint32(1 << number)
        certain |= (end - start == 1 and not flags & VALUE) << number
    return np.append(tables.reshape(-1), np.uint32(certain))


def shapes(templates: Arrays) -> Words:
    """Each template as four words: where its parts start and end, bytes of its literals, and how
    often it uses each variable, a byte each. Raises `ValueError` for what has no place there."""
    first, variables = templates["template_first"], templates["part_variable"]
    lengths = templates["part_length"].astype(np.int64)
    if (templates["part_start"] + lengths > len(templates["literal"])).any():
        raise ValueError("template_first: a literal lies beyond the literals")
    if ((variables >= VARIABLES) & (variables != NO_VARIABLE)).any():
        raise ValueError("template_first: a part is of a variable that there is not")

    def sums(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        before = np.append(0, np.cumsum(values, dtype=np.int64))
        totals: npt.NDArray[np.int64] = before[first[1:]] - before[first[:-1]]
        return totals

    uses = [sums(variables == variable) for variable in range(VARIABLES)]
    if any((each > 255).any() for each in uses):
        raise ValueError("template_first: a variable is used more than 255 times")
    packed = sum(each << 8 * variable for variable, each in enumerate(uses))
    columns = (first[:-1], first[1:], sums(lengths), packed)
    return np.stack(columns, axis=1).astype(np.uint32).reshape(-1)


def parts(templates: Arrays) -> Words:
    """Each part as two words: where its literal starts, and its length with its variable above."""
    lengths = templates["part_length"].astype(np.uint32)
    lengths |= templates["part_variable"].astype(np.uint32) << np.uint32(16)
    return np.stack((templates["part_start"], lengths), axis=1).reshape(-1)


def spans(first: Words) -> Words:
    """Of lists that end to end where each starts and how long it is."""
    return np.stack((first[:-1], np.diff(first)), axis=1).astype(np.uint32).reshape(-1)


def template_rows(
    tokens: npt.NDArray[np.uint8], flags: npt.NDArray[np.uint8]
) -> tuple[Words, Words, int]:
    """For each position and token the number of a row of bits, a bit for each template that does
    not object to the token there; the rows, and the words of one."""
    tokens, demanded = tokens.reshape(-1, TOKENS), flags.reshape(-1, TOKENS) != 0
    words = -(-len(tokens) // 32)
    made: list[Words] = []
    numbers = np.zeros((TOKENS, 256), dtype=np.uint32)
    padding = np.zeros(32 * words - len(tokens), dtype=bool)

    def append(admitted: npt.NDArray[np.bool_]) -> int:
        bits = np.packbits(np.append(admitted, padding), bitorder="little")
        made.append(bits.view("<u4").astype(np.uint32))
        return len(made) - 1

    for position in range(TOKENS):
        admitted = ~demanded[:, position]
        numbers[position] = append(admitted)
        for token in np.unique(tokens[demanded[:, position], position]):
            agrees = demanded[:, position] & (tokens[:, position] == token)
            numbers[position, token] = append(admitted | agrees)
    return numbers.reshape(-1), np.concatenate(made), words


def byte_sizes(patterns: int) -> tuple[int, int]:
    """Bits of a hash that the filter of so many byte patterns takes, and those of their slots."""
    bits = (max(16 * patterns, 2) - 1).bit_length()
    slots = (max(2 * patterns, 2) - 1).bit_length()
    return min(max(bits, 10), 18), min(slots, 20)


def byte_tables_words(patterns: int) -> int:
    """Words of the masks and the filter, which a block has in shared memory."""
    return FAMILIES_MAX + (1 << byte_sizes(patterns)[0]) // 32


def byte_hashes(windows: Words, families: Words) -> Words:
    """The hashes of windows of which only what a family demands is left."""
    return (windows ^ families * _FAMILY_ODD) * _ODD


def byte_windows(inputs: Arrays) -> tuple[Words, Words, Words]:
    """Of each byte pattern what it demands of its first four bytes, and its family; of each family
    the mask of what it demands."""
    first = inputs["pattern_first"].astype(np.int64)
    lengths = np.diff(first)
    if (lengths < 1).any():
        raise ValueError("pattern_first: a pattern has no bytes")
    windows = np.zeros(len(lengths), dtype=np.uint32)
    masks = np.zeros(len(lengths), dtype=np.uint32)
    for at in range(4):
        places = np.where(at < lengths, first[:-1] + at, 0)
        demanded = (at < lengths) & (inputs["pattern_flags"][places] != 0)
        taken = inputs["pattern_bytes"][places].astype(np.uint32) << np.uint32(8 * at)
        windows |= np.where(demanded, taken, np.uint32(0))
        masks |= np.where(demanded, np.uint32(0xFF << 8 * at), np.uint32(0))
    kinds, families = np.unique(masks, return_inverse=True)
    return windows, families.astype(np.uint32), kinds


def byte_program(inputs: Arrays) -> Words:
    """Byte patterns as the kernels have them: header, masks of the families, filter, slots with the
    numbers of their patterns, and every pattern's demands."""
    windows, families, kinds = byte_windows(inputs)
    flags = inputs["pattern_flags"] != 0
    hashes = byte_hashes(windows, families)
    filter_bits, slot_bits = byte_sizes(len(windows))
    filtered = np.zeros(1 << filter_bits, dtype=bool)
    filtered[hashes >> np.uint32(32 - filter_bits)] = True
    slots = hashes >> np.uint32(32 - slot_bits)
    order = np.argsort(slots, kind="stable").astype(np.uint32)
    demands = inputs["pattern_bytes"].astype(np.uint16) | flags.astype(np.uint16) << np.uint16(8)
    pieces: list[Words] = [
        np.append(kinds, np.zeros(FAMILIES_MAX - len(kinds), np.uint32)),
        np.packbits(filtered, bitorder="little").view("<u4").astype(np.uint32),
        np.searchsorted(slots[order], np.arange((1 << slot_bits) + 1)).astype(np.uint32),
        order | families[order] << np.uint32(28),
        inputs["pattern_first"],
        np.append(demands, np.zeros(len(demands) % 2, np.uint16)).view("<u4").astype(np.uint32),
    ]
    starts = _BYTES_HEADER + np.cumsum([0, *map(len, pieces)])
    header = [len(kinds), 32 - filter_bits, 32 - slot_bits, starts[0], *starts[2:6]]
    return np.concatenate((np.array(header, dtype=np.uint32), *pieces))


def byte_program_words_max(patterns: int, length_max: int) -> int:
    """Words that the program of so many patterns of at most so many bytes has at most."""
    slots = (1 << byte_sizes(patterns)[1]) + 1
    fixed = _BYTES_HEADER + byte_tables_words(patterns) + slots
    return fixed + 2 * patterns + 1 + patterns * -(-length_max // 2) + 1


def text_words(text: npt.NDArray[np.uint8]) -> Words:
    """A text as words, zero up to a word behind the one with its last byte."""
    padded = np.zeros(4 * (len(text) // 4 + 2), dtype=np.uint8)
    padded[: len(text)] = text
    return padded.view("<u4").astype(np.uint32)


def digest(answer: npt.NDArray[Any]) -> int:
    """What the kernel `digest` makes of an answer's bytes."""
    raw = np.ascontiguousarray(answer).view(np.uint8)
    padded = np.zeros(-(-len(raw) // 4) * 4, dtype=np.uint8)
    padded[: len(raw)] = raw
    words = padded.view("<u4")
    bits = np.arange(len(words), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ words
    bits = (bits ^ bits >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ bits >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return int((bits ^ bits >> np.uint64(31)).sum(dtype=np.uint64))
