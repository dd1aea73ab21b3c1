"""The time back to the baseline after an overload."""

from __future__ import annotations

import numpy as np
import pytest

from simulated import SimulatedDriver, hard, mm1
from swarmbench.analysis.recovery import recovery, returned_s
from swarmbench.estimates import Quantile
from swarmbench.outcome import Limit, Trace
from swarmbench.plan import PHASES
from swarmbench.scenarios.max_throughput import Settings, run
from swarmbench.scenarios.slo import traces_over

ALLOWED = 0.1
PER_INTERVAL = 20


def trace(over_share: list[float], seed: int = 1) -> Trace:
    """An interval of 0.1 s for each share of responses over the baseline."""
    rng = np.random.default_rng(seed)
    over = tuple(int(n) for n in rng.binomial(PER_INTERVAL, over_share))
    ends = tuple(0.1 * (i + 1) for i in range(len(over)))
    completed = tuple(PER_INTERVAL for _ in over)
    none = tuple(0 for _ in over)
    return Trace("a", ends, completed, completed, over, none, none, none)


def test_an_undisturbed_stretch_recovers_at_once_in_every_seed() -> None:
    found = [returned_s(trace([0.08] * 300, seed), ALLOWED, 30.0) for seed in range(50)]

    assert found.count(0.0) >= 48


def test_the_recovery_is_the_end_of_the_disturbed_part() -> None:
    found = [
        returned_s(trace([1.0] * 35 + [0.08] * 265, seed), ALLOWED, 30.0) for seed in range(10)
    ]

    assert found == pytest.approx([3.5] * 10, abs=0.11)


def test_a_relapse_postpones_the_recovery_and_a_single_hiccup_does_not() -> None:
    relapse = trace([1.0] * 10 + [0.05] * 5 + [1.0] * 10 + [0.05] * 275)
    hiccup = trace([1.0] * 10 + [0.05] * 150 + [1.0] + [0.05] * 139)

    assert returned_s(relapse, ALLOWED, 30.0) == pytest.approx(2.5)
    assert returned_s(hiccup, ALLOWED, 30.0) == pytest.approx(1.0)


def test_responses_that_stay_out_or_stop_coming_are_not_recovered() -> None:
    slow = trace([0.5] * 300)
    calm = trace([0.05] * 100)
    silent = (0,) * 50
    stalled = Trace(
        "a",
        (*calm.ends_s, *(10.0 + 0.1 * (i + 1) for i in range(50))),
        calm.scheduled + (PER_INTERVAL,) * 50,
        calm.completed + silent,
        calm.over + silent,
        calm.outstanding + silent,
        calm.rejected + silent,
        calm.busy_ns + silent,
    )

    assert returned_s(slow, ALLOWED, 30.0) is None
    assert returned_s(stalled, ALLOWED, 15.0) is None


def test_the_slowest_component_decides_and_one_without_a_baseline_does_not() -> None:
    judged = Limit("a", Quantile(90.0, 100, 90, 110, 0.05, 1000), 200)
    late = Limit("b", Quantile(90.0, 100, 90, 110, 0.05, 1000), 200)
    rare = Limit("c", None, None)
    calm = {
        "a": trace([0.05] * 300),
        "b": trace([1.0] * 40 + [0.05] * 260),
        "c": trace([1.0] * 300),
    }

    found = recovery(calm, {"a": judged, "b": late, "c": rare}, 30.0)

    assert found.seconds == pytest.approx(4.0, abs=0.11)
    assert not found.censored
    assert set(found.components) == {"a", "b"}


@pytest.mark.parametrize("seed", range(3))
def test_a_queue_left_by_the_overload_takes_its_backlog_over_the_spare_rate(seed: int) -> None:
    rate, knee = 400.0, 1.4
    driver = SimulatedDriver(mm1(knee, rate), {"a": rate}, seed)
    outcome = run(driver, Settings.of(PHASES["quick"]))
    capacity = rate * (2.0 * knee - 1.0)
    overload = outcome.overload
    backlog = max(0.0, (rate * overload.multiplier - capacity) * overload.duration_s)

    found = recovery(outcome.calm, outcome.limits, outcome.recovery.duration_s)

    assert found.seconds is not None
    assert found.seconds <= backlog / (capacity - rate) + 1.0


def test_a_machine_that_stays_overloaded_is_censored() -> None:
    driver = SimulatedDriver(hard(4.0, 300.0), {"a": 300.0}, 1)
    outcome = run(driver, Settings.of(PHASES["quick"]))
    driver.system = hard(0.5, 300.0)
    broken = driver.hold("recovery", outcome.recovery_held.load, 8.0)
    high = {n: x.baseline.high_ns for n, x in outcome.limits.items() if x.baseline is not None}
    found = recovery(traces_over(broken.intervals, high), outcome.limits, 8.0)

    assert found.censored
    assert found.seconds is None
