"""The synthesis component's forests, patterns and rules in NumPy: the bits of the Rust side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swarmbench.components.base import Arrays
from swarmbench.components.philox import philox, stream_key

U32 = npt.NDArray[np.uint32]

TREE_NODES = 64
HOT_TYPES_MAX = 16
COLD_TYPES = 48
#: "No such node".
NONE = 0xFFFFFFFF
#: What a place of a pattern demands; LISTED: the places of all children follow.
TYPE, VALUE, COUNT, LISTED = 1, 2, 4, 8
#: What an item of a replacement is.
NEW, CAPTURE, ADOPT = range(3)
REWRITTEN_TYPE, WRAPPER_TYPE = 64, 80

_FORESTS, _PATTERNS, _RULES = 0x73790001, 0x73790002, 0x73790006
_MASK32 = 0xFFFFFFFF


class Recipe(NamedTuple):
    """What decides every forest of a component; a node is hot below `hot_below` of 2**32."""

    seed: int
    nodes: int
    hot_types: int
    values: int
    hot_below: int

    @property
    def salt(self) -> int:
        low, high = stream_key(self.seed, _FORESTS)
        return low ^ high


class Demand(NamedTuple):
    """A place of a pattern; what is not demanded is zero."""

    type: int
    children: int
    value: int
    flags: int


class Item(NamedTuple):
    """A node of a replacement: `number` of children, or the capture's."""

    kind: int
    type: int
    number: int
    value: int
    keeps_value: int


def skewed(words: U32, bound: int) -> U32:
    """Draws below `bound` that prefer small numbers: products of two uniform ones."""
    wide = words.astype(np.uint64)
    product = (wide & np.uint64(0xFFFF)) * (wide >> np.uint64(16))
    return (product * np.uint64(bound) >> np.uint64(32)).astype(np.uint32)


def below(word: int, bound: int) -> int:
    """A uniform draw below `bound`."""
    return int(word) * bound >> 32


def mixed(words: U32) -> U32:
    """A bijection of words (C. Wellons, lowbias32)."""
    words = (words ^ words >> np.uint32(16)) * np.uint32(0x7FEB352D)
    words = (words ^ words >> np.uint32(15)) * np.uint32(0x846CA68B)
    return words ^ words >> np.uint32(16)


def word(seed: int, domain: int, number: int, place: int) -> tuple[int, int]:
    """The first two words of one block."""
    counter = np.array([[number, place, 0, 0]], dtype=np.uint32)
    first, second, *_ = philox(counter, stream_key(seed, domain))[0]
    return int(first), int(second)


def forest(recipe: Recipe, index: int) -> Arrays:
    """The forest number `index`: trees of 64 nodes in preorder; depths are a random walk's."""
    nodes = recipe.nodes
    counters = np.zeros((nodes, 4), dtype=np.uint32)
    counters[:, 0], counters[:, 1] = np.arange(nodes), index
    words = philox(counters, stream_key(recipe.seed, _FORESTS))
    hot = words[:, 3] < np.uint64(recipe.hot_below)
    types = np.where(
        hot,
        skewed(words[:, 1], recipe.hot_types),
        np.uint32(HOT_TYPES_MAX) + skewed(words[:, 1], COLD_TYPES),
    )
    numbers = skewed(words[:, 2], recipe.values) << np.uint32(1) | hot.astype(np.uint32)
    counts = np.zeros(nodes, dtype=np.uint8)
    first = np.full(nodes, NONE, dtype=np.uint32)
    following = np.full(nodes, NONE, dtype=np.uint32)
    path: list[int] = []
    last: dict[int, int] = {}
    for node, draw in enumerate(words[:, 0].tolist()):
        if node % TREE_NODES == 0:
            path, last = [node], {}
            continue
        draw |= 1 << 31
        zeros = (draw & -draw).bit_length() - 1
        depth = max(1, len(path) - zeros)
        del path[depth:]
        parent = path[-1]
        if parent in last:
            following[last[parent]] = node
        else:
            first[parent] = node
        last[parent] = node
        counts[parent] += 1
        path.append(node)
    return {
        "type": types.astype(np.uint8),
        "count": counts,
        "value": mixed(numbers ^ np.uint32(recipe.salt)),
        "first": first,
        "next": following,
        "roots": np.arange(0, nodes, TREE_NODES, dtype=np.uint32),
    }


