"""Throughput and latency along the number of workers, measured in interleaved rounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from swarmbench import _native
from swarmbench.analysis.usl import Fit, fit
from swarmbench.engine import op_figures
from swarmbench.errors import MachineError
from swarmbench.measured import Figures
from swarmbench.plan import Plan
from swarmbench.workloads import native_workload

ROUNDS = 5
#: Share of each hold that warms up and is not counted.
WARM_SHARE = 0.2
PATIENCE_S = 10.0

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Point:
    """One component at one number of workers: each round's rate, and the median p99."""

    threads: int
    rates_s: tuple[float, ...]
    response_p99_ns: int | None

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


def along_threads(
    plan: Plan,
    threads: Sequence[int],
    hold_s: float,
    *,
    rounds: int = ROUNDS,
    progress: Progress = lambda label, share: None,
) -> list[Scaling]:
    """Every component of `plan` in a closed loop, alone, at each number of workers.

    Rounds go up and down the axis in turns, so that a drift of the machine is shared by all points.
    Raises `MachineError` where an operation hangs.
    """
    built = {
        each.name: each.component.prepare(seed=plan.seed, threads=max(threads))
        for each in plan.workloads
    }
    found: dict[tuple[str, int], list[Figures]] = {}
    lengths: dict[tuple[str, int], list[float]] = {}
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
                figures, seconds = _held(engine, each.name, each.stress_in_flight, hold_s)
                found.setdefault((each.name, count), []).append(figures)
                lengths.setdefault((each.name, count), []).append(seconds)
                done += 1
    return [
        _scaling(each.name, {n: (found[each.name, n], lengths[each.name, n]) for n in threads})
        for each in plan.workloads
    ]


def _held(
    engine: _native.Engine, name: str, in_flight: int, hold_s: float
) -> tuple[Figures, float]:
    """What one closed loop did after its warm-up, and for how many seconds."""
    try:
        for seconds in (WARM_SHARE * hold_s, (1.0 - WARM_SHARE) * hold_s):
            phase, began_ns = engine.begin_closed([in_flight])
            engine.wait(seconds)
            ended_ns = engine.cease()
            if not engine.settle(PATIENCE_S):
                raise MachineError(f"an operation of {name} has hung for {PATIENCE_S:g} s")
        now_ns = engine.now()
        elapsed_ns = ended_ns - began_ns
        reading = op_figures(engine.reading(phase)[0], engine.maxima()[0], elapsed_ns, now_ns)
        return reading, (now_ns - began_ns) / 1e9
    finally:
        engine.stop()


def _scaling(
    name: str, measured: Mapping[int, tuple[Sequence[Figures], Sequence[float]]]
) -> Scaling:
    points = []
    for threads, (rounds, seconds) in measured.items():
        rates = tuple(
            figures.ok / length for figures, length in zip(rounds, seconds, strict=True)
        )  # fmt: skip
        tails = [each.response.percentile(99.0) for each in rounds if each.response.count >= 1000]
        points.append(Point(threads, rates, int(median(tails)) if tails else None))
    rates_of = {point.threads: point.rates_s for point in points}
    sound = len(points) >= 2 and all(min(point.rates_s) > 0.0 for point in points)
    return Scaling(name, tuple(points), fit(rates_of) if sound else None)
