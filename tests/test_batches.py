"""Batch means: how long batches must be, and what they say of counts, rates and histograms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from swarmbench._native import Histogram
from swarmbench.batches import (
    BATCHES,
    BATCHES_MIN,
    batched,
    dispersion,
    halved,
    interval_of,
    long_enough,
    neighbours,
    rate_of,
    with_dispersions,
)
from swarmbench.measured import Dispersion, Figures, Interval


def test_batches_cover_every_index_once() -> None:
    assert [i for batch in batched(range(47)) for i in batch] == list(range(47))
    assert batched([]) == []


def test_neighbours_that_follow_each_other_are_told_from_those_that_do_not() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=32)

    assert abs(neighbours(noise - noise.mean())) < 2.0
    assert neighbours(np.sin(np.arange(32) / 5.0)) > 3.0
    assert neighbours(np.tile([1.0, -1.0], 16)) < -3.0
    assert neighbours(np.zeros(32)) == 0.0


def test_batches_are_made_longer_while_they_depend_on_each_other() -> None:
    rng = np.random.default_rng(2)
    alone = rng.normal(size=3200)
    # Blocks of 200: sixteen of them, so that batches of a hundred come in pairs.
    blocks = np.repeat(rng.normal(size=16), 200)
    drifting = np.linspace(-1.0, 1.0, 3200)

    assert (len(long_enough(alone)[0]), long_enough(alone)[1]) == (BATCHES, True)
    assert BATCHES_MIN <= len(long_enough(blocks)[0]) < BATCHES
    assert (len(long_enough(drifting)[0]), long_enough(drifting)[1]) == (BATCHES_MIN, False)


def test_dispersion_is_about_one_for_independent_hits_and_large_for_a_cluster() -> None:
    rng = np.random.default_rng(3)
    independent = dispersion(rng.binomial(200, 0.01, 20).tolist(), [200] * 20)
    clustered = dispersion([0] * 19 + [40], [200] * 20)

    assert independent.settled
    assert 0.4 < independent.index < 2.0
    assert clustered.index > 10.0


def test_counts_that_tell_nothing_are_taken_for_independent() -> None:
    assert dispersion([], []) == Dispersion(1.0, 0, settled=False)
    assert dispersion([1, 2], [10, 0]) == Dispersion(1.0, 1, settled=False)
    assert dispersion([0] * 40, [9] * 40) == Dispersion(1.0, BATCHES, settled=True)


def test_hits_as_regular_as_clockwork_have_a_narrow_interval_and_divide_nothing_by_zero() -> None:
    spread = dispersion([1] * 64, [100] * 64)
    histogram = Histogram.from_values(np.tile(np.arange(1, 101), 64).astype(np.int64))
    found = interval_of(histogram, 99.0, spread)

    assert found is not None
    assert (found.low_ns, found.value_ns, found.high_ns) == (99, 99, 100)


def test_no_interval_is_told_of_a_tail_that_is_a_few_clusters_or_still_dependent() -> None:
    histogram = Histogram.from_values(np.arange(1, 2001))

    assert interval_of(histogram, 99.0, Dispersion(4.0, 32, settled=True)) is not None
    assert interval_of(histogram, 99.0, Dispersion(4.1, 32, settled=True)) is None
    assert interval_of(histogram, 99.0, Dispersion(1.0, 8, settled=False)) is None
    assert interval_of(histogram, 99.0, None) is None


def test_the_interval_of_a_rate_holds_it_and_weighs_a_short_last_stretch_by_its_length() -> None:
    held = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        seconds = [0.1] * 100 + [1e-6]
        rate = rate_of([int(n) for n in rng.poisson(500 * np.array(seconds))], seconds)
        held += abs(rate.per_second - 500.0) <= rate.half_width

    assert 276 <= held <= 296
    assert rate_of([], []).half_width == math.inf
    assert rate_of(range(100), [1.0] * 100).half_width == math.inf


def test_intervals_made_one_keep_every_count_and_end_where_the_later_ended() -> None:
    def tick(number: int, component: str) -> Interval:
        response = Histogram.from_values(np.array([1000 * number + 7]))
        return Interval(0.1 * number, 0.1, component, number, 5, 1, 2, 3, number, 9, 10, response)

    ticks = [tick(n, name) for n in range(5) for name in ("a", "b")]
    found = halved(ticks, 2)

    assert [(i.component, i.load_epoch) for i in found] == [
        *(("a", 1), ("b", 1), ("a", 3), ("b", 3), ("a", 4), ("b", 4))
    ]
    first = found[0]
    assert (first.start_s, first.duration_s, first.queue_depth) == (0.0, 0.2, 1)
    assert (first.scheduled, first.ok, first.errors, first.rejected) == (10, 2, 4, 6)
    assert (first.busy_ns, first.response.count) == (20, 2)
    assert sum(i.duration_s for i in found) == pytest.approx(1.0)


@pytest.mark.parametrize("together", [1, 25])
def test_figures_carry_the_dispersion_of_each_percentile_that_they_resolve(together: int) -> None:
    """Responses that come in runs of `together` equal ones are so many times as dispersed."""
    rng = np.random.default_rng(4)
    values = np.repeat(rng.integers(1000, 2000, 32_000 // together), together)
    growing = [Histogram.from_values(values[: 1000 * n]) for n in range(1, 33)]
    *history, last = [figures(each) for each in growing]

    found = with_dispersions(last, history)

    assert set(found.dispersions) == {"response", "service", "lateness"}
    assert set(found.dispersions["response"]) == {50.0, 90.0, 99.0, 99.9}
    assert found.dispersions["response"][50.0].index == pytest.approx(together, rel=0.6)
    assert found.operations["one"].dispersions == found.dispersions


def figures(histogram: Histogram, *, whole: bool = True) -> Figures:
    count = histogram.count
    return Figures(
        scheduled=count,
        ok=count,
        errors=0,
        rejected=0,
        abandoned=0,
        units=count,
        response=histogram,
        service=histogram,
        lateness=histogram,
        busy_ns=0,
        queue_depth_max=0,
        in_flight_max=1,
        verified=count,
        violations=0,
        occupancy_mean=0.0,
        operations={"one": figures(histogram, whole=False)} if whole else {},
    )
