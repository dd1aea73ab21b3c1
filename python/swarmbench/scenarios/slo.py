"""The service level objective of a stretch, per component: latency, errors, queues not growing.

The latency rule is `percentile <= degradation x its baseline value`. No absolute floor is added:
what stands between an idle machine's microseconds and a false alarm is each percentile's own
noise, so a verdict is given only where both intervals are resolved, and `unclear` elsewhere.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from swarmbench.batches import LATENCY_MAX_NS, batched, dispersion
from swarmbench.estimates import (
    NORMAL_95,
    Quantile,
    binomial_tail,
    quantile,
    resolved_percentile,
)
from swarmbench.measured import Figures, Held, Histogram, Interval
from swarmbench.outcome import Judgement, Limit, Trace, Verdict

#: A probability below which chance is not believed to have made an error or a backlog.
ALPHA = 0.001
#: Responses that may lie beyond the limit before a probe is believed to carry its load early: of
#: independent ones a quarter of these or less comes by chance once in a million times.
ALLOWED_MIN = 30


@dataclass(frozen=True, slots=True)
class Slo:
    """What must hold at a load for it to count as carried."""

    degradation: float = 2.0
    failed_share_max: float = 0.001
    percentiles: tuple[float, ...] = (50.0, 90.0, 99.0)
    beyond_min: int = 10


@dataclass(frozen=True, slots=True)
class Baseline:
    """The undisturbed percentiles of each component, merged over all stretches at 1x."""

    responses: Mapping[str, Histogram]
    dispersions: Mapping[str, float]
    seconds: float

    @staticmethod
    def of(held: Held, slo: Slo) -> Baseline:
        """The baseline of one stretch."""
        responses = {name: figures.response for name, figures in held.components.items()}
        spread = {name: _spread(held, name, response, slo) for name, response in responses.items()}
        return Baseline(responses, spread, held.duration_s)

    def extended(self, held: Held, slo: Slo) -> Baseline:
        """This baseline with one more stretch at the same load; dispersions keep the larger."""
        more = Baseline.of(held, slo)
        return Baseline(
            {name: self.responses[name].merged(more.responses[name]) for name in self.responses},
            {n: max(d, more.dispersions[n]) for n, d in self.dispersions.items()},
            self.seconds + more.seconds,
        )

    def quantile(self, component: str, percentile: float) -> Quantile:
        """A percentile of the component's baseline with its noise."""
        return quantile(self.responses[component], percentile, self.dispersions[component])

    def limits(self, slo: Slo) -> dict[str, Limit]:
        """Each component's objective at the highest percentile that the baseline resolves."""
        return {name: self._limit(name, slo) for name in self.responses}

    def _limit(self, name: str, slo: Slo) -> Limit:
        count = self.responses[name].count
        percentile = resolved_percentile(count, slo.percentiles, slo.beyond_min)
        if percentile is None:
            return Limit(name, None, None)
        value = self.quantile(name, percentile)
        return Limit(name, value, int(value.value_ns * slo.degradation))


def judge(held: Held, baseline: Baseline, slo: Slo) -> dict[str, Judgement]:
    """Every component of a stretch against the objective."""
    traces = take_traces(held, baseline.limits(slo))
    return {
        name: _judge(held, figures, baseline, slo, traces[name])
        for name, figures in held.components.items()
    }


