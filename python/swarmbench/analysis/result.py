"""The assembly of `result.json`: what the plan says and what the scenario found, as one record."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from swarmbench.analysis import criteria, littles
from swarmbench.analysis.bottlenecks import bottlenecks, limiting_resource
from swarmbench.analysis.breaking import Culprit, culprit
from swarmbench.analysis.combine import Phase, Stretch, phases_of
from swarmbench.analysis.recovery import recovery
from swarmbench.analysis.resources import Pressure
from swarmbench.analysis.trust import handover_delays, open_stretches, trust
from swarmbench.batches import independent_beyond, interval_of
from swarmbench.estimates import BEYOND_MIN, PERCENTILES, PRECISE_MIN, beyond
from swarmbench.measured import Dispersion, Figures, Held, Histogram, Interval
from swarmbench.outcome import Outcome, Probe
from swarmbench.schema import (
    RESULT_SCHEMA,
    BreakingPoint,
    ClockFigures,
    ComponentFigures,
    CriterionResult,
    Follower,
    Goodput,
    LoadProbe,
    OperationFigures,
    PercentileIntervals,
    Percentiles,
    PhaseResult,
    Result,
    SubmissionFigures,
    Trust,
    Verdict,
)
from swarmbench.trends import Drift, drifts

#: The phase whose figures stand for the components of a max-throughput run.
MAIN_PHASE = "sustained"
#: Probability that a main phase which is stationary is called otherwise.
STATIONARY_LEVEL = 0.01


@dataclass(frozen=True, slots=True)
class Capacity:
    """What work is counted in and its measured ceiling in units per second, None where unknown."""

    unit: str
    ceiling: float | None = None


@dataclass(frozen=True, slots=True)
class ComponentFacts:
    """What is known of a component before the run; op types have a capacity of their own."""

    capacity: Capacity
    operations: Mapping[str, Capacity] = field(default_factory=dict)
    latency_target_s: float | None = None
    throughput_target: float | None = None
    claim: str | None = None
    #: Operations at most that the engine lets wait or be served; None where it is unknown.
    admitted_max: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the result says beside the measurements; thresholds are (target, failure) by metric."""

    run_id: str
    name: str | None
    scenario: str
    backend: Literal["cpu", "cuda"]
    backend_reason: str | None
    device: str | None
    seed: int
    profile: Literal["quick", "standard", "full"]
    started: datetime.datetime
    duration_s: float
    production_scale: float
    components: Mapping[str, ComponentFacts]
    thresholds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    throttled_percent: float | None = None
    observer_cost_percent: float | None = None
    clock: ClockFigures | None = None
    timer_floor_ns: float = 0.0
    submission: Mapping[str, SubmissionFigures] = field(default_factory=dict)
    interpreter_share: float | None = None


def assemble(facts: Facts, outcome: Outcome, stretches: Sequence[Stretch]) -> Result:
    """The result of a max-throughput run; raises `pydantic.ValidationError` on broken figures.

    `stretches` are the driver's, once it has finished: they account for every operation.
    """
    phases = phases_of(stretches)
    broke, pressure = culprit(outcome), limiting_resource(outcome)
    admitted = {name: each.admitted_max for name, each in facts.components.items()}
    back = recovery(outcome.calm, outcome.limits, outcome.recovery.duration_s)
    moved = drifts(loaded(outcome.sustained), STATIONARY_LEVEL)
    shown = [_phase(p, facts, moved if p.name == MAIN_PHASE else None) for p in phases]
    little = [v for p in phases for v in littles.violations(p.name, p.components, p.loaded_s)]
    believed = trust(
        outcome,
        little,
        throttled_percent=facts.throttled_percent,
        observer_cost_percent=facts.observer_cost_percent,
        clock=facts.clock,
        timer_floor_ns=facts.timer_floor_ns,
        above_roof=[line for each in shown for line in above_roof(each)],
    )
    unresolved = [] if believed.generator_limited else handover_delays(open_stretches(outcome))
    rules = [criteria.with_thresholds(r, facts.thresholds) for r in criteria.MAX_THROUGHPUT]
    judged = [
        criteria.breaking_point(outcome.knee, rules[0]),
        criteria.recovery_time(back, rules[1]),
        criteria.data_consistency([p.components for p in phases], rules[2]),
    ]
    main = next(p for p in phases if p.name == MAIN_PHASE)
    return Result(
        schema=RESULT_SCHEMA,
        run_id=facts.run_id,
        name=facts.name,
        scenario=facts.scenario,
        backend=facts.backend,
        backend_reason=facts.backend_reason,
        device=facts.device,
        seed=facts.seed,
        profile=facts.profile,
        started=facts.started,
        duration_s=facts.duration_s,
        production_scale=facts.production_scale,
        verdict=verdict(judged, believed),
        phases=shown,
        components=_components(main, facts),
        criteria=judged,
        breaking_point=_breaking_point(outcome, broke, pressure),
        recovery_s=back.seconds,
        bottlenecks=bottlenecks(outcome, phases, broke, pressure, back, admitted),
        submission=dict(facts.submission),
        interpreter_share=facts.interpreter_share,
        trust=believed,
        notes=[
            *facts.notes,
            *_judged_at(outcome),
            *(f"{MAIN_PHASE} was not stationary: {drift}" for drift in moved or ()),
            *(f"{each}; this machine's timers are no better" for each in unresolved),
        ],
    )


