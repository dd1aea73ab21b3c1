"""What successive values tell of their mean where they depend on one another: batch means.

Sums over long enough stretches of a series hardly depend on one another, so their own variation
gives the variance of the total, with as many degrees of freedom as there are batches less one
(Law, Simulation Modeling and Analysis, 5th ed., section 9.5.3; ten to thirty batches: Schmeiser,
Operations Research 30, 1982).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from swarmbench.estimates import (
    BEYOND_MIN,
    PERCENTILES,
    Quantile,
    beyond,
    quantile,
    student_95,
)
from swarmbench.measured import Dispersion, Figures, Histogram, Interval

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


def halved(intervals: Sequence[Interval], components: int) -> list[Interval]:
    """Intervals of `components` components, in order, each two successive ones made one.

    Of an odd number the last stays as it is.
    """
    merged: list[Interval] = []
    for at in range(0, len(intervals), 2 * components):
        early = intervals[at : at + components]
        late = intervals[at + components : at + 2 * components]
        both = zip(early, late, strict=True) if late else ()
        merged += [_joined(*pair) for pair in both] or early
    return merged


def _joined(early: Interval, late: Interval) -> Interval:
    assert early.component == late.component
    return replace(
        late,
        start_s=early.start_s,
        duration_s=early.duration_s + late.duration_s,
        scheduled=early.scheduled + late.scheduled,
        ok=early.ok + late.ok,
        errors=early.errors + late.errors,
        rejected=early.rejected + late.rejected,
        busy_ns=early.busy_ns + late.busy_ns,
        response=early.response.merged(late.response),
    )


class History:
    """What a stretch had done at even times while it went on, for the noise of what it did.

    `read` gives its figures from its beginning to `elapsed_s`. At most `BATCHES` are kept.
    """

    def __init__(self, planned_s: float, read: Callable[[float], Mapping[str, Figures]]) -> None:
        self._every_s = planned_s / BATCHES
        self._read = read
        self._past: list[Mapping[str, Figures]] = []

    def keep(self, elapsed_s: float) -> None:
        """Takes a reading where one is due."""
        due = elapsed_s >= self._every_s * (len(self._past) + 1)
        if due and len(self._past) < BATCHES:
            self._past.append(self._read(elapsed_s))

    def told(self, figures: Mapping[str, Figures]) -> dict[str, Figures]:
        """The stretch's final figures with the dispersion of each percentile."""
        return {
            name: with_dispersions(each, [past[name] for past in self._past])
            for name, each in figures.items()
        }


def with_dispersions(figures: Figures, history: Sequence[Figures]) -> Figures:
    """The figures of a stretch with the dispersion behind each published percentile, by op too.

    `history` are its figures at even times while it went on, each with all that was before.
    """
    spreads = {
        kind: _spreads([getattr(each, kind) for each in (*history, figures)])
        for kind in ("response", "service", "lateness")
    }
    operations = {
        name: with_dispersions(
            part, [past.operations[name] for past in history if name in past.operations]
        )
        for name, part in figures.operations.items()
    }
    return replace(figures, dispersions=spreads, operations=operations)


def _spreads(growing: Sequence[Histogram]) -> dict[float, Dispersion]:
    """The dispersion at each percentile that the last of cumulative histograms resolves."""
    counts = np.diff([each.count for each in growing], prepend=0)
    found = {}
    for percentile in PERCENTILES.values():
        if beyond(growing[-1].count, percentile) >= BEYOND_MIN:
            value = growing[-1].percentile(percentile)
            over = [each.count_between(value + 1, LATENCY_MAX_NS) for each in growing]
            found[percentile] = dispersion(np.diff(over, prepend=0).tolist(), counts.tolist())
    return found
