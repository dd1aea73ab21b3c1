"""Findings name a component, a resource, a stretch and their own numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulated import Pool, SimulatedDriver
from swarmbench.analysis.bottlenecks import bottlenecks, limiting_resource, rejections
from swarmbench.analysis.breaking import culprit
from swarmbench.analysis.combine import Phase, phases_of
from swarmbench.analysis.recovery import Recovery, recovery
from swarmbench.measured import Resources
from swarmbench.outcome import Outcome
from swarmbench.plan import PHASES
from swarmbench.scenarios.max_throughput import Settings, run
from swarmbench.schema import Bottleneck

SERVICE_S = {"consensus": 0.002, "streaming": 0.012, "knowledge_graph": 0.0025}
RATES = {"consensus": 60.0, "streaming": 40.0, "knowledge_graph": 50.0}
#: Bounds of the engine that no phase comes near.
ADMITTED = dict.fromkeys(RATES, 1 << 20)


def resources(multiplier: float) -> Resources:
    busy = min(1.0, 0.4 * multiplier)
    return Resources(cpu_busy=busy, cpu_foreign=0.02, workers_busy=busy)


@pytest.fixture(scope="module")
def found() -> tuple[Outcome, list[Phase]]:
    driver = SimulatedDriver(Pool(2, SERVICE_S), RATES, 3, resources=resources)
    outcome = run(driver, Settings.of(PHASES["quick"]))
    return outcome, phases_of(driver.stretches)


def findings(found: tuple[Outcome, list[Phase]], back: Recovery | None = None) -> list[Bottleneck]:
    outcome, phases = found
    own = recovery(outcome.calm, outcome.limits, outcome.recovery.duration_s)
    pressure = limiting_resource(outcome)
    return bottlenecks(outcome, phases, culprit(outcome), pressure, back or own, ADMITTED)


def test_the_break_is_named_with_its_component_and_the_numbers_behind_it(
    found: tuple[Outcome, list[Phase]],
) -> None:
    outcome, _ = found
    outcome = replace(outcome, probes=tuple(_saturated(outcome)))

    first = findings((outcome, found[1]))[0]

    assert (first.component, first.resource, first.phase) == ("streaming", "cpu", "search")
    assert first.measured > first.threshold
    assert f"{outcome.knee.multiplier:.3g}x" in first.evidence
    assert "of the worker time" in first.evidence


def _saturated(outcome: Outcome) -> list[object]:
    full = Resources(cpu_busy=0.98, workers_busy=0.97, cpu_foreign=0.02)
    return [replace(probe, resources=full) for probe in outcome.probes]


def test_a_component_that_holds_most_of_the_workers_is_a_finding(
    found: tuple[Outcome, list[Phase]],
) -> None:
    crowding = [f for f in findings(found) if f.phase == "sustained" and f.component]

    assert [f.component for f in crowding] == ["streaming"]
    assert "an equal share is 33%" in crowding[0].evidence


def test_rejections_name_their_bound(found: tuple[Outcome, list[Phase]]) -> None:
    sustained = next(p for p in found[1] if p.name == "sustained")
    figures = sustained.components["consensus"]
    refused = replace(figures, rejected=50, in_flight_max=64, queue_depth_max=8)

    lines = rejections(replace(sustained, components={"consensus": refused}), {"consensus": 64})

    assert [line.resource for line in lines] == ["in_flight"]
    assert "64 in flight and 8 queued" in lines[0].evidence
    assert "a higher `max_in_flight` or `queue`" in lines[0].evidence
    assert rejections(sustained, ADMITTED) == []


def test_who_turns_away_below_the_bound_does_it_by_itself_and_needs_room(
    found: tuple[Outcome, list[Phase]],
) -> None:
    sustained = next(p for p in found[1] if p.name == "sustained")
    figures = sustained.components["consensus"]
    refused = replace(figures, rejected=50, in_flight_max=64, queue_depth_max=8)

    (line,) = rejections(replace(sustained, components={"consensus": refused}), {"consensus": 65})

    assert (line.resource, line.component) == ("budget", "consensus")
    assert f"50 of {figures.scheduled} rejected by itself" in line.evidence
    assert line.evidence.endswith(
        "Would help: room by `--memory-budget`, or lower `workloads.consensus.params`"
    )


def test_a_component_that_is_not_back_is_a_finding(found: tuple[Outcome, list[Phase]]) -> None:
    back = Recovery(None, True, {"consensus": None, "streaming": 1.0}, 8.0)

    late = [f for f in findings(found, back) if f.resource == "recovery"]

    assert [f.component for f in late] == ["consensus"]
    assert "8 s after the overload ended" in late[0].evidence
