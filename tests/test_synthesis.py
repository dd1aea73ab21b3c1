"""Synthesis: the native backend against the NumPy reference, and what both must hold."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from swarmbench import _native
from swarmbench.components import forests
from swarmbench.components.base import Arrays, same_arrays
from swarmbench.components.synthesis import Synthesis

SEED = 20240607
OPS = tuple(op.name for op in Synthesis.ops)
SMALL: dict[str, Any] = {"trees": 300, "tree_templates": 100, "text_bytes": 9000, "texts": 300}
#: More and fewer than 32 patterns, every selectivity; a last block that is not full.
SIZES: dict[str, dict[str, Any]] = {
    "default": {},
    "one pattern": {"patterns": 1, "selectivity": 0.001, "rules": 1, "pool": 1},
    "eight patterns": {"patterns": 8, "nodes": 1000, "selectivity": 0.9},
    "many patterns": {**SMALL, "patterns": 4096, "nodes": 2000, "selectivity": 0.9, "pool": 2},
    "one node": {**SMALL, "nodes": 1, "pool": 2, "templates": 1, "byte_patterns": 1},
    "literals": {**SMALL, "byte_wildcards": 0.0, "nodes": 65, "values": 1, "selectivity": 1.0},
    "nothing hot": {**SMALL, "selectivity": 0.0, "nodes": 500, "byte_wildcards": 0.9},
}
KEYS = (0, 7 << 48 | 1_234_567_890, (1 << 64) - 1)


def requested(key: int) -> Arrays:
    return {"key": np.array([key], np.uint64), "seed": np.array([SEED], np.uint64)}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_inputs_are_those_of_the_backend_bit_for_bit(size: dict[str, Any]) -> None:
    component = Synthesis(**size)
    native = component.prepare(seed=SEED).native
    for op in OPS:
        for key in KEYS if op in ("match", "transform") else KEYS[:1]:
            generated = native.evaluate(f"{op}_inputs", requested(key))
            assert same_arrays(generated, component.inputs(op, SEED, key)), op


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_answers_are_those_of_the_reference(op: str, size: dict[str, Any]) -> None:
    component = Synthesis(**{"byte_patterns": 200, "text_bytes": 20_000, **size})
    native = component.prepare(seed=SEED).native
    inputs = native.evaluate(f"{op}_inputs", requested(3))
    expected = component.reference(op, inputs)
    found = native.evaluate(op, inputs)
    assert same_arrays(found, expected)
    for name in expected:
        if len(expected[name]):
            tampered = expected[name].copy()
            tampered[-1] ^= 1
            assert not same_arrays(found, expected | {name: tampered})


@pytest.mark.parametrize("selectivity", [0.001, 0.1, 0.9])
@pytest.mark.parametrize("patterns", [1, 8, 32, 256, 4096])
def test_the_share_of_nodes_that_match_is_the_one_asked_for(
    patterns: int, selectivity: float
) -> None:
    component = Synthesis(patterns=patterns, selectivity=selectivity, pool=1, **SMALL)
    native = component.prepare(seed=SEED).native
    inputs = native.evaluate("match_inputs", requested(0))
    found = len(np.unique(native.evaluate("match", inputs)["node"]))
    expected = selectivity * component.nodes
    assert abs(found - expected) <= 5 * np.sqrt(expected) + 5


def accessed_bytes(inputs: Arrays, answers: Arrays) -> int:
    """What a matcher cannot avoid: 4 bytes of every node, the records of those that match, and
    the pairs."""
    return 4 * len(inputs["type"]) + 16 * len(np.unique(answers["node"])) + 8 * len(answers["node"])


@pytest.mark.parametrize("selectivity", [0.001, 0.1, 0.9])
def test_declared_costs_are_those_counted_on_the_inputs(selectivity: float) -> None:
    component = Synthesis(selectivity=selectivity, patterns=32, pool=1, **SMALL)
    native = component.prepare(seed=SEED).native
    ops = {op.name: op for op in component.ops}
    inputs = native.evaluate("match_inputs", requested(0))
    counted = accessed_bytes(inputs, native.evaluate("match", inputs)) / component.nodes
    assert component.cost(ops["match"]) == pytest.approx(counted, rel=0.15)
    expanded = native.evaluate("expand", native.evaluate("expand_inputs", requested(0)))["bytes"]
    counted = 2.0 * len(expanded) / component.nodes + 20.0
    assert component.cost(ops["expand"]) == pytest.approx(counted, rel=0.05)
    rewritten = native.evaluate("transform", native.evaluate("transform_inputs", requested(0)))
    counted = 16.0 * (component.nodes + len(rewritten["type"])) / component.nodes
    assert component.cost(ops["transform"]) == pytest.approx(counted, rel=0.2)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_running_finds_no_violation_and_counts_its_work(op: str, size: dict[str, Any]) -> None:
    component = Synthesis(**{**SMALL, **size})
    native = component.prepare(seed=SEED).native
    result = native.run(op, first_key=5, count=20, threads=2)
    assert (result["ok"], result["verified"], result["violations"]) == (40, 40, 0)
    counters = dict(native.counters())
    units = {
        "template_compare": component.trees * component.tree_templates,
        "byte_match": component.text_bytes,
    }
    assert result["units"] == 40 * units.get(op, component.nodes)
    assert op != "expand" or counters["expanded_bytes"] > result["units"]
    assert result["verify_ns"] > 0


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("fault", ["flipped_bit", "lost_result", "doubled_result"])
def test_a_planted_fault_is_seen_in_every_operation(op: str, fault: str) -> None:
    native = Synthesis(**SMALL).prepare(seed=SEED).native
    result = native.run(op, count=20, fault=fault)
    assert (result["planted"], result["violations"]) == (20, 20)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_the_memory_formula_is_that_of_the_backend_and_bounds_it(size: dict[str, Any]) -> None:
    component = Synthesis(**size)
    native = component.prepare(seed=SEED).native
    for workers in (0, 1, 3):
        assert component.resident_bytes(workers) == native.resident_bytes(workers)
    held = json.loads(native.describe())["shared_bytes"]
    assert held <= component.resident_bytes(0)
    if not size:
        assert held > component.resident_bytes(0) / 2


def test_sizes_are_fitted_to_a_budget_and_it_is_said() -> None:
    component = Synthesis(nodes=100_000, pool=64)
    for budget in (1 << 29, 1 << 26, 1 << 24, 1 << 21):
        fitted, changes = component.fitted(budget, workers=2)
        assert fitted.resident_bytes(2) <= budget
        assert (fitted == component) == (not changes)
    assert any(line.startswith("synthesis.pool: 64 -> 1") for line in changes)
    assert any(line.startswith("synthesis.nodes: 100000 -> ") for line in changes)


def test_parameters_have_the_same_bounds_on_both_sides() -> None:
    plain = json.loads(Synthesis().model_dump_json())
    for name, field in Synthesis.model_fields.items():
        least, most = (
            next(getattr(each, bound) for each in field.metadata if hasattr(each, bound))
            for bound in ("ge", "le")
        )
        step = 0.01 if isinstance(most, float) else 1
        for wrong in (least - step, most + step):
            with pytest.raises(ValidationError, match=name):
                Synthesis(**{name: wrong})
            with pytest.raises(ValueError, match=name if wrong >= 0 else ".*"):
                _native.Component("synthesis", json.dumps(plain | {name: wrong}), seed=1)
    with pytest.raises(ValueError, match="depth"):
        _native.Component("synthesis", json.dumps(plain | {"depth": 3}), seed=1)


def test_a_forest_that_is_none_is_refused_and_the_node_is_named() -> None:
    component = Synthesis(nodes=200, pool=1, **SMALL)
    native = component.prepare(seed=SEED).native
    inputs = native.evaluate("match_inputs", requested(0))
    parent = int(np.flatnonzero(inputs["count"] > 1)[0])
    child = int(inputs["first"][parent])
    sibling = int(inputs["next"][child])

    def refused(name: str, at: int, value: int, message: str) -> None:
        altered = inputs[name].copy()
        altered[at] = value
        with pytest.raises(ValueError, match=message):
            native.evaluate("match", inputs | {name: altered})

    refused("next", sibling, child, f"node {child} is in two places")
    refused("first", parent, 200, "there is no node 200")
    refused("first", parent, forests.NONE, f"node {parent} has 0 children")
    refused("next", child, parent, f"node {parent} is in two places")
    with pytest.raises(ValueError, match="64 nodes hang on no root"):
        native.evaluate("match", inputs | {"roots": inputs["roots"][1:]})
    with pytest.raises(ValueError, match="differ in length"):
        native.evaluate("match", inputs | {"value": inputs["value"][1:]})
    with pytest.raises(ValueError, match="pattern_flags"):
        native.evaluate("match", {k: v for k, v in inputs.items() if k != "pattern_flags"})
    with pytest.raises(ValueError, match="seed"):
        native.evaluate("match_inputs", requested(0) | {"seed": np.array([1], np.uint64)})
