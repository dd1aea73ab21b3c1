"""How throughput follows the number of workers: the Universal Scalability Law with its intervals.

X(n) = rate · n / (1 + contention · (n − 1) + coherence · n · (n − 1)) (Gunther, Guerrilla Capacity
Planning, 2007, chapter 4). Contention is the share that is done by one at a time, coherence the
cost of each pair of workers agreeing; both are at least 0 here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
#: Points on the axis that three parameters need; with two, coherence is taken to be 0.
COHERENCE_POINTS = 3

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Usl:
    """The fitted law; `rate` is operations per second of one worker."""

    rate: float
    contention: float
    coherence: float

    def at(self, workers: float) -> float:
        """Operations per second of so many workers."""
        queue = self.contention * (workers - 1.0)
        return self.rate * workers / (1.0 + queue + self.coherence * workers * (workers - 1.0))

    @property
    def peak(self) -> float | None:
        """Workers beyond which throughput falls, None where it never does."""
        if self.coherence <= 0.0:
            return None
        return math.sqrt(max(0.0, 1.0 - self.contention) / self.coherence)


@dataclass(frozen=True, slots=True)
class Fit:
    """A law and the 95 % intervals of its parameters."""

    law: Usl
    rate: Interval
    contention: Interval
    coherence: Interval


def law_of(points: Mapping[int, float]) -> Usl:
    """The law through points (workers, operations per second), by least squares of n / X(n).

    That is linear in 1, n − 1 and n (n − 1); what would be negative is left out, and the best of
    what remains is taken. ValueError with fewer than two points or a rate that is not positive.
    """
    if len(points) < 2 or min(points.values()) <= 0.0:
        raise ValueError("a law needs two points or more, each with a positive rate")
    workers = np.array(list(points), dtype=np.float64)
    per_rate = workers / np.array(list(points.values()))
    columns = np.stack([np.ones_like(workers), workers - 1.0, workers * (workers - 1.0)], axis=1)
    free = [1, 2] if len(points) >= COHERENCE_POINTS else [1]
    best: tuple[float, np.ndarray] | None = None
    for count in range(len(free) + 1):
        for chosen in itertools.combinations(free, count):
            used = [0, *chosen]
            # Weighted so that relative errors of the rates count alike.
            scale = 1.0 / per_rate
            solved = np.linalg.lstsq(columns[:, used] * scale[:, None], np.ones(len(scale)))[0]
            if solved[0] <= 0.0 or (solved[1:] < 0.0).any():
                continue
            left = float(((columns[:, used] @ solved * scale - 1.0) ** 2).sum())
            if best is None or left < best[0]:
                whole = np.zeros(3)
                whole[used] = solved
                best = left, whole
    assert best is not None, "a constant alone always fits"
    one, contention, coherence = best[1]
    return Usl(1.0 / one, contention / one, coherence / one)


def fit(rounds: Mapping[int, Sequence[float]], seed: int = 1) -> Fit:
    """The law of the mean rates and its intervals, from repeated measurements at each point.

    The intervals are percentiles over resampled rounds (Efron and Tibshirani 1993, chapter 13).
    """
    law = law_of({workers: float(np.mean(rates)) for workers, rates in rounds.items()})
    draws = np.random.default_rng(seed)
    found = []
    for _ in range(RESAMPLES):
        means = {n: float(draws.choice(rates, len(rates)).mean()) for n, rates in rounds.items()}
        one = law_of(means)
        found.append((one.rate, one.contention, one.coherence))
    low, high = np.percentile(np.array(found), [2.5, 97.5], axis=0)
    rate, contention, coherence = (
        (float(a), float(b)) for a, b in zip(low, high, strict=True)
    )  # fmt: skip
    return Fit(law, rate, contention, coherence)
