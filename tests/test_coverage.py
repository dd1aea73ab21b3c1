"""The intervals of percentiles hold the truth as often as they say, independent or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from covering import Covered, Series, covered, independent, lognormal, queue
from swarmbench.estimates import binomial_tail

RUNS, RUNS_SOAK = 300, 1000
#: What the intervals' coverage must lie in.
LOWEST, HIGHEST = 0.93, 0.97
#: Chance that a share in that range gives a count that the shorter test refuses.
ALPHA = 0.001
RECORD = Path(__file__).resolve().parent.parent / "docs" / "soak" / "coverage.json"

SHORT: dict[str, Series] = {
    "independent, 10 beyond p99.9": lognormal(5.0),
    "autoregression of 0.9": lognormal(40.0, 0.9),
    "M/M/1, half busy": queue(100.0, 0.5),
}
LONG: dict[str, Series] = {
    "independent exponential": independent(10.0),
    "independent lognormal": lognormal(10.0),
    "autoregression of 0.9": lognormal(60.0, 0.9),
    "autoregression of 0.98": lognormal(240.0, 0.98),
    "M/M/1, half busy": queue(160.0, 0.5),
    "M/M/1, 80 % busy": queue(1000.0, 0.8),
}
#: Too few bursts beyond p99.9 for the intervals' name: what they cover then is kept, not asked for.
FEW: dict[str, Series] = {
    f"few bursts: M/M/1, half busy, {seconds} s": queue(seconds, 0.5, (99.9,))
    for seconds in (20, 40)
}


def possible(held: int, told: int) -> bool:
    """Whether intervals with the coverage asked for could have held the truth so often."""
    missed = told - held
    return (
        binomial_tail(held, told, HIGHEST) > ALPHA
        and binomial_tail(missed, told, 1.0 - LOWEST) > ALPHA
    )


@pytest.mark.parametrize("name", SHORT)
def test_intervals_cover_the_true_percentile_in_95_of_100_runs(name: str) -> None:
    found = covered(SHORT[name], RUNS)

    for percentile, count in found.items():
        assert count.told >= 0.95 * RUNS, (percentile, count.to_json())
        assert possible(count.held, count.told), (percentile, count.to_json())
    if not name.startswith("independent"):
        # The check can fail: the same intervals, had the samples not been batched.
        assert not any(possible(each.assumed, each.runs) for each in found.values())


def test_a_percentile_whose_tail_is_a_few_bursts_has_no_interval() -> None:
    # 40 samples beyond p99.9 of a queue that is 80 % busy are about half a burst.
    found = covered(queue(20.0, 0.8, (99.9,)), 50)

    assert found[99.9].told <= 2


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", LONG)
def test_1000_intervals_cover_the_true_percentile_in_93_to_97_percent(name: str) -> None:
    found = kept(name, LONG[name])

    for percentile, count in found.items():
        share = count.held / count.told
        assert count.told >= 0.95 * RUNS_SOAK, (percentile, count.to_json())
        assert LOWEST <= share <= HIGHEST, (percentile, count.to_json())


@pytest.mark.soak
@pytest.mark.parametrize("name", FEW)
def test_intervals_of_a_few_bursts_are_seldom_told_rather_than_often_wrong(name: str) -> None:
    count = kept(name, FEW[name])[99.9]

    assert count.told - count.held <= 0.1 * RUNS_SOAK, count.to_json()


def kept(name: str, series: Series) -> Mapping[float, Covered]:
    """The coverage of a series, which goes into the record of `make soak`."""
    found = covered(series, RUNS_SOAK)
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    record[name] = {f"p{percentile:g}": each.to_json() for percentile, each in found.items()}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    return found
