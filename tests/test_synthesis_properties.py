"""Synthesis: what must hold of any forest, pattern, rule, template and text, by hypothesis."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import cycle, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmbench.components import forests
from swarmbench.components.base import Arrays, same_arrays
from swarmbench.components.forests import (
    ADOPT,
    CAPTURE,
    LISTED,
    NEW,
    NONE,
    TYPE,
    VALUE,
    Demand,
    Item,
)
from swarmbench.components.synthesis import Synthesis
from swarmbench.components.synthesis_words import NO_VARIABLE, TOKENS, UNBOUND, VARIABLES
from synthesis_inputs import byte_inputs

#: Values whose marks, and so their first look, are the same; and two that differ in one of theirs.
COLLIDING = (5, 5 + 2048, 5 + 4096, 5 + 768, 6)
TYPES = (0, 1, 2, 200, 255)
#: Types below this are matched by the rules of `settling_rules`, and made by none of them.
MADE_TYPES = 100
CHILDREN_MAX = 9

thorough = settings(max_examples=60, deadline=None)


@cache
def native() -> Any:
    """A component that answers for given inputs; its own are of no interest."""
    one = dict.fromkeys(("nodes", "pool", "patterns", "templates", "texts", "rules"), 1)
    sizes = {"trees": 1, "tree_templates": 1, "text_bytes": 1, "byte_patterns": 1}
    return Synthesis(**one, **sizes).prepare(seed=1).native


@st.composite
def any_forest(draw: st.DrawFn, types: tuple[int, ...] = TYPES) -> Arrays:
    """Nodes each of which hangs below an earlier one or is a root."""
    node = st.tuples(st.integers(0, 9), st.sampled_from(types), st.sampled_from(COLLIDING))
    drawn = draw(st.lists(node, min_size=1, max_size=90))
    below: list[list[int]] = [[] for _ in drawn]
    roots: list[int] = []
    parent = -1
    for number, (back, _, _) in enumerate(drawn):
        # Half of the nodes are siblings of the one before, so that some have many children.
        parent = number - 1 - back * back if back < 5 else parent
        if parent < 0 or len(below[parent]) == CHILDREN_MAX:
            parent = -1
        (below[parent] if parent >= 0 else roots).append(number)
    following = np.full(len(drawn), NONE, dtype=np.uint32)
    for siblings in below:
        for one, other in pairwise(siblings):
            following[one] = other
    return {
        "type": np.array([kind for _, kind, _ in drawn], dtype=np.uint8),
        "count": np.array([len(siblings) for siblings in below], dtype=np.uint8),
        "value": np.array([value for _, _, value in drawn], dtype=np.uint32),
        "first": np.array([siblings[0] if siblings else NONE for siblings in below], np.uint32),
        "next": following,
        "roots": np.array(roots, dtype=np.uint32),
    }


@st.composite
def any_pattern(draw: st.DrawFn, levels: int = 3) -> list[Demand]:
    """A tree of demands of at most so many levels, in preorder; wildcards among them."""
    flags = draw(st.integers(0, 7))
    below = draw(st.lists(any_pattern(levels - 1), max_size=3)) if levels > 1 else []
    lists = levels > 1 and draw(st.booleans())
    count = len(below) if lists else draw(st.integers(0, CHILDREN_MAX))
    kind, value = draw(st.sampled_from(TYPES)), draw(st.sampled_from(COLLIDING))
    own = Demand(kind, count, value, flags | lists * LISTED)
    return [own, *(place for tree in below for place in tree)] if lists else [own]


def answers(op: str, inputs: Arrays) -> Arrays:
    found: Arrays = native().evaluate(op, inputs)
    return found


def is_right(op: str, inputs: Arrays) -> bool:
    return same_arrays(answers(op, inputs), Synthesis().reference(op, inputs))


@thorough
@given(any_forest(), st.lists(any_pattern(), min_size=1, max_size=60))
def test_matches_are_those_of_the_reference(forest: Arrays, made: list[list[Demand]]) -> None:
    assert is_right("match", forest | forests.pattern_arrays(made))


@thorough
@given(any_forest(), st.integers(33, 400), st.randoms(use_true_random=False))
def test_any_number_of_patterns_of_one_shape_is_matched_in_full(
    forest: Arrays, count: int, random: Any
) -> None:
    """More than 32 patterns, which collide: they share root, tokens, or all."""
    made = []
    for _ in range(count):
        below = [
            Demand(random.choice(TYPES), 0, random.choice(COLLIDING), random.randrange(4))
            for _ in range(2)
        ]
        root = Demand(random.choice(TYPES), 2, random.choice(COLLIDING), LISTED | TYPE)
        made.append([root._replace(flags=root.flags | random.choice((0, VALUE))), *below])
    assert is_right("match", forest | forests.pattern_arrays(made))


def moved(forest: Arrays, order: np.ndarray) -> Arrays:
    """The same forest with node `number` at the place `order[number]`."""

    def links(name: str) -> np.ndarray:
        old = forest[name]
        return np.where(old == NONE, NONE, order[np.where(old == NONE, 0, old)]).astype(np.uint32)

    placed = {name: forest[name] for name in ("type", "count", "value")}
    placed |= {name: links(name) for name in ("first", "next")}
    back = np.argsort(order)
    return {name: array[back] for name, array in placed.items()} | {
        "roots": order[forest["roots"]].astype(np.uint32)
    }


@thorough
@given(any_forest(), st.lists(any_pattern(), min_size=1, max_size=40), st.data())
def test_moving_nodes_moves_their_matches_and_changes_no_count(
    forest: Arrays, made: list[list[Demand]], drawn: st.DataObject
) -> None:
    order = np.array(drawn.draw(st.permutations(range(len(forest["type"])))), dtype=np.int64)
    patterns = forests.pattern_arrays(made)
    before = answers("match", forest | patterns)
    after = answers("match", moved(forest, order) | patterns)
    wanted = sorted(zip(order[before["node"]].tolist(), before["pattern"].tolist(), strict=True))
    assert wanted == list(zip(after["node"].tolist(), after["pattern"].tolist(), strict=True))


def problem(forest: Arrays) -> str | None:
    """What keeps this from being a forest: each node in one place, links in range and as many as
    counted, every node below a root."""
    seen: set[int] = set()
    waiting = forest["roots"].tolist()
    while waiting:
        node = waiting.pop()
        if not 0 <= node < len(forest["type"]) or node in seen:
            return f"node {node} is out of range or in two places"
        seen.add(node)
        child, children = int(forest["first"][node]), []
        while child != NONE and len(children) <= len(forest["type"]):
            children.append(child)
            child = int(forest["next"][child]) if child < len(forest["type"]) else NONE
        if len(children) != forest["count"][node]:
            return f"node {node} has {len(children)} children"
        waiting += children
    return None if len(seen) == len(forest["type"]) else "nodes hang on no root"


def replacement(demands: list[Demand], made_type: int, fates: list[int]) -> list[Item]:
    """What becomes of a rule's captures, turned round: 0 dropped, 1 kept, 2 wrapped."""
    if not demands[0].flags & LISTED:
        return [Item(ADOPT, made_type, 0, 9, made_type % 2)]
    captures = sum(not demand.flags & LISTED for demand in demands)
    fated = [(number, fates[number % len(fates)]) for number in reversed(range(captures))]
    kept = [(number, fate) for number, fate in fated if fate]
    items = [Item(NEW, made_type, len(kept), 7, made_type % 2)]
    for number, fate in kept:
        items += [Item(NEW, made_type + 1, 1, 8, 0)] if fate == 2 else []
        items.append(Item(CAPTURE, 0, number, 0, 0))
    return items


