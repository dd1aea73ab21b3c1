"""Histograms of this package beside those of the PyPI package `hdrhistogram`."""

from __future__ import annotations

from hdrh.histogram import HdrHistogram

from swarmbench._native import Histogram

HOUR_NS = 3_600_000_000_000


def assert_same_counts(ours: Histogram, theirs: HdrHistogram) -> int:
    """Every bucket of theirs has its count here, and nothing else is; returns their number.

    Theirs may be wider, where its precision is lower.
    """
    buckets = 0
    for step in theirs.get_recorded_iterator():
        low = theirs.get_lowest_equivalent_value(step.value_iterated_to)
        high = theirs.get_highest_equivalent_value(step.value_iterated_to)
        found = ours.count_between(low, high)
        assert found == step.count_at_value_iterated_to, f"{low} to {high} ns"
        buckets += 1
    assert ours.count == theirs.get_total_count()
    if ours.count and not ours.saturated:
        assert theirs.values_are_equivalent(ours.min, theirs.get_min_value())
        assert theirs.values_are_equivalent(ours.max, theirs.get_max_value())
    return buckets
