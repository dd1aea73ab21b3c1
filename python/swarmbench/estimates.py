"""Distribution-free estimates of percentiles and shares, with the noise that they carry.

Ranks of a sample follow the binomial distribution whatever the values are distributed like
(David and Nagaraja, Order Statistics, 3rd ed., section 7.1), so no shape is assumed anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from swarmbench.measured import Histogram

#: The percentiles that are published, by their names.
PERCENTILES: Mapping[str, float] = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9}
#: Samples beyond a percentile that it takes to name it, ...
BEYOND_MIN = 10
#: ... and, counted as independent ones, to call it precise.
PRECISE_MIN = 100
#: Two-sided 95 % of a normal distribution.
NORMAL_95 = 1.959964
#: A logarithm's noise below which the histogram's three digits are the limit.
LOG_SIGMA_MIN = 0.001
#: A bound on the steps to a rank; they are four or five.
RANK_STEPS_MAX = 50


@dataclass(frozen=True, slots=True)
class Quantile:
    """A percentile (0..100) of `samples` values, its 95 % interval and its logarithm's sigma."""

    percentile: float
    value_ns: int
    low_ns: int
    high_ns: int
    log_sigma: float
    samples: int


def quantile(
    histogram: Histogram, percentile: float, dispersion: float = 1.0, freedom: float = math.inf
) -> Quantile:
    """The percentile and its 95 % interval by the ranks of the binomial distribution.

    The ends are fractional order statistics, interpolated between neighbours (Hutson, J. Applied
    Statistics 26, 1999). `dispersion` is the variance of the count beyond the percentile over
    that of independent values, so that so many times fewer are counted; `freedom` are the degrees
    of freedom it was estimated with, and Student's quantile takes the normal one's place. The
    histogram must not be empty; an end beyond its last value is that value.
    """
    samples, share = histogram.count, percentile / 100.0
    deviate = student_95(freedom)
    effective = samples / dispersion
    low_share, high_share = (rank_share(effective, share, z) for z in (-deviate, deviate))
    value = max(1, histogram.percentile(percentile))
    low = min(value, max(1, at_rank(histogram, low_share * (samples + 1.0))))
    high = max(value, at_rank(histogram, high_share * (samples + 1.0)))
    sigma = (math.log(high) - math.log(low)) / (2.0 * deviate)
    return Quantile(percentile, value, low, high, max(sigma, LOG_SIGMA_MIN), samples)


def at_rank(histogram: Histogram, rank: float) -> int:
    """The value of a rank from 1 to the count, linear between whole ranks."""
    count = histogram.count
    rank = min(max(rank, 1.0), float(count))
    below = int(rank)
    # A quarter below a whole rank: whether ranks are rounded or rounded up, it is the one meant.
    value = histogram.percentile(100.0 * (below - 0.25) / count)
    if rank == below:
        return value
    above = histogram.percentile(100.0 * (below + 0.75) / count)
    return round(value + (rank - below) * (above - value))


def rank_share(samples: float, share: float, deviate: float) -> float:
    """u with P(Beta(v u, v (1 - u)) <= share) = Phi(-deviate) and v = samples + 1.

    That is the position, as a share of v, of the order statistic that lies above the quantile of
    `share` with the probability Phi(deviate); `samples` need not be whole. The binomial tail is
    Peizer and Pratt's (J. American Statistical Association 63, 1968), whose error is below 0.001;
    since its deviate is nearly linear in the rank, chord steps end in a few rounds.
    """
    sigma = math.sqrt(samples * share * (1.0 - share))
    lowest, highest = 1e-3, samples + 1.0 - 1e-3
    rank = min(max(samples * share + 0.5 + deviate * sigma, lowest), highest)
    for _ in range(RANK_STEPS_MAX):
        step = sigma * (deviate - _binomial_deviate(rank, samples, share))
        moved = min(max(rank + step, 0.5 * (rank + lowest)), 0.5 * (rank + highest))
        if abs(moved - rank) < 1e-4:
            break
        rank = moved
    return rank / (samples + 1.0)


def _binomial_deviate(rank: float, samples: float, share: float) -> float:
    """The normal deviate of P(X < rank), X ~ Binomial(samples, share), for a rank of any kind."""
    other = 1.0 - share
    below, above = rank - 0.5, samples - rank + 0.5
    distance = rank - 1.0 / 3.0 - (samples + 1.0 / 3.0) * share
    distance += 0.02 * (other / rank - share / (samples - rank + 1.0))
    distance += 0.02 * (other - 0.5) / (samples + 1.0)
    bend = other * _bend(below / (samples * share)) + share * _bend(above / (samples * other))
    return distance * math.sqrt((1.0 + bend) / ((samples + 1.0 / 6.0) * share * other))


def _bend(ratio: float) -> float:
    """Peizer and Pratt's g: (1 - x^2 + 2 x ln x) / (1 - x)^2, which is 1 at 0 and 0 at 1."""
    if ratio <= 0.0:
        return 1.0
    off = ratio - 1.0
    if abs(off) < 1e-3:
        return off * (off / 6.0 - 1.0 / 3.0)
    return (1.0 - ratio * ratio + 2.0 * ratio * math.log(ratio)) / (off * off)


def student_95(freedom: float) -> float:
    """Two-sided 95 % of Student's t, to 0.3 % from three degrees of freedom on.

    The Cornish-Fisher expansion (Abramowitz and Stegun, 26.7.5).
    """
    z = NORMAL_95
    terms = (
        z,
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
        (79.0 * z**9 + 776.0 * z**7 + 1482.0 * z**5 - 1920.0 * z**3 - 945.0 * z) / 92160.0,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def beyond(samples: int, percentile: float) -> float:
    """How many of the samples lie beyond a percentile; a whole number is not missed by rounding."""
    return samples * (1.0 - percentile / 100.0) + 1e-9


def resolved_percentile(samples: int, candidates: Sequence[float], beyond_min: int) -> float | None:
    """The highest candidate with at least `beyond_min` samples beyond it, or None."""
    resolved = [p for p in candidates if beyond(samples, p) >= beyond_min]
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
