"""The knowledge graph's edges, keys and queries in plain NumPy: the same bits as the Rust side."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from swarmbench.components.philox import philox, stream_key

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

#: Keys in the pool of queries: half uniform, half Zipf.
POOL_KEYS = 1 << 20
#: One random edge of the grid per so many nodes.
NODES_PER_SHORTCUT = 1024
#: The level of a node not reached.
NO_LEVEL = np.uint32(0xFFFFFFFF)

_EDGES, _KEYS, _POOL, _REQUESTS = 0x6B670001, 0x6B670002, 0x6B670003, 0x6B670004
_QUADRANTS = (57, 19, 19, 5)
_MISS_ONE_IN = 8
_ATTEMPTS_MAX = 64
_MASK32 = np.uint64(0xFFFFFFFF)


class Rows(NamedTuple):
    """Compressed sparse rows: offsets, shape (nodes + 1,), and neighbours, shape (arcs,)."""

    offsets: U32
    neighbours: U32


def rmat_edges(nodes: int, edges_per_node: int, seed: int) -> tuple[U32, U32]:
    """Sources and targets of an R-MAT graph (Chakrabarti et al., SDM 2004), self-loops included.

    Three of the 24 levels per 16-bit draw; the 24-bit ends are scaled to the number of nodes.
    """
    descents = _descents()
    count = nodes * edges_per_node
    source, target = np.zeros(count, dtype=np.uint64), np.zeros(count, dtype=np.uint64)
    words = _blocks(np.arange(count, dtype=np.uint64), stream_key(seed, _EDGES))
    for word in range(4):
        for shift in (0, 16):
            ends = descents[words[:, word] >> np.uint32(shift) & np.uint32(0xFFFF)]
            source = source << np.uint64(3) | ends >> np.uint64(3)
            target = target << np.uint64(3) | ends & np.uint64(7)
    scale, bits = np.uint64(nodes), np.uint64(24)
    return (source * scale >> bits).astype(np.uint32), (target * scale >> bits).astype(np.uint32)


def _descents() -> U64:
    """For each 16-bit draw, three quadrants: source bits above, three target bits below."""
    table, cumulated = np.zeros(1 << 16, dtype=np.uint64), 0
    for descent in range(64):
        quadrants = (descent >> 4, descent >> 2 & 3, descent & 3)
        first = (cumulated << 16) // 1_000_000
        cumulated += int(np.prod([_QUADRANTS[each] for each in quadrants]))
        ends = 0
        for each in quadrants:
            ends = ends << 1 | each >> 1 << 3 | each & 1
        table[first : (cumulated << 16) // 1_000_000] = ends
    return table


def grid_edges(nodes: int, seed: int) -> tuple[U32, U32]:
    """Right and lower neighbours in a square grid, and one shortcut per 1024 nodes."""
    width = int(np.sqrt(nodes))
    own = np.repeat(np.arange(nodes), 2)
    is_right = np.tile([True, False], nodes)
    other = own + np.where(is_right, 1, width)
    is_outside = (is_right & ((own + 1) % width == 0)) | (other >= nodes)
    other = np.where(is_outside, own, other)
    shortcuts = np.arange(nodes // NODES_PER_SHORTCUT, dtype=np.uint64)
    words = _blocks(shortcuts, stream_key(seed, _EDGES))
    return (
        np.concatenate([own.astype(np.uint32), below(words[:, 0], nodes)]),
        np.concatenate([other.astype(np.uint32), below(words[:, 1], nodes)]),
    )


def file_edges(path: str) -> tuple[U32, U32]:
    """Sources and targets in a file: a list from 0, or the coordinates of a MatrixMarket file."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    is_matrix = lines[0].lower().startswith("%%matrixmarket")
    plain = [line.split() for line in lines if line.strip() and line.split()[0][0] not in "#%"]
    ends = np.array([line[:2] for line in plain[is_matrix:]], dtype=np.uint32) - np.uint32(
        is_matrix
    )
    return ends[:, 0].copy(), ends[:, 1].copy()


def rows(nodes: int, sources: U32, targets: U32) -> Rows:
    """Both directions of every edge but self-loops, in rising rows; repeated edges stay."""
    proper = sources != targets
    first = np.concatenate([sources[proper], targets[proper]])
    second = np.concatenate([targets[proper], sources[proper]])
    order = np.lexsort((second, first))
    offsets = np.zeros(nodes + 1, dtype=np.uint32)
    offsets[1:] = np.cumsum(np.bincount(first, minlength=nodes))
    return Rows(offsets, second[order])