def rules_of(made: list[tuple[list[Demand], int, list[int]]]) -> Arrays:
    items = [replacement(*rule) for rule in made]
    return forests.pattern_arrays([demands for demands, _, _ in made]) | forests.item_arrays(items)


def look_of(forest: Arrays, node: int, opened: Iterator[int], levels: int = 3) -> list[Demand]:
    """What a node looks like down to so many levels: of each place three bits say what is demanded,
    a fourth whether its children are listed."""
    flags = next(opened)
    looks = (forest[name][node].item() for name in ("type", "count", "value"))
    own = Demand(*looks, flags & 7)
    if levels == 1 or not flags & LISTED:
        return [own]
    below = [look_of(forest, child, opened, levels - 1) for child in forests.children(forest, node)]
    return [own._replace(flags=flags), *(place for tree in below for place in tree)]


@st.composite
def any_cut(draw: st.DrawFn) -> tuple[Arrays, Arrays]:
    """A forest and rules whose patterns were cut from it, so that those of three levels match."""
    forest = draw(any_forest())
    made = []
    for _ in range(draw(st.integers(1, 8))):
        node = draw(st.integers(0, len(forest["type"]) - 1))
        opened = cycle(draw(st.lists(st.integers(0, 15), min_size=1, max_size=30)))
        demands = look_of(forest, node, opened)
        made.append((demands, draw(st.sampled_from((0, 1, 100, 200))), draw(fates)))
    # A rule has 64 captures at most.
    return forest, rules_of([rule for rule in made if len(rule[0]) <= 64])


