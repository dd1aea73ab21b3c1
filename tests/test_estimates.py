"""Ranks, shares and monotone fits, against exact answers."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulated import Sample
from swarmbench._native import Histogram
from swarmbench.estimates import (
    at_rank,
    binomial_tail,
    isotonic,
    rank_share,
    resolved_percentile,
    student_95,
)


@pytest.mark.parametrize(
    ("samples", "share", "rank"),
    [(20, 0.5, 6), (20, 0.5, 14), (1000, 0.99, 985), (1000, 0.99, 996), (9, 0.9, 7)],
)
def test_a_rank_lies_above_the_quantile_with_the_binomial_probability(
    samples: int, share: float, rank: int
) -> None:
    below = sum(
        math.comb(samples, k) * share**k * (1 - share) ** (samples - k) for k in range(rank)
    )
    found = rank_share(samples, share, NormalDist().inv_cdf(below)) * (samples + 1)

    assert found == pytest.approx(rank, abs=0.02)


def test_ranks_ascend_with_their_deviate_for_whole_and_other_sample_sizes() -> None:
    for samples in (10.0, 33.3, 1e4, 1e8):
        found = [rank_share(samples, 0.9, z) for z in (-3.0, -1.0, 0.0, 1.0, 3.0)]

        assert found == sorted(found)
        assert 0.0 < found[0] < found[-1] < 1.0
        assert found[2] == pytest.approx(0.9, abs=0.5 / samples)


def test_a_rank_between_two_values_lies_between_them_however_ranks_are_rounded() -> None:
    values = np.array([100.0, 200.0, 400.0, 800.0])
    for histogram in (Sample(values), Histogram.from_values(values.astype(np.int64))):
        found = [at_rank(histogram, rank) for rank in (0.0, 1.0, 2.0, 2.5, 4.0, 9.0)]

        assert found == pytest.approx([100, 100, 200, 300, 800, 800], rel=0.001)


def test_students_quantile_is_that_of_the_tables() -> None:
    for freedom, value in ((3, 3.182), (7, 2.365), (15, 2.131), (31, 2.040), (math.inf, 1.960)):
        assert student_95(freedom) == pytest.approx(value, rel=0.003)


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


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30))
def test_an_isotonic_fit_ascends_and_keeps_the_mean(values: list[float]) -> None:
    _, fitted = isotonic(range(len(values)), values, [1.0] * len(values))

    assert all(b >= a for a, b in itertools.pairwise(fitted))
    assert sum(fitted) == pytest.approx(sum(values), abs=1e-9)