def levels(graph: Rows, root: int) -> U32:
    """Steps from the root to every node, shape (nodes,); `NO_LEVEL` where it does not reach."""
    found = np.full(len(graph.offsets) - 1, NO_LEVEL, dtype=np.uint32)
    found[root] = 0
    frontier, level = np.array([root]), 0
    while len(frontier):
        level += 1
        reached = [graph.neighbours[graph.offsets[n] : graph.offsets[n + 1]] for n in frontier]
        around = np.unique(np.concatenate(reached))
        frontier = around[found[around] == NO_LEVEL]
        found[frontier] = level
    return found


def node_keys(numbers: int, seed: int) -> U64:
    """The keys of numbers 0 to `numbers` - 1; those from the number of nodes on are missing."""
    return keys_of(np.arange(numbers, dtype=np.uint64), seed)


def keys_of(numbers: U64, seed: int) -> U64:
    """The bijection of numbers to keys."""
    low, high = stream_key(seed, _KEYS)
    return _mix(numbers + np.uint64(high << 32 | low))


def _mix(words: U64) -> U64:
    """MurmurHash3's 64-bit finaliser."""
    shift = np.uint64(33)
    words = (words ^ words >> shift) * np.uint64(0xFF51AFD7ED558CCD)
    words = (words ^ words >> shift) * np.uint64(0xC4CEB9FE1A85EC53)
    return words ^ words >> shift


def record_digests(nodes: U32, degrees: U32, keys: U64) -> U64:
    """The digests of the records: key, node | degree << 32, six attributes, folded."""
    words = nodes.astype(np.uint64) | degrees.astype(np.uint64) << np.uint64(32)
    digests = _rotated(keys) ^ words
    for _ in range(6):
        words = _mix(words ^ keys)
        digests = _rotated(digests) ^ words
    return digests


def _rotated(words: U64) -> U64:
    return words << np.uint64(7) | words >> np.uint64(57)


def slot_count(nodes: int) -> int:
    """Slots of the node table: a power of two, at most 3/4 full."""
    return 1 << (nodes + nodes // 3).bit_length()


def lookup_keys(nodes: int, batch: int, seed: int, key: int) -> U64:
    """The keys that the lookup operation `key` asks for, shape (batch,)."""
    words = _request_words(seed, key, 0xFFFFFFFF, 0)
    half = POOL_KEYS // 2
    start = int(below(words[:1], half - batch + 1)[0]) + (half if words[1] & 1 else 0)
    places = np.arange(start, start + batch, dtype=np.uint64)
    drawn = _blocks(places, stream_key(seed, _POOL))
    uniform = below(drawn[:, 0], nodes)
    octaves = max(nodes.bit_length() - 1, 1)
    base = (np.uint32(1) << below(drawn[:, 3], octaves)) - np.uint32(1)
    numbers = np.where(places < half, uniform, base + (drawn[:, 0] & base)).astype(np.uint64)
    numbers[below(drawn[:, 2], _MISS_ONE_IN) == 0] += np.uint64(nodes)
    return keys_of(numbers, seed)


def pairs(degrees: U32, lanes: int, seed: int, key: int) -> U32:
    """Sources and targets of the operation `key`, shape (lanes, 2); each has an edge."""
    return np.array([_pair(degrees, lane, seed, key) for lane in range(lanes)], dtype=np.uint32)


def _pair(degrees: U32, lane: int, seed: int, key: int) -> list[int]:
    biggest = int(np.argmax(degrees))
    found: list[int | None] = [None, None]
    for attempt in range(_ATTEMPTS_MAX):
        drawn = below(_request_words(seed, key, lane, attempt)[:2], len(degrees))
        for end in (0, 1):
            if found[end] is None and degrees[drawn[end]] > 0:
                found[end] = int(drawn[end])
        if None not in found:
            break
    return [biggest if end is None else end for end in found]


def _request_words(seed: int, key: int, purpose: int, attempt: int) -> U32:
    counter = np.array([[key & 0xFFFFFFFF, key >> 32, purpose, attempt]], dtype=np.uint32)
    words: U32 = philox(counter, stream_key(seed, _REQUESTS))[0]
    return words


def _blocks(indices: U64, key: tuple[int, int]) -> U32:
    counters = np.zeros((len(indices), 4), dtype=np.uint32)
    counters[:, 0] = indices & _MASK32
    counters[:, 1] = indices >> np.uint64(32)
    return philox(counters, key)


def below(words: U32, bound: int) -> U32:
    """Uniform in [0, bound) by multiplication of 32-bit words."""
    return (words.astype(np.uint64) * np.uint64(bound) >> np.uint64(32)).astype(np.uint32)
