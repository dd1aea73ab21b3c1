"""The synthesis kernels in the emulator, on inputs that change with every run, at many shapes."""

from __future__ import annotations

import secrets
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import costs
import demanding
from swarmbench.components import forests
from swarmbench.components.base import Arrays, same_arrays
from swarmbench.components.cuda import synthesis_tables as tables
from swarmbench.components.cuda.synthesis import CudaSynthesis, SynthesisOperation
from swarmbench.components.cuda.synthesis_given import Given
from swarmbench.components.cuda.synthesis_launches import ANSWER, TOTAL, Launcher, Shape
from swarmbench.components.forests import ADOPT, CAPTURE, LISTED, NEW, NONE, TYPE, Demand, Item
from swarmbench.components.synthesis import Synthesis
from swarmbench.components.synthesis_words import TOKENS, UNBOUND, VARIABLES
from swarmbench.gpu.emulated import Build, EmulatedDevice
from synthesis_inputs import byte_inputs
from test_synthesis_properties import (
    COLLIDING,
    TYPES,
    any_expansion,
    any_forest,
    any_pattern,
    any_rules,
    moved,
)

SEED = secrets.randbits(32)
ONE: dict[str, Any] = {
    **dict.fromkeys(("nodes", "pool", "patterns", "templates", "texts", "rules"), 1),
    **dict.fromkeys(("trees", "tree_templates", "text_bytes", "byte_patterns"), 1),
}
SMALL: dict[str, Any] = {
    "nodes": 1500,
    "pool": 2,
    "trees": 70,
    "tree_templates": 100,
    "text_bytes": 3001,
    "byte_patterns": 100,
    "texts": 300,
}
#: Fewer and more than 32 patterns at every selectivity, and sizes that fill no tile.
MIXES: dict[str, dict[str, Any]] = {
    "one pattern": {"patterns": 1, "selectivity": 0.001, "rules": 1, "byte_wildcards": 0.0},
    "eight patterns": {"patterns": 8, "selectivity": 0.9, "byte_wildcards": 0.9},
    "32 patterns": {"patterns": 32, "selectivity": 0.1, "tree_templates": 33, "trees": 257},
    "33 patterns": {"patterns": 33, "selectivity": 0.9, "values": 1, "byte_patterns": 1},
    "256 patterns": {"patterns": 256, "selectivity": 0.1, "rules": 300, "nodes": 4097},
    "4096 patterns": {"patterns": 4096, "selectivity": 0.9, "byte_patterns": 3000},
    "one node": {"nodes": 1, "trees": 1, "tree_templates": 1, "text_bytes": 1, "templates": 1},
    "all hot": {"selectivity": 1.0, "nodes": 65, "tree_templates": 1100, "rules": 2},
}
shapes = st.builds(Shape, st.sampled_from((32, 64, 160, 256)), st.integers(1, 5))
thorough = settings(max_examples=40, deadline=None)


def made(device: EmulatedDevice, **sizes: Any) -> CudaSynthesis:
    component = Synthesis(**sizes)
    native = component.prepare(seed=SEED, threads=2).native
    return CudaSynthesis(component, native, device, SEED)


@cache
def one(build: Build = "plain") -> CudaSynthesis:
    """A component that answers for given inputs; its own are of no interest."""
    return made(EmulatedDevice(seed=SEED, build=build, is_random=True, memory_bytes=1 << 40), **ONE)


def is_right(op: str, inputs: Arrays, shape: Shape, build: Build = "plain") -> bool:
    found = Given(one(build).requests, shape).answer(op, inputs)
    return same_arrays(found, Synthesis().reference(op, inputs))


@thorough
@given(any_forest(), st.lists(any_pattern(), min_size=1, max_size=60), shapes)
def test_matches_are_those_of_the_reference(
    forest: Arrays, patterns: list[list[Demand]], shape: Shape
) -> None:
    assert is_right("match", forest | forests.pattern_arrays(patterns), shape)


@thorough
@given(any_forest(), st.integers(33, 400), st.randoms(use_true_random=False), shapes)
def test_any_number_of_colliding_patterns_is_matched_in_full(
    forest: Arrays, count: int, random: Any, shape: Shape
) -> None:
    drawn = []
    for _ in range(count):
        below = [
            Demand(random.choice(TYPES), 0, random.choice(COLLIDING), random.randrange(4))
            for _ in range(2)
        ]
        root = Demand(
            random.choice(TYPES), 2, random.choice(COLLIDING), LISTED | random.randrange(4)
        )
        drawn.append([root, *below])
    assert is_right("match", forest | forests.pattern_arrays(drawn), shape)


