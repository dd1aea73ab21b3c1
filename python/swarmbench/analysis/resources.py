"""Which of the machine's resources stood behind a break, from its readings over the stretches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from swarmbench.measured import Figures, Resources

#: A worker or a core in use for this share of the time has no room left for bursts.
SATURATED = 0.85


class Stretch(Protocol):
    """What is read of a stretch: a probe or a held load."""

    @property
    def resources(self) -> Resources: ...
    @property
    def components(self) -> Mapping[str, Figures]: ...


@dataclass(frozen=True, slots=True)
class Pressure:
    """One resource's reading against the threshold from which it limits."""

    resource: str
    measured: float
    threshold: float
    unit: str
    evidence: str

    @property
    def severity(self) -> float:
        """The reading in thresholds; 1 and above limits."""
        return self.measured / self.threshold


@dataclass(frozen=True, slots=True)
class Rule:
    """How one resource is read: its unit, its threshold and what the reading means."""

    resource: str
    unit: str
    threshold: float
    reading: Callable[[Resources], float | None]
    meaning: str


def _bandwidth_lost(resources: Resources) -> float | None:
    """The copy canary's slowdown beyond the arithmetic one's, which shares all but memory."""
    if resources.memory_slowdown is None:
        return None
    return resources.memory_slowdown / max(1.0, resources.compute_slowdown or 1.0) - 1.0


#: What is taken from the components, or shared by them beside the cores. Any of these goes
#: before the cores' own saturation, which is how every break by load ends.
SPECIFIC = (
    Rule(
        "cpu_foreign", "share", 0.15, lambda r: r.cpu_foreign, "of the cores used by other programs"
    ),
    Rule("cpu_steal", "share", 0.10, lambda r: r.steal, "of the time taken by the hypervisor"),
    Rule(
        "memory_bandwidth",
        "ratio",
        0.35,
        _bandwidth_lost,
        "slower copies than idle, beyond the CPU",
    ),
    Rule("disk", "share", 0.20, lambda r: r.disk_pressure, "of the time stalled on the disk"),
    Rule("memory", "share", 0.10, lambda r: r.memory_pressure, "of the time stalled on memory"),
)
GENERAL = (
    Rule("cpu", "share", SATURATED, lambda r: r.cpu_busy, "of the allowed cores busy"),
    Rule("workers", "share", SATURATED, lambda r: r.workers_busy, "of worker time in operations"),
)


def limiting(stretches: Sequence[Stretch]) -> Pressure | None:
    """The resource behind the failing stretches, or None where no reading passes its threshold.

    Readings are medians over the stretches. Rejections while workers stood idle mean a limit of
    the harness's own (`in_flight`); saturated workers on idle cores mean too few `workers`.
    """
    found = pressures(stretches)
    specific = [p for p in found if p.resource in {r.resource for r in SPECIFIC}]
    worst = max(specific, key=lambda p: p.severity, default=None)
    if worst is not None and worst.severity >= 1.0:
        return worst
    refused = _refused(stretches)
    if refused is not None:
        return refused
    saturated = [p for p in found if p not in specific and p.severity >= 1.0]
    return saturated[0] if saturated else None


def pressures(stretches: Sequence[Stretch]) -> list[Pressure]:
    """Every readable resource over the stretches, in the order of the rules."""
    found = []
    for rule in (*SPECIFIC, *GENERAL):
        readings = [v for s in stretches if (v := rule.reading(s.resources)) is not None]
        if readings:
            value = median(readings)
            evidence = f"{value:.0%} {rule.meaning}"
            if len(readings) > 1:
                evidence += f", median of {len(readings)} stretches"
            found.append(Pressure(rule.resource, value, rule.threshold, rule.unit, evidence))
    return found


def _refused(stretches: Sequence[Stretch]) -> Pressure | None:
    readings = [s.resources.workers_busy for s in stretches]
    busy = [share for share in readings if share is not None]
    if not busy or median(busy) >= SATURATED:
        return None
    shares = [max(map(_rejected_share, s.components.values()), default=0.0) for s in stretches]
    share = median(shares)
    if share < 0.001:
        return None
    evidence = f"{share:.1%} rejected while workers were busy {median(busy):.0%} of the time"
    return Pressure("in_flight", share, 0.001, "share", evidence)


def _rejected_share(figures: Figures) -> float:
    return figures.rejected / max(1, figures.scheduled)
