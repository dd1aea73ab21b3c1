"""Trends are seen and noise is not; warm-ups are cut, and measurements end by what they know."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from simulated import SimulatedDriver, Stream, System, mm1
from swarmbench import _native
from swarmbench.experiments.alone import measured_alone
from swarmbench.measured import Interval, OpenLoop
from swarmbench.scenarios.steady import Measurement, Rule, Steady, WarmUp, imprecise, measure
from swarmbench.trends import drifts, trend

Values = npt.NDArray[np.float64]
LOAD = OpenLoop(((0.0, 1.0),))
RULE = Rule(
    warm_up_min_s=2.0,
    warm_up_max_s=60.0,
    min_s=10.0,
    max_s=120.0,
    rate_precision=0.05,
    percentile_precision=0.2,
)


def changing(
    factor: Callable[[Values], Values], sigma: float = 0.5, mean_s: float = 0.001
) -> System:
    """No queue; service is lognormal and takes `factor` (of the time in s) as long as it would."""

    def run(
        rng: np.random.Generator, multiplier: float, at_s: float, due: dict[str, Values]
    ) -> dict[str, Stream]:
        return {
            name: Stream(
                d, d, d + factor(at_s + d) * rng.lognormal(math.log(mean_s), sigma, len(d))
            )
            for name, d in due.items()
        }

    return run


def constant(at: Values) -> Values:
    return np.ones_like(at)


def warming(at: Values) -> Values:
    """Four times as slow at first, then exponentially less so, with 3 s."""
    return 1.0 + 3.0 * np.exp(-at / 3.0)


def measured(system: System, seed: int = 1, rate: float = 500.0, rule: Rule = RULE) -> Steady:
    return measure(SimulatedDriver(system, {"a": rate}, seed), LOAD, rule)


def test_a_trend_is_called_so_no_more_often_than_its_level_says() -> None:
    alone, following = 0, 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        noise = rng.normal(10.0, 1.0, 320)
        slow = 10.0 + np.convolve(noise - 10.0, np.ones(4) / 2.0, "same")
        for values, kind in ((noise, 0), (slow, 1)):
            found = trend(values, np.ones(320))
            assert found is not None
            called = abs(found.deviate) > 1.96
            alone += called and kind == 0
            following += called and kind == 1

    # 5 % of 400; a few more where neighbours were alike by less than the batches show.
    assert 8 <= alone <= 34
    assert following <= 48


def test_a_trend_of_one_deviation_over_the_window_is_seen_and_its_size_is_right() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(10.0, 1.0, 320) + np.linspace(-0.5, 0.5, 320)
    found = trend(values, np.ones(320))

    assert found is not None
    assert found.deviate > 2.5
    assert found.change == pytest.approx(0.1, abs=0.05)
    assert 0.1 < found.hidden < 0.2


def test_too_short_a_series_and_one_without_movement_have_no_trend() -> None:
    assert trend([1.0] * 7, [1.0] * 7) is None
    assert trend([1.0] * 20, [1.0] * 7 + [0.0] * 13) is None
    still = trend([5.0] * 40, [1.0] * 40)
    assert still is not None
    assert (still.change, still.deviate, still.hidden) == (0.0, 0.0, 0.0)


def test_what_moved_is_named_with_its_direction_and_tiny_changes_are_none() -> None:
    def ticks(growth: float) -> list[Interval]:
        rng = np.random.default_rng(1)
        return [
            interval(0.1 * n, 100, rng.normal(1e6 * (1.0 + growth * n / 100), 1e3, 100))
            for n in range(100)
        ]

    assert [str(drift) for drift in drifts(ticks(0.5), 0.01) or ()] == [
        "a's median went to 150% of what it was"
    ]
    assert drifts(ticks(0.01), 0.01) == []
    assert drifts(ticks(0.5)[:5], 0.01) is None
    slower = [replace(i, ok=200 - n) for n, i in enumerate(ticks(0.0))]
    assert [drift.figure for drift in drifts(slower, 0.01) or ()] == ["throughput"]


def test_a_warm_up_is_cut_and_what_follows_is_the_systems_own_figure() -> None:
    biased, cut = [], []
    for seed in range(10):
        cold = SimulatedDriver(changing(warming), {"a": 500.0}, seed).hold("cold", LOAD, 10.0)
        biased.append(cold.components["a"].response.percentile(50.0) / 1e6)
        found = measured(changing(warming), seed)
        assert found.warmed_up
        assert 6.0 <= found.warm_up_s <= 40.0
        cut.append(found.held.components["a"].response.percentile(50.0) / 1e6)

    assert float(np.median(cut)) == pytest.approx(1.0, abs=0.03)
    assert float(np.median(biased)) > 1.3


def test_a_measurement_without_its_warm_up_is_not_called_converged() -> None:
    found = measured(changing(warming), rule=replace(RULE, warm_up_max_s=0.5))

    assert not found.warmed_up
    assert not found.converged


def test_a_system_that_drifts_never_becomes_steady_and_is_called_so() -> None:
    for share_s in (0.05, 0.2):
        found = [measured(changing(lambda at, s=share_s: 1.0 + s * at), n) for n in range(10)]

        assert not any(each.converged for each in found)
        moved = [each.drifting[-1] for each in found]
        assert all(drift.figure == "median" and drift.ratio > 1.0 for drift in moved)
    assert sum(each.warmed_up for each in found) <= 1


def test_an_overload_is_never_steady() -> None:
    found = measured(mm1(0.75, 500.0), rate=500.0, rule=replace(RULE, max_s=30.0))

    assert not found.converged
    assert found.drifting


def test_a_steady_system_mostly_ends_at_the_least_time_and_is_called_converged() -> None:
    found = [measured(changing(constant), seed, 2000.0) for seed in range(40)]

    assert sum(each.converged for each in found) >= 38
    assert float(np.median([each.warm_up_s for each in found])) == pytest.approx(2.2)
    assert float(np.median([each.held.duration_s for each in found])) == pytest.approx(10.0)


def test_a_busy_queue_takes_longer_than_one_that_is_mostly_idle() -> None:
    lengths = [
        float(np.median([measured(mm1(knee, 500.0), seed).held.duration_s for seed in range(5)]))
        for knee in (1.1, 4.0)
    ]

    assert lengths[0] > 2.0 * lengths[1]


def test_a_heavy_tail_is_not_known_at_the_cap_and_is_called_so() -> None:
    rule = replace(RULE, percentile_precision=0.1)
    found = measured(changing(constant, sigma=3.0), rule=rule)

    assert found.warmed_up
    assert found.held.duration_s == pytest.approx(RULE.max_s)
    assert found.imprecise == ("a: the p99 response is not known to 10%",)
    assert not found.converged


def test_a_measurement_waits_for_its_samples_whatever_it_knows() -> None:
    def length(samples_min: int) -> float:
        rule = replace(RULE, rate_precision=1.0, samples_min=samples_min)
        return measured(changing(constant), rule=rule).held.duration_s

    assert length(1000) < 20.0
    assert length(20_000) >= 20_000 / 500.0 - 2.0


def test_looks_are_few_and_never_before_the_least_time() -> None:
    looks: list[float] = []
    for watch, first_s in ((WarmUp(RULE), 2.0), (Measurement(RULE), 10.0)):
        looks.clear()
        for number in range(600):
            if watch.due([interval(0.1 * number, 1, np.ones(1))], first_s):
                looks.append(0.1 * (number + 1))
        assert looks[0] == pytest.approx(first_s)
        assert len(looks) <= 1 + math.log(60.0 / first_s) / math.log(1.1)


def test_nothing_measured_is_not_precise() -> None:
    assert imprecise([], RULE) == ["nothing was measured"]
    assert imprecise([interval(0.0, 3, np.ones(3))], RULE) == ["a: 3 samples are too few"]


def interval(start_s: float, ok: int, responses_ns: Values) -> Interval:
    response = _native.Histogram.from_values(responses_ns.astype(np.int64))
    return Interval(start_s, 0.1, "a", 0, ok, ok, 0, 0, 0, 0, 0, response)


def test_the_engine_itself_is_watched_in_open_and_in_closed_loop() -> None:
    def found(rate: float, in_flight: int | None, drift_per_hour: float) -> Steady:
        workload = _native.SimulatedWorkload(rate=rate, service_ns=1e6, service="exponential")
        engine = _native.Engine.simulated(
            [workload], seed=1, servers=1, drift_per_hour=drift_per_hour
        )
        return measured_alone(engine, "a", ["one"], in_flight, RULE)

    for in_flight in (None, 4):
        steady, drifting = (found(400.0, in_flight, drift) for drift in (0.0, 200.0))

        assert steady.converged, steady.doubts
        assert steady.held.components["a"].ok > 2000
        assert not drifting.converged
        assert {drift.figure for drift in drifting.drifting} & {"throughput", "median"}
        assert drifting.doubts


def test_a_rule_fits_into_its_time() -> None:
    rule = Rule.within(10.0)

    assert rule.warm_up_max_s + rule.max_s == pytest.approx(10.0)
    assert rule.warm_up_min_s < rule.warm_up_max_s
    assert rule.min_s < rule.max_s
