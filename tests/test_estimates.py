"""Percentiles, shares and monotone fits, against exact answers and against their own coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulated import Sample
from swarmbench.estimates import (
    batched,
    binomial_tail,
    dispersion,
    isotonic,
    quantile,
    resolved_percentile,
)


@pytest.mark.parametrize("percentile", [50.0, 99.0, 99.9])
def test_the_interval_of_a_percentile_covers_the_truth_in_about_95_percent(
    percentile: float,
) -> None:
    rng = np.random.default_rng(7)
    truth = -math.log(1.0 - percentile / 100.0) * 1e6
    covered = 0
    for _ in range(1000):
        estimate = quantile(Sample(rng.exponential(1e6, 20_000)), percentile)
        covered += estimate.low_ns <= truth <= estimate.high_ns

    assert 930 <= covered <= 970


def test_a_percentile_needs_ten_samples_beyond_it() -> None:
    candidates = (50.0, 90.0, 99.0)

    assert resolved_percentile(1000, candidates, 10) == 99.0
    assert resolved_percentile(999, candidates, 10) == 90.0
    assert resolved_percentile(20, candidates, 10) == 50.0
    assert resolved_percentile(19, candidates, 10) is None


@pytest.mark.parametrize(
    ("count", "trials", "share"), [(3, 10, 0.1), (9, 10, 0.5), (30, 500, 0.03), (5, 1000, 0.001)]
)
def test_the_binomial_tail_agrees_with_the_sum_of_its_terms(
    count: int, trials: int, share: float
) -> None:
    exact = sum(
        math.comb(trials, k) * share**k * (1 - share) ** (trials - k)
        for k in range(count, trials + 1)
    )

    assert binomial_tail(count, trials, share) == pytest.approx(exact, rel=1e-9)


def test_the_binomial_tail_of_many_trials_is_finite_and_falls() -> None:
    tails = [binomial_tail(c, 10_000_000, 0.01) for c in (100_500, 101_000, 102_000)]

    assert tails[0] > tails[1] > tails[2] > 0.0
    assert binomial_tail(11, 10, 0.5) == 0.0
    assert binomial_tail(0, 10, 0.5) == 1.0


def test_dispersion_is_one_for_independent_hits_and_large_for_a_cluster() -> None:
    rng = np.random.default_rng(3)
    independent = [int(n) for n in rng.binomial(200, 0.01, 20)]
    clustered = [0] * 19 + [40]

    assert dispersion(independent, [200] * 20, 0.01) < 2.0
    assert dispersion(clustered, [200] * 20, 0.01) > 10.0


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30))
def test_an_isotonic_fit_ascends_and_keeps_the_mean(values: list[float]) -> None:
    _, fitted = isotonic(range(len(values)), values, [1.0] * len(values))

    assert all(b >= a for a, b in itertools.pairwise(fitted))
    assert sum(fitted) == pytest.approx(sum(values), abs=1e-9)


def test_batches_cover_every_index_once() -> None:
    assert [i for batch in batched(range(47)) for i in batch] == list(range(47))
    assert batched([]) == []