def verdict(judged: Sequence[CriterionResult], believed: Trust) -> Verdict:
    """The run's verdict: distrust goes before failure, failure before warning.

    A breaking point censored at the limit passes; any other criterion left open is a warning.
    """
    if believed.reasons:
        return "untrusted"
    if any(each.verdict == "fail" for each in judged):
        return "fail"
    passed = all(
        each.verdict == "pass"
        or (each.verdict == "censored" and each.metric == criteria.BREAKING_POINT.metric)
        for each in judged
    )
    return "pass" if passed else "warn"


def above_roof(phase: PhaseResult) -> list[str]:
    """A line for each goodput of a phase that exceeds its ceiling."""
    found = []
    for name, figures in phase.components.items():
        percent = None if figures.goodput is None else figures.goodput.percent_of_ceiling
        if percent is not None and percent > 100.0:
            found.append(f"{name} in {phase.name} at {percent:.0f}% of it")
    return found


def percentiles(
    histogram: Histogram, dispersions: Mapping[float, Dispersion] | None = None
) -> Percentiles:
    """The published percentiles, null with fewer than ten samples beyond, and their intervals.

    `dispersions` are by percentile; without them nothing is said of the noise.
    """
    count = histogram.count
    if not count:
        return Percentiles(count=0)
    named = {
        name: histogram.percentile(p)
        for name, p in PERCENTILES.items()
        if beyond(count, p) >= BEYOND_MIN
    }
    told, precise = {}, None
    for name, value in named.items():
        percentile = PERCENTILES[name]
        spread = (dispersions or {}).get(percentile)
        found = interval_of(histogram, percentile, spread)
        if spread is not None and found is not None:
            # An estimate is at least 1 ns, for its logarithm; a value may be 0.
            told[name] = (min(value, found.low_ns), found.high_ns)
            if independent_beyond(count, percentile, spread) >= PRECISE_MIN:
                precise = name
    return Percentiles(
        max=histogram.max,
        mean=histogram.mean,
        count=count,
        interval_95=None if dispersions is None else PercentileIntervals(**told),
        precise=precise,
        **named,
    )


def loaded(held: Held) -> list[Interval]:
    """The intervals of a stretch up to its last arrival, without its drain."""
    last = max((each.start_s for each in held.intervals if each.scheduled), default=0.0)
    return [each for each in held.intervals if each.start_s <= last]


def _phase(phase: Phase, facts: Facts, moved: Sequence[Drift] | None) -> PhaseResult:
    return PhaseResult(
        stationary=None if moved is None else not moved,
        name=phase.name,
        start_s=phase.start_s,
        duration_s=phase.duration_s,
        multiplier=phase.multiplier,
        components=_components(phase, facts),
    )


def _components(phase: Phase, facts: Facts) -> dict[str, ComponentFigures]:
    busy_ns = sum(f.busy_ns for f in phase.components.values())
    return {
        name: _component(figures, phase, facts.components[name], busy_ns)
        for name, figures in phase.components.items()
    }


