"""Findings: what limited whom, when, by which measurement, and what its own numbers suggest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from swarmbench.analysis.breaking import Culprit, failing_probes
from swarmbench.analysis.combine import Phase
from swarmbench.analysis.recovery import Recovery
from swarmbench.analysis.resources import Pressure, limiting
from swarmbench.outcome import Outcome
from swarmbench.schema import Bottleneck

#: Rejections above this share of a phase's arrivals are a finding.
REJECTED_SHARE = 0.001
#: A component that keeps more of the workers than this many equal shares crowds the others.
CROWDING = 1.5

ADVICE = {
    "cpu": "more cores, or fewer worker seconds per operation",
    "cpu_foreign": "stop the other programs, or keep cores apart with `--cpus`",
    "cpu_steal": "a machine of one's own: the hypervisor gives these cores to others",
    "memory_bandwidth": "more memory channels, or fewer bytes moved per operation",
    "disk": "a faster disk, or fewer and larger writes",
    "memory": "more memory, or a lower `--memory-budget`",
    "workers": "more workers with `--threads`: cores stand idle",
    "budget": "room by `--memory-budget`, or lower `workloads.{name}.params`",
    "in_flight": "a higher `max_in_flight` or `queue`: workers stand idle while arrivals go",
}


def bottlenecks(
    outcome: Outcome,
    phases: Sequence[Phase],
    broke: Culprit | None,
    pressure: Pressure | None,
    back: Recovery,
    admitted: Mapping[str, int | None],
) -> list[Bottleneck]:
    """Every finding of a max-throughput run, the break first.

    `admitted` has by component how many operations the engine lets wait or be served at most.
    """
    found = []
    if broke is not None and pressure is not None:
        found.append(_break(outcome, broke, pressure))
    held = limiting([outcome.sustained])
    if held is not None:
        sustained = next(p for p in phases if p.name == "sustained")
        found.append(_limit(held, sustained))
    found += crowding(next(p for p in phases if p.name == "sustained"))
    for phase in phases:
        found += rejections(phase, admitted)
    found += _not_back(back, next(p for p in phases if p.name == "recovery"))
    return found


def limiting_resource(outcome: Outcome) -> Pressure | None:
    """The resource behind the break, by the failing probes just above the knee.

    A latency objective can be left before anything is exhausted; then it is what the push into
    overload exhausts.
    """
    near = limiting(failing_probes(outcome.probes, outcome.knee))
    if near is not None or outcome.knee.censored:
        return near
    return limiting([outcome.overload])


def crowding(phase: Phase) -> list[Bottleneck]:
    """Components that hold well more than an equal share of the busy worker time."""
    total = sum(f.busy_ns for f in phase.components.values())
    fair = 1.0 / len(phase.components)
    found = []
    for name, figures in phase.components.items():
        share = figures.busy_ns / total if total else 0.0
        if len(phase.components) > 1 and share > CROWDING * fair:
            evidence = (
                f"{share:.0%} of busy worker time in {phase.name}, an equal share is {fair:.0%}; "
                f"mean service {figures.service.mean / 1e6:.3g} ms. An op {share / fair:.2g} times "
                "shorter would bring it there"
            )
            found.append(_bottleneck("workers", name, phase, share, fair * CROWDING, evidence))
    return found


def rejections(phase: Phase, admitted: Mapping[str, int | None]) -> list[Bottleneck]:
    """Components whose arrivals were refused, by the engine's bound or by themselves.

    The engine refuses none before as many as it admits wait or are served.
    """
    found = []
    for name, figures in phase.components.items():
        share = figures.rejected / max(1, figures.scheduled)
        if share <= REJECTED_SHARE:
            continue
        bound = admitted.get(name)
        by_itself = bound is not None and figures.in_flight_max < bound
        resource = "budget" if by_itself else "in_flight"
        evidence = (
            f"{figures.rejected} of {figures.scheduled} rejected{' by itself' * by_itself} with at "
            f"most {figures.in_flight_max} in flight and {figures.queue_depth_max} queued. "
            f"Would help: {ADVICE[resource].format(name=name)}"
        )
        found.append(_bottleneck(resource, name, phase, share, REJECTED_SHARE, evidence))
    return found


def _break(outcome: Outcome, broke: Culprit, pressure: Pressure) -> Bottleneck:
    probes = failing_probes(outcome.probes, outcome.knee) or [outcome.overload]
    start_s = min(p.start_s for p in probes)
    figures = outcome.baselines[-1].components[broke.component]
    evidence = (
        f"{pressure.evidence}; {_who(broke, outcome.knee.multiplier)}. {broke.component} asks "
        f"for {broke.demand_share:.0%} of the worker time ({figures.service.mean / 1e6:.3g} ms "
        f"an operation at the baseline). Would help: {ADVICE[pressure.resource]}"
    )
    return Bottleneck(
        resource=pressure.resource,
        component=broke.component,
        phase="search",
        start_s=start_s,
        duration_s=max(p.start_s + p.duration_s for p in probes) - start_s,
        measured=pressure.measured,
        threshold=pressure.threshold,
        unit=pressure.unit,
        evidence=evidence,
    )


def _who(broke: Culprit, multiplier: float) -> str:
    """Who broke first by which stretches, and who felt it first where that is another."""
    if not broke.stretches:
        return (
            f"no overloaded stretch shows who broke first; by the fit {broke.hurt} leaves its "
            f"objective first, with {broke.lowest:.0%}"
        )
    felt = "" if broke.hurt == broke.component else f"; {broke.hurt} left its objective first"
    return (
        f"{broke.component} broke first in {broke.votes} of {broke.stretches} overloaded "
        f"stretches above {multiplier:.3g}x{felt}"
    )


def _not_back(back: Recovery, phase: Phase) -> list[Bottleneck]:
    return [
        _bottleneck(
            "recovery",
            name,
            phase,
            back.phase_s,
            back.phase_s,
            f"not back inside its baseline {back.phase_s:g} s after the overload ended, "
            f"{phase.components[name].queue_depth_max} queued at most",
            unit="s",
        )
        for name, seconds in back.components.items()
        if seconds is None
    ]


def _limit(pressure: Pressure, phase: Phase) -> Bottleneck:
    evidence = f"{pressure.evidence}. Would help: {ADVICE[pressure.resource]}"
    measured, threshold = pressure.measured, pressure.threshold
    return _bottleneck(pressure.resource, None, phase, measured, threshold, evidence, pressure.unit)


def _bottleneck(
    resource: str,
    component: str | None,
    phase: Phase,
    measured: float,
    threshold: float,
    evidence: str,
    unit: str = "share",
) -> Bottleneck:
    return Bottleneck(
        resource=resource,
        component=component,
        phase=phase.name,
        start_s=phase.start_s,
        duration_s=phase.duration_s,
        measured=measured,
        threshold=threshold,
        unit=unit,
        evidence=evidence,
    )