@thorough
@given(any_forest(), st.lists(any_pattern(), min_size=30, max_size=36), st.integers(0, 2**32))
def test_nodes_in_any_order_have_the_same_matches(
    forest: Arrays, patterns: list[list[Demand]], seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(forest["type"]))
    both = forests.pattern_arrays(patterns)
    assert is_right("match", moved(forest, order) | both, Shape(64))


@st.composite
def any_rule(draw: st.DrawFn) -> tuple[list[Demand], list[Item]]:
    """A pattern, and any tree of new nodes over some of its captures in any order, or over the
    adopted children; a capture alone too."""
    demands = draw(any_pattern())
    is_whole = not demands[0].flags & LISTED
    captures = sum(not demand.flags & LISTED for demand in demands) * (not is_whole)
    kinds = [(CAPTURE, number) for number in draw(st.permutations(range(captures)))]
    kinds = kinds[: draw(st.integers(0, captures))]
    if is_whole and draw(st.booleans()):
        kinds = [(ADOPT, 0)]
    if captures and draw(st.integers(0, 4)) == 4:
        return demands, [Item(CAPTURE, 0, draw(st.integers(0, captures - 1)), 0, 0)]
    value = st.integers(0, 9)

    def tree(leaves: list[tuple[int, int]], depth: int) -> list[Item]:
        """A new node over these leaves, each perhaps below more new nodes."""
        below: list[list[Item]] = []
        while leaves or (depth < 2 and draw(st.integers(0, 3)) == 3):
            if depth < 2 and draw(st.integers(0, 2)) == 2:
                count = draw(st.integers(0, len(leaves)))
                below.append(tree(leaves[:count], depth + 1))
                leaves = leaves[count:]
            elif leaves:
                (kind, number), leaves = leaves[0], leaves[1:]
                below.append(
                    [Item(kind, draw(value), number, draw(value), draw(st.integers(0, 1)))]
                )
        own = Item(NEW, draw(st.sampled_from((0, 1, 100))), len(below), draw(value), len(below) % 2)
        return [own, *(item for items in below for item in items)]

    if kinds == [(ADOPT, 0)] and draw(st.booleans()):
        return demands, [Item(ADOPT, draw(value), 0, draw(value), 1)]
    return demands, tree(kinds, 0)


@st.composite
def rules_of_any_form(draw: st.DrawFn) -> Arrays:
    drawn = draw(st.lists(any_rule(), min_size=1, max_size=12))
    patterns, items = [each for each, _ in drawn], [each for _, each in drawn]
    return forests.pattern_arrays(patterns) | forests.item_arrays(items)


@settings(max_examples=150, deadline=None)
@given(any_forest(), st.one_of(any_rules, rules_of_any_form()), shapes)
def test_a_rewritten_forest_is_that_of_the_reference(
    forest: Arrays, rules: Arrays, shape: Shape
) -> None:
    assert is_right("transform", forest | rules, shape)


@thorough
@given(any_forest(types=(0, 1)), rules_of_any_form(), st.integers(0, 2**32))
def test_a_forest_in_any_order_is_rewritten_to_the_same(
    forest: Arrays, rules: Arrays, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(forest["type"]))
    assert is_right("transform", moved(forest, order) | rules, Shape(32))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 400), st.integers(1, 20), shapes)
def test_rules_that_match_often_and_in_each_other_are_applied_as_in_the_reference(
    seed: int, nodes: int, rules: int, shape: Shape
) -> None:
    forest = demanding.small_trees(nodes, seed)
    for made in (demanding.sampled_rules(forest, rules, seed), demanding.nested_rules()):
        assert is_right("transform", forest | made, shape)


@thorough
@given(any_expansion(), shapes)
def test_expanded_bytes_are_those_of_the_reference(inputs: Arrays, shape: Shape) -> None:
    assert is_right("expand", inputs, shape)


def test_texts_longer_than_a_window_are_written_in_full() -> None:
    generator = np.random.default_rng(SEED)
    lengths = generator.choice((0, 1, 8188, 8189, 8190, 8192, 8193, 20_000), 6)
    inputs = {
        "template_first": np.array([0, 2, 3], np.uint32),
        "part_start": np.array([0, 3, 3], np.uint32),
        "part_length": np.array([3, 0, 5], np.uint16),
        "part_variable": np.array([0, 3, 2], np.uint8),
        "literal": generator.integers(0, 256, 8, dtype=np.uint8),
        "text_first": np.cumsum([0, *lengths]).astype(np.uint32),
        "text": generator.integers(0, 256, int(lengths.sum()), dtype=np.uint8),
        "template": generator.integers(0, 2, 40, dtype=np.uint32),
        "binding": generator.integers(0, 6, 40 * VARIABLES, dtype=np.uint32),
    }
    assert is_right("expand", inputs, Shape(128, 1)), f"seed {SEED}"