def children(arrays: Arrays, node: int) -> Iterator[int]:
    """The children of a node, in order."""
    child = int(arrays["first"][node])
    while child != NONE:
        yield child
        child = int(arrays["next"][child])


def _demand(
    arrays: Arrays, node: int, *, typed: bool, valued: bool, counted: bool, lists: bool
) -> Demand:
    return Demand(
        int(arrays["type"][node]) if typed else 0,
        int(arrays["count"][node]) if counted else 0,
        int(arrays["value"][node]) if valued else 0,
        typed * TYPE | valued * VALUE | counted * COUNT | lists * LISTED,
    )


def patterns(recipe: Recipe, arrays: Arrays, count: int) -> Arrays:
    """`count` patterns: one for each hot type, the others taken from nodes of a forest; of these
    one in four has an absent value, one in eight no type at its root."""
    is_hot = arrays["type"] < HOT_TYPES_MAX
    samples = {True: np.flatnonzero(is_hot), False: np.flatnonzero(~is_hot)}
    made = []
    for number in range(count):
        if number < recipe.hot_types:
            made.append([Demand(number, 0, 0, TYPE)])
            continue
        first, second = word(recipe.seed, _PATTERNS, number, 0)
        found = samples[number % 4 != 3]
        sample = int(found[below(first, len(found))]) if len(found) else below(first, recipe.nodes)
        made.append(_sampled(recipe, arrays, number, sample, second))
    return pattern_arrays(made)


def _sampled(recipe: Recipe, arrays: Arrays, number: int, sample: int, bits: int) -> list[Demand]:
    is_decoy, is_untyped = number % 4 == 3, number % 8 == 4
    lists = 1 <= arrays["count"][sample] <= 4 and bits & 3 != 0
    valued = not lists or is_untyped or is_decoy or bits >> 2 & 1 != 0
    root = _demand(
        arrays,
        sample,
        typed=not is_untyped,
        valued=valued,
        counted=lists or bits >> 3 & 1 != 0,
        lists=lists,
    )
    if is_decoy:
        absent = np.array([(number | 1 << 31) ^ recipe.salt], dtype=np.uint32)
        root = root._replace(value=int(mixed(absent)[0]))
    demands = [root]
    for place, child in enumerate(children(arrays, sample) if lists else ()):
        bits, _ = word(recipe.seed, _PATTERNS, number, 1 + place)
        lists_too = 1 <= arrays["count"][child] <= 3 and bits >> 6 & 1 != 0
        demands.append(
            _demand(
                arrays,
                child,
                typed=place == 0 or bits & 3 != 0,
                valued=bits >> 4 & 3 == 0,
                counted=lists_too or bits >> 2 & 3 == 0,
                lists=lists_too,
            )
        )
        for under, grandchild in enumerate(children(arrays, child) if lists_too else ()):
            bits, _ = word(recipe.seed, _PATTERNS, number, 16 + 4 * place + under)
            demands.append(
                _demand(
                    arrays,
                    grandchild,
                    typed=bits & 1 != 0,
                    valued=bits >> 1 & 3 == 0,
                    counted=bits >> 3 & 3 == 0,
                    lists=False,
                )
            )
    return demands


