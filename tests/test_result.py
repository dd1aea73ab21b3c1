"""The assembly of a result from a whole run on simulated machines and on the simulated engine."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from goldens import swarmbench
from simulated import Pool, SimulatedDriver
from swarmbench import _native
from swarmbench.analysis.combine import Stretch
from swarmbench.analysis.result import Capacity, ComponentFacts, Facts, assemble, percentiles
from swarmbench.engine import EngineDriver, Track
from swarmbench.errors import Status
from swarmbench.measured import Dispersion, Interval, Load, Resources
from swarmbench.outcome import Outcome
from swarmbench.plan import PHASES, Phases
from swarmbench.scenarios.max_throughput import Settings, run
from swarmbench.schema import RESULT_SCHEMA, Result, json_schema

NAMES = ("consensus", "streaming", "knowledge_graph")
FACTS = Facts(
    run_id="20260101T000000Z_max-throughput_abcdef",
    name=None,
    scenario="max-throughput",
    backend="cpu",
    backend_reason="as asked",
    device=None,
    seed=1,
    profile="quick",
    started=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    duration_s=60.0,
    production_scale=1.0,
    components={name: ComponentFacts(Capacity("ops", 1e6)) for name in NAMES},
)


class NoMeter:
    """A machine without readings."""

    def start(self) -> None: ...
    def read(self) -> Resources:
        return Resources()


class NoListener:
    """Nobody is told; the load is never lowered."""

    def begun(self, phase: str, load: Load, start_s: float, duration_s: float) -> None: ...
    def tick(self, phase: str, elapsed_s: float, intervals: Sequence[Interval]) -> float:
        return 1.0

    def ended(self, stretch: object) -> None: ...
    def event(self, at_s: float, kind: str, fields: object) -> None: ...


def on_engine(
    service_s: dict[str, float],
    rate: float,
    seed: int,
    phases: Phases = PHASES["quick"],
    servers: int = 2,
) -> tuple[Outcome, list[Stretch]]:
    """The scenario on the engine itself, in virtual time."""
    workloads = [
        _native.SimulatedWorkload(rate=rate, service_ns=s * 1e9) for s in service_s.values()
    ]
    engine = _native.Engine.simulated(workloads, seed=seed, servers=servers)
    tracks = [Track(name, ("one",), 8) for name in service_s]
    driver = EngineDriver(engine, tracks, workers=servers, meter=NoMeter(), listener=NoListener())
    outcome = run(driver, Settings.of(phases))
    driver.finish()
    return outcome, list(driver.stretches)


def on_pool(seed: int) -> Result:
    service = {"consensus": 0.002, "streaming": 0.012, "knowledge_graph": 0.0025}
    rates = {"consensus": 60.0, "streaming": 40.0, "knowledge_graph": 50.0}
    driver = SimulatedDriver(Pool(2, service), rates, seed)
    outcome = run(driver, Settings.of(PHASES["quick"]))
    return assemble(FACTS, outcome, driver.stretches)


def test_a_result_is_valid_by_its_published_schema() -> None:
    found = on_pool(1).to_json()

    jsonschema.validate(json.loads(json.dumps(found)), json_schema(RESULT_SCHEMA))
    assert [p["name"] for p in found["phases"]] == ["ramp_up", "sustained", "search", "recovery"]
    assert {c["metric"] for c in found["criteria"]} == {
        "breaking_point",
        "recovery_time",
        "data_consistency",
    }


def test_the_break_and_what_judged_it_are_in_the_result() -> None:
    found = on_pool(3)

    assert found.breaking_point is not None
    assert found.breaking_point.first_component == "streaming"
    assert found.breaking_point.interval[0] is not None
    assert len(found.breaking_point.probes) > 5
    assert any(note.startswith("consensus: latency judged by p") for note in found.notes)
    assert Status.WRONG_RESULT not in found.statuses()


def test_a_goodput_above_its_roof_is_our_mistake_and_not_believed() -> None:
    rates = dict.fromkeys(NAMES, 50.0)
    driver = SimulatedDriver(Pool(2, dict.fromkeys(NAMES, 0.002)), rates, 1)
    outcome = run(driver, Settings.of(PHASES["quick"]))
    facts = {
        name: ComponentFacts(Capacity("ops", 1.0 if name == "streaming" else 1e9)) for name in NAMES
    }

    found = assemble(replace(FACTS, components=facts), outcome, driver.stretches)

    assert found.verdict == "untrusted"
    assert len(found.trust.reasons) == 4
    assert all("roof: streaming in" in reason for reason in found.trust.reasons)


@pytest.mark.parametrize("slowed", NAMES)
def test_the_simulated_engine_names_the_slowed_component_in_nine_of_ten_seeds(slowed: str) -> None:
    named = []
    for seed in range(10):
        service = {name: 0.008 if name == slowed else 0.002 for name in NAMES}
        outcome, stretches = on_engine(service, 50.0, seed)
        point = assemble(FACTS, outcome, stretches).breaking_point
        named.append(None if point is None else point.first_component)

    assert named.count(slowed) >= 9


def test_forty_simulated_minutes_find_the_knee_of_mm1_and_keep_littles_law() -> None:
    truth, rate = 4.2, 200.0
    service = {"consensus": 1.0 / (rate * (2.0 * truth - 1.0))}

    outcome, stretches = on_engine(service, rate, 1, PHASES["full"], servers=1)
    found = assemble(FACTS, outcome, stretches)

    assert outcome.knee.multiplier == pytest.approx(truth, rel=0.05)
    assert found.trust.reasons == []
    for phase in found.phases:
        error = phase.components["consensus"].littles_law_error
        assert error == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("profile", ["quick", "standard"])
def test_the_command_finds_the_knee_of_mm1_in_nine_of_ten_seeds(
    profile: str, tmp_path: Path
) -> None:
    words = ("max-throughput", "--simulate", "mm1:knee=4.2", "--profile", profile, "--json")
    beside = ("--allow-concurrent", "--out", str(tmp_path))
    found = []
    for seed in range(10):
        ended = swarmbench(*words, *beside, "--seed", str(seed))
        found.append(json.loads(ended.stdout)["breaking_point"]["multiplier"])

    assert sum(abs(knee / 4.2 - 1.0) <= 0.05 for knee in found) >= 9, found


def test_intervals_are_told_where_the_load_was_constant_and_nowhere_else() -> None:
    outcome, stretches = on_engine({"consensus": 0.002}, 200.0, 1, servers=1)
    phases = {phase.name: phase for phase in assemble(FACTS, outcome, stretches).phases}

    for name in ("ramp_up", "search"):
        assert phases[name].components["consensus"].response_ns.interval_95 is None
    found = phases["sustained"].components["consensus"]
    for kind in (found.response_ns, found.service_ns, found.operations["one"].response_ns):
        assert kind.interval_95 is not None
        for percentile in ("p50", "p90", "p99"):
            low, high = getattr(kind.interval_95, percentile)
            assert low <= getattr(kind, percentile) <= high < 1.2 * low
    assert found.response_ns.precise in ("p50", "p90")


@pytest.mark.parametrize("count", [9_990, 10_000])
def test_a_percentile_without_ten_samples_beyond_it_is_null_and_so_is_its_interval(
    count: int,
) -> None:
    spreads = {p: Dispersion(1.0, 32, settled=True) for p in (50.0, 90.0, 99.0, 99.9)}
    found = percentiles(_native.Histogram.from_values(np.arange(1, count + 1)), spreads)

    assert found.interval_95 is not None
    assert (found.p99_9 is None) == (count < 10_000)
    assert (found.interval_95.p99_9 is None) == (count < 10_000)
    assert (found.p99, found.interval_95.p99) != (None, None)
    assert found.precise == ("p99" if count >= 10_000 else "p90")


@pytest.mark.parametrize("drift_per_hour", [0.0, 200.0])
def test_the_sustained_phase_is_called_stationary_where_nothing_moves_in_it(
    drift_per_hour: float,
) -> None:
    workload = _native.SimulatedWorkload(rate=100.0, service_ns=1e6, service="exponential")
    engine = _native.Engine.simulated([workload], seed=1, servers=1, drift_per_hour=drift_per_hour)
    tracks = [Track("consensus", ("one",), 8)]
    driver = EngineDriver(engine, tracks, workers=1, meter=NoMeter(), listener=NoListener())
    outcome = run(driver, Settings.of(PHASES["quick"]))
    driver.finish()
    found = assemble(FACTS, outcome, driver.stretches)

    verdicts = {phase.name: phase.stationary for phase in found.phases}
    said = [note for note in found.notes if note.startswith("sustained was not stationary: ")]
    assert verdicts.pop("sustained") == (drift_per_hour == 0.0)
    assert set(verdicts.values()) == {None}
    assert len(said) == (0 if drift_per_hour == 0.0 else 2)
