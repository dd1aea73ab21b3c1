"""The published criteria: pass, warn, fail, unresolved, censored; missing is a failure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from figures import DONE
from swarmbench.analysis import criteria
from swarmbench.analysis.recovery import Recovery
from swarmbench.outcome import Knee

KNEE = Knee(6.0, 5.5, 6.5, 0.95, False, True, 1.0, {"a": 1.0}, {})


@pytest.mark.parametrize(
    ("multiplier", "low", "high", "verdict"),
    [
        (6.0, 5.5, 6.5, "pass"),
        (3.0, 2.5, 3.5, "warn"),
        (1.5, 1.2, 1.8, "fail"),
        (5.1, 4.8, 5.4, "unresolved"),
        (2.1, 1.9, 2.3, "unresolved"),
    ],
)
def test_the_breaking_point_is_judged_with_its_interval(
    multiplier: float, low: float, high: float, verdict: str
) -> None:
    knee = replace(KNEE, multiplier=multiplier, low=low, high=high)

    assert criteria.breaking_point(knee).verdict == verdict


def test_nothing_broken_is_censored_whatever_the_limit() -> None:
    knee = replace(KNEE, multiplier=4.0, low=4.0, high=None, censored=True)

    found = criteria.breaking_point(knee)

    assert (found.verdict, found.interval) == ("censored", (4.0, None))


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(0.0, "pass"), (59.0, "pass"), (120.0, "warn"), (301.0, "fail")]
)
def test_the_recovery_time_is_better_when_shorter(seconds: float, verdict: str) -> None:
    found = Recovery(seconds, False, {"a": seconds}, 400.0)

    assert criteria.recovery_time(found).verdict == verdict


def test_not_yet_recovered_is_censored_and_fails_only_past_five_minutes() -> None:
    short = criteria.recovery_time(Recovery(None, True, {"a": None}, 8.0))
    long = criteria.recovery_time(Recovery(None, True, {"a": None}, 300.0))

    assert (short.verdict, short.interval) == ("censored", (8.0, None))
    assert long.verdict == "fail"
    assert short.note is not None
    assert "a not back" in short.note


@pytest.mark.parametrize(("wrong", "verdict"), [(0, "pass"), (1, "warn"), (2, "fail")])
def test_consistency_is_whole_or_not(wrong: int, verdict: str) -> None:
    figures = replace(DONE, violations=wrong, verified=1000 if wrong != 1 else 1001)

    assert criteria.data_consistency([{"a": figures}]).verdict == verdict


def test_what_was_not_measured_fails() -> None:
    unverified = replace(DONE, verified=0)
    rare = Recovery(None, True, {}, 8.0)

    found = [
        criteria.breaking_point(None),
        criteria.recovery_time(None),
        criteria.recovery_time(rare),
        criteria.data_consistency([{"a": unverified}]),
    ]

    assert [each.verdict for each in found] == ["fail"] * 4
    assert [each.value for each in found] == [None] * 4


def test_the_users_own_thresholds_replace_the_published_ones() -> None:
    rule = criteria.with_thresholds(criteria.BREAKING_POINT, {"breaking_point": (20.0, 7.0)})

    assert criteria.breaking_point(KNEE, rule).verdict == "fail"
    assert criteria.with_thresholds(criteria.RECOVERY_TIME, {}) == criteria.RECOVERY_TIME