def _judge(held: Held, figures: Figures, baseline: Baseline, slo: Slo, trace: Trace) -> Judgement:
    name = trace.component
    failed = figures.errors + figures.rejected + figures.abandoned
    share = failed / max(1, figures.scheduled)
    errors = binomial_tail(failed, figures.scheduled, slo.failed_share_max) < ALPHA
    growing = queue_grows(trace)
    samples = min(figures.response.count, baseline.responses[name].count)
    percentile = resolved_percentile(samples, slo.percentiles, slo.beyond_min)
    if percentile is None:
        verdict: Verdict = "fail" if errors or growing else "unclear"
        return Judgement(name, None, None, None, 0.0, growing, share, errors, verdict)
    before = baseline.quantile(name, percentile)
    spread = _spread(held, name, figures.response, slo)
    now = quantile(figures.response, percentile, spread)
    beyond = figures.response.count * (1.0 - percentile / 100.0) / spread
    ratio = math.log(now.value_ns / before.value_ns)
    noise = NORMAL_95 * math.hypot(now.log_sigma, before.log_sigma)
    verdict = _verdict(errors or growing, ratio - math.log(slo.degradation), noise)
    return Judgement(
        name, percentile, ratio, now.log_sigma, beyond, growing, share, errors, verdict
    )


def _verdict(broken: bool, excess: float, noise: float) -> Verdict:
    if broken or excess > noise:
        return "fail"
    return "pass" if excess < -noise else "unclear"


def _spread(held: Held, name: str, response: Histogram, slo: Slo) -> float:
    """The index of dispersion of the component's own tail between batches of intervals."""
    percentile = resolved_percentile(response.count, slo.percentiles, slo.beyond_min)
    if percentile is None:
        return 1.0
    value = response.percentile(percentile)
    intervals = [i for i in held.intervals if i.component == name]
    over = [i.response.count_between(value + 1, LATENCY_MAX_NS) for i in intervals]
    # A probe has few batches, which vary less than independent samples now and then by chance.
    return max(1.0, dispersion(over, [i.response.count for i in intervals]).index)


def take_traces(held: Held, limits: Mapping[str, Limit]) -> dict[str, Trace]:
    """The loaded part of a stretch per component, counting responses above its limit."""
    thresholds = {name: limit.limit_ns for name, limit in limits.items()}
    return traces_over(held.intervals, thresholds)


def traces_over(
    intervals: Sequence[Interval], thresholds: Mapping[str, int | None]
) -> dict[str, Trace]:
    """One trace per component; what follows the last arrival of any (the drain) is left out."""
    if not intervals:
        return {name: Trace(name, (), (), (), (), (), (), ()) for name in thresholds}
    zero = min(i.start_s for i in intervals)
    last = max((i.start_s for i in intervals if i.scheduled), default=zero)
    loaded = [i for i in intervals if i.start_s <= last]
    return {name: _trace(name, loaded, zero, limit) for name, limit in thresholds.items()}


def _trace(name: str, intervals: Sequence[Interval], zero: float, limit: int | None) -> Trace:
    own = sorted((i for i in intervals if i.component == name), key=lambda i: i.start_s)
    return Trace(
        name,
        tuple(i.start_s + i.duration_s - zero for i in own),
        tuple(i.scheduled for i in own),
        tuple(i.response.count for i in own),
        tuple(_count_over(i, limit) for i in own),
        tuple(i.queue_depth + i.in_flight for i in own),
        tuple(i.rejected for i in own),
        tuple(i.busy_ns for i in own),
    )


def _count_over(interval: Interval, limit: int | None) -> int:
    return 0 if limit is None else interval.response.count_between(limit + 1, LATENCY_MAX_NS)


def queue_grows(trace: Trace) -> bool:
    """Whether the backlog rose through the whole stretch by more than chance arrivals explain.

    The rise of a stable queue is bounded by its own fluctuation; that of an overloaded one is
    the unserved share of the arrivals. It counts as growth when the last fifth stands above
    the first by three deviations of a Poisson count of all arrivals, and three of the four
    steps between fifths go up.
    """
    return _backlog_grows(trace.outstanding, sum(trace.scheduled))


def _backlog_grows(outstanding: Sequence[int], arrivals: int) -> bool:
    if len(outstanding) < 5:
        return False
    fifths = [
        sum(outstanding[i] for i in part) / len(part) for part in batched(outstanding, batch_max=5)
    ]
    rising = sum(b > a for a, b in itertools.pairwise(fifths))
    return rising >= 3 and fifths[-1] - fifths[0] > max(10.0, 3.0 * math.sqrt(arrivals))