def test_of_many_unbound_variables_the_first_is_named_whoever_finds_it() -> None:
    generator = np.random.default_rng(SEED)
    binding = np.zeros(500 * VARIABLES, np.uint32)
    for first in generator.integers(0, 300, 5).tolist():
        altered = binding.copy()
        altered[VARIABLES * np.append(first, generator.integers(first, 500, 200))] = UNBOUND
        inputs = {
            "template_first": np.array([0, 1], np.uint32),
            "part_start": np.zeros(1, np.uint32),
            "part_length": np.ones(1, np.uint16),
            "part_variable": np.zeros(1, np.uint8),
            "literal": np.zeros(1, np.uint8),
            "text_first": np.array([0, 3], np.uint32),
            "text": np.zeros(3, np.uint8),
            "template": np.zeros(500, np.uint32),
            "binding": altered,
        }
        with pytest.raises(ValueError, match=f"instance {first}: template 0 uses variable 0"):
            Given(one().requests, Shape(32, 1)).answer("expand", inputs)


@thorough
@given(any_expansion(), st.data())
def test_the_first_unbound_variable_is_named(inputs: Arrays, drawn: st.DataObject) -> None:
    if not len(inputs["binding"]):
        return
    altered = inputs["binding"].copy()
    for at in drawn.draw(st.sets(st.integers(0, len(altered) - 1), min_size=1, max_size=9)):
        altered[at] = drawn.draw(st.sampled_from((UNBOUND, 1_000_000)))
    given_too = inputs | {"binding": altered}
    try:
        expected = one().requests.native.evaluate("expand", given_too)
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error).split(": ", 1)[1]):
            Given(one().requests, Shape(32)).answer("expand", given_too)
        return
    assert same_arrays(Given(one().requests, Shape(32)).answer("expand", given_too), expected)


@thorough
@given(st.binary(max_size=300), st.integers(1, 8), st.integers(1, 4), st.data(), shapes)
def test_byte_patterns_occur_where_the_reference_finds_them(
    text: bytes, shortest: int, letters: int, drawn: st.DataObject, shape: Shape
) -> None:
    demand = st.tuples(st.integers(0, letters - 1), st.sampled_from((0, 1, 1, 1)))
    pattern = st.lists(demand, min_size=shortest, max_size=32)
    patterns = drawn.draw(st.lists(pattern, min_size=1, max_size=30))
    assert is_right("byte_match", byte_inputs(text, patterns, letters), shape)


def test_short_byte_patterns_of_families_that_share_their_slots_occur_once() -> None:
    generator = np.random.default_rng(SEED)
    lengths = generator.integers(1, 6, 1500)
    total = int(lengths.sum())
    inputs = {
        "text": generator.integers(0, 4, 1500, dtype=np.uint8),
        "pattern_first": np.cumsum([0, *lengths]).astype(np.uint32),
        "pattern_bytes": generator.integers(0, 4, total, dtype=np.uint8),
        "pattern_flags": generator.integers(0, 2, total, dtype=np.uint8),
    }
    assert is_right("byte_match", inputs, Shape(64)), f"seed {SEED}"


@thorough
@given(st.integers(0, 150), st.integers(1, 60), st.integers(0, 2**32), shapes)
def test_templates_agree_with_the_trees_that_the_reference_names(
    trees: int, templates: int, seed: int, shape: Shape
) -> None:
    generator = np.random.default_rng(seed)
    demanded = generator.random((templates, TOKENS)) < generator.choice((0.0, 0.03, 0.1))
    inputs = {
        "trees": generator.integers(0, 3, trees * TOKENS, dtype=np.uint8),
        "template_tokens": generator.integers(0, 3, templates * TOKENS, dtype=np.uint8),
        "template_flags": demanded.astype(np.uint8).reshape(-1),
    }
    assert is_right("template_compare", inputs, shape)


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
def test_requests_of_every_mix_are_answered_at_every_shape(mix: dict[str, Any]) -> None:
    requests = made(EmulatedDevice(seed=SEED, is_random=True), **{**SMALL, **mix}).requests
    for shape in (Shape(32, 1), Shape(96, 7), Shape()):
        lane = SynthesisOperation(requests, shape)
        for op in (op.name for op in Synthesis.ops):
            for key in (0, 1):
                assert lane.run(op, key).status == "ok", f"{op} {shape}, seed {SEED}"
                assert lane.verify() == (1, 0), f"{op} {shape}, seed {SEED}"


