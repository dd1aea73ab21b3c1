"""A measurement that ends by what it saw: the warm-up once it is steady, the rest once it is known.

Both parts are tests for a driver's `until`, pure functions of the intervals so far. Neither looks
at every interval but at moments that move apart geometrically, so that chance has few occasions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarmbench.batches import LATENCY_MAX_NS, dispersion, interval_of, rate_of
from swarmbench.estimates import BEYOND_MIN, beyond
from swarmbench.measured import ClosedLoop, Held, Histogram, Interval, Load
from swarmbench.scenarios.driver import Driver
from swarmbench.trends import Drift, drifts

#: How much later than the last look the next one is.
PACE = 1.1
#: Share of the time so far that must be free of a trend for the warm-up to be over.
RECENT = 0.5
#: A change over that time which must not be hidden in its noise, or the warm-up goes on.
HIDDEN_MAX = 0.3
#: Looks in a row that must find no trend: a slow one escapes a single look now and then.
CLEAN_LOOKS = 2
#: Probability that one look at a steady system finds a trend in it: high before the measurement,
#: where that costs a tenth more of warm-up; low after it, where it costs the verdict.
WARM_UP_LEVEL, MEASURED_LEVEL = 0.1, 0.01


@dataclass(frozen=True, slots=True)
class Rule:
    """When a measurement may end, in seconds, samples and relative halves of 95 % intervals.

    It ends after `min_s`, with `samples_min` responses of every component, once the throughput is
    known to `rate_precision` and the percentile of the response to `percentile_precision`; or at
    `max_s`. The warm-up before it lasts from `warm_up_min_s` to `warm_up_max_s`.
    """

    warm_up_min_s: float = 1.0
    warm_up_max_s: float = 30.0
    min_s: float = 2.0
    max_s: float = 60.0
    samples_min: int = 1000
    percentile: float = 99.0
    rate_precision: float = 0.02
    percentile_precision: float = 0.1

    @staticmethod
    def within(total_s: float) -> Rule:
        """A rule whose longest warm-up and measurement together take `total_s`."""
        warm_up_max_s = 0.4 * total_s
        return Rule(0.1 * total_s, warm_up_max_s, 0.2 * total_s, total_s - warm_up_max_s)


@dataclass(frozen=True, slots=True)
class Steady:
    """A stretch after its warm-up, and whether its figures can be taken for the system's own.

    `warmed_up` is false where something still moved when the warm-up was cut off. `drifting`
    names that, and what moved during the measurement; `imprecise` what was not known well enough
    at the cap.
    """

    held: Held
    warm_up_s: float
    drifting: tuple[Drift, ...]
    warmed_up: bool
    imprecise: tuple[str, ...]

    @property
    def converged(self) -> bool:
        """Whether the system stood still and its figures are as precise as was asked for."""
        return not self.doubts

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the measurement did not converge, one line each."""
        cold = () if self.warmed_up else ("the warm-up was cut off",)
        return (*cold, *map(str, self.drifting), *self.imprecise)


def measure(driver: Driver, load: Load, rule: Rule, phase: str = "measured") -> Steady:
    """Holds `load` until the system is steady, and on until its figures are known.

    A closed loop is drained between the two, since its operations would go on in the first; an
    open one is not, so that its queues stay as the warm-up filled them.
    """
    warm_up = WarmUp(rule)
    drain = isinstance(load, ClosedLoop)
    warm = driver.hold("warm_up", load, rule.warm_up_max_s, drain=drain, until=warm_up)
    measurement = Measurement(rule)
    held = driver.hold(phase, load, rule.max_s, until=measurement)
    moved = drifts(measurement.seen, MEASURED_LEVEL) or ()
    return Steady(
        held,
        warm.duration_s,
        tuple(moved) if warm_up.steady else (*warm_up.drifting, *moved),
        warm_up.steady,
        tuple(imprecise(measurement.seen, rule)),
    )


@dataclass(slots=True)
class _Looks:
    """The intervals so far, and when to look at them again."""

    rule: Rule
    seen: list[Interval] = field(default_factory=list)
    _next_s: float = 0.0

    def due(self, latest: Sequence[Interval], first_s: float) -> bool:
        """Files the latest intervals; true at the moments at which to look."""
        self.seen.extend(latest)
        elapsed_s = self.elapsed_s
        if elapsed_s < max(first_s, self._next_s) - 1e-9:
            return False
        self._next_s = PACE * elapsed_s
        return True

    @property
    def elapsed_s(self) -> float:
        if not self.seen:
            return 0.0
        return self.seen[-1].start_s + self.seen[-1].duration_s - self.seen[0].start_s


@dataclass(slots=True)
class WarmUp(_Looks):
    """True once the recent half shows no trend and would have shown one that matters.

    `steady` says that no trend was seen at the last look, `drifting` what moved there.
    """

    steady: bool = False
    drifting: tuple[Drift, ...] = ()
    _clean: int = 0

    def __call__(self, latest: list[Interval]) -> bool:
        if not self.due(latest, self.rule.warm_up_min_s):
            return False
        since_s = self.seen[-1].start_s - RECENT * self.elapsed_s
        recent = [each for each in self.seen if each.start_s >= since_s]
        moved = drifts(recent, WARM_UP_LEVEL, HIDDEN_MAX)
        self.drifting = tuple(moved or ())
        self.steady = not moved
        self._clean = self._clean + 1 if moved == [] else 0
        return self._clean >= CLEAN_LOOKS


@dataclass(slots=True)
class Measurement(_Looks):
    """True once there are time, samples and precision enough."""

    def __call__(self, latest: list[Interval]) -> bool:
        if not self.due(latest, self.rule.min_s):
            return False
        return not imprecise(self.seen, self.rule)


def imprecise(intervals: Sequence[Interval], rule: Rule) -> list[str]:
    """What is not known as well as the rule asks, one line each; empty where all is."""
    own: dict[str, list[Interval]] = {}
    for each in intervals:
        own.setdefault(each.component, []).append(each)
    if not own:
        return ["nothing was measured"]
    return [line for name, mine in own.items() for line in _imprecise(name, mine, rule)]


def _imprecise(name: str, intervals: Sequence[Interval], rule: Rule) -> list[str]:
    samples = sum(i.response.count for i in intervals)
    if samples < rule.samples_min or beyond(samples, rule.percentile) < BEYOND_MIN:
        return [f"{name}: {samples} samples are too few"]
    found = []
    rate = rate_of([i.ok for i in intervals], [i.duration_s for i in intervals])
    if not rate.half_width <= rule.rate_precision * rate.per_second:
        found.append(f"{name}: the throughput is not known to {rule.rate_precision:.0%}")
    if not _half_width(intervals, rule.percentile) <= rule.percentile_precision:
        precision = f"{rule.percentile_precision:.0%}"
        found.append(f"{name}: the p{rule.percentile:g} response is not known to {precision}")
    return found


def _half_width(intervals: Sequence[Interval], percentile: float) -> float:
    """Half the percentile's 95 % interval as a share of it; infinite where it is not told."""
    total: Histogram = intervals[0].response
    for each in intervals[1:]:
        total = total.merged(each.response)
    value = total.percentile(percentile)
    over = [i.response.count_between(value + 1, LATENCY_MAX_NS) for i in intervals]
    spread = dispersion(over, [i.response.count for i in intervals])
    found = interval_of(total, percentile, spread)
    if found is None:
        return math.inf
    return (found.high_ns - found.low_ns) / (2.0 * found.value_ns)
