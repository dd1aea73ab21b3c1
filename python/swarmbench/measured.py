"""What a stretch of load measured: the vocabulary that engine, scenarios and analysis share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self


class Histogram(Protocol):
    """Durations in nanoseconds; `swarmbench._native.Histogram` is the one that engines fill."""

    @property
    def count(self) -> int: ...
    @property
    def min(self) -> int: ...
    @property
    def max(self) -> int: ...
    @property
    def mean(self) -> float: ...
    def percentile(self, q: float) -> int:
        """The smallest recorded value with at least `q` percent (0..100) at or below it."""
        ...

    def merged(self, other: Self) -> Self:
        """Both histograms' counts in a new one, exactly."""
        ...

    def count_between(self, low: int, high: int) -> int:
        """How many values lie in low..high, both ends included, to the bucket."""
        ...


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
class Dispersion:
    """How far apart a count of dependent events strays, over that of as many independent ones.

    `index` is the ratio of the variances, told by `batches` of time. `settled` is false where
    even the longest ones depended on each other, so that it may be larger still.
    """

    index: float
    batches: int
    settled: bool


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
    #: Mean number in the system of operations that ended ok, by stamps of hand-over and
    #: completion alone: Little's L.
    occupancy_mean: float
    #: Response times of operations that found a worker free and nothing queued before them.
    unqueued: Histogram | None = None
    #: Worker time spent checking answers; not part of `busy_ns`.
    verify_ns: int = 0
    #: By name of the histogram and percentile; empty where no times within the stretch are known.
    dispersions: Mapping[str, Mapping[float, Dispersion]] = field(default_factory=dict)
    operations: Mapping[str, Figures] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Interval:
    """One component over one short interval (about 0.1 s) of a stretch; counts are increments.

    At its end `queue_depth` operations waited for a worker and `in_flight` were being served.
    """

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
