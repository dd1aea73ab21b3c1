"""The seam between a scenario and what runs it: load as data in, figures of a stretch out.

A scenario sees only this protocol, so the same function runs against the engine and against a
simulated system whose truth is known. It owns no clock, no thread and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from swarmbench._native import Histogram


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Arrivals at the production rates times a multiplier, linear between the given points.

    `multipliers` are (seconds since the start of the hold, multiplier); one point is constant.
    """

    multipliers: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """Every component keeps its bounded number of operations in flight, times `share`."""

    share: float = 1.0


Load = OpenLoop | ClosedLoop


@dataclass(frozen=True, slots=True)
class Figures:
    """What one component, or one op type of it, did in a stretch; counts are of operations.

    Conservation: scheduled = ok + errors + rejected + abandoned once the stretch is drained.
    Response time counts from the intended start, service time from the actual one; lateness is
    the pacer's own (hand-over after intended start). `busy_ns` is worker time spent on it.
    """

    scheduled: int
    ok: int
    errors: int
    rejected: int
    abandoned: int
    units: int
    response: Histogram
    service: Histogram
    lateness: Histogram
    busy_ns: int
    queue_depth_max: int
    in_flight_max: int
    verified: int
    violations: int
    #: Mean occupancy (queued and in flight) by stamps of hand-over and completion; Little's L.
    occupancy_mean: float
    operations: Mapping[str, Figures] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Interval:
    """One component over one short interval (about 0.1 s) of a stretch; counts are increments."""

    start_s: float
    duration_s: float
    component: str
    load_epoch: int
    scheduled: int
    ok: int
    errors: int
    rejected: int
    queue_depth: int
    in_flight: int
    busy_ns: int
    response: Histogram


@dataclass(frozen=True, slots=True)
class Resources:
    """How the machine's resources stood over a stretch: shares in 0..1, None where unreadable.

    `cpu_busy` is of all allowed cores by everyone, `cpu_foreign` what others took of it;
    `workers_busy` the share of worker time inside operations; `run_delay` the share of it spent
    runnable without a core; `steal` what the hypervisor took. `memory_slowdown` is the copy
    canary's idle speed over its speed in the stretch, `compute_slowdown` the same of the
    arithmetic canary (both >= 1 under contention). `disk_pressure` and `memory_pressure` are PSI
    "some" shares.
    """

    cpu_busy: float | None = None
    cpu_foreign: float | None = None
    workers_busy: float | None = None
    run_delay: float | None = None
    steal: float | None = None
    memory_slowdown: float | None = None
    compute_slowdown: float | None = None
    disk_pressure: float | None = None
    memory_pressure: float | None = None


@dataclass(frozen=True, slots=True)
class Sentinel:
    """Whether the machine let the harness measure: the pacer's own spin gaps over a stretch."""

    gap_p99_ns: int
    gap_max_ns: int
    steal: float
    run_delay: float
    bad: bool


@dataclass(frozen=True, slots=True)
class Held:
    """The figures of one stretch at one load, drained where that was asked for."""

    phase: str
    load: Load
    start_s: float
    duration_s: float
    components: Mapping[str, Figures]
    intervals: tuple[Interval, ...]
    resources: Resources
    sentinel: Sentinel


class Driver(Protocol):
    """What runs the load: the engine on a machine, or a simulated system under a virtual clock."""

    def hold(
        self,
        phase: str,
        load: Load,
        duration_s: float,
        *,
        drain: bool = True,
        until: Callable[[list[Interval]], bool] | None = None,
    ) -> Held:
        """Holds `load` for `duration_s`, or until `until` is true of the latest intervals.

        With `drain` the stretch ends with nothing queued or in flight; without, what is left
        completes during the next one and still belongs to this one.
        """
        ...

    def event(self, kind: str, **fields: object) -> None:
        """Appends one record to the run's events, at the driver's own time."""
        ...
