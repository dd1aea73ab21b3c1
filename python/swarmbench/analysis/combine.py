"""Figures of several stretches as those of one phase, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from swarmbench.measured import Figures, Histogram, Load, OpenLoop


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


class Stretch(Protocol):
    """One hold with its final figures, as the driver keeps them."""

    @property
    def phase(self) -> str: ...
    @property
    def load(self) -> Load: ...
    @property
    def start_s(self) -> float: ...
    @property
    def duration_s(self) -> float: ...
    @property
    def figures(self) -> Mapping[str, Figures]: ...


def phases_of(stretches: Sequence[Stretch]) -> list[Phase]:
    """The phases in the order of their first stretch.

    The stretches are the driver's, not the scenario's: one that was not drained is complete
    only once the next one has ended.
    """
    names = dict.fromkeys(stretch.phase for stretch in stretches)
    return [_phase(name, [s for s in stretches if s.phase == name]) for name in names]


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
        # Stretches at different loads have no percentile in common whose noise could be told.
        dispersions={},
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
    "verify_ns",
    "verified",
    "violations",
)


def _merged(left: Histogram | None, right: Histogram | None) -> Histogram | None:
    return None if left is None or right is None else left.merged(right)


def _phase(name: str, parts: Sequence[Stretch]) -> Phase:
    names = parts[0].figures
    components = {n: summed([(part.figures[n], part.duration_s) for part in parts]) for n in names}
    start_s = min(part.start_s for part in parts)
    peaks = [max(m for _, m in x.load.multipliers) for x in parts if isinstance(x.load, OpenLoop)]
    return Phase(
        name,
        start_s,
        max(part.start_s + part.duration_s for part in parts) - start_s,
        sum(part.duration_s for part in parts),
        max(peaks, default=None),
        components,
    )
