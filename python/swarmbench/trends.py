"""Whether a system is steady: no trend in its throughput or its median response.

The test is Mann and Kendall's (Mann, Econometrica 13, 1945; Kendall, Rank Correlation Methods),
which assumes no distribution, on means of batches that hardly depend on each other; the slope and
its interval are Theil's and Sen's (Sen, J. American Statistical Association 63, 1968). Batches are
made long enough on what is left once the slope is taken out, since a trend itself makes neighbours
alike (Yue and others, Hydrological Processes 16, 2002).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from swarmbench.batches import BATCHES, BATCHES_MIN, NEIGHBOURS_MAX, batched, neighbours
from swarmbench.estimates import NORMAL_95
from swarmbench.measured import Interval

Values = npt.NDArray[np.float64]

#: A change over the window, as a share of the series' median, below which a slope is none: no
#: machine's speed stands still, and enough samples would show that of any.
CHANGE_MIN = 0.02


@dataclass(frozen=True, slots=True)
class Trend:
    """How a series went over a window: its change as a share of its median, and the evidence.

    `deviate` is the normal deviate of Kendall's S; it is 0 where there is no trend. `hidden` is
    the largest change, up or down, that the 95 % interval of the slope leaves possible.
    """

    change: float
    deviate: float
    hidden: float

    @property
    def matters(self) -> bool:
        """Whether the change is more than any machine's."""
        return abs(self.change) >= CHANGE_MIN


@dataclass(frozen=True, slots=True)
class Drift:
    """One component's throughput or median response that did not stand still."""

    component: str
    figure: str
    change: float

    @property
    def ratio(self) -> float:
        """Its end over its beginning, by the slope; within a factor of 20."""
        half = min(max(0.5 * self.change, -0.905), 0.905)
        return (1.0 + half) / (1.0 - half)

    def __str__(self) -> str:
        return f"{self.component}'s {self.figure} went to {self.ratio:.0%} of what it was"


def trend(values: Sequence[float], weights: Sequence[float]) -> Trend | None:
    """The trend of a series, each value of which has a weight; None where it is too short."""
    series = np.asarray(values, dtype=np.float64)
    heft = np.asarray(weights, dtype=np.float64)
    series, heft = series[heft > 0.0], heft[heft > 0.0]
    if len(series) < BATCHES_MIN:
        return None
    batches = min(BATCHES, len(series))
    means = _means(series, heft, batches)
    slope = _slope(means)
    while batches // 2 >= BATCHES_MIN and _rest_depends(means, slope):
        batches //= 2
        means = _means(series, heft, batches)
        slope = _slope(means)
    middle = abs(float(np.median(means)))
    scale = batches / middle if middle else 0.0
    score, spread = _kendall(means)
    deviate = math.copysign(max(0.0, abs(score) - 1.0), score) / spread if spread else 0.0
    return Trend(scale * slope, deviate, scale * _steepest(means, spread))


def drifts(
    intervals: Iterable[Interval], level: float, hidden_max: float = math.inf
) -> list[Drift] | None:
    """What did not stand still over consecutive intervals; None where they cannot tell.

    `level` is the probability that anything is called so of a steady system: it is shared by the
    two figures of all components. They cannot tell where one has too few completions, or where
    noise could hide a change of more than `hidden_max`.
    """
    own: dict[str, list[Interval]] = {}
    for each in intervals:
        own.setdefault(each.component, []).append(each)
    found: list[Drift] = []
    told = bool(own)
    # Two-sided, and shared (Bonferroni).
    enough = NormalDist().inv_cdf(1.0 - level / (4.0 * max(1, len(own))))
    for component, mine in own.items():
        for figure, going in (("throughput", throughput(mine)), ("median", medians(mine))):
            if going is None or going.hidden > hidden_max:
                told = False
            if going is not None and abs(going.deviate) > enough and going.matters:
                found.append(Drift(component, figure, going.change))
    return found if told or found else None


def throughput(intervals: Sequence[Interval]) -> Trend | None:
    """The trend of operations ended well per second."""
    seconds = [each.duration_s for each in intervals]
    rates = [each.ok / each.duration_s if each.duration_s else 0.0 for each in intervals]
    return trend(rates, seconds)


def medians(intervals: Sequence[Interval]) -> Trend | None:
    """The trend of the intervals' median responses, weighted by their counts."""
    ended = [each.response for each in intervals if each.response.count]
    return trend([each.percentile(50.0) for each in ended], [each.count for each in ended])


def _means(series: Values, heft: Values, batches: int) -> Values:
    starts = [part.start for part in batched(series, batches)]
    return np.add.reduceat(series * heft, starts) / np.add.reduceat(heft, starts)


def _slope(means: Values) -> float:
    return float(np.median(_slopes(means)))


def _slopes(means: Values) -> Values:
    """The slopes of all pairs, per batch."""
    early, late = np.triu_indices(len(means), 1)
    found: Values = (means[late] - means[early]) / (late - early)
    return found


def _rest_depends(means: Values, slope: float) -> bool:
    rest = means - slope * np.arange(len(means))
    return neighbours(rest - rest.mean()) > NEIGHBOURS_MAX


def _kendall(means: Values) -> tuple[float, float]:
    """Kendall's S and its standard deviation where there is no trend, corrected for ties."""
    count = len(means)
    score = float(np.sign(_slopes(means)).sum())
    _, ties = np.unique(means, return_counts=True)
    tied = int((ties * (ties - 1) * (2 * ties + 5)).sum())
    return score, math.sqrt((count * (count - 1) * (2 * count + 5) - tied) / 18.0)


def _steepest(means: Values, spread: float) -> float:
    """The end of the slope's 95 % interval that is further from 0."""
    slopes = np.sort(_slopes(means))
    reach = (len(slopes) - NORMAL_95 * spread) / 2.0
    low = max(0, int(reach) - 1)
    return float(max(abs(slopes[low]), abs(slopes[len(slopes) - 1 - low])))
