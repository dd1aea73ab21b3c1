"""Distribution-free estimates of percentiles and shares, with the noise that they carry.

Ranks of a sample follow the binomial distribution whatever the values are distributed like
(David and Nagaraja, Order Statistics, 3rd ed., section 7.1), so no shape is assumed anywhere.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from swarmbench.measured import Histogram

#: Two-sided 95 % of a normal distribution.
NORMAL_95 = 1.959964
#: A logarithm's noise below which the histogram's three digits are the limit.
LOG_SIGMA_MIN = 0.001


@dataclass(frozen=True, slots=True)
class Quantile:
    """A percentile (0..100) of `samples` values, its 95 % interval and its logarithm's sigma."""

    percentile: float
    value_ns: int
    low_ns: int
    high_ns: int
    log_sigma: float
    samples: int


def quantile(histogram: Histogram, percentile: float, dispersion: float = 1.0) -> Quantile:
    """The percentile and its interval by the ranks of the binomial distribution.

    `dispersion` (>= 1) widens the ranks where successive values depend on one another. The
    histogram must not be empty.
    """
    samples = histogram.count
    share = percentile / 100.0
    spread = NORMAL_95 * math.sqrt(dispersion * share * (1.0 - share) / samples)
    value = max(1, histogram.percentile(percentile))
    low = max(1, histogram.percentile(100.0 * max(0.0, share - spread)))
    high = max(value, histogram.percentile(100.0 * min(1.0, share + spread)))
    sigma = (math.log(high) - math.log(min(low, value))) / (2.0 * NORMAL_95)
    return Quantile(percentile, value, min(low, value), high, max(sigma, LOG_SIGMA_MIN), samples)


def resolved_percentile(samples: int, candidates: Sequence[float], beyond_min: int) -> float | None:
    """The highest candidate with at least `beyond_min` samples beyond it, or None."""
    resolved = [p for p in candidates if samples * (1.0 - p / 100.0) >= beyond_min - 1e-9]
    return max(resolved, default=None)


def binomial_tail(count: int, trials: int, share: float) -> float:
    """P(X >= count) for X ~ Binomial(trials, share); 1 where `count` is not above the mean."""
    if count <= trials * share or count <= 0:
        return 1.0
    if count > trials:
        return 0.0
    # Terms above the mean fall at least geometrically; beyond 12 deviations they are nothing.
    reach = 50 + int(12.0 * math.sqrt(trials * share * (1.0 - share) + 1.0))
    hits = np.arange(count, min(trials, count + reach) + 1, dtype=np.float64)
    steps = np.log((trials - hits[:-1]) / hits[1:]) + math.log(share / (1.0 - share))
    first = (
        math.lgamma(trials + 1)
        - math.lgamma(count + 1)
        - math.lgamma(trials - count + 1)
        + count * math.log(share)
        + (trials - count) * math.log1p(-share)
    )
    terms = first + np.concatenate(([0.0], np.cumsum(steps)))
    return float(min(1.0, np.exp(terms).sum()))


def dispersion(over: Sequence[int], completed: Sequence[int], share: float) -> float:
    """How much more the counts of `over` vary between batches than independent ones would.

    The batches are consecutive; the answer is the index of dispersion, not below 1 (batch means:
    Law, Simulation Modeling and Analysis, 5th ed., section 9.5.3). Shrunk towards 1 by one
    batch, because few batches tell little.
    """
    batches = batched(completed)
    hits = np.array([sum(over[i] for i in batch) for batch in batches], dtype=np.float64)
    trials = np.array([sum(completed[i] for i in batch) for batch in batches], dtype=np.float64)
    used = trials > 0
    if used.sum() < 2:
        return 1.0
    expected = trials[used] * share
    scores = (hits[used] - expected) ** 2 / (expected * (1.0 - share))
    return float(max(1.0, (scores.sum() + 1.0) / used.sum()))


def batched(values: Sequence[int], batch_max: int = 20) -> list[range]:
    """Consecutive index ranges of nearly equal length, at most `batch_max` of them."""
    count = min(batch_max, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)] if count else [0]
    return [range(a, b) for a, b in itertools.pairwise(edges)]


def isotonic(
    x: Sequence[float], y: Sequence[float], weights: Sequence[float]
) -> tuple[list[float], list[float]]:
    """The non-decreasing least-squares fit: sorted x and the fitted values at them.

    Pool adjacent violators (Ayer et al. 1955; Barlow et al. 1972).
    """
    order = np.argsort(np.asarray(x), kind="stable")
    blocks: list[tuple[float, float, int]] = []
    for i in order:
        value, weight, length = float(y[i]), float(weights[i]), 1
        while blocks and blocks[-1][0] >= value:
            before, heft, more = blocks.pop()
            value = (before * heft + value * weight) / (heft + weight)
            weight += heft
            length += more
        blocks.append((value, weight, length))
    fitted = [value for value, _, length in blocks for _ in range(length)]
    return [float(x[i]) for i in order], fitted
