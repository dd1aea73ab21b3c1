"""What the synthesis component's operations must answer, as plainly as it can be written down."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from swarmbench.components.base import Arrays
from swarmbench.components.forests import (
    ADOPT,
    CAPTURE,
    COUNT,
    LISTED,
    NONE,
    TYPE,
    VALUE,
    Demand,
    Item,
    children,
)
from swarmbench.components.synthesis_words import NO_VARIABLE, TOKENS, VARIABLES

#: A pattern: its root's demand and, where they are listed, its children's patterns.
Pattern = tuple[Demand, list["Pattern"]]


class Tree(NamedTuple):
    """A node with its children, of a rewritten forest."""

    type: int
    value: int
    children: list[Tree]


def _patterns(inputs: Arrays) -> list[Pattern]:
    fields = ("pattern_type", "pattern_count", "pattern_value", "pattern_flags")
    rows = list(zip(*(inputs[name].tolist() for name in fields), strict=True))

    def parse(at: int) -> tuple[Pattern, int]:
        demand, below = Demand(*rows[at]), []
        at += 1
        for _ in range(demand.children if demand.flags & LISTED else 0):
            child, at = parse(at)
            below.append(child)
        return (demand, below), at

    return [parse(at)[0] for at in inputs["pattern_first"][:-1].tolist()]


def matches(inputs: Arrays) -> Arrays:
    """Every pair, by one pass over all nodes for each place of each pattern."""
    patterns = _patterns(inputs)
    table = np.zeros((len(inputs["type"]), len(patterns)), dtype=bool)
    for number, pattern in enumerate(patterns):
        table[:, number] = _fits(inputs, pattern)
    nodes, numbers = np.nonzero(table)
    return {"node": nodes.astype(np.uint32), "pattern": numbers.astype(np.uint32)}


def _fits(inputs: Arrays, pattern: Pattern) -> np.ndarray:
    """At which nodes a pattern matches, shape (nodes,)."""
    demand, below = pattern
    fits = np.ones(len(inputs["type"]), dtype=bool)
    if demand.flags & TYPE:
        fits &= inputs["type"] == demand.type
    if demand.flags & VALUE:
        fits &= inputs["value"] == demand.value
    if demand.flags & (COUNT | LISTED):
        fits &= inputs["count"] == demand.children
    child = inputs["first"]
    for under in below:
        is_there = child != NONE
        place = np.where(is_there, child, 0)
        fits &= is_there & _fits(inputs, under)[place]
        child = np.where(is_there, inputs["next"][place], NONE)
    return fits


def expand(inputs: Arrays) -> Arrays:
    """The templates' parts and bound texts, one after the other."""
    texts = _cut(inputs["text_first"], inputs["text"])
    starts, lengths = inputs["part_start"].tolist(), inputs["part_length"].tolist()
    literals = [
        inputs["literal"][start : start + length].tobytes()
        for start, length in zip(starts, lengths, strict=True)
    ]
    parts = list(zip(literals, inputs["part_variable"].tolist(), strict=True))
    first = inputs["template_first"].tolist()
    bindings = inputs["binding"].reshape(-1, VARIABLES).tolist()
    written, offsets = [], [0]
    for template, bound in zip(inputs["template"].tolist(), bindings, strict=True):
        pieces = [
            literal + (b"" if variable == NO_VARIABLE else texts[bound[variable]])
            for literal, variable in parts[first[template] : first[template + 1]]
        ]
        written.append(b"".join(pieces))
        offsets.append(offsets[-1] + len(written[-1]))
    return {
        "bytes": np.frombuffer(b"".join(written), dtype=np.uint8),
        "offset": np.array(offsets, dtype=np.uint32),
    }


def _cut(first: np.ndarray, values: np.ndarray) -> list[bytes]:
    ends = first.tolist()
    return [values[start:end].tobytes() for start, end in pairwise(ends)]