fates = st.lists(st.integers(0, 2), min_size=1, max_size=4)
any_rules = st.lists(
    st.tuples(any_pattern(), st.sampled_from((0, 1, 100, 200)), fates), min_size=1, max_size=20
).map(rules_of)


@thorough
@given(any_cut())
def test_a_forest_is_rewritten_by_rules_cut_from_it_as_the_reference_does(
    cut: tuple[Arrays, Arrays],
) -> None:
    forest, rules = cut
    assert is_right("transform", forest | rules)
    assert problem(answers("transform", forest | rules)) is None


@thorough
@given(any_forest(), any_rules)
def test_a_rewritten_forest_is_that_of_the_reference_and_valid(
    forest: Arrays, rules: Arrays
) -> None:
    assert is_right("transform", forest | rules)
    assert problem(answers("transform", forest | rules)) is None


def test_what_is_no_forest_is_told() -> None:
    leaf = {"type": np.zeros(2, np.uint8), "value": np.zeros(2, np.uint32)}
    chain = {
        "count": np.array([1, 0], np.uint8),
        "first": np.array([1, NONE], np.uint32),
        "next": np.full(2, NONE, np.uint32),
        "roots": np.zeros(1, np.uint32),
    }
    good = leaf | chain
    assert problem(good) is None
    for name, wrong in (("first", [1, 0]), ("first", [7, NONE]), ("next", [NONE, 1])):
        assert problem(good | {name: np.array(wrong, np.uint32)}) is not None, (name, wrong)
    assert problem(good | {"count": np.array([2, 0], np.uint8)}) is not None
    assert problem(good | {"roots": np.ones(1, np.uint32)}) is not None


def settling(pattern: list[Demand]) -> list[Demand]:
    """The pattern, demanding a type that no rule makes wherever it demands anything."""
    return [
        demand._replace(type=demand.type % 3, flags=demand.flags | TYPE)
        if demand.flags or not place
        else demand
        for place, demand in enumerate(pattern)
    ]


settling_rules = st.lists(
    st.tuples(any_pattern().map(settling), st.integers(MADE_TYPES, MADE_TYPES + 9), fates),
    min_size=1,
    max_size=20,
).map(rules_of)


@thorough
@given(any_forest(types=(0, 1, 2)), settling_rules)
def test_rewriting_twice_is_rewriting_once_where_nothing_made_is_matched(
    forest: Arrays, rules: Arrays
) -> None:
    once = answers("transform", forest | rules)
    twice = answers("transform", {name: once[name] for name in forest} | rules)
    assert twice.pop("rewrites")[0] == 0
    assert same_arrays(twice, {name: once[name] for name in forest})


@thorough
@given(any_forest(), st.lists(st.tuples(st.sampled_from(TYPES), st.integers(0, 7)), min_size=1))
def test_rewrites_are_matches(forest: Arrays, drawn: list[tuple[int, int]]) -> None:
    """Where rules leave a node's children to be looked at in turn, every match is a rewrite."""
    patterns = [[Demand(kind, 2, COLLIDING[0], flags)] for kind, flags in drawn]
    rules = rules_of([(pattern, MADE_TYPES, [1]) for pattern in patterns])
    matched = np.unique(answers("match", forest | rules)["node"])
    assert answers("transform", forest | rules)["rewrites"][0] == len(matched)


