"""What successive values tell of their mean where they depend on one another: batch means.

Sums over long enough stretches of a series hardly depend on one another, so their own variation
gives the variance of the total, with as many degrees of freedom as there are batches less one
(Law, Simulation Modeling and Analysis, 5th ed., section 9.5.3; ten to thirty batches: Schmeiser,
Operations Research 30, 1982).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from swarmbench.estimates import Quantile, beyond, quantile, student_95
from swarmbench.measured import Dispersion, Figures, Histogram

Values = npt.NDArray[np.float64]

#: Batches to begin with; they are halved in number while they depend on each other.
BATCHES = 32
#: So few leave an interval of 1.2 times the length that knowing the variance would; fewer are no
#: longer told from dependent ones.
BATCHES_MIN = 8
#: Deviate of the correlation of neighbours above which batches are made longer, ...
NEIGHBOURS_MAX = 1.0
#: ... and above which the longest ones are called dependent (one-sided 2.5 %).
DEPENDENT = 1.96
#: What an index of dispersion is at least: hits as regular as clockwork have none.
INDEX_MIN = 0.01
#: Samples beyond a percentile, less those that only follow others, that its interval takes.
INDEPENDENT_MIN = 5.0
#: Above every recorded value (the recorder saturates at one hour).
LATENCY_MAX_NS = 1 << 62


@dataclass(frozen=True, slots=True)
class Rate:
    """Events per second and half their 95 % interval, infinite where the series cannot tell it."""

    per_second: float
    half_width: float


def batched(values: Sequence[object] | Values, batch_max: int = 20) -> list[range]:
    """Consecutive index ranges of nearly equal length, at most `batch_max` of them."""
    count = min(batch_max, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)] if count else [0]
    return [range(a, b) for a, b in itertools.pairwise(edges)]


def sums(values: Values, batches: int) -> Values:
    """The values' sums over `batches` consecutive stretches of nearly equal length."""
    starts = [part.start for part in batched(values, batches)]
    return np.add.reduceat(values, starts) if starts else np.empty(0)


def neighbours(deviations: Values) -> float:
    """The normal deviate of the correlation of neighbours, for deviations from their mean.

    It is von Neumann's ratio of the mean square successive difference to the variance (Annals of
    Mathematical Statistics 12, 1941), turned so that dependence is positive.
    """
    count = len(deviations)
    square = float(deviations @ deviations)
    if count < 3 or square <= 0.0:
        return 0.0
    steps = np.diff(deviations)
    correlation = 1.0 - float(steps @ steps) / (2.0 * square)
    return correlation / math.sqrt((count - 2.0) / (count * count - 1.0))


def long_enough(deviations: Values) -> tuple[Values, bool]:
    """The deviations' sums over batches that hardly depend on each other, and whether they do not.

    From `BATCHES` on their number is halved while neighbours are correlated, down to
    `BATCHES_MIN`, as in Law and Carson (Operations Research 27, 1979).
    """
    batches = min(BATCHES, len(deviations))
    found = sums(deviations, batches)
    while batches // 2 >= BATCHES_MIN and neighbours(found) > NEIGHBOURS_MAX:
        batches //= 2
        found = sums(deviations, batches)
    return found, batches >= BATCHES_MIN and neighbours(found) <= DEPENDENT


def dispersion(over: Sequence[int], completed: Sequence[int]) -> Dispersion:
    """How much more the total of `over` varies than that of as many independent hits.

    Both are counts in consecutive stretches of time. Where all values lie on one side nothing
    varies, and the index is 1; so it is with fewer than two stretches that have completions.
    """
    trials = np.asarray(completed, dtype=np.float64)
    hits = np.asarray(over, dtype=np.float64)
    used = trials > 0
    trials, hits = trials[used], hits[used]
    count = float(trials.sum())
    share = float(hits.sum()) / count if count else 0.0
    if len(trials) < 2:
        return Dispersion(1.0, len(trials), settled=False)
    found, settled = long_enough(hits - share * trials)
    batches = len(found)
    if not 0.0 < share < 1.0:
        return Dispersion(1.0, batches, settled=settled)
    variance = batches / (batches - 1.0) * float(found @ found)
    index = variance / (count * share * (1.0 - share))
    return Dispersion(max(INDEX_MIN, index), batches, settled=settled)


def rate_of(counts: Sequence[int], seconds: Sequence[float]) -> Rate:
    """Events per second over consecutive stretches of time, with the interval."""
    times = np.asarray(seconds, dtype=np.float64)
    events = np.asarray(counts, dtype=np.float64)
    total_s = float(times.sum())
    if total_s <= 0.0:
        return Rate(0.0, math.inf)
    rate = float(events.sum()) / total_s
    found, settled = long_enough(events - rate * times)
    if not settled:
        return Rate(rate, math.inf)
    batches = len(found)
    deviation = math.sqrt(batches / (batches - 1.0) * float(found @ found))
    return Rate(rate, student_95(batches - 1) * deviation / total_s)


def interval_of(
    histogram: Histogram, percentile: float, spread: Dispersion | None
) -> Quantile | None:
    """The percentile with its interval; None where the batches do not tell how wide that is.

    That is where they still depend on each other, or where fewer than `INDEPENDENT_MIN` samples
    beyond the percentile do not merely follow others.
    """
    if spread is None or not spread.settled:
        return None
    if independent_beyond(histogram.count, percentile, spread) < INDEPENDENT_MIN:
        return None
    return quantile(histogram, percentile, spread.index, spread.batches - 1)


def independent_beyond(samples: int, percentile: float, spread: Dispersion) -> float:
    """The samples beyond a percentile, counted as independent ones that tell as much."""
    return beyond(samples, percentile) / spread.index


def with_dispersions(
    figures: Figures, history: Sequence[Figures], percentiles: Sequence[float], beyond_min: int
) -> Figures:
    """The figures of a stretch with the dispersion behind each percentile, by op type too.

    `history` are its figures at even times while it went on, each with all that was before. Only
    percentiles with `beyond_min` samples beyond them are looked at.
    """
    kinds = ("response", "service", "lateness")
    spreads = {
        kind: _spreads(
            [*(getattr(past, kind) for past in history), getattr(figures, kind)],
            [p for p in percentiles if beyond(getattr(figures, kind).count, p) >= beyond_min],
        )
        for kind in kinds
    }
    operations = {
        name: with_dispersions(
            part,
            [past.operations[name] for past in history if name in past.operations],
            percentiles,
            beyond_min,
        )
        for name, part in figures.operations.items()
    }
    return replace(figures, dispersions=spreads, operations=operations)


def _spreads(growing: Sequence[Histogram], percentiles: Sequence[float]) -> dict[float, Dispersion]:
    """The dispersion at each percentile of the last of cumulative histograms."""
    counts = np.diff([each.count for each in growing], prepend=0)
    found = {}
    for percentile in percentiles:
        value = growing[-1].percentile(percentile)
        over = [each.count_between(value + 1, LATENCY_MAX_NS) for each in growing]
        found[percentile] = dispersion(np.diff(over, prepend=0).tolist(), counts.tolist())
    return found
