"""Whether the figures can be believed: the generator, the clock's surroundings, the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swarmbench.analysis.littles import Violation
from swarmbench.estimates import resolved_percentile
from swarmbench.measured import Figures, Histogram, Sentinel
from swarmbench.outcome import Knee, Outcome, Probe
from swarmbench.schema import ClockFigures, SentinelFigures, Trust

#: Lateness p99 above this share of the unqueued response p99 is the generator's own limit.
LATENESS_SHARE_MAX = 0.05
#: Share of stretches under a bad sentinel from which the whole run is called disturbed.
BAD_SHARE_MAX = 0.5
#: Percent of the time throttled from which a run counts as throttled throughout.
THROTTLED_MAX = 90.0
SAMPLES_MIN = 1000
#: Correction of the clock, anchored every second, from which its figures are not believed: 0.01 %.
CLOCK_DRIFT_NS_MAX = 100_000


def trust(
    outcome: Outcome,
    little: Sequence[Violation],
    *,
    throttled_percent: float | None = None,
    observer_cost_percent: float | None = None,
    clock: ClockFigures | None = None,
    timer_floor_ns: float = 0.0,
    above_roof: Sequence[str] = (),
) -> Trust:
    """The run's trust: `reasons` is empty where its figures can be believed.

    `timer_floor_ns` is how late the machine's own timers are (the calibrated median overshoot of
    a sleep): no generator could have been limited by less. `above_roof` are figures that exceed a
    measured ceiling, which is a mistake of the harness.
    """
    delays = handover_delays(open_stretches(outcome))
    late = [str(delay) for delay in delays if delay.behind_ns > timer_floor_ns]
    sentinels = [outcome.sustained.sentinel, *(p.sentinel for p in _all_probes(outcome))]
    bad = sum(s.bad for s in sentinels) / len(sentinels)
    reasons = [
        *(f"generator-limited: {line}" for line in late),
        *not_converged(outcome.knee),
        *(f"Little's law does not hold: {v}" for v in little),
        *(f"above the measured roof: {line}" for line in above_roof),
    ]
    if bad > BAD_SHARE_MAX:
        reasons.append(f"the machine disturbed {bad:.0%} of the stretches")
    if throttled_percent is not None and throttled_percent >= THROTTLED_MAX:
        reasons.append(f"the clock was throttled {throttled_percent:.0f} % of the time")
    if clock is not None:
        reasons += unstable(clock)
    return Trust(
        lateness_ns_p99=worst_lateness_ns(open_stretches(outcome)),
        generator_limited=bool(late),
        throttled_percent=throttled_percent,
        converged=outcome.knee.converged,
        observer_cost_percent=observer_cost_percent,
        sentinel=worst(sentinels, bad > BAD_SHARE_MAX),
        clock=clock,
        reasons=reasons,
    )


def unstable(clock: ClockFigures) -> list[str]:
    """Why the clock is not to be relied on, if so."""
    reasons = []
    if clock.changed:
        reasons.append("the kernel changed its clock source during the run")
    if clock.drift_ns > CLOCK_DRIFT_NS_MAX:
        reasons.append(
            f"the clock ({clock.source}) had to be corrected by {clock.drift_ns} ns at once"
        )
    return reasons


def open_stretches(outcome: Outcome) -> list[Mapping[str, Figures]]:
    """The stretches with a schedule whose figures the verdict rests on: up to the knee."""
    top = outcome.knee.high or outcome.knee.multiplier
    probes = [p for p in outcome.probes if p.believed and p.multiplier <= top]
    stretches = [*outcome.baselines, *probes, outcome.recovery]
    return [outcome.ramp_up.components, *(p.components for p in stretches)]


@dataclass(frozen=True, slots=True)
class Delay:
    """A component handed over too late for its own response times, at a percentile of both."""

    component: str
    percentile: float
    behind_ns: int
    response_ns: int

    def __str__(self) -> str:
        return (
            f"{self.component} was handed over {self.behind_ns} ns late at p{self.percentile:g}, "
            f"more than {LATENESS_SHARE_MAX:.0%} of its unqueued response of {self.response_ns} ns"
        )


def handover_delays(stretches: Sequence[Mapping[str, Figures]]) -> list[Delay]:
    """The components whose lateness is a notable share of their response, up to p99."""
    delays = []
    for name, (late, unqueued) in _merged(stretches).items():
        percentile = resolved_percentile(min(late.count, unqueued.count), (50.0, 90.0, 99.0), 10)
        if percentile is None:
            continue
        behind, response = late.percentile(percentile), unqueued.percentile(percentile)
        if behind > LATENESS_SHARE_MAX * response:
            delays.append(Delay(name, percentile, behind, response))
    return delays


def worst_lateness_ns(stretches: Sequence[Mapping[str, Figures]]) -> int | None:
    """The largest lateness p99 of any component, None where no component had 1000 arrivals."""
    late = [late for late, _ in _merged(stretches).values() if late.count >= SAMPLES_MIN]
    return max((each.percentile(99.0) for each in late), default=None)


def not_converged(knee: Knee) -> list[str]:
    """Why the search's interval is not to be relied on, if so."""
    if knee.converged:
        return []
    if knee.censored:
        return [f"the search could not confirm that {knee.multiplier:g}x is carried"]
    high = "?" if knee.high is None else f"{knee.high:.3g}"
    return [f"the search ended before it converged: {knee.low:.3g} to {high}x"]


def worst(sentinels: Sequence[Sentinel], bad: bool) -> SentinelFigures:
    """The largest readings of any stretch."""
    return SentinelFigures(
        gap_p99_ns=max(s.gap_p99_ns for s in sentinels),
        gap_max_ns=max(s.gap_max_ns for s in sentinels),
        steal_percent=100.0 * max(s.steal for s in sentinels),
        run_delay_percent=100.0 * max(s.run_delay for s in sentinels),
        bad=bad,
    )


def _merged(
    stretches: Sequence[Mapping[str, Figures]],
) -> dict[str, tuple[Histogram, Histogram]]:
    """Per component the lateness of all stretches and the response of what did not queue."""
    found: dict[str, tuple[Histogram, Histogram]] = {}
    for components in stretches:
        for name, figures in components.items():
            unqueued = figures.service if figures.unqueued is None else figures.unqueued
            if name in found:
                late, before = found[name]
                found[name] = (late.merged(figures.lateness), before.merged(unqueued))
            else:
                found[name] = (figures.lateness, unqueued)
    return found


def _all_probes(outcome: Outcome) -> list[Probe]:
    return [*outcome.baselines, *outcome.probes, outcome.overload, outcome.recovery]