@st.composite
def any_expansion(draw: st.DrawFn) -> Arrays:
    """Templates of literals and variables, texts, and instances that bind all four variables."""
    texts = draw(st.lists(st.binary(max_size=70), min_size=1, max_size=6))
    variable = st.sampled_from((0, 1, 2, 3, NO_VARIABLE))
    part = st.tuples(st.binary(max_size=70), variable)
    templates = draw(st.lists(st.lists(part, max_size=5), min_size=1, max_size=6))
    bound = st.tuples(*[st.integers(0, len(texts) - 1)] * VARIABLES)
    drawn = draw(st.lists(st.tuples(st.integers(0, len(templates) - 1), bound), max_size=30))
    parts = [part for template in templates for part in template]
    literals = [literal for literal, _ in parts]
    return {
        "template_first": forests.starts(templates),
        "part_start": forests.starts(literals)[:-1],
        "part_length": np.array([len(literal) for literal in literals], dtype=np.uint16),
        "part_variable": np.array([variable for _, variable in parts], dtype=np.uint8),
        "literal": np.frombuffer(b"".join(literals), dtype=np.uint8),
        "text_first": forests.starts(texts),
        "text": np.frombuffer(b"".join(texts), dtype=np.uint8),
        "template": np.array([template for template, _ in drawn], dtype=np.uint32),
        "binding": np.array([text for _, row in drawn for text in row], dtype=np.uint32),
    }


@thorough
@given(any_expansion())
def test_expanded_bytes_are_those_of_the_reference_and_never_beyond_their_room(
    inputs: Arrays,
) -> None:
    assert is_right("expand", inputs)
    length = len(answers("expand", inputs)["bytes"])
    assert same_arrays(
        answers("expand", inputs | {"bytes_max": np.array([length], np.uint64)}),
        answers("expand", inputs),
    )
    if length:
        with pytest.raises(ValueError, match=rf"has {length} bytes|above {length - 1}"):
            answers("expand", inputs | {"bytes_max": np.array([length - 1], np.uint64)})


@thorough
@given(any_expansion(), st.data())
def test_an_unbound_variable_is_an_error_where_it_is_used(
    inputs: Arrays, drawn: st.DataObject
) -> None:
    if not len(inputs["binding"]):
        return
    at = drawn.draw(st.integers(0, len(inputs["binding"]) - 1))
    instance, variable = divmod(at, VARIABLES)
    template = int(inputs["template"][instance])
    own = slice(*inputs["template_first"][template : template + 2].tolist())
    altered = inputs["binding"].copy()
    altered[at] = UNBOUND
    if variable not in inputs["part_variable"][own]:
        assert is_right("expand", inputs | {"binding": altered})
        return
    line = f"instance {instance}: template {template} uses variable {variable}, which is unbound"
    with pytest.raises(ValueError, match=line):
        answers("expand", inputs | {"binding": altered})


@thorough
@given(st.binary(max_size=400), st.integers(1, 8), st.integers(1, 4), st.data())
def test_byte_patterns_occur_where_the_reference_finds_them(
    text: bytes, shortest: int, letters: int, drawn: st.DataObject
) -> None:
    """From one letter to four, so that most windows occur; wildcards anywhere."""
    demand = st.tuples(st.integers(0, letters - 1), st.sampled_from((0, 1, 2, 255)))
    pattern = st.lists(demand, min_size=shortest, max_size=32)
    made = drawn.draw(st.lists(pattern, min_size=1, max_size=30))
    assert is_right("byte_match", byte_inputs(text, made, letters))


@thorough
@given(st.integers(0, 150), st.integers(1, 60), st.integers(0, 2**32))
def test_templates_agree_with_the_trees_that_the_reference_names(
    trees: int, templates: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    demanded = generator.random((templates, TOKENS)) < generator.choice((0.0, 0.03, 0.1))
    inputs = {
        "trees": generator.integers(0, 3, trees * TOKENS, dtype=np.uint8),
        "template_tokens": generator.integers(0, 3, templates * TOKENS, dtype=np.uint8),
        "template_flags": (demanded * generator.integers(1, 256)).astype(np.uint8).reshape(-1),
    }
    assert is_right("template_compare", inputs)