def overload_watch(
    limits: Mapping[str, Limit], slo: Slo, planned_s: float, settle_s: float = 0.3
) -> Callable[[list[Interval]], bool]:
    """A test that ends a probe early once nothing that follows could let it pass.

    It is true when a backlog grows, or when a component has already more responses beyond its
    limit than three times those allowed in the whole planned stretch (curtailed sampling: Wald,
    Sequential Analysis, 1947). The intervals it is given may be all so far or the latest only.
    """
    tallies = {name: _Tally(limit) for name, limit in limits.items()}

    def hopeless(latest: list[Interval]) -> bool:
        _count(tallies, latest)
        return any(t.hopeless(slo, planned_s) for t in tallies.values() if t.passed_s >= settle_s)

    return hopeless


def decided_watch(
    limits: Mapping[str, Limit], slo: Slo, planned_s: float
) -> Callable[[list[Interval]], bool]:
    """`overload_watch`, true as well once every component clearly carries the load.

    That takes a quarter of the planned stretch and ten times the limit, so that a queue would
    have had the time to build up, and `ALLOWED_MIN` responses that may lie beyond the limit of
    which at most a quarter did.
    """
    hopeless = overload_watch(limits, slo, planned_s)
    tallies = {name: _Tally(limit) for name, limit in limits.items()}

    def decided(latest: list[Interval]) -> bool:
        _count(tallies, latest)
        return hopeless(latest) or all(t.carried(planned_s) for t in tallies.values())

    return decided


@dataclass(slots=True)
class _Tally:
    """What one component did so far in a probe."""

    limit: Limit
    seen: set[float] = field(default_factory=set)
    outstanding: list[int] = field(default_factory=list)
    arrivals: int = 0
    completed: int = 0
    failed: int = 0
    over: int = 0
    passed_s: float = 0.0

    def add(self, interval: Interval) -> None:
        if interval.start_s in self.seen:
            return
        self.seen.add(interval.start_s)
        self.outstanding.append(interval.queue_depth + interval.in_flight)
        self.arrivals += interval.scheduled
        self.completed += interval.response.count
        self.failed += interval.errors + interval.rejected
        self.over += _count_over(interval, self.limit.limit_ns)
        self.passed_s += interval.duration_s

    def hopeless(self, slo: Slo, planned_s: float) -> bool:
        planned = self.arrivals * planned_s / max(self.passed_s, 1e-9)
        return _backlog_grows(self.outstanding, self.arrivals) or (
            _beyond_repair(self.over, planned, self.limit, slo)
        )

    def carried(self, planned_s: float) -> bool:
        """By Little's law the backlog tells what response the latest arrivals will see."""
        baseline, limit_ns = self.limit.baseline, self.limit.limit_ns
        if baseline is None or limit_ns is None or not self.arrivals or self.failed:
            return False
        limit_s = limit_ns / 1e9
        allowed = self.completed * (1.0 - baseline.percentile / 100.0)
        ahead_s = self.outstanding[-1] * self.passed_s / self.arrivals
        long_enough = self.passed_s >= max(0.25 * planned_s - 1e-6, 10.0 * limit_s)
        calm = self.over <= 0.1 * allowed and ahead_s <= limit_s
        return long_enough and allowed >= ALLOWED_MIN and calm


def _count(tallies: Mapping[str, _Tally], latest: Sequence[Interval]) -> None:
    for interval in latest:
        if interval.component in tallies:
            tallies[interval.component].add(interval)


def _beyond_repair(over: int, planned: float, limit: Limit, slo: Slo) -> bool:
    if limit.baseline is None:
        return False
    allowed = planned * (1.0 - limit.baseline.percentile / 100.0)
    return over > 3.0 * allowed + slo.beyond_min
