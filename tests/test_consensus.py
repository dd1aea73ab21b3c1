"""Consensus: the native backend against the NumPy reference, and both against known answers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from swarmbench import _native
from swarmbench.components.base import Arrays, same_arrays
from swarmbench.components.consensus import CLASSES, Consensus
from swarmbench.components.zipf import zipf_table

MIXES = ("uniform", "zipf", "same", "byzantine", "duplicates")
#: One partition; several of many proposals; one proposal each.
SIZES: dict[str, dict[str, Any]] = {
    "default": {},
    "one vote": {"batch": 1, "agents": 1, "proposals": 1, "values": 1},
    "large": {"batch": 70_000, "agents": 300, "proposals": 1000, "values": 7},
    "wide": {"batch": 50_000, "agents": 150_001, "proposals": 3, "values": 65_535, "groups": 1},
    "many counters": {"batch": 20_000, "agents": 9, "proposals": 1000, "values": 300},
}
KEYS = (0, 1, 12_345, 7 << 48 | 1_234_567_890, (1 << 64) - 1)
SEED = 20240607
FIELDS = ("agent", "proposal", "value", "flags", "round")


def answers(component: Consensus, op: str, inputs: Arrays) -> Arrays:
    return component.prepare(seed=SEED).native.evaluate(op, inputs)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("mix", MIXES)
def test_votes_are_those_of_the_reference_bit_for_bit(mix: Any, size: dict[str, Any]) -> None:
    component = Consensus(mix=mix, **size)
    native = component.prepare(seed=SEED).native
    for key in KEYS:
        inputs = component.inputs("generate", SEED, key)
        expected = component.reference("generate", inputs)
        found = native.evaluate("generate", inputs)
        assert same_arrays(found, expected)
        for name in expected:
            assert not same_arrays(found, expected | {name: expected[name] ^ 1})


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("op", ["decide", "tally"])
def test_decisions_are_those_of_the_reference(op: str, mix: Any, size: dict[str, Any]) -> None:
    component = Consensus(mix=mix, stored_votes=20_000, **size)
    inputs = component.inputs(op, SEED, 77)
    expected = component.reference(op, inputs)
    found = answers(component, op, inputs)
    assert same_arrays(found, expected)
    for name in expected:
        tampered = expected[name].copy()
        tampered[-1] ^= 1
        assert not same_arrays(found, expected | {name: tampered})


def test_tampered_lost_and_doubled_votes_change_the_answer() -> None:
    component = Consensus(agreement=1.0)
    inputs = component.inputs("decide", SEED, 3)
    expected = component.reference("decide", inputs)
    for name in FIELDS:
        tampered = inputs[name].copy()
        tampered[10] ^= np.array(1 << 15, dtype=tampered.dtype)
        assert not same_arrays(answers(component, "decide", inputs | {name: tampered}), expected)
    lost = inputs | {name: inputs[name][1:] for name in FIELDS}
    doubled = inputs | {name: np.append(inputs[name], inputs[name][:1]) for name in FIELDS}
    for altered in (lost, doubled):
        assert not same_arrays(answers(component, "decide", altered), expected)


@pytest.mark.parametrize("mix", MIXES)
def test_every_class_is_counted_and_order_does_not_matter(mix: Any) -> None:
    component = Consensus(mix=mix, batch=5000, agents=100, proposals=16)
    inputs = component.inputs("decide", SEED, 9)
    generator = np.random.default_rng(1)
    for name in FIELDS:
        struck = generator.integers(0, 5000, 100)
        inputs[name][struck] ^= generator.integers(0, 1 << 16, 100).astype(inputs[name].dtype)
    found = answers(component, "decide", inputs)
    assert same_arrays(found, component.reference("decide", inputs))
    assert found["classes"].sum() == component.batch
    assert np.count_nonzero(found["classes"]) == len(CLASSES)
    order = generator.permutation(component.batch)
    shuffled = inputs | {name: inputs[name][order] for name in FIELDS}
    assert same_arrays(answers(component, "decide", shuffled), found)


def test_the_honest_majority_decides_until_more_than_f_are_faulty() -> None:
    sizes: dict[str, Any] = {"batch": 4000, "agents": 31, "proposals": 8, "agreement": 1.0}
    component = Consensus(mix="byzantine", **sizes)
    assert (component.tolerated, component.quorum) == (10, 21)
    found = answers(component, "decide", component.inputs("decide", SEED, 4))
    assert (found["decision"] >= 0).all()
    overrun = Consensus(mix="byzantine", byzantine=0.5, **sizes)
    found = answers(overrun, "decide", overrun.inputs("decide", SEED, 4))
    assert (found["evidence"] > overrun.tolerated).all()
    assert (found["decision"] == -1).all()


@pytest.mark.parametrize("agents", [1, 3, 16, 1001, 5000])
def test_the_leader_is_the_candidate_with_the_highest_score(agents: int) -> None:
    component = Consensus(agents=agents)
    inputs = component.inputs("elect", SEED, 5)
    expected = component.reference("elect", inputs)
    found = answers(component, "elect", inputs)
    assert same_arrays(found, expected)
    assert not same_arrays(found, expected | {"leader": expected["leader"] + np.uint32(1)})
    tied = {"agent": inputs["agent"], "score": np.full(agents, 9, np.uint32)}
    assert answers(component, "elect", tied)["leader"][0] == inputs["agent"].max()


@pytest.mark.parametrize("op", ["decide", "tally", "generate", "elect"])
@pytest.mark.parametrize("mix", MIXES)
def test_running_finds_no_violation_and_counts_its_work(op: str, mix: Any) -> None:
    component = Consensus(mix=mix, oracle_every=2, stored_votes=1000)
    native = component.prepare(seed=SEED).native
    result = native.run(op, first_key=0, count=50, threads=2, verify=True)
    assert (result["ok"], result["verified"], result["violations"]) == (100, 100, 0)
    units = {"tally": component.stored_votes, "elect": component.agents}
    assert result["units"] == 100 * units.get(op, component.batch)
    counters = dict(native.counters())
    assert result["verify_ns"] > 0
    assert 0 < counters["oracle_checks"] < 100
    if op in ("decide", "tally"):
        assert sum(counters[name] for name in CLASSES) == result["units"]
        assert counters["decisions"] + counters["undecided"] == 100 * component.proposals
    assert counters["elections"] == (100 if op == "elect" else 0)


def test_a_batch_of_sixteen_million_votes_is_decided_and_checked() -> None:
    component = Consensus(
        batch=1 << 24, agents=4096, proposals=2048, stored_votes=1, oracle_every=1, groups=16
    )
    result = component.prepare(seed=SEED).native.run("decide", verify=True)
    assert (result["units"], result["verified"], result["violations"]) == (1 << 24, 1, 0)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_the_memory_formula_is_that_of_the_backend(size: dict[str, Any]) -> None:
    for mix in MIXES:
        component = Consensus(mix=mix, **size)
        native = component.prepare(seed=SEED).native
        for workers in (0, 1, 3):
            assert component.resident_bytes(workers) == native.resident_bytes(workers)


def test_sizes_are_fitted_to_a_budget_and_it_is_said() -> None:
    component = Consensus(batch=1 << 24, agents=1 << 17, proposals=1024, stored_votes=1 << 20)
    fitted, changes = component.fitted(64 << 20, workers=2)
    assert fitted.resident_bytes(2) <= 64 << 20 < component.resident_bytes(2)
    assert any(line.startswith("consensus.batch: 16777216 -> ") for line in changes)
    assert Consensus().fitted(64 << 20, workers=2) == (Consensus(), [])


def test_parameters_have_the_same_bounds_on_both_sides() -> None:
    plain = json.loads(Consensus().model_dump_json())
    wrong: list[dict[str, Any]] = [
        {"batch": 0}, {"batch": (1 << 24) + 1}, {"agents": 0}, {"agents": (1 << 20) + 1},
        {"proposals": 0}, {"proposals": (1 << 16) + 1}, {"values": 0}, {"values": 65_536},
        {"groups": 0}, {"groups": 4097}, {"mix": "none"}, {"agreement": 1.1},
        {"byzantine": -0.1}, {"duplicates": 1.0}, {"stored_votes": 0},
        {"stored_votes": (1 << 26) + 1}, {"oracle_every": 0}, {"oracle_every": (1 << 16) + 1},
        {"proposals": 1 << 16, "values": 257}, {"voters": 5},
    ]  # fmt: skip
    for change in wrong:
        named = change.get("mix", "values" if "values" in change else next(iter(change)))
        with pytest.raises(ValidationError, match=next(iter(change))):
            Consensus(**change)
        with pytest.raises(ValueError, match=named):
            _native.Component("consensus", json.dumps(plain | change), seed=1)
    _native.Component("consensus", json.dumps(plain), seed=1)


def test_inputs_that_do_not_fit_are_refused_by_name() -> None:
    component = Consensus()
    inputs = component.inputs("decide", SEED, 0)
    with pytest.raises(ValueError, match="value"):
        answers(component, "decide", {k: v for k, v in inputs.items() if k != "value"})
    with pytest.raises(ValueError, match="length"):
        answers(component, "decide", inputs | {"round": inputs["round"][1:]})
    with pytest.raises(ValueError, match="seed"):
        answers(component, "generate", component.inputs("generate", SEED + 1, 0))
    nobody = np.zeros(0, np.uint32)
    with pytest.raises(ValueError, match="candidate"):
        answers(component, "elect", {"agent": nobody, "score": nobody})


def test_the_zipf_table_is_an_exact_distribution() -> None:
    for ranks in (1, 2, 1000):
        threshold, alias = zipf_table(ranks)
        mass = np.zeros(ranks)
        np.add.at(mass, np.arange(ranks), threshold / 2**32)
        np.add.at(mass, alias.astype(np.int64), 1 - threshold / 2**32)
        law = np.arange(1, ranks + 1) ** -1.1
        np.testing.assert_allclose(mass / ranks, law / law.sum(), rtol=1e-6, atol=1e-9)