@pytest.mark.parametrize("mix", ["32 patterns", "256 patterns", "all hot"])
def test_accesses_are_in_bounds_ordered_and_declared_at_other_sizes(mix: str) -> None:
    device = EmulatedDevice(seed=SEED, build="traced", is_random=True)
    requests = made(device, **{**SMALL, "nodes": 2000, **MIXES[mix]}).requests
    lane = SynthesisOperation(requests, Shape(96, 2))
    for op in (op.name for op in Synthesis.ops):
        with costs.followed(lane) as done:
            lane.run(op, 1)
        read = {"bytes_read": done.pop("bytes_read")}
        costs.check(done, lane.cost(op), f"{op}, seed {SEED}")
        costs.check(read, lane.cost(op), f"{op}, seed {SEED}", tolerance=0.1)


def test_an_answer_without_room_is_not_written() -> None:
    device = EmulatedDevice(seed=SEED)
    requests = made(device, **{**SMALL, "selectivity": 0.9}).requests
    lane = SynthesisOperation(requests)
    own = lane.buffers
    launcher = Launcher(device, own["starts"], own["answer"], Shape())
    for steps, out in (
        (launcher.match(requests.nodes(0), own["kept"], own["pairs"], 7), "pairs"),
        (launcher.expand(requests.instances(0), own["written"], own["offsets"], 7), "written"),
        (
            launcher.transform(requests.trees(0), own["fates"], own["made"], own["made_roots"], 7),
            "made",
        ),
    ):
        for launch in (steps.count, steps.write):
            steps.enqueue(lane.stream, launch)
        answer, found = ANSWER.copy(), np.zeros(own[out].count, own[out].dtype)
        lane.stream.download(answer, own["answer"])
        lane.stream.download(found, own[out])
        assert answer[TOTAL] > 7
        assert (found.view(np.uint8) == 0xA5).all(), f"{out}, seed {SEED}"


def test_what_a_block_cannot_hold_or_no_forest_is_is_refused() -> None:
    def chain(length: int) -> Arrays:
        following = np.append(np.arange(1, length, dtype=np.uint32), np.uint32(NONE))
        return {
            "type": np.zeros(length, np.uint8),
            "count": (following != NONE).astype(np.uint8),
            "value": np.zeros(length, np.uint32),
            "first": following,
            "next": np.full(length, NONE, np.uint32),
            "roots": np.zeros(1, np.uint32),
        }

    rules = forests.pattern_arrays([[Demand(0, 0, 0, TYPE)]])
    rules |= forests.item_arrays([[Item(ADOPT, 1, 0, 0, 1)]])
    evaluation = Given(one().requests, Shape())
    assert is_right("transform", chain(150) | rules, Shape(64))
    with pytest.raises(ValueError, match="a tree of 7000 nodes is more than a block can hold"):
        evaluation.answer("transform", chain(7000) | rules)
    for name, at, value, message in (
        ("first", 3, 3, "node 3 is in two places"),
        ("first", 3, 9, "there is no node 9"),
        ("first", 3, NONE, "node 3 has not the 1 children"),
        ("roots", 0, 2, "2 nodes hang on no root"),
    ):
        broken = chain(9)
        broken[name][at] = value
        with pytest.raises(ValueError, match=message):
            evaluation.answer("match", broken | rules)


def test_a_digest_is_that_of_numpy_and_tells_what_was_changed() -> None:
    generator = np.random.default_rng(SEED)
    device = EmulatedDevice(seed=SEED)
    lane = SynthesisOperation(made(device, **ONE).requests, Shape(64, 2))
    total, found = lane.buffers["digests"].part(0, 1), np.zeros(1, np.uint64)
    for length in (0, 1, 3, 4, 1021, 4096):
        answer = generator.integers(0, 256, length, dtype=np.uint8)
        buffer = device.uploaded(np.append(answer, generator.integers(0, 256, 8, dtype=np.uint8)))
        lane.launcher.digest(lane.stream, buffer, length, total)
        lane.stream.download(found, total)
        assert int(found[0]) == tables.digest(answer), f"{length} bytes, seed {SEED}"
        if length:
            answer[-1] ^= 1
            assert int(found[0]) != tables.digest(answer)
