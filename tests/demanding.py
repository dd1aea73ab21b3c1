"""Inputs that ask more of kernels than the small components' own: what mutants are held against."""

from __future__ import annotations

from collections.abc import Iterator

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
        yield "transform", small_trees(20_000, seed) | nested_rules()


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
