"""Which component broke first and who followed, from the failing probes just above the knee."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from swarmbench.measured import Figures
from swarmbench.outcome import Knee, Limit, Outcome, Probe, Trace

#: Probes up to this factor above the knee's interval tell who breaks first; beyond, all do.
NEAR = 1.35
#: Two crossings closer than this are simultaneous: two intervals of a trace.
TIE_S = 0.2
#: Service times above this multiple of the baseline's are the operations' own slowness.
INFLATED = 1.5
#: Chance of a false crossing in a whole stretch.
ALPHA = 0.001


@dataclass(frozen=True, slots=True)
class Follow:
    """A component that broke after the first in the same overload, and how much later."""

    component: str
    after_s: float
    seen: int


@dataclass(frozen=True, slots=True)
class Culprit:
    """The component that broke the machine, in how many of `stretches` overloaded ones.

    `hurt` is the one whose objective was left first, most often the same; it differs where the
    culprit's operations hold the workers that shorter ones wait for. `demand_share` is the
    culprit's part of all worker time asked for, `lowest` the probability that the objective of
    `hurt` has the lowest knee.
    """

    component: str
    hurt: str
    votes: int
    stretches: int
    demand_share: float
    lowest: float
    cascade: tuple[Follow, ...]


@dataclass(frozen=True, slots=True)
class Crossing:
    """When one component left its objective in a stretch, and whether its backlog grew."""

    component: str
    at_s: float
    growing: bool
    demand_s: float


def culprit(outcome: Outcome) -> Culprit | None:
    """Who broke first, or None where nothing broke."""
    if outcome.knee.censored:
        return None
    calm = outcome.baselines[-1].components
    overloaded = [*failing_probes(outcome.probes, outcome.knee), outcome.overload]
    stretches = [(p, found) for p in overloaded if (found := crossed(p, outcome.limits))]
    if not stretches:
        return _by_posterior(outcome)
    votes = [cause_of(probe, found, calm) for probe, found in stretches]
    lowest = outcome.knee.lowest
    name = max(votes, key=lambda n: (votes.count(n), lowest.get(n, 0.0)))
    left = [_earliest(found).component for _, found in stretches]
    hurt = max(left, key=left.count)
    return Culprit(
        name,
        hurt,
        votes.count(name),
        len(votes),
        median(demand_shares(probe)[name] for probe, _ in stretches),
        lowest.get(hurt, 0.0),
        cascade(name, [found for _, found in stretches]),
    )


def _by_posterior(outcome: Outcome) -> Culprit | None:
    """Where no single stretch tells: the lowest knee of the fit, and who asks for most."""
    lowest = outcome.knee.lowest
    if not lowest:
        return None
    hurt = max(lowest, key=lambda n: lowest[n])
    shares = demand_shares(outcome.overload)
    name = max(shares, key=lambda n: shares[n])
    return Culprit(name, hurt, 0, 0, shares[name], lowest[hurt], ())


def failing_probes(probes: Sequence[Probe], knee: Knee) -> list[Probe]:
    """The believed failures just above the knee; the lowest of all where none is near."""
    if knee.censored or knee.high is None:
        return []
    failed = [p for p in probes if p.believed and p.failed]
    near = [p for p in failed if knee.low <= p.multiplier <= NEAR * knee.high]
    lowest = min((p.multiplier for p in failed), default=0.0)
    return near or [p for p in failed if p.multiplier <= lowest]


def crossed(probe: Probe, limits: Mapping[str, Limit]) -> list[Crossing]:
    """Every component that left its objective in a stretch, the earliest first."""
    found = []
    for name, trace in probe.traces.items():
        judgement = probe.judgements[name]
        at_s = _first(latency_crossing_s(trace, limits[name]), backlog_crossing_s(trace))
        if judgement.too_many_errors:
            at_s = _first(at_s, _first_rejection_s(trace))
        if at_s is not None and (judgement.verdict == "fail" or judgement.growing):
            figures = probe.components[name]
            demand_s = figures.scheduled * figures.service.mean / 1e9
            found.append(Crossing(name, at_s, judgement.growing, demand_s))
    return sorted(found, key=lambda c: c.at_s)


def cause_of(probe: Probe, crossings: Sequence[Crossing], calm: Mapping[str, Figures]) -> str:
    """Which component broke one stretch, given who left its objective in it (at least one).

    Workers are shared fairly, so a component that asks for more than its share queues alone:
    who has a growing backlog broke first. Where none has, the first to leave its objective broke
    by itself if its own operations took longer than at the baseline; if they did not, it waited
    for workers, and the component that asks for most of their time is the cause.
    """
    growing = [c for c in crossings if c.growing]
    if growing:
        return _earliest(growing).component
    hurt = _earliest(crossings).component
    before, now = calm[hurt].service.mean, probe.components[hurt].service.mean
    if now > INFLATED * before:
        return hurt
    shares = demand_shares(probe)
    return max(shares, key=lambda n: shares[n])


def _earliest(crossings: Sequence[Crossing]) -> Crossing:
    """The earliest; among those that no interval tells apart, the one that asks for most."""
    start_s = min(c.at_s for c in crossings)
    return max((c for c in crossings if c.at_s <= start_s + TIE_S), key=lambda c: c.demand_s)


def cascade(first: str, stretches: Sequence[Sequence[Crossing]]) -> tuple[Follow, ...]:
    """The components that crossed after the first, by their median delay over all stretches."""
    delays: dict[str, list[float]] = {}
    for crossings in stretches:
        times = {c.component: c.at_s for c in crossings}
        if first in times:
            for name, at_s in times.items():
                delays.setdefault(name, []).append(max(0.0, at_s - times[first]))
    follows = [Follow(n, median(d), len(d)) for n, d in delays.items() if n != first]
    return tuple(sorted(follows, key=lambda f: (f.after_s, -f.seen)))


def demand_shares(probe: Probe) -> dict[str, float]:
    """Each component's share of the worker time that all arrivals of a stretch ask for."""
    asked = {n: f.scheduled * f.service.mean for n, f in probe.components.items()}
    total = sum(asked.values())
    return {name: demand / total if total else 0.0 for name, demand in asked.items()}


