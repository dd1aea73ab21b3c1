"""Every component, op and backend against the one reference, and each check seen to fail."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest

from goldens import GOLDEN, small_components
from swarmbench import _native
from swarmbench.components import COMPONENTS, Component
from swarmbench.components.base import Arrays, agree, same_arrays
from swarmbench.components.prepared import BACKENDS, Prepared

SEED = 20240607
KEYS = (0, 1, 12_345, 7 << 48 | 1_234_567)
#: Operations of a run; more than any component leaves unchecked in a row.
RUN_OPS = 64
FRESH_PAGES_MAX = 64

names = pytest.mark.parametrize("name", COMPONENTS)
#: `cuda` is in test_cuda.py.
backends = pytest.mark.parametrize("backend", [each for each in BACKENDS if each != "cuda"])
every_op = pytest.mark.parametrize(
    ("name", "op"), [(name, op.name) for name, kind in COMPONENTS.items() for op in kind.ops]
)


@cache
def small(name: str) -> Component:
    return COMPONENTS[name].small()


@cache
def prepared(name: str, backend: str) -> Prepared:
    return small(name).prepare(backend=backend, seed=SEED, threads=2)


@cache
def inputs_of(name: str, op: str, key: int) -> Arrays:
    """The inputs of an operation: one copy, read-only, for the reference and for every backend."""
    inputs = small(name).inputs(op, SEED, key)
    for array in inputs.values():
        array.flags.writeable = False
    return inputs


@cache
def right_answer(name: str, op: str, key: int) -> Arrays:
    return small(name).reference(op, inputs_of(name, op, key))


def tampered(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same array with one bit of its last byte but the lowest ones of a float flipped."""
    changed = np.array(array)
    changed.view(np.uint8)[-1] ^= 0x40
    return changed


@backends
@every_op
def test_a_backend_gives_the_answers_of_the_reference(name: str, op: str, backend: str) -> None:
    component, native = small(name), prepared(name, backend).native
    for key in KEYS:
        right = right_answer(name, op, key)
        found = native.evaluate(op, dict(inputs_of(name, op, key)))
        assert agree(found, right, component.tolerance), f"{name} {op} {key}"
        for part, array in found.items():
            if array.size:
                assert not agree(found | {part: tampered(array)}, right, component.tolerance)
            assert not agree(found | {part: array[:-1]}, right, component.tolerance) or not len(
                array
            )


@every_op
def test_inputs_follow_from_seed_op_and_key_alone(name: str, op: str) -> None:
    for key in KEYS[:2]:
        again = COMPONENTS[name].small().inputs(op, SEED, key)
        assert same_arrays(again, inputs_of(name, op, key))


@names
@backends
def test_a_backend_has_the_ops_in_the_order_of_the_table(name: str, backend: str) -> None:
    component = small(name)
    assert prepared(name, backend).native.ops() == [op.name for op in component.ops]
    assert set(component.weights) <= {op.name for op in component.ops}
    assert component.main_op in component.weights


@names
@backends
def test_what_a_component_says_of_itself_is_json(name: str, backend: str) -> None:
    native = prepared(name, backend).native
    assert isinstance(json.loads(native.describe()), dict)
    assert all(value >= 0 for value in dict(native.counters()).values())


@backends
@every_op
def test_a_run_is_right_in_full_and_counts_every_operation(
    name: str, op: str, backend: str
) -> None:
    found = prepared(name, backend).run(op=op, batches=RUN_OPS, threads=2)
    assert (found.ops, found.errors, found.rejected) == (2 * RUN_OPS, 0, 0)
    assert found.units >= found.ops
    assert found.violations == 0
    assert found.verified > 0
    assert found.busy_ns > 0
    assert found.ns_per_op > 0
    assert (found.verify_ns > 0) == (found.verified > 0)
    unchecked = prepared(name, backend).run(op=op, batches=2, verify=False)
    assert (unchecked.verified, unchecked.verify_ns) == (0, 0)


@backends
@every_op
def test_a_prepared_op_touches_no_fresh_page(name: str, op: str, backend: str) -> None:
    """Besides a bound of its own: the stack, code that was never run, a codec's tables."""
    native = prepared(name, backend).native
    if op in small(name).allocating_ops:
        assert native.run(op, count=RUN_OPS, verify=False)["ok"] == RUN_OPS
        return
    found = native.run(op, count=4 * RUN_OPS, verify=False)
    assert found["page_faults"] <= FRESH_PAGES_MAX


def test_what_the_native_tests_build_is_what_is_defined_here() -> None:
    golden = (GOLDEN / "small.json").read_text(encoding="utf-8")
    assert golden == small_components(), "run `python tests/goldens.py`"
    for name, kind in COMPONENTS.items():
        assert kind.allocating_ops <= {op.name for op in kind.ops}, name


@names
@backends
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_backend_has_the_same_formula_of_its_memory(
    name: str, backend: str, workers: int
) -> None:
    found = prepared(name, backend).native.resident_bytes(workers)
    assert found == small(name).resident_bytes(workers)


def test_agreement_sees_what_differs_and_bears_what_is_stated() -> None:
    right = {"x": np.array([1.0, -100.0], np.float32), "n": np.array([3], np.int32)}
    assert agree(dict(right), right, 0.0)
    near = right | {"x": np.array([1.0005, -100.05], np.float32)}
    assert agree(near, right, 1e-3)
    assert not agree(near, right, 1e-4)
    assert not agree(near, right, 0.0)
    assert not agree(right | {"x": np.array([np.nan, -100.0], np.float32)}, right, 1e-3)
    assert not agree(right | {"n": np.array([4], np.int32)}, right, 1.0)
    assert not agree(right | {"n": np.array([3], np.int64)}, right, 1.0)
    assert not agree({"x": right["x"]}, right, 1.0)


@backends
@pytest.mark.parametrize("fault", _native.fault_names())
@every_op
def test_a_damaged_answer_is_a_violation_wherever_it_is_checked(
    name: str, op: str, fault: str, backend: str
) -> None:
    """`null` has no answer that could be damaged; a flipped bit fits every other op's."""
    native = prepared(name, backend).native
    found = native.run(op, count=RUN_OPS, threads=2, fault=fault)
    assert found["ok"] == 2 * RUN_OPS
    if found["planted"] == 0:
        assert name == "null" or fault != "flipped_bit", f"nothing was damaged in {name} {op}"
        return
    assert found["violations"] > 0
    for key in KEYS:
        one = native.run(op, first_key=key, fault=fault)
        assert one["violations"] > 0 or not one["planted"] or not one["verified"], f"key {key}"
    assert native.run(op, count=RUN_OPS)["violations"] == 0