def _component(
    figures: Figures, phase: Phase, facts: ComponentFacts, busy_ns: int
) -> ComponentFigures:
    operations = {
        name: OperationFigures(
            **_figures(part, phase),
            goodput=_goodput(part.units, phase.duration_s, facts.operations.get(name)),
        )
        for name, part in figures.operations.items()
    }
    return ComponentFigures(
        **_figures(figures, phase),
        goodput=_whole_goodput(figures, phase.duration_s, facts),
        latency_target=facts.latency_target_s,
        throughput_target=facts.throughput_target,
        littles_law_error=littles.error(figures, phase.loaded_s),
        operations=operations,
        machine_share=figures.busy_ns / busy_ns if busy_ns else None,
        claim=facts.claim,
    )


def _figures(figures: Figures, phase: Phase) -> dict[str, Any]:
    spent_ns = figures.busy_ns + figures.verify_ns
    return {
        "scheduled": figures.scheduled,
        "ok": figures.ok,
        "errors": figures.errors,
        "rejected": figures.rejected,
        "abandoned": figures.abandoned,
        "offered_ops_s": figures.scheduled / phase.duration_s if phase.offered else None,
        "achieved_ops_s": figures.ok / phase.duration_s,
        "response_ns": percentiles(figures.response, figures.dispersions.get("response")),
        "service_ns": percentiles(figures.service, figures.dispersions.get("service")),
        "lateness_ns": percentiles(figures.lateness, figures.dispersions.get("lateness")),
        "queue_depth_max": figures.queue_depth_max,
        "in_flight_max": figures.in_flight_max,
        "verified": figures.verified,
        "violations": figures.violations,
        "verify_share": figures.verify_ns / spent_ns if spent_ns else None,
    }


def _whole_goodput(figures: Figures, duration_s: float, facts: ComponentFacts) -> Goodput | None:
    """Of the op types that are counted in the component's own unit: others do not add up with
    them. None where the work done was of others alone."""
    unit = facts.capacity.unit
    worked = {
        name: part.units
        for name, part in figures.operations.items()
        if part.units and name in facts.operations
    }
    alike = [units for name, units in worked.items() if facts.operations[name].unit == unit]
    if worked and not alike:
        return None
    return _goodput(sum(alike) if worked else figures.units, duration_s, facts.capacity)


def _goodput(units: int, duration_s: float, capacity: Capacity | None) -> Goodput | None:
    if capacity is None:
        return None
    value = units / duration_s
    percent = None if not capacity.ceiling else 100.0 * value / capacity.ceiling
    return Goodput(
        unit=capacity.unit, value=value, ceiling=capacity.ceiling, percent_of_ceiling=percent
    )


def _breaking_point(
    outcome: Outcome, broke: Culprit | None, pressure: Pressure | None
) -> BreakingPoint:
    knee = outcome.knee
    follows = () if broke is None else broke.cascade
    return BreakingPoint(
        multiplier=knee.multiplier,
        interval=(knee.low, knee.high),
        censored=knee.censored,
        first_component=None if broke is None else broke.component,
        resource=None if pressure is None else pressure.resource,
        cascade=[
            Follower(component=f.component, order=i + 1, after_s=f.after_s)
            for i, f in enumerate(follows)
        ],
        probes=[_probe(p) for p in (*outcome.baselines, *outcome.probes)],
    )


def _probe(probe: Probe) -> LoadProbe:
    """One point of the curve; achieved counts completions within the stretch, not its drain."""
    return LoadProbe(
        multiplier=probe.multiplier,
        start_s=probe.start_s,
        duration_s=probe.duration_s,
        failed=probe.failed,
        believed=probe.believed,
        response_p99_ns={n: percentiles(f.response).p99 for n, f in probe.components.items()},
        achieved_ops_s={
            name: sum(trace.completed) / trace.ends_s[-1]
            for name, trace in probe.traces.items()
            if trace.ends_s
        },
    )


def _judged_at(outcome: Outcome) -> list[str]:
    """Which percentile each component's latency was judged by, as the criteria ask to be said."""
    lines = []
    for name, limit in outcome.limits.items():
        if limit.baseline is None:
            lines.append(f"{name}: too few operations at 1x to judge its latency; errors and queue")
        else:
            p = limit.baseline
            lines.append(
                f"{name}: latency judged by p{p.percentile:g}, {p.value_ns} ns at "
                f"{outcome.knee.reference:g}x ({p.low_ns} to {p.high_ns})"
            )
    return lines
