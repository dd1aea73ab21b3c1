"""The named culprit, proved by planting: a slowed component, a resource taken away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulated import Pool, SimulatedDriver, unbreakable
from swarmbench.analysis.breaking import (
    Crossing,
    backlog_crossing_s,
    cascade,
    culprit,
    latency_crossing_s,
)
from swarmbench.analysis.resources import limiting
from swarmbench.estimates import Quantile
from swarmbench.measured import Figures, Resources
from swarmbench.outcome import Limit, Outcome, Trace
from swarmbench.plan import PHASES
from swarmbench.scenarios.max_throughput import Settings, run

SERVICE_S = {"consensus": 0.002, "streaming": 0.003, "knowledge_graph": 0.0025}
RATES = {"consensus": 60.0, "streaming": 40.0, "knowledge_graph": 50.0}
QUICK = Settings.of(PHASES["quick"])


def outcome_with(slowed: str | None, seed: int, factor: float = 4.0) -> Outcome:
    service = {n: s * (factor if n == slowed else 1.0) for n, s in SERVICE_S.items()}
    return run(SimulatedDriver(Pool(2, service), RATES, seed), QUICK)


@pytest.mark.parametrize("slowed", SERVICE_S)
def test_slowing_a_component_makes_it_the_culprit_in_nine_of_ten_seeds(slowed: str) -> None:
    named = [culprit(outcome_with(slowed, seed)) for seed in range(10)]

    assert sum(found is not None and found.component == slowed for found in named) >= 9


def test_the_culprit_follows_the_planted_component_and_not_its_name() -> None:
    first = culprit(outcome_with("consensus", 3))
    second = culprit(outcome_with("streaming", 3))

    assert first is not None
    assert second is not None
    assert (first.component, second.component) == ("consensus", "streaming")
    assert first.demand_share > 0.5


def test_without_an_overloaded_stretch_the_fit_says_whose_objective_is_left_first() -> None:
    outcome = outcome_with("streaming", 3)
    calm = replace(outcome.baselines[-1], traces={})
    lowest = {"consensus": 0.8, "streaming": 0.15, "knowledge_graph": 0.05}
    knee = replace(outcome.knee, lowest=lowest)
    found = culprit(replace(outcome, knee=knee, probes=(), overload=calm))

    assert found is not None
    assert (found.component, found.hurt, found.lowest) == ("streaming", "consensus", 0.8)


def test_nothing_broken_has_no_culprit() -> None:
    driver = SimulatedDriver(unbreakable, RATES, 1)

    assert culprit(run(driver, QUICK)) is None


def test_the_cascade_names_who_followed_and_how_much_later() -> None:
    stretches = [
        [Crossing("a", 0.4, True, 1.0), Crossing("b", 1.0, False, 1.0)],
        [Crossing("a", 0.2, True, 1.0), Crossing("b", 1.2, True, 1.0)],
        [Crossing("a", 0.2, True, 1.0), Crossing("c", 2.0, True, 1.0)],
    ]

    followed = cascade("a", stretches)

    assert [(f.component, round(f.after_s, 3), f.seen) for f in followed] == [
        ("b", 0.8, 2),
        ("c", 1.8, 1),
    ]


def trace(over: list[int], outstanding: list[int]) -> Trace:
    ends = tuple(0.1 * (i + 1) for i in range(len(over)))
    completed = tuple(20 for _ in over)
    return Trace("a", ends, completed, completed, tuple(over), tuple(outstanding), (), ())


def test_a_crossing_is_where_the_responses_began_to_exceed_the_limit() -> None:
    limit = Limit("a", Quantile(90.0, 100, 90, 110, 0.05, 1000), 200)
    calm, broken = [2, 1, 3, 0, 2] * 4, [20] * 10

    assert latency_crossing_s(trace(calm, [0] * 20), limit) is None
    assert latency_crossing_s(trace(calm + broken, [0] * 30), limit) == pytest.approx(2.0, abs=0.1)


def test_a_backlog_crosses_where_it_exceeds_what_chance_explains() -> None:
    calm = [3, 5, 2, 4, 1] * 4
    growing = [10 * n for n in range(20)]

    assert backlog_crossing_s(trace([0] * 20, calm)) is None
    assert backlog_crossing_s(trace([0] * 20, growing)) == pytest.approx(0.9, abs=0.3)


class Stretch:
    """A failing stretch with readings of its own."""

    def __init__(self, resources: Resources, components: dict[str, Figures]) -> None:
        self.resources = resources
        self.components = components


HOGS = {
    "cpu_foreign": {"cpu_foreign": 0.4, "compute_slowdown": 1.3, "memory_slowdown": 1.35},
    "memory_bandwidth": {"memory_slowdown": 2.3, "cpu_foreign": 0.08},
    "disk": {"disk_pressure": 0.5, "cpu_foreign": 0.05},
    "memory": {"memory_pressure": 0.3, "disk_pressure": 0.08},
    "cpu": {},
}


def readings(rng: np.random.Generator, hog: dict[str, float]) -> Resources:
    """A saturated machine at its ordinary noise, with the hog's readings at theirs."""
    usual = {
        "cpu_busy": 0.97,
        "cpu_foreign": 0.03,
        "workers_busy": 0.96,
        "run_delay": 0.05,
        "steal": 0.01,
        "memory_slowdown": 1.15,
        "compute_slowdown": 1.1,
        "disk_pressure": 0.02,
        "memory_pressure": 0.0,
    }
    noisy = {n: v * float(rng.lognormal(0.0, 0.08)) for n, v in (usual | hog).items()}
    shares = {n: min(1.0, v) for n, v in noisy.items() if not n.endswith("slowdown")}
    return Resources(**(noisy | shares))


@pytest.mark.parametrize("resource", HOGS)
def test_a_hog_on_one_resource_is_named_in_nine_of_ten_seeds(resource: str) -> None:
    named = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        found = limiting([Stretch(readings(rng, HOGS[resource]), {}) for _ in range(3)])
        named.append(found.resource if found is not None else None)

    assert named.count(resource) >= 9


def test_idle_workers_that_reject_name_the_bound_and_busy_workers_on_idle_cores_too_few() -> None:
    figures = outcome_with(None, 1).sustained.components["consensus"]
    refused = replace(figures, rejected=figures.scheduled // 10)
    idle = Resources(cpu_busy=0.3, workers_busy=0.2)
    saturated = Resources(cpu_busy=0.5, workers_busy=0.99)

    bound = limiting([Stretch(idle, {"consensus": refused})])
    few = limiting([Stretch(saturated, {"consensus": figures})])

    assert bound is not None
    assert few is not None
    assert (bound.resource, few.resource) == ("in_flight", "workers")
    assert limiting([Stretch(idle, {"consensus": figures})]) is None