def latency_crossing_s(trace: Trace, limit: Limit) -> float | None:
    """When responses began to exceed the limit for good, or None.

    A cumulative sum of the log-likelihood ratio of "half of what is allowed below is over too"
    against "as many as the objective allows" (Page, Biometrika 1954); the answer is where the
    sum that raised the alarm began to rise.
    """
    if limit.baseline is None or not trace.ends_s:
        return None
    allowed = 1.0 - limit.baseline.percentile / 100.0
    overloaded = 0.5 * (1.0 + allowed)
    gain = math.log(overloaded / allowed)
    loss = math.log((1.0 - overloaded) / (1.0 - allowed))
    alarm = math.log(len(trace.ends_s) / ALPHA)
    total, began_s, before_s = 0.0, 0.0, 0.0
    for end_s, over, completed in zip(trace.ends_s, trace.over, trace.completed, strict=True):
        if total <= 0.0:
            total, began_s = 0.0, before_s
        total += over * gain + (completed - over) * loss
        if total > alarm:
            return began_s
        before_s = end_s
    return None


def backlog_crossing_s(trace: Trace) -> float | None:
    """When the backlog rose above all that chance arrivals explain, or None."""
    if not trace.ends_s:
        return None
    head = max(1, len(trace.outstanding) // 5)
    start = sum(trace.outstanding[:head]) / head
    level = start + max(10.0, 3.0 * math.sqrt(sum(trace.scheduled)))
    over = [end for end, n in zip(trace.ends_s, trace.outstanding, strict=True) if n > level]
    return min(over, default=None)


def _first_rejection_s(trace: Trace) -> float | None:
    refused = [end for end, n in zip(trace.ends_s, trace.rejected, strict=True) if n]
    return min(refused, default=None)


def _first(*times_s: float | None) -> float | None:
    return min((t for t in times_s if t is not None), default=None)
