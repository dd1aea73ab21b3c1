"""The histogram binding against NumPy's exact order statistics."""

from __future__ import annotations

import numpy as np
import pytest
from ddsketch import DDSketch

from swarmbench._native import Histogram

PERCENTS = [0.0, 50.0, 90.0, 99.0, 99.9, 100.0]


def nearest_rank(values: np.ndarray, percent: float) -> int:
    rank = int(percent * len(values) / 100 + 0.5)
    return int(np.sort(values)[max(rank, 1) - 1])


@pytest.fixture
def latencies() -> np.ndarray:
    return np.random.default_rng(5).lognormal(11, 2, 20_000).astype(np.int64)


def test_percentiles_are_the_exact_ones_up_to_a_thousandth(latencies: np.ndarray) -> None:
    histogram = Histogram.from_values(latencies)
    exact = [nearest_rank(latencies, percent) for percent in PERCENTS]
    assert histogram.percentiles(PERCENTS) == pytest.approx(exact, rel=1e-3, abs=0)
    assert [histogram.percentile(percent) for percent in PERCENTS] == histogram.percentiles(
        PERCENTS
    )
    assert histogram.mean == pytest.approx(latencies.mean(), rel=1e-3)


def test_a_merge_equals_the_histogram_of_both(latencies: np.ndarray) -> None:
    left, right = Histogram.from_values(latencies[:7000]), Histogram.from_values(latencies[7000:])
    assert left.merged(right) == Histogram.from_values(latencies)
    assert left.merged(right) != left
    assert left.merged(Histogram()) == left


def test_samples_beyond_an_hour_saturate_and_are_counted() -> None:
    histogram = Histogram.from_values(np.array([5, 4_000_000_000_000], np.int64))
    assert (histogram.count, histogram.saturated) == (2, 1)
    assert histogram.max == pytest.approx(3_600_000_000_000, rel=1e-3)


def test_a_negative_latency_is_an_error() -> None:
    with pytest.raises(ValueError, match="-3 ns"):
        Histogram.from_values(np.array([1, -3], np.int64))


def exact_values(values: np.ndarray, ranks: list[int]) -> list[int]:
    return np.sort(values)[ranks].tolist()


def worst_error(found: list[float], exact: list[int]) -> float:
    return max(abs(one - other) / other for one, other in zip(found, exact, strict=True))


def sketched(values: np.ndarray, ranks: list[int], relative_accuracy: float) -> list[float]:
    sketch = DDSketch(relative_accuracy)
    for value in values.tolist():
        sketch.add(value)
    # Between two ranks, so that rounding does not choose the neighbour.
    found = [sketch.get_quantile_value((rank + 0.5) / (len(values) - 1)) for rank in ranks]
    return [value for value in found if value is not None]


GENERATOR = np.random.default_rng(20_240_607)
SAMPLES = {
    "lognormal": GENERATOR.lognormal(11, 2, 50_000),
    "bimodal": np.where(
        GENERATOR.random(50_000) < 0.9,
        GENERATOR.normal(50_000, 5_000, 50_000).clip(1),
        GENERATOR.normal(40e6, 3e6, 50_000),
    ),
    "pareto": 1_000 * (1 + GENERATOR.pareto(1.2, 50_000)),
}


@pytest.mark.parametrize("shape", SAMPLES)
def test_ours_a_ddsketch_and_exact_percentiles_agree_within_their_stated_errors(
    shape: str,
) -> None:
    values = SAMPLES[shape].astype(np.int64)
    ranks = [int(share * len(values)) for share in (0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999)]
    exact = exact_values(values, ranks)
    percents = [(rank + 1) / len(values) * 100 for rank in ranks]
    ours: list[float] = [*Histogram.from_values(values).percentiles(percents)]
    theirs = sketched(values, ranks, 0.01)

    assert worst_error(ours, exact) <= 1e-3
    assert worst_error(theirs, exact) <= 0.01
    assert worst_error(ours, [round(value) for value in theirs]) <= 0.01 + 1e-3
    # The check can fail: a coarser sketch does not keep the bounds.
    assert worst_error(theirs, exact) > 1e-3
    assert worst_error(sketched(values, ranks, 0.05), exact) > 0.01


def test_samples_between_two_values_are_counted_with_both_ends() -> None:
    histogram = Histogram.from_values(np.arange(1, 101))
    assert histogram.count_between(10, 20) == 11
