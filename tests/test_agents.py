"""Agents: the native backend against the NumPy reference, and each line of what must hold."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from swarmbench import _native
from swarmbench.components import populations
from swarmbench.components.agents import Agents
from swarmbench.components.base import Arrays, same_arrays
from swarmbench.components.populations import CREATED, PAUSED, RUNNING, STOPPED

SEED = 20240607
KEYS = (0, 1, 12_345, 7 << 48 | 1_234_567, (1 << 64) - 1)
SHAPES: dict[str, dict[str, Any]] = {
    "default": {},
    "smallest": {"population_min": 1, "population_max": 1, "swarms": 1},
    "in batches": {"population_min": 300, "population_max": 400, "swarms": 2, "batch": 100},
    "many cells": {"population_min": 900, "population_max": 1000, "swarms": 1, "batch": 30},
}
SLAB_OPS = ("spawn", "destroy", "destroy_oldest", "step", "tick")
OPS = (*SLAB_OPS, "process")

shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def built(**parameters: Any) -> tuple[Agents, _native.Component]:
    component = Agents(**parameters)
    return component, component.prepare(seed=SEED).native


def after(native: _native.Component, op: str, swarm: Arrays, key: int) -> Arrays:
    given = {"key": np.array([key], np.uint64), "seed": np.array([SEED], np.uint64)}
    return native.evaluate(op, swarm | given)


@shapes
@pytest.mark.parametrize("op", OPS)
def test_answers_are_those_of_the_reference_bit_for_bit(op: str, shape: dict[str, Any]) -> None:
    component, native = built(**shape)
    for key in KEYS:
        inputs = component.inputs(op, SEED, key)
        expected = component.reference(op, inputs)
        found = native.evaluate(op, inputs)
        assert found.keys() == expected.keys()
        assert same_arrays(found, expected)
        for name in expected:
            if len(expected[name]):
                tampered = expected[name].copy()
                tampered[-1] ^= 1
                assert not same_arrays(found, expected | {name: tampered})


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(SLAB_OPS), st.integers(0, (1 << 64) - 1)), max_size=30),
    st.sampled_from(sorted(SHAPES)),
)
def test_any_sequence_of_operations_is_that_of_the_reference(
    sequence: list[tuple[str, int]], shape: str
) -> None:
    component, native = built(**SHAPES[shape])
    swarm = populations.synthetic(component.shape(SEED), 2)
    spawned, live_before = set(), len(swarm["order"])
    births = deaths = 0
    for op, key in sequence:
        inputs = swarm | {"key": np.array([key], np.uint64), "seed": np.array([SEED], np.uint64)}
        expected = component.reference(op, inputs)
        found = native.evaluate(op, inputs)
        assert same_arrays(found, expected)
        if op == "spawn":
            assert spawned.isdisjoint(found["ids"].tolist())
            spawned.update(found["ids"].tolist())
        births += int((found["generation"] - swarm["generation"]).sum())
        swarm = {name: array for name, array in found.items() if name != "ids"}
        live = np.count_nonzero(swarm["state"] != STOPPED)
        assert live == len(set(swarm["order"].tolist())) == len(swarm["order"])
        deaths = live_before + births - live
        assert deaths >= 0
        assert component._least <= live <= component._most


@shapes
def test_a_step_steps_every_live_agent_once_and_by_legal_transitions(shape: Any) -> None:
    component, native = built(**shape)
    legal = {
        (CREATED, RUNNING), (CREATED, PAUSED), (RUNNING, RUNNING), (RUNNING, PAUSED),
        (PAUSED, RUNNING), (PAUSED, PAUSED), (STOPPED, STOPPED),
    }  # fmt: skip
    swarm = populations.synthetic(component.shape(SEED), 4)
    found = after(native, "step", swarm, 0)
    live = swarm["state"] != STOPPED
    assert np.array_equal(found["ticks"] - swarm["ticks"], live.astype(np.uint32))
    seen = set(zip(swarm["state"].tolist(), found["state"].tolist(), strict=True))
    assert seen <= legal
    again = after(native, "step", {k: v for k, v in found.items() if k != "ids"}, 0)
    assert np.array_equal(again["ticks"] - found["ticks"], live.astype(np.uint32))


def test_an_agent_goes_through_all_states_and_rests_before_it_goes_on() -> None:
    component, native = built(**SHAPES["smallest"])
    swarm = populations.synthetic(component.shape(SEED), 0)
    swarm = after(native, "spawn", after_without_ids(native, "drain", swarm), 9)
    slot = int(swarm["order"][0])
    states = [int(swarm["state"][slot])]
    for _ in range(1200):
        swarm = after_without_ids(native, "step", {k: v for k, v in swarm.items() if k != "ids"})
        states.append(int(swarm["state"][slot]))
    swarm = after_without_ids(native, "drain", swarm)
    states.append(int(swarm["state"][slot]))
    kinds = [state for at, state in enumerate(states) if at == 0 or states[at - 1] != state]
    assert kinds[:4] == [CREATED, RUNNING, PAUSED, RUNNING]
    assert kinds[-1] == STOPPED


def after_without_ids(native: _native.Component, op: str, swarm: Arrays) -> Arrays:
    found = after(native, op, swarm, 0)
    return {name: array for name, array in found.items() if name != "ids"}


def test_messages_are_read_once_and_none_is_lost() -> None:
    component, native = built(**SHAPES["in batches"])
    swarm = populations.synthetic(component.shape(SEED), 6)
    live = len(swarm["order"])
    swarm["inbox_even"][:] = 0
    heard = int(swarm["heard"].sum())
    for turn in range(1, 20):
        swarm = after_without_ids(native, "tick", swarm)
        unread = int((swarm["inbox_even"] + swarm["inbox_odd"] >> np.uint64(40)).sum())
        assert unread == live
        assert int(swarm["heard"].sum()) == heard + (turn - 1) * live


@pytest.mark.parametrize("oldest", [False, True])
def test_destroy_takes_the_oldest_where_asked_and_anybody_else(oldest: bool) -> None:
    component, native = built(**SHAPES["many cells"])
    swarm = populations.synthetic(component.shape(SEED), 8)
    op = "destroy_oldest" if oldest else "destroy"
    found = after(native, op, swarm, 5)
    ended = (found["ids"] & np.uint64((1 << 24) - 1)).astype(np.uint32)
    first = swarm["order"][: component.batch]
    assert np.array_equal(ended, first) == oldest
    assert len(set(ended.tolist())) == component.batch


def test_a_drain_leaves_every_slot_vacant_and_no_message_behind() -> None:
    component, native = built(**SHAPES["in batches"])
    swarm = after_without_ids(native, "drain", populations.synthetic(component.shape(SEED), 3))
    assert len(swarm["order"]) == 0
    assert set(swarm["state"].tolist()) == {STOPPED}
    assert not swarm["inbox_even"].any()
    assert not swarm["inbox_odd"].any()


@pytest.mark.parametrize("op", OPS)
def test_running_finds_no_violation_and_keeps_the_ledger(op: str) -> None:
    component, native = built(check_every=2)
    count = 4 if op == "process" else 60
    before = dict(native.counters())
    for other in ("spawn", op, "destroy", "tick", "step"):
        result = native.run(other, count=count, threads=2, verify=True)
        assert (result["ok"], result["errors"], result["violations"]) == (2 * count, 0, 0)
        assert result["verified"] >= count
    counters = dict(native.counters())
    assert counters["spawned"] - counters["destroyed"] == counters["live"]
    assert component.population_min <= counters["live"] <= component.population_max
    assert counters["stepped"] > before["stepped"]
    assert counters["messages_read"] + counters["messages_dead"] <= counters["messages_sent"]
    assert counters["swarms_checked"] > 0
    assert native.resident_bytes(2) == component.resident_bytes(2)


@pytest.mark.parametrize("fault", ["flipped_bit", "lost_result", "doubled_result"])
@pytest.mark.parametrize("op", OPS)
def test_every_planted_fault_is_seen_in_every_operation_that_is_checked(
    op: str, fault: str
) -> None:
    _, native = built(check_every=1)
    result = native.run(op, count=8, fault=fault)
    assert result["planted"] == result["violations"] >= 7
    assert native.run(op, first_key=8, count=8)["violations"] == 0


def test_the_controller_holds_the_band_whatever_is_asked_for() -> None:
    for op in ("spawn", "destroy", "destroy_oldest"):
        component, native = built(population_min=100, population_max=140, swarms=4)
        for first in range(0, 4000, 500):
            native.run(op, first_key=first, count=500)
            live = dict(native.counters())["live"]
            assert component.population_min <= live <= component.population_max


def test_five_births_for_three_ends_are_stationary_at_the_middle_of_the_band() -> None:
    component, native = built()
    target = component.swarms * component.shape(SEED).target
    for turn in range(400):
        native.run("spawn", first_key=turn * 50, count=50)
        native.run("destroy", first_key=1 << 40 | turn * 30, count=30)
    counters = dict(native.counters())
    assert abs(counters["live"] - target) < 0.1 * target
    ended = counters["destroyed"] - 12_000
    assert counters["expired"] == pytest.approx(0.4 * 20_000, rel=0.1)
    assert ended == counters["expired"]


def test_lifetimes_are_exponential_in_the_number_of_births() -> None:
    component, native = built(population_min=200, population_max=400, swarms=1)
    swarm = populations.synthetic(component.shape(SEED), 0)
    born: dict[int, int] = {}
    lives: Counter[int] = Counter()
    target, turns = component.shape(SEED).target, 3000
    for turn in range(turns):
        before = swarm["generation"].copy()
        live = swarm["state"] != STOPPED
        swarm = {k: v for k, v in after(native, "spawn", swarm, turn).items() if k != "ids"}
        for slot in np.flatnonzero(live & (swarm["state"] == STOPPED)).tolist():
            if slot in born:
                lives[min(3, 2 * (turn - born.pop(slot)) // target)] += 1
        # Those born later would be missed where they live long.
        if turn < turns // 2:
            for slot in np.flatnonzero(swarm["generation"] != before).tolist():
                born[slot] = turn
    total = sum(lives.values())
    assert total > 0.97 * turns // 2
    shares = [1 - np.exp(-0.5), np.exp(-0.5) - np.exp(-1), np.exp(-1) - np.exp(-1.5)]
    for part, share in enumerate(shares):
        assert lives[part] / total == pytest.approx(share, abs=0.04)


@shapes
def test_the_memory_formula_is_that_of_the_backend(shape: dict[str, Any]) -> None:
    component, native = built(**shape)
    for workers in (0, 1, 3):
        assert component.resident_bytes(workers) == native.resident_bytes(workers)


def test_sizes_are_fitted_to_a_budget_and_it_is_said() -> None:
    component = Agents(population_min=100_000, population_max=200_000, swarms=64)
    fitted, changes = component.fitted(2 << 20, workers=2)
    assert fitted.resident_bytes(2) <= 2 << 20 < component.resident_bytes(2)
    assert any(line.startswith("agents.swarms: 64 -> ") for line in changes)
    assert Agents(**fitted.model_dump()) == fitted
    assert Agents().fitted(2 << 20, workers=2) == (Agents(), [])
    smallest, _ = component.fitted(0, workers=2)
    assert smallest.population_max == smallest.swarms == smallest.batch == 1


def test_parameters_have_the_same_bounds_on_both_sides() -> None:
    plain = json.loads(Agents().model_dump_json())
    wrong: list[dict[str, Any]] = [
        {"population_min": 0}, {"population_min": (1 << 22) + 1}, {"population_max": 0},
        {"population_max": (1 << 22) + 1}, {"swarms": 0}, {"swarms": 2049}, {"batch": 0},
        {"batch": 4097}, {"check_every": 0}, {"check_every": (1 << 16) + 1},
        {"process_steps": 0}, {"process_steps": (1 << 24) + 1}, {"processes_max": 0},
        {"processes_max": 1025}, {"population_max": 999}, {"population_max": 1000, "swarms": 7},
        {"swarms": 1, "population_max": 8192}, {"agents": 5},
    ]  # fmt: skip
    for change in wrong:
        named = next(iter(change))
        with pytest.raises(ValidationError, match=named):
            Agents(**change)
        with pytest.raises(ValueError, match=named):
            _native.Component("agents", json.dumps(plain | change), seed=1)
    _native.Component("agents", json.dumps(plain), seed=1)


def test_swarms_that_do_not_fit_are_refused_by_name() -> None:
    component, native = built()
    swarm = populations.synthetic(component.shape(SEED), 0)
    live, vacant = int(swarm["order"][0]), int(np.flatnonzero(swarm["state"] == STOPPED)[0])
    wrong: list[tuple[str, Any]] = [
        ("x", lambda array: array.__setitem__(3, 1 << 20)),
        ("velocity_y", lambda array: array.__setitem__(3, 600)),
        ("energy", lambda array: array.__setitem__(3, -1)),
        ("state", lambda array: array.__setitem__(3, 4)),
        ("order", lambda array: array.__setitem__(0, array[1])),
        ("order", lambda array: array.__setitem__(0, 1 << 20)),
        ("generation", lambda array: array.__setitem__(3, 1 << 40)),
        ("inbox_odd", lambda array: array.__setitem__(live, 1 << 39)),
    ]
    for name, spoil in wrong:
        spoiled = {key: array.copy() for key, array in swarm.items()}
        spoil(spoiled[name])
        with pytest.raises(ValueError, match=name):
            after(native, "step", spoiled, 0)
    unnamed = swarm | {"order": swarm["order"][1:]}
    with pytest.raises(ValueError, match="order: does not name every agent"):
        after(native, "step", unnamed, 0)
    stopped = swarm | {"order": np.append(swarm["order"], np.uint32(vacant))}
    with pytest.raises(ValueError, match="is stopped"):
        after(native, "step", stopped, 0)
    with pytest.raises(ValueError, match="seed"):
        native.evaluate("step", component.inputs("step", SEED + 1, 0))
    with pytest.raises(ValueError, match="heard"):
        after(native, "step", {k: v for k, v in swarm.items() if k != "heard"}, 0)
    with pytest.raises(ValueError, match="no op `fly`"):
        after(native, "fly", swarm, 0)
