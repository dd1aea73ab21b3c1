"""The health watch: counts in a row, one step at a time, every symptom able to appear."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmbench.monitoring.health import FACTOR_MIN, GROWTH_CHECKS, Change, Check, Vitals, Watch
from swarmbench.plan import Health

SICK = {"streaming": Vitals(response_p99_ns=200.0, response_limit_ns=100.0, completed=50)}
WELL = {"streaming": Vitals(response_p99_ns=50.0, response_limit_ns=100.0, completed=50)}


def _run(watch: Watch, states: list[bool]) -> list[Change | None]:
    return [
        watch.observe(Check(float(second), WELL if well else SICK))
        for second, well in enumerate(states)
    ]


def test_ten_unhealthy_checks_lower_the_load_and_ten_healthy_ones_restore_it() -> None:
    watch = Watch(Health())
    changes = _run(watch, [True] * 3 + [False] * 10 + [True] * 10)
    made = [change for change in changes if change is not None]
    assert [(each.time_s, each.since_s) for each in made] == [(12.0, 3.0), (22.0, 13.0)]
    assert [(each.factor_before, each.factor) for each in made] == [(1.0, 0.9), (0.9, 1.0)]
    symptom = made[0].symptoms[0]
    assert (symptom.name, symptom.component) == ("response_p99_ns", "streaming")
    assert (symptom.value, symptom.threshold) == (200.0, 100.0)
    assert made[1].symptoms == ()
    assert made[0].to_json()["factor"] == 0.9


def test_one_healthy_check_in_between_starts_the_count_anew() -> None:
    watch = Watch(Health())
    assert _run(watch, [False] * 9 + [True] + [False] * 9) == [None] * 19
    assert watch.factor == 1.0


def test_lasting_trouble_lowers_step_by_step_down_to_the_least() -> None:
    watch = Watch(Health())
    _run(watch, [False] * 1000)
    assert FACTOR_MIN <= watch.factor < FACTOR_MIN / 0.9
    _run(watch, [True] * 1000)
    assert watch.factor == 1.0


@given(st.lists(st.booleans(), max_size=400), st.integers(1, 12), st.integers(1, 12))
def test_the_factor_follows_from_the_runs_of_checks_alone(
    states: list[bool], down: int, up: int
) -> None:
    watch = Watch(Health(unhealthy_checks=down, healthy_checks=up))
    steps = streak = 0
    last: bool | None = None
    for change, well in zip(_run(watch, states), states, strict=True):
        streak = streak + 1 if well == last else 1
        last = well
        lower = not well and streak >= down and 0.9 ** (steps + 1) >= FACTOR_MIN
        raised = well and steps > 0 and streak >= up
        assert (change is not None) == (lower or raised)
        if change is not None:
            steps += 1 if lower else -1
            streak = 0
            assert change.factor == pytest.approx(0.9**steps)
    assert watch.factor == pytest.approx(0.9**steps)


@pytest.mark.parametrize(
    ("check", "name"),
    [
        (Check(0.0, {"a": Vitals(completed=90, errors=10)}), "error_share"),
        (Check(0.0, {"a": Vitals(stalled_s=11.0)}), "stalled_s"),
        (Check(0.0, SICK), "response_p99_ns"),
        (Check(0.0, memory_pressure=0.3), "memory_pressure"),
        (Check(0.0, memory_available=0.01), "memory_available"),
        (Check(0.0, disk_free_bytes=10), "disk_free_bytes"),
    ],
)
def test_each_symptom_is_seen_on_its_side_of_the_threshold(check: Check, name: str) -> None:
    watch = Watch(Health())
    watch.observe(check)
    assert [symptom.name for symptom in watch.symptoms] == [name]
    assert not watch.healthy


def test_values_at_their_thresholds_and_unknown_ones_are_healthy() -> None:
    limits = Health()
    watch = Watch(limits)
    vitals = Vitals(100.0, 100.0, completed=99, errors=1, stalled_s=limits.stall_s_max)
    few = Vitals(completed=5, errors=4)
    pressure, available = limits.memory_pressure_max, limits.memory_available_min
    watch.observe(Check(0.0, {"a": vitals, "b": few, "c": Vitals()}, pressure, available))
    assert watch.symptoms == ()
    assert watch.healthy


def test_a_queue_is_growing_only_where_every_check_finds_it_longer() -> None:
    def symptoms(depths: list[int]) -> list[str]:
        watch = Watch(Health())
        for second, depth in enumerate(depths):
            watch.observe(Check(float(second), {"a": Vitals(queue_depth=depth)}))
        return [symptom.name for symptom in watch.symptoms]

    growing = [20 + 10 * step for step in range(GROWTH_CHECKS + 1)]
    assert symptoms(growing) == ["queue_depth_growing"]
    assert symptoms(growing[1:]) == []
    assert symptoms([*growing[:-1], growing[-2]]) == []
    assert symptoms(list(range(GROWTH_CHECKS + 1))) == []
