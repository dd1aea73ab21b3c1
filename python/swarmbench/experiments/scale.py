"""Throughput and latency along the number of workers, measured in interleaved rounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from swarmbench import _native
from swarmbench.analysis.usl import Fit, fit
from swarmbench.errors import ConfigurationError, MachineError
from swarmbench.experiments.alone import measured_alone
from swarmbench.measured import Held
from swarmbench.plan import Plan
from swarmbench.scenarios.steady import Rule, Steady
from swarmbench.workloads import Host, native_workload

ROUNDS = 5
#: The largest number of workers on the axis.
THREADS_MAX = 1024
#: How well each hold is to know throughput and median, as shares of them, and from how many
#: operations at least; the p99 takes more than a short hold of a slow component has.
RATE_PRECISION, MEDIAN_PRECISION, SAMPLES_MIN = 0.05, 0.1, 100

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Point:
    """One component at one number of workers: each round's rate, and the median p99.

    `warm_up_s` is the median of the rounds' too; `doubts` say why one did not converge.
    """

    threads: int
    rates_s: tuple[float, ...]
    response_p99_ns: int | None
    converged: bool
    warm_up_s: float
    doubts: tuple[str, ...] = ()

    @property
    def rate_s(self) -> float:
        """Operations per second, the median of the rounds."""
        return median(self.rates_s)


@dataclass(frozen=True, slots=True)
class Scaling:
    """One component along the axis; `fit` is None with fewer than two points."""

    component: str
    points: tuple[Point, ...]
    fit: Fit | None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)


def threads_of(axis: str) -> tuple[int, ...]:
    """The points of `threads=1,2`; `ConfigurationError` for other axes and values."""
    name, _, values = axis.partition("=")
    right = "give `threads=1,2`, each between 1 and 1024"
    if name != "threads":
        raise ConfigurationError("--axis", f"`{axis}` is no axis; {right}")
    points = [point.strip() for point in values.split(",")]
    if not all(point.isdecimal() and 1 <= int(point) <= THREADS_MAX for point in points):
        raise ConfigurationError("--axis", f"`{axis}` is out of range; {right}")
    return tuple(sorted({int(point) for point in points}))


def along_threads(
    plan: Plan,
    threads: Sequence[int],
    hold_s: float,
    *,
    rounds: int = ROUNDS,
    progress: Progress = lambda label, share: None,
) -> list[Scaling]:
    """Every component of `plan` in a closed loop, alone, at each number of workers.

    A hold lasts until the component is steady and its figures are known, and `hold_s` at most.
    Rounds go up and down the axis in turns, so that a drift of the machine is shared by all points.
    Raises `MachineError` where an operation hangs, and for a workload that is not on the CPU.
    """
    for each in plan.workloads:
        if each.backend != "cpu":
            raise MachineError(
                f"`{each.name}` is on {each.backend}, and threads are those of the CPU",
                hint=f"set `workloads.{each.name}.backend: cpu`",
            )
    built = {
        each.name: each.component.prepare(seed=plan.seed, threads=max(threads)).native
        for each in plan.workloads
    }
    found: dict[tuple[str, int], list[Steady]] = {}
    rule = replace(
        Rule.within(hold_s),
        samples_min=SAMPLES_MIN,
        percentile=50.0,
        rate_precision=RATE_PRECISION,
        percentile_precision=MEDIAN_PRECISION,
    )
    steps = rounds * len(plan.workloads) * len(threads)
    done = 0
    for number in range(rounds):
        for each in plan.workloads:
            for count in threads if number % 2 == 0 else reversed(threads):
                progress(f"{each.name} on {count} threads", done / steps)
                engine = _native.Engine(
                    [native_workload(each, built[each.name])],
                    seed=plan.seed + number,
                    workers=count,
                    worker_cpus=list(plan.cpus),
                )
                host = Host(engine, [each], plan.seed)
                ops = built[each.name].ops()
                try:
                    held = measured_alone(engine, each.name, ops, each.stress_in_flight, rule)
                finally:
                    engine.stop()
                host.join()
                found.setdefault((each.name, count), []).append(held)
                done += 1
    return [
        _scaling(each.name, {n: found[each.name, n] for n in threads}) for each in plan.workloads
    ]


def _scaling(name: str, measured: Mapping[int, Sequence[Steady]]) -> Scaling:
    points = [_point(name, threads, rounds) for threads, rounds in measured.items()]
    rates_of = {point.threads: point.rates_s for point in points}
    sound = len(points) >= 2 and all(min(point.rates_s) > 0.0 for point in points)
    return Scaling(name, tuple(points), fit(rates_of) if sound else None)


def _point(name: str, threads: int, rounds: Sequence[Steady]) -> Point:
    responses = [each.held.components[name].response for each in rounds]
    tails = [each.percentile(99.0) for each in responses if each.count >= 1000]
    doubts = dict.fromkeys(doubt for each in rounds for doubt in each.doubts)
    return Point(
        threads,
        tuple(_rate_s(each.held) for each in rounds),
        int(median(tails)) if tails else None,
        converged=all(each.converged for each in rounds),
        warm_up_s=median(each.warm_up_s for each in rounds),
        doubts=tuple(doubts),
    )


def _rate_s(held: Held) -> float:
    """Operations per second of a drained hold; what its drain completed took its time too."""
    seconds = sum(each.duration_s for each in held.intervals)
    return held.components[held.intervals[0].component].ok / seconds
