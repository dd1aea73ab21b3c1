"""The breaking-point search against simulated systems whose knee is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from knees import KINDS, find
from simulated import SimulatedDriver, System, hard, mm1, soft, unbreakable
from swarmbench.measured import Held
from swarmbench.outcome import Knee
from swarmbench.plan import PHASES
from swarmbench.scenarios.knee import Reading, Readings, posterior, steadied
from swarmbench.scenarios.max_throughput import Settings, constant
from swarmbench.scenarios.search import Budget, KneeSearch, Trial, isotonic_bracket
from swarmbench.scenarios.slo import Baseline, Slo, decided_watch

RATE = 500.0
STANDARD = Settings.of(PHASES["standard"]).search
FULL = Settings.of(PHASES["full"]).search
AT_1X = (Reading(0.0, 0.0, 0.01),)
QUICK = Settings.of(PHASES["quick"]).search


def search(driver: SimulatedDriver, budget: Budget, limit: float = 64.0) -> KneeSearch:
    found = KneeSearch(Slo(), budget, limit)
    while (trial := found.next()) is not None:
        load = constant(trial.multiplier)
        held = driver.hold("search", load, trial.duration_s, until=found.watch(trial))
        found.observe(trial, held)
    return found


def knees(system: System, seeds: range, budget: Budget) -> list[Knee]:
    return [search(SimulatedDriver(system, {"a": RATE}, seed), budget).knee() for seed in seeds]


def close(found: list[Knee], truth: float, within: float) -> int:
    return sum(abs(k.multiplier / truth - 1.0) <= within and not k.censored for k in found)


@pytest.mark.parametrize("truth", [1.5, 4.2])
def test_nine_of_ten_seeds_find_the_knee_of_mm1_within_five_percent(truth: float) -> None:
    found = knees(mm1(truth, RATE), range(10), FULL)

    assert close(found, truth, 0.05) >= 9
    assert sum(k.low <= truth <= (k.high or math.inf) for k in found) >= 8


@pytest.mark.parametrize("truth", [1.07, 4.2, 47.0])
def test_nine_of_ten_seeds_find_a_hard_knee_within_five_percent_even_in_quick(
    truth: float,
) -> None:
    assert close(knees(hard(truth, RATE), range(10), QUICK), truth, 0.05) >= 9


def test_the_interval_of_a_hard_knee_covers_it_wherever_it_lies() -> None:
    truths = [1.3 * 1.11**i for i in range(30)]
    found = [
        search(SimulatedDriver(hard(truth, RATE), {"a": RATE}, seed), STANDARD).knee()
        for seed, truth in enumerate(truths)
    ]

    covered = [k.low <= t <= (k.high or math.inf) for k, t in zip(found, truths, strict=True)]
    assert sum(covered) >= 27


def test_a_soft_knee_is_found_within_five_percent() -> None:
    assert close(knees(soft(4.2), range(10), STANDARD), 4.2, 0.05) >= 9


@pytest.mark.parametrize("kind", KINDS)
def test_seven_of_eight_knees_of_every_kind_are_found_and_lie_in_their_interval(kind: str) -> None:
    found = [find(kind, seed, STANDARD) for seed in range(8)]

    assert sum(f.error <= 0.03 for f in found) >= 6
    assert sum(f.error <= 0.05 for f in found) >= 7
    assert sum(f.covered for f in found) >= 6
    assert max(f.seconds for f in found) <= STANDARD.total_s


def test_a_system_without_a_knee_is_censored_at_the_limit() -> None:
    found = knees(unbreakable, range(10), QUICK)

    assert [k.censored for k in found] == [True] * 10
    assert {(k.multiplier, k.high, k.converged) for k in found} == {(64.0, None, True)}


def test_a_knee_beyond_the_limit_is_censored_and_one_just_below_it_is_not() -> None:
    beyond = search(SimulatedDriver(hard(9.0, RATE), {"a": RATE}, 1), QUICK, limit=8.0)
    below = search(SimulatedDriver(hard(7.0, RATE), {"a": RATE}, 1), QUICK, limit=8.0)

    assert beyond.knee().censored
    assert below.knee().multiplier == pytest.approx(7.0, rel=0.05)


def test_the_search_keeps_its_time_budget_also_with_drains() -> None:
    driver = SimulatedDriver(mm1(4.2, RATE), {"a": RATE}, 3)

    search(driver, QUICK)

    assert driver.clock_s + QUICK.probe_s <= QUICK.total_s + QUICK.probe_s


def test_clear_overload_ends_a_probe_early() -> None:
    driver = SimulatedDriver(hard(1.5, RATE), {"a": RATE}, 3)

    found = search(driver, QUICK)

    first = found.probes[0]
    assert first.multiplier == 2.0
    assert first.failed
    assert first.cut_short
    assert driver.held[1].duration_s <= 0.7 * QUICK.probe_s


def test_a_failed_probe_under_a_bad_sentinel_is_repeated_and_not_believed() -> None:
    def disturbed(driver: SimulatedDriver, found: KneeSearch, trial: Trial) -> Held:
        system = driver.system
        driver.system = hard(1.1, RATE)  # a neighbour takes the machine for one probe
        held = driver.hold("search", constant(trial.multiplier), trial.duration_s)
        driver.system = system
        return replace(held, sentinel=replace(held.sentinel, bad=True))

    driver = SimulatedDriver(hard(12.0, RATE), {"a": RATE}, 5)
    found = KneeSearch(Slo(), QUICK, 64.0)
    while (trial := found.next()) is not None:
        if trial.reason == "climb" and trial.multiplier == 4.0 and not found.probes[-1].failed:
            found.observe(trial, disturbed(driver, found, trial))
            assert found.next() == Trial(4.0, QUICK.probe_s, "repeat")
            continue
        load = constant(trial.multiplier)
        found.observe(trial, driver.hold("search", load, trial.duration_s))

    assert [p.believed for p in found.probes].count(False) == 1
    assert found.knee().multiplier == pytest.approx(12.0, rel=0.05)


def test_a_baseline_under_a_bad_sentinel_is_taken_again_and_not_believed() -> None:
    taken = mm1(1.1, RATE)  # a neighbour has most of the machine
    driver = SimulatedDriver(
        mm1(4.2, RATE), {"a": RATE}, 5, bad=lambda number: number == 0, disturbed=taken
    )
    found = search(driver, STANDARD)

    assert [p.believed for p in found.baselines[:2]] == [False, True]
    assert found.knee().multiplier == pytest.approx(4.2, rel=0.05)


def test_a_bad_baseline_believed_only_for_want_of_a_better_one_goes_with_the_first_good() -> None:
    driver = SimulatedDriver(
        mm1(4.2, RATE), {"a": RATE}, 5, bad=lambda number: number < 3, disturbed=mm1(2.1, RATE)
    )
    found = KneeSearch(Slo(), STANDARD, 64.0)
    for _ in range(4):
        trial = Trial(1.0, STANDARD.baseline_s, "baseline")
        found.observe(trial, driver.hold("search", constant(1.0), trial.duration_s))

    assert [p.believed for p in found.baselines] == [False, False, False, True]
    assert found.baseline is not None
    assert found.baseline.seconds == STANDARD.baseline_s


def test_a_load_near_the_knee_is_measured_to_the_end() -> None:
    driver = SimulatedDriver(soft(4.2), {"a": RATE}, 3)
    limits = Baseline.of(driver.hold("search", constant(1.0), 24.0), Slo()).limits(Slo())
    watch = decided_watch(limits, Slo(), 6.0)

    assert driver.hold("search", constant(4.1), 6.0, until=watch).duration_s == 6.0


def test_a_load_of_few_operations_is_measured_to_the_end() -> None:
    driver = SimulatedDriver(unbreakable, {"a": 20.0}, 3)
    limits = Baseline.of(driver.hold("search", constant(1.0), 24.0), Slo()).limits(Slo())
    watch = decided_watch(limits, Slo(), 6.0)

    assert limits["a"].baseline is not None
    assert driver.hold("search", constant(2.0), 6.0, until=watch).duration_s == 6.0


def test_an_unclear_probe_under_a_bad_sentinel_is_repeated_unless_all_are_bad() -> None:
    def disbelieved(bad: range) -> tuple[int, int]:
        driver = SimulatedDriver(mm1(4.2, RATE), {"a": RATE}, 5, bad=lambda number: number in bad)
        found = search(driver, STANDARD)
        unclear = [p for p in found.probes if not p.failed]
        return sum(not p.believed for p in unclear), len(unclear)

    once, _ = disbelieved(range(4, 5))
    always, of = disbelieved(range(1000))

    assert once == 1
    assert always <= max(2, of // 2)


def test_a_load_that_is_clearly_carried_ends_its_probe_early() -> None:
    found = search(SimulatedDriver(hard(12.0, 2000.0), {"a": 2000.0}, 3), STANDARD)

    climbed = [p for p in found.probes if p.reason == "climb" and not p.failed]
    assert [p.multiplier for p in climbed] == [2.0, 4.0, 8.0]
    assert all(p.duration_s == pytest.approx(STANDARD.probe_s / 4.0) for p in climbed)


def test_readings_follow_the_baseline_that_came_after_them() -> None:
    found = KneeSearch(Slo(), STANDARD, 64.0)
    driver = SimulatedDriver(mm1(4.2, RATE), {"a": RATE}, 1)
    for trial in (Trial(1.0, 24.0, "baseline"), Trial(2.0, 6.0, "climb")):
        found.observe(trial, driver.hold("search", constant(trial.multiplier), trial.duration_s))
    before = found._read()["a"].readings[0].y
    first = found.limits()["a"].baseline

    driver.system = mm1(2.1, RATE)  # slower, so that the baseline of all so far goes up
    found.observe(Trial(1.0, 24.0, "baseline"), driver.hold("search", constant(1.0), 24.0))
    after, second = found._read()["a"].readings[0].y, found.limits()["a"].baseline

    assert before is not None
    assert after is not None
    assert first is not None
    assert second is not None
    assert second.value_ns > 1.2 * first.value_ns
    assert before - after == pytest.approx(math.log(second.value_ns / first.value_ns))


def test_one_false_failure_under_a_good_sentinel_does_not_move_the_knee() -> None:
    driver = SimulatedDriver(hard(12.0, RATE), {"a": RATE}, 5)
    found = KneeSearch(Slo(), STANDARD, 64.0)
    while (trial := found.next()) is not None:
        honest = driver.system
        if len(found.probes) == 1:
            driver.system = hard(1.1, RATE)
        load = constant(trial.multiplier)
        found.observe(trial, driver.hold("search", load, trial.duration_s))
        driver.system = honest

    assert found.probes[1].failed
    assert found.knee().multiplier == pytest.approx(12.0, rel=0.05)


def test_a_machine_that_cannot_hold_1x_gets_a_knee_below_it() -> None:
    found = search(SimulatedDriver(hard(0.6, RATE), {"a": RATE}, 2), QUICK).knee()

    assert found.reference == 0.5
    assert found.multiplier == pytest.approx(0.6, rel=0.05)


def test_the_lowest_of_several_knees_is_the_systems() -> None:
    limit = math.log(2.0)
    steep = Readings(
        tuple(Reading(x, 0.0 if x < 1.0 else None, 0.02) for x in (0.5, 0.9, 0.98, 1.02, 1.1)),
        AT_1X,
    )
    calm = Readings(tuple(Reading(x, 0.1 * x, 0.02) for x in (0.5, 0.9, 1.1)), AT_1X)

    found = posterior({"steep": steep, "calm": calm}, 2.0, 4.0)

    assert found.quantile(0.5) == pytest.approx(1.0, abs=0.03)
    assert found.lowest["steep"] > 0.9
    assert limit < found.quantile(0.5, "calm")


def test_a_disturbed_reading_does_not_bend_the_curve() -> None:
    truth = 4.2
    loads = (2.0, 3.0, 3.6, 4.0, 4.1, 4.3, 4.4, 4.8)
    exact = [
        Reading(math.log(m), math.log((2.0 * truth - 2.0) / (2.0 * truth - 1.0 - m)), 0.03)
        for m in loads
    ]
    disturbed = Reading(math.log(3.5), 1.2, 0.03)

    found = posterior({"a": Readings((*exact, disturbed), AT_1X)}, 2.0, math.log(64.0))

    assert math.exp(found.quantile(0.5)) == pytest.approx(truth, rel=0.02)


def test_what_lies_far_above_the_limit_by_chance_alone_does_not_end_in_a_narrow_interval() -> None:
    found = {1.43: 1.0, 1.47: 1.46, 1.48: 1.09, 1.5: 4.15, 1.65: 2.14, 1.67: 5.81, 2.0: 1.93}

    def width(sigma: float) -> float:
        readings = tuple(Reading(math.log(m), math.log(r), sigma) for m, r in found.items())
        knee = posterior({"a": Readings(readings, AT_1X)}, 2.0, math.log(64.0))
        return knee.quantile(0.975) - knee.quantile(0.025)

    assert width(0.4) > 0.2
    assert width(0.4) > 4.0 * width(0.04)


def test_what_answers_faster_under_load_has_no_knee_up_to_the_limit() -> None:
    found = {2.0: 0.84, 4.0: 0.31, 8.0: 0.17, 16.0: 0.17, 32.0: 0.16, 64.0: 0.08}
    readings = tuple(Reading(math.log(m), math.log(r), 0.05, 0.4) for m, r in found.items())

    knee = posterior({"a": Readings(readings, AT_1X)}, 2.0, math.log(64.0))

    assert knee.beyond(math.log(64.0)) > 0.5


def test_a_baseline_that_scatters_widens_the_interval() -> None:
    readings = tuple(Reading(0.2 * i, 0.1 * i, 0.01) for i in range(4, 11))

    def width(scatter: float) -> float:
        signs = (1.0, -1.0, 1.0, -1.0, 1.0, -1.0)
        stretches = tuple(Reading(0.0, sign * scatter, 0.01) for sign in signs)
        found = posterior({"a": Readings(readings, stretches)}, 2.0, math.log(64.0))
        return found.quantile(0.975) - found.quantile(0.025)

    assert width(0.06) > 1.5 * width(0.0)


def test_sigmas_of_readings_alike_are_shared_by_their_seconds() -> None:
    readings = [Reading(1.0, 0.7, 0.02, 1.0), Reading(1.1, 0.8, 0.01, 4.0), Reading(0.0, 0.0, 0.5)]

    assert list(steadied(readings)) == pytest.approx([0.02, 0.01, 0.5])
    assert steadied([readings[0], Reading(1.0, 0.7, 0.04, 1.0)]) == pytest.approx(
        [math.sqrt(0.001)] * 2
    )


def test_the_isotonic_fit_brackets_the_knee_without_a_model() -> None:
    found = search(SimulatedDriver(hard(4.2, RATE), {"a": RATE}, 1), STANDARD)
    assert found.knee().converged
    below, above = isotonic_bracket(found.probes, 2.0)
    assert below <= 4.2 <= above

    # The readings stay, and with them the posterior; the probes now all say that they failed.
    at_fault = {"a": replace(found.probes[-1].judgements["a"], growing=True)}
    found.probes = [replace(p, judgements=at_fault) for p in found.probes]
    lowest = replace(found.probes[0], multiplier=1.1)
    found.probes.append(lowest)

    assert isotonic_bracket(found.probes, 2.0) == (0.0, 1.1)


def test_an_interval_that_the_isotonic_fit_lies_beside_is_not_converged() -> None:
    found = search(SimulatedDriver(hard(4.2, RATE), {"a": RATE}, 1), STANDARD)
    carried = {"a": replace(found.probes[0].judgements["a"], growing=False, log_ratio=0.0)}

    found.probes = [replace(p, judgements=carried) for p in found.probes]
    found.probes += [replace(found.probes[0], multiplier=9.0)] * 2

    assert isotonic_bracket(found.probes, 2.0) == (9.0, math.inf)
    assert not found.knee().converged
