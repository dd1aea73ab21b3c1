"""What forbids to believe a run's figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulated import Sample, SimulatedDriver, hard, mm1
from swarmbench.analysis.littles import Violation
from swarmbench.analysis.trust import trust
from swarmbench.measured import Held
from swarmbench.outcome import Outcome
from swarmbench.plan import PHASES
from swarmbench.scenarios.max_throughput import Settings, run
from swarmbench.schema import ClockFigures

QUICK = Settings.of(PHASES["quick"])


class LateDriver(SimulatedDriver):
    """A generator that hands every operation over a tenth of a millisecond late."""

    def hold(self, *arguments: object, **options: object) -> Held:
        held = super().hold(*arguments, **options)  # type: ignore[arg-type]
        components = {
            name: replace(f, lateness=Sample(np.full(f.scheduled, 1e5)))
            for name, f in held.components.items()
        }
        return replace(held, components=components)


@pytest.fixture(scope="module")
def sound() -> Outcome:
    return run(SimulatedDriver(hard(5.0, 500.0), {"a": 500.0}, 1), QUICK)


def test_an_undisturbed_run_is_trusted(sound: Outcome) -> None:
    found = trust(sound, [])

    assert found.reasons == []
    assert found.converged
    assert found.lateness_ns_p99 == 100


def test_a_late_generator_is_not_trusted() -> None:
    found = trust(run(LateDriver(hard(5.0, 500.0), {"a": 500.0}, 1), QUICK), [])

    assert found.generator_limited
    assert any(line.startswith("generator-limited: a was handed over") for line in found.reasons)


def test_lateness_below_the_timers_of_the_machine_is_not_the_generators() -> None:
    outcome = run(LateDriver(hard(5.0, 500.0), {"a": 500.0}, 1), QUICK)

    assert trust(outcome, [], timer_floor_ns=1e5).reasons == []
    assert trust(outcome, [], timer_floor_ns=0.9e5).generator_limited


def test_a_machine_that_disturbs_most_stretches_is_not_trusted() -> None:
    driver = SimulatedDriver(hard(5.0, 500.0), {"a": 500.0}, 1, bad=lambda stretch: True)

    found = trust(run(driver, QUICK), [])

    assert found.sentinel.bad
    assert any("disturbed 100%" in line for line in found.reasons)


def test_a_search_without_time_has_not_converged() -> None:
    rushed = Settings.of(replace(PHASES["quick"], search_s=3.0))
    outcome = run(SimulatedDriver(mm1(4.0, 50.0), {"a": 50.0}, 1), rushed)

    found = trust(outcome, [])

    assert not found.converged
    assert any("before it converged" in line or "confirm" in line for line in found.reasons)


def test_throttling_the_clock_and_littles_law_are_reasons_too(sound: Outcome) -> None:
    violation = Violation("sustained", "a", 2.0, 1.0)

    clock = ClockFigures(source="tsc", drift_ns=250_000, changed=True)

    found = trust(sound, [violation], throttled_percent=95.0, clock=clock)

    assert len(found.reasons) == 4
    assert found.reasons[-1] == "the clock (tsc) had to be corrected by 250000 ns at once"
    steady = clock.model_copy(update={"drift_ns": 900, "changed": False})
    assert trust(sound, [], clock=steady).reasons == []
    assert trust(sound, [], throttled_percent=50.0).reasons == []
