"""Series whose percentiles are known exactly, and how often the intervals drawn from them cover."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from simulated import INTERVAL_S, Sample, poisson, single_server
from swarmbench.batches import dispersion, interval_of
from swarmbench.estimates import quantile

Values = npt.NDArray[np.float64]
PERCENTILES = (50.0, 99.0, 99.9)
RATE_S = 2000.0


@dataclass(frozen=True)
class Series:
    """`draw` gives the moments (s) and responses (ns) of `seconds`, `truth` their percentile."""

    seconds: float
    draw: Callable[[np.random.Generator, float], tuple[Values, Values]]
    truth: Callable[[float], float]
    percentiles: tuple[float, ...] = PERCENTILES


@dataclass
class Covered:
    """How many intervals of how many runs held the truth, and how many were told at all.

    `assumed` counts those that take every sample for independent.
    """

    runs: int = 0
    told: int = 0
    held: int = 0
    assumed: int = 0
    indexes: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, float]:
        return {
            "runs": self.runs,
            "intervals": self.told,
            "covered_percent": round(100.0 * self.held / max(1, self.told), 2),
            "covered_percent_if_taken_for_independent": round(100.0 * self.assumed / self.runs, 2),
            "dispersion_median": round(float(np.median(self.indexes)), 2),
        }


def independent(seconds: float) -> Series:
    """Exponential responses that know nothing of each other."""

    def draw(rng: np.random.Generator, seconds: float) -> tuple[Values, Values]:
        count = round(RATE_S * seconds)
        return np.arange(count) / RATE_S, rng.exponential(1e6, count)

    return Series(seconds, draw, lambda percentile: -math.log(1.0 - percentile / 100.0) * 1e6)


def lognormal(seconds: float, correlation: float = 0.0, sigma: float = 0.5) -> Series:
    """Responses whose logarithms are a normal autoregression of the first order."""

    def draw(rng: np.random.Generator, seconds: float) -> tuple[Values, Values]:
        count = round(RATE_S * seconds)
        noise = math.sqrt(1.0 - correlation**2) * rng.normal(size=count)
        noise[0] = rng.normal()
        logs = noise if correlation == 0.0 else _autoregression(noise, correlation)
        return np.arange(count) / RATE_S, 1e6 * np.exp(sigma * logs)

    def truth(percentile: float) -> float:
        return 1e6 * math.exp(sigma * NormalDist().inv_cdf(percentile / 100.0))

    return Series(seconds, draw, truth)


def queue(seconds: float, busy: float, percentiles: tuple[float, ...] = PERCENTILES) -> Series:
    """M/M/1 in its steady state: responses are exponential with the mean 1 / (mu - lambda)."""
    mean_s = busy / (RATE_S * (1.0 - busy))

    def draw(rng: np.random.Generator, seconds: float) -> tuple[Values, Values]:
        due = np.concatenate(([0.0], poisson(rng, RATE_S, seconds)))
        service = rng.exponential(busy / RATE_S, len(due))
        # The first one stands for the work that a steady queue would hold at the start.
        service[0] = rng.exponential(mean_s) if rng.random() < busy else 0.0
        stream = single_server(due, service)
        return stream.done[1:], (stream.done - stream.due)[1:] * 1e9

    def truth(percentile: float) -> float:
        return -math.log(1.0 - percentile / 100.0) * mean_s * 1e9

    return Series(seconds, draw, truth, percentiles)


def covered(series: Series, runs: int) -> Mapping[float, Covered]:
    """The intervals of `runs` runs of a series, made as a result's are from 0.1 s of responses."""
    found = {percentile: Covered() for percentile in series.percentiles}
    for seed in range(runs):
        done, responses = series.draw(np.random.default_rng(seed), series.seconds)
        ticks = (done / INTERVAL_S).astype(int)
        completed = np.bincount(ticks)
        sample = Sample(responses)
        for percentile, count in found.items():
            truth = series.truth(percentile)
            over = np.bincount(
                ticks[responses > sample.percentile(percentile)], minlength=len(completed)
            )
            spread = dispersion(over.tolist(), completed.tolist())
            count.runs += 1
            count.indexes.append(spread.index)
            naive = quantile(sample, percentile)
            count.assumed += naive.low_ns <= truth <= naive.high_ns
            told = interval_of(sample, percentile, spread)
            if told is not None:
                count.told += 1
                count.held += told.low_ns <= truth <= told.high_ns
    return found


def _autoregression(noise: Values, correlation: float) -> Values:
    """x[i] = correlation x[i-1] + noise[i], by doubling: the sum of noise at falling weights."""
    total, weight, lag = noise.copy(), correlation, 1
    while lag < len(total) and weight > 1e-12:
        total[lag:] += weight * total[:-lag].copy()
        weight, lag = weight * weight, 2 * lag
    return total
