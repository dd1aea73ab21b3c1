"""Figures of several stretches as those of one phase, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from swarmbench.measured import Figures, Held, Histogram
from swarmbench.outcome import Outcome, Probe


@dataclass(frozen=True, slots=True)
class Phase:
    """One named phase: `loaded_s` is the time under load, without drains and pauses.

    `multiplier` is None in a closed loop and the highest one in a search; `offered` says whether
    arrivals followed a schedule.
    """

    name: str
    start_s: float
    duration_s: float
    loaded_s: float
    multiplier: float | None
    components: Mapping[str, Figures]

    @property
    def offered(self) -> bool:
        """Whether arrivals followed a schedule (an open loop)."""
        return self.multiplier is not None


def phases_of(outcome: Outcome) -> list[Phase]:
    """The four phases in their order; the search holds baselines, probes and the overload."""
    searched = [*outcome.baselines, *outcome.probes, outcome.overload]
    return [
        _held("ramp_up", outcome.ramp_up, 1.0),
        _held("sustained", outcome.sustained, None),
        _searched(searched),
        _held("recovery", outcome.recovery_held, outcome.recovery.multiplier),
    ]


def summed(parts: Sequence[tuple[Figures, float]]) -> Figures:
    """The figures of stretches, each with its seconds, as those of one; at least one part."""
    (total, seconds), *rest = parts
    for figures, more_s in rest:
        total = _plus(total, seconds, figures, more_s)
        seconds += more_s
    return total


def _plus(left: Figures, left_s: float, right: Figures, right_s: float) -> Figures:
    names = [*left.operations, *(n for n in right.operations if n not in left.operations)]
    whole_s = left_s + right_s
    return replace(
        left,
        **{name: getattr(left, name) + getattr(right, name) for name in COUNTS},
        response=left.response.merged(right.response),
        service=left.service.merged(right.service),
        lateness=left.lateness.merged(right.lateness),
        unqueued=_merged(left.unqueued, right.unqueued),
        queue_depth_max=max(left.queue_depth_max, right.queue_depth_max),
        in_flight_max=max(left.in_flight_max, right.in_flight_max),
        occupancy_mean=(left.occupancy_mean * left_s + right.occupancy_mean * right_s) / whole_s,
        operations={
            name: summed(
                [
                    (f.operations[name], s)
                    for f, s in ((left, left_s), (right, right_s))
                    if name in f.operations
                ]
            )
            for name in names
        },
    )


#: The fields of `Figures` that add up.
COUNTS = (
    "scheduled",
    "ok",
    "errors",
    "rejected",
    "abandoned",
    "units",
    "busy_ns",
    "verified",
    "violations",
)


def _merged(left: Histogram | None, right: Histogram | None) -> Histogram | None:
    return None if left is None or right is None else left.merged(right)


def _held(name: str, held: Held, multiplier: float | None) -> Phase:
    return Phase(name, held.start_s, held.duration_s, held.duration_s, multiplier, held.components)


def _searched(probes: Sequence[Probe]) -> Phase:
    names = probes[0].components
    components = {n: summed([(p.components[n], p.duration_s) for p in probes]) for n in names}
    start_s = min(p.start_s for p in probes)
    return Phase(
        "search",
        start_s,
        max(p.start_s + p.duration_s for p in probes) - start_s,
        sum(p.duration_s for p in probes),
        max(p.multiplier for p in probes),
        components,
    )
