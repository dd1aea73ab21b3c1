"""The scenario as a whole, on simulated machines."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from simulated import Pool, SimulatedDriver, hard, mm1, unbreakable
from swarmbench.analysis.combine import phases_of
from swarmbench.errors import MachineError
from swarmbench.measured import ClosedLoop, Held, OpenLoop
from swarmbench.plan import PHASES
from swarmbench.scenarios.max_throughput import OVERLOAD, Settings, remedy, run

QUICK = Settings.of(PHASES["quick"])


def test_the_phases_come_in_their_order_with_their_loads() -> None:
    driver = SimulatedDriver(hard(5.0, 300.0), {"a": 300.0}, 1)

    outcome = run(driver, QUICK)

    names = [held.phase for held in driver.held]
    assert list(dict.fromkeys(names)) == ["ramp_up", "sustained", "search", "recovery"]
    assert driver.held[0].load == OpenLoop(((0.0, 0.0), (QUICK.phases.ramp_up_s, 1.0)))
    assert driver.held[1].load == ClosedLoop()
    assert driver.held[2].load == OpenLoop(((0.0, 1.0),))
    assert outcome.knee.multiplier == pytest.approx(5.0, rel=0.05)


def test_the_recovery_begins_in_the_overload_that_it_recovers_from() -> None:
    driver = SimulatedDriver(hard(5.0, 300.0), {"a": 300.0}, 1)

    outcome = run(driver, QUICK)

    high = outcome.knee.high
    assert high is not None
    assert outcome.overload.multiplier == pytest.approx(OVERLOAD * high)
    assert driver.held[-2].load == OpenLoop(((0.0, outcome.overload.multiplier),))
    assert driver.held[-1].start_s == driver.held[-2].start_s + driver.held[-2].duration_s


def test_every_probe_and_the_knee_are_events() -> None:
    driver = SimulatedDriver(mm1(3.0, 300.0), {"a": 300.0}, 1)

    outcome = run(driver, QUICK)

    kinds = [kind for kind, _ in driver.events]
    assert kinds.count("probe") == len(outcome.probes) + len(outcome.baselines)
    assert kinds[-1] == "knee"


def test_no_operation_is_lost_between_the_stretches_and_the_phases() -> None:
    driver = SimulatedDriver(hard(5.0, 300.0), {"a": 300.0}, 1)

    run(driver, QUICK)
    phases = phases_of(driver.stretches)

    held = sum(h.components["a"].scheduled for h in driver.held)
    assert sum(p.components["a"].scheduled for p in phases) == held
    assert [p.name for p in phases] == ["ramp_up", "sustained", "search", "recovery"]


def test_the_same_seed_gives_the_same_outcome() -> None:
    one, two = (
        run(SimulatedDriver(mm1(3.0, 300.0), {"a": 300.0}, 9), QUICK).knee for _ in range(2)
    )

    assert one == two


def test_a_machine_that_carries_nothing_is_said_to_be_unfit() -> None:
    driver = SimulatedDriver(hard(0.001, 3000.0), {"a": 3000.0}, 1)

    with pytest.raises(MachineError, match="of the production mix"):
        run(driver, QUICK)


def test_nothing_broken_pushes_to_the_limit_and_recovers_at_once() -> None:
    driver = SimulatedDriver(unbreakable, {"a": 100.0}, 1)

    outcome = run(driver, Settings.of(PHASES["quick"], max_multiplier=16.0))

    assert outcome.knee.censored
    assert outcome.overload.multiplier == 16.0


def test_the_search_within_quick_takes_at_least_six_probes_and_half_a_minute_at_most() -> None:
    pool = Pool(2, {"a": 0.004, "b": 0.002})
    driver = SimulatedDriver(pool, {"a": 50.0, "b": 50.0}, 4)

    outcome = run(driver, QUICK)

    searched = [h for h in driver.held if h.phase == "search"]
    spent = searched[-1].start_s + searched[-1].duration_s - searched[0].start_s
    assert spent <= PHASES["quick"].search_s + QUICK.search.probe_s
    assert len(outcome.probes) >= 6
    assert math.isfinite(outcome.knee.multiplier)


def test_who_turns_operations_away_without_a_queue_is_named_with_what_helps() -> None:
    driver = SimulatedDriver(hard(5.0, 300.0), {"a": 300.0, "b": 300.0}, 1)
    run(driver, QUICK)
    held = driver.held[2]
    assert remedy(held).startswith("lower `workloads.<component>.rate`")

    def with_b(rejected: int, queued: int) -> Held:
        done = replace(held.components["b"], rejected=rejected, queue_depth_max=queued)
        return replace(held, components={**held.components, "b": done})

    scheduled = held.components["b"].scheduled
    assert remedy(with_b(scheduled // 2, 3)) == (
        f"b turns {scheduled // 2} of {scheduled} operations away: give it room by "
        "`--memory-budget`, or lower `workloads.b.params`"
    )
    # What a full queue turns away is a matter of speed.
    assert remedy(with_b(scheduled // 2, scheduled)).startswith("lower `workloads.<component>")