class _Rewriter:
    """Outermost matches, from the roots down; captured subtrees are rewritten in turn."""

    def __init__(self, inputs: Arrays) -> None:
        self.inputs = inputs
        self.rules = _patterns(inputs)
        self.fits = [_fits(inputs, pattern) for pattern in self.rules]
        fields = ("item_kind", "item_type", "item_count", "item_value", "item_keeps_value")
        self.items = [Item(*row) for row in zip(*(inputs[f].tolist() for f in fields), strict=True)]
        self.rewrites = 0

    def tree(self, node: int) -> Tree:
        for rule, fits in enumerate(self.fits):
            if fits[node]:
                self.rewrites += 1
                captures = list(self.captures(self.rules[rule], node))
                return self.build(int(self.inputs["item_first"][rule]), node, captures)[0]
        return Tree(
            int(self.inputs["type"][node]),
            int(self.inputs["value"][node]),
            [self.tree(child) for child in children(self.inputs, node)],
        )

    def captures(self, pattern: Pattern, node: int) -> list[int]:
        """The nodes that the leaves of a pattern stand for."""
        demand, below = pattern
        if not demand.flags & LISTED:
            return [node]
        pairs = zip(below, children(self.inputs, node), strict=True)
        return [found for under, child in pairs for found in self.captures(under, child)]

    def build(self, at: int, node: int, captures: list[int]) -> tuple[Tree, int]:
        """The replacement from the item `at` on, and the item after it."""
        item = self.items[at]
        at += 1
        if item.kind == CAPTURE:
            return self.tree(captures[item.number]), at
        value = int(self.inputs["value"][node]) if item.keeps_value else item.value
        below = []
        if item.kind == ADOPT:
            below = [self.tree(child) for child in children(self.inputs, node)]
        else:
            for _ in range(item.number):
                child, at = self.build(at, node, captures)
                below.append(child)
        return Tree(item.type, value, below), at


def transform(inputs: Arrays) -> Arrays:
    """The rewritten forest in preorder, and how many matches were replaced."""
    rewriter = _Rewriter(inputs)
    trees = [rewriter.tree(root) for root in inputs["roots"].tolist()]
    return {**flattened(trees), "rewrites": np.array([rewriter.rewrites], dtype=np.uint64)}


def flattened(trees: list[Tree]) -> Arrays:
    """Trees as arrays over their nodes in preorder."""
    types: list[int] = []
    counts: list[int] = []
    values: list[int] = []
    first: list[int] = []
    following: list[int] = []

    def append(tree: Tree) -> int:
        place = len(types)
        types.append(tree.type)
        counts.append(len(tree.children))
        values.append(tree.value)
        first.append(NONE)
        following.append(NONE)
        last = None
        for child in tree.children:
            at = append(child)
            if last is None:
                first[place] = at
            else:
                following[last] = at
            last = at
        return place

    roots = [append(tree) for tree in trees]
    return {
        "type": np.array(types, dtype=np.uint8),
        "count": np.array(counts, dtype=np.uint8),
        "value": np.array(values, dtype=np.uint32),
        "first": np.array(first, dtype=np.uint32),
        "next": np.array(following, dtype=np.uint32),
        "roots": np.array(roots, dtype=np.uint32),
    }


def template_compare(inputs: Arrays) -> Arrays:
    """All trees against one template at a time."""
    trees = inputs["trees"].reshape(-1, TOKENS)
    tokens = inputs["template_tokens"].reshape(-1, TOKENS)
    flags = inputs["template_flags"].reshape(-1, TOKENS) != 0
    table = np.zeros((len(trees), len(tokens)), dtype=bool)
    for number, (own, demanded) in enumerate(zip(tokens, flags, strict=True)):
        table[:, number] = (trees[:, demanded] == own[demanded]).all(axis=1)
    found, numbers = np.nonzero(table)
    return {"tree": found.astype(np.uint32), "template": numbers.astype(np.uint32)}


def byte_matches(inputs: Arrays) -> Arrays:
    """All positions of the text against one pattern at a time."""
    text, first = inputs["text"], inputs["pattern_first"].tolist()
    found: list[tuple[int, int]] = []
    for number, (start, end) in enumerate(pairwise(first)):
        positions = np.arange(max(0, len(text) - (end - start) + 1))
        for place in range(end - start):
            if inputs["pattern_flags"][start + place]:
                byte = inputs["pattern_bytes"][start + place]
                positions = positions[text[positions + place] == byte]
        found += [(int(position), number) for position in positions]
    pairs = np.array(sorted(found), dtype=np.uint32).reshape(-1, 2)
    return {"position": pairs[:, 0].copy(), "pattern": pairs[:, 1].copy()}
