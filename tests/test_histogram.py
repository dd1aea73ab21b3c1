"""The histogram binding against NumPy's exact order statistics."""

from __future__ import annotations

import numpy as np
import pytest

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


def test_samples_between_two_values_are_counted_with_both_ends() -> None:
    histogram = Histogram.from_values(np.arange(1, 101))
    assert histogram.count_between(10, 20) == 11
