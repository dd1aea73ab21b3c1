"""The objective of a stretch, and the sequential test that ends a hopeless one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simulated import SimulatedDriver, hard, mm1, soft, unbreakable
from swarmbench.scenarios.max_throughput import constant
from swarmbench.scenarios.slo import Baseline, Slo, judge, overload_watch, take_traces

SLO = Slo()


def baseline_of(driver: SimulatedDriver, seconds: float = 10.0) -> Baseline:
    return Baseline.of(driver.hold("search", constant(1.0), seconds), SLO)


def test_a_load_far_below_the_knee_passes_and_one_above_fails() -> None:
    driver = SimulatedDriver(hard(4.0, 500.0), {"a": 500.0}, 1)
    baseline = baseline_of(driver)

    below = judge(driver.hold("search", constant(3.9), 3.0), baseline, SLO)["a"]
    above = judge(driver.hold("search", constant(4.4), 3.0), baseline, SLO)["a"]

    assert (below.verdict, below.percentile) == ("pass", 99.0)
    assert above.verdict == "fail"
    assert above.growing


def test_a_load_at_the_knee_is_unclear_rather_than_guessed() -> None:
    driver = SimulatedDriver(soft(4.0), {"a": 300.0}, 1)
    baseline = baseline_of(driver)

    verdict = judge(driver.hold("search", constant(4.0), 1.0), baseline, SLO)["a"].verdict

    assert verdict == "unclear"


def test_too_few_operations_leave_the_latency_unjudged() -> None:
    driver = SimulatedDriver(unbreakable, {"a": 1.0}, 1)
    baseline = baseline_of(driver)

    limit = baseline.limits(SLO)["a"]
    found = judge(driver.hold("search", constant(2.0), 3.0), baseline, SLO)["a"]

    assert limit.baseline is None
    assert (found.verdict, found.log_ratio) == ("unclear", None)


def test_errors_above_their_share_fail_and_a_single_one_does_not() -> None:
    driver = SimulatedDriver(unbreakable, {"a": 500.0}, 1)
    baseline = baseline_of(driver)
    held = driver.hold("search", constant(1.0), 4.0)
    figures = held.components["a"]

    def with_rejected(count: int) -> str:
        wrong = replace(figures, rejected=count, ok=figures.ok - count)
        return judge(replace(held, components={"a": wrong}), baseline, SLO)["a"].verdict

    assert with_rejected(1) == "pass"
    assert with_rejected(20) == "fail"


def test_the_watch_takes_all_intervals_so_far_or_only_the_latest() -> None:
    driver = SimulatedDriver(hard(1.5, 500.0), {"a": 500.0}, 1)
    limits = baseline_of(driver).limits(SLO)
    held = driver.hold("search", constant(2.0), 3.0)
    latest, all_so_far = (overload_watch(limits, SLO, 3.0) for _ in range(2))

    by_latest = [latest([i]) for i in held.intervals]
    by_all = [all_so_far(list(held.intervals[: n + 1])) for n in range(len(held.intervals))]

    assert by_latest == by_all
    assert by_latest.index(True) < 12


def test_the_watch_lets_a_carried_load_run_to_its_end() -> None:
    driver = SimulatedDriver(mm1(4.0, 500.0), {"a": 500.0}, 1)
    limits = baseline_of(driver).limits(SLO)

    stopped = sum(
        driver.hold("search", constant(3.0), 3.0, until=overload_watch(limits, SLO, 3.0)).duration_s
        < 3.0
        for _ in range(20)
    )

    assert stopped == 0


def test_more_baseline_narrows_the_limits_noise() -> None:
    driver = SimulatedDriver(mm1(4.0, 500.0), {"a": 500.0}, 1)
    once = baseline_of(driver)
    held = driver.hold("search", constant(1.0), 90.0)

    before, after = (b.quantile("a", 99.0).log_sigma for b in (once, once.extended(held, SLO)))

    assert after < 0.6 * before


def test_traces_leave_out_the_drain() -> None:
    driver = SimulatedDriver(hard(2.0, 500.0), {"a": 500.0}, 1)
    limits = baseline_of(driver).limits(SLO)
    held = driver.hold("search", constant(1.0), 2.0)
    drain = [replace(i, start_s=i.start_s + 2.0, scheduled=0) for i in held.intervals[:5]]

    trace = take_traces(replace(held, intervals=(*held.intervals, *drain)), limits)["a"]

    assert np.isclose(trace.ends_s[-1], 2.0)
    assert sum(trace.scheduled) == held.components["a"].scheduled
