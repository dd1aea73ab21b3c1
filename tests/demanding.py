"""Inputs that ask more of kernels than the small components' own: what mutants are held against."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy as np

from swarmbench.components import forests
from swarmbench.components.base import Arrays
from swarmbench.components.forests import (
    ADOPT,
    CAPTURE,
    COUNT,
    LISTED,
    NEW,
    NONE,
    TYPE,
    Demand,
    Item,
)


def inputs_of(name: str, seed: int) -> Iterator[tuple[str, Arrays]]:
    """Ops of a component, and inputs for each."""
    if name == "synthesis":
        forest = small_trees(20_000, seed)
        yield "transform", forest | nested_rules()
        yield "transform", forest | sampled_rules(forest, 12, seed)


def small_trees(nodes: int, seed: int) -> Arrays:
    """Trees of 1 to 40 nodes of three types in preorder, as many as fill more tiles than a grid has
    blocks: each node hangs below one of the last few."""
    generator = np.random.default_rng(seed)
    starts = np.zeros(nodes, dtype=bool)
    ends = np.cumsum(generator.integers(1, 41, nodes))
    starts[np.append(0, ends[ends < nodes])] = True
    count = np.zeros(nodes, dtype=np.uint8)
    first, following = np.full((2, nodes), NONE, dtype=np.uint32)
    path: list[int] = []
    last: dict[int, int] = {}
    for node, up in enumerate(generator.geometric(0.6, nodes).tolist()):
        if starts[node]:
            path, last = [node], {}
            continue
        del path[max(1, len(path) + 1 - up) :]
        parent = path[-1]
        if parent in last:
            following[last[parent]] = node
        else:
            first[parent] = node
        last[parent] = node
        count[parent] += 1
        path.append(node)
    return {
        "type": generator.integers(0, 3, nodes, dtype=np.uint8),
        "count": count,
        "value": generator.integers(0, 5, nodes, dtype=np.uint32),
        "first": first,
        "next": following,
        "roots": np.flatnonzero(starts).astype(np.uint32),
    }


def nested_rules() -> Arrays:
    """Rules whose patterns list each other's roots; captures are turned round, wrapped, dropped,
    or all that is left; children are adopted below a new node."""
    anything, one, two = (
        Demand(0, 0, 0, 0),
        Demand(0, 1, 0, COUNT | LISTED),
        Demand(0, 2, 0, LISTED),
    )
    capture = [Item(CAPTURE, 0, number, 0, 0) for number in range(4)]
    made = [
        (
            [Demand(0, 2, 0, TYPE | LISTED), one, anything, anything],
            [Item(NEW, 9, 2, 0, 1), *capture[1::-1]],
        ),
        ([Demand(1, 2, 0, TYPE | LISTED), anything, two, anything, anything], [capture[1]]),
        (
            [Demand(1, 1, 0, TYPE | LISTED), one, anything],
            [Item(NEW, 8, 1, 7, 0), Item(NEW, 7, 1, 0, 1), capture[0]],
        ),
        ([Demand(0, 1, 0, TYPE | LISTED), anything], [Item(NEW, 6, 0, 3, 0)]),
        (
            [Demand(2, 2, 0, TYPE | LISTED), anything, anything],
            [
                Item(NEW, 5, 3, 1, 0),
                Item(NEW, 4, 1, 1, 0),
                capture[1],
                capture[0],
                Item(NEW, 3, 0, 2, 1),
            ],
        ),
        (
            [Demand(2, 0, 0, TYPE)],
            [
                Item(NEW, 2, 3, 1, 1),
                Item(NEW, 2, 0, 4, 0),
                Item(ADOPT, 9, 0, 5, 0),
                Item(NEW, 2, 0, 6, 0),
            ],
        ),
    ]
    patterns, items = [pattern for pattern, _ in made], [items for _, items in made]
    return forests.pattern_arrays(patterns) | forests.item_arrays(items)


def sampled_rules(forest: Arrays, count: int, seed: int) -> Arrays:
    """Rules that some node each was the model of, so that most of them match often; what is put in
    the place of a match is any tree over some of its captures, or over the adopted children."""
    random = Random(seed)
    patterns, replacements = [], []
    while len(patterns) < count:
        model = random.randrange(len(forest["type"]))
        pattern = list(_demands(forest, model, 0, random))
        patterns.append(pattern)
        if not pattern[0].flags & LISTED:
            leaves = [Item(ADOPT, 9, 0, 1, random.randrange(2))] * random.randrange(2)
        else:
            captures = sum(not demand.flags & LISTED for demand in pattern)
            used = random.sample(range(captures), random.randint(0, captures))
            leaves = [Item(CAPTURE, 0, number, 0, 0) for number in used]
        is_bare = len(leaves) == 1 and random.random() < 0.5
        replacements.append(leaves if is_bare else _tree(leaves, 0, random))
    return forests.pattern_arrays(patterns) | forests.item_arrays(replacements)


def _demands(forest: Arrays, node: int, level: int, random: Random) -> Iterator[Demand]:
    """A pattern like a node and what is below it, with the demands left out that chance says."""
    below = list(forests.children(forest, node))
    lists = len(below) <= (4, 4, 0)[level] and random.random() < (0.8, 0.5, 0.3)[level]
    flags = TYPE * (random.random() < (0.9, 0.3, 0.1)[level]) | LISTED * lists
    yield Demand(int(forest["type"][node]), len(below), 0, flags)
    for child in below if lists else ():
        yield from _demands(forest, child, level + 1, random)


def _tree(leaves: list[Item], depth: int, random: Random) -> list[Item]:
    """A new node over these items, each perhaps below more new nodes, and some of its own."""
    below: list[list[Item]] = []
    while leaves or random.random() < 0.3:
        taken = random.randint(0, len(leaves))
        if depth < 2 and random.random() < 0.4:
            below.append(_tree(leaves[:taken], depth + 1, random))
            leaves = leaves[taken:]
        elif leaves:
            below.append(leaves[:1])
            leaves = leaves[1:]
        else:
            below.append([Item(NEW, 3, 0, 5, 0)])
    own = Item(NEW, 4 + depth, len(below), random.randrange(9), random.randrange(2))
    return [own, *(item for items in below for item in items)]