def rules(recipe: Recipe, arrays: Arrays, count: int) -> Arrays:
    """`count` rules: those that look below the root first, then one for every hot type."""
    plain = min(recipe.hot_types, count)
    demands, items = [], []
    for rule in range(count):
        first, second = word(recipe.seed, _RULES, rule, 0)
        is_plain = rule >= count - plain
        kind = rule - (count - plain) if is_plain else rule % recipe.hot_types
        samples = np.flatnonzero(arrays["type"] == kind)
        if is_plain or not len(samples):
            demands.append([Demand(kind, 0, 0, TYPE)])
        else:
            sample = int(samples[below(first, len(samples))])
            demands.append(_rule_demands(recipe, arrays, rule, sample))
        items.append(_rule_items(rule, second, demands[-1]))
    return {**pattern_arrays(demands), **item_arrays(items)}


def _rule_demands(recipe: Recipe, arrays: Arrays, rule: int, sample: int) -> list[Demand]:
    if not 1 <= arrays["count"][sample] <= 4:
        return [_demand(arrays, sample, typed=True, valued=True, counted=False, lists=False)]
    demands = [_demand(arrays, sample, typed=True, valued=False, counted=True, lists=True)]
    for place, child in enumerate(children(arrays, sample)):
        bits, _ = word(recipe.seed, _RULES, rule, 1 + place)
        typed = bool(arrays["type"][child] >= HOT_TYPES_MAX) and bits & 1 != 0
        lists = typed and 1 <= arrays["count"][child] <= 3 and bits >> 1 & 1 != 0
        demands.append(
            _demand(arrays, child, typed=typed, valued=False, counted=lists, lists=lists)
        )
        for grandchild in children(arrays, child) if lists else ():
            is_cold = bool(arrays["type"][grandchild] >= HOT_TYPES_MAX)
            typed_too = is_cold and bits >> 2 & 1 != 0
            demands.append(
                _demand(
                    arrays, grandchild, typed=typed_too, valued=False, counted=False, lists=False
                )
            )
    return demands


def _rule_items(rule: int, bits: int, demands: list[Demand]) -> list[Item]:
    keeps = bits & 1
    value = 0 if keeps else bits
    root_type = REWRITTEN_TYPE + rule % 16
    if not demands[0].flags & LISTED:
        return [Item(ADOPT, root_type, 0, value, keeps)]
    captures = sum(not demand.flags & LISTED for demand in demands)
    kept = captures - (rule % 4 == 2 and captures >= 2)
    items = [Item(NEW, root_type, kept, value, keeps)]
    for turn in range(kept):
        if turn == 0 and rule % 2 == 1:
            items.append(Item(NEW, WRAPPER_TYPE + rule % 16, 1, bits, 0))
        items.append(Item(CAPTURE, 0, (turn + 1) % kept, 0, 0))
    return items


def starts(parts: list[Any]) -> U32:
    """Where each part starts when they lie one after the other, and the end."""
    return np.cumsum([0, *map(len, parts)]).astype(np.uint32)


def _columns(made: list[list[Any]], types: Mapping[str, type[np.unsignedinteger[Any]]]) -> Arrays:
    """The fields of all entries, one after the other, as arrays of these names and types."""
    flat = [entry for part in made for entry in part]
    named = enumerate(types.items())
    return {
        name: np.array([entry[at] for entry in flat]).astype(kind) for at, (name, kind) in named
    }


def pattern_arrays(made: list[list[Demand]]) -> Arrays:
    """Patterns, each a list of places in preorder, as arrays."""
    columns = _columns(
        made,
        {
            "pattern_type": np.uint8,
            "pattern_count": np.uint8,
            "pattern_value": np.uint32,
            "pattern_flags": np.uint8,
        },
    )
    return {"pattern_first": starts(made), **columns}


def item_arrays(made: list[list[Item]]) -> Arrays:
    """Replacements, each a list of items in preorder, as arrays."""
    columns = _columns(
        made,
        {
            "item_kind": np.uint8,
            "item_type": np.uint8,
            "item_count": np.uint8,
            "item_value": np.uint32,
            "item_keeps_value": np.uint8,
        },
    )
    return {"item_first": starts(made), **columns}
