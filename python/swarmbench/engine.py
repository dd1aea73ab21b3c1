"""Drives the native engine, of a machine or simulated, as the `Driver` of a scenario."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from swarmbench import _native
from swarmbench.batches import History, halved
from swarmbench.errors import Interrupted, SafetyStop
from swarmbench.measured import (
    ClosedLoop,
    Figures,
    Held,
    Interval,
    Load,
    OpenLoop,
    Resources,
    Sentinel,
)

#: Length of the intervals that figures are kept for, in seconds.
TICK_S = 0.1
#: Of a stretch so many are kept at most: in longer ones each two are made one, again and again.
INTERVALS_MAX = 4096
#: Queued operations are given up after this long a drain; one that still runs after as long
#: again hangs.
PATIENCE_S = 2.5
#: The clock is anchored anew about this often, in seconds.
ANCHOR_S = 1.0
#: The machine disturbs the measurement where the hypervisor takes this share of the time, ...
STEAL_MAX = 0.05
#: ... or where a hundredth of the pacer's spins is interrupted for this long.
GAP_P99_NS_MAX = 1_000_000
_WORD = 1 << 64


@dataclass(frozen=True, slots=True)
class Track:
    """A workload as the driver knows it: names, and the number in flight of its closed loop."""

    name: str
    ops: tuple[str, ...]
    stress_in_flight: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """One hold as it went into the record; `figures` are complete once it is drained."""

    phase: str
    load: Load
    start_s: float
    duration_s: float
    figures: Mapping[str, Figures]


class Meter(Protocol):
    """Reads the machine's resources over a stretch."""

    def start(self) -> None: ...
    def read(self) -> Resources: ...


class Listener(Protocol):
    """What is told of a run while it goes on: its record, its progress, its health.

    `tick` returns the factor on the load that health allows (1 where all is well).
    """

    def begun(self, phase: str, load: Load, start_s: float, duration_s: float) -> None: ...
    def tick(self, phase: str, elapsed_s: float, intervals: Sequence[Interval]) -> float: ...
    def ended(self, stretch: Stretch) -> None: ...
    def event(self, at_s: float, kind: str, fields: Mapping[str, object]) -> None: ...


class EngineDriver:
    """Holds loads on an engine and gathers what they did; the only caller of the engine.

    `stretches` are all holds so far, in order, with their final figures.
    """

    def __init__(
        self,
        engine: _native.Engine,
        tracks: Sequence[Track],
        *,
        workers: int,
        meter: Meter,
        listener: Listener,
        stop_requested: Callable[[], bool] = lambda: False,
        tick_s: float = TICK_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._engine = engine
        self._tracks = tuple(tracks)
        self._workers = workers
        self._meter = meter
        self._listener = listener
        self._stop_requested = stop_requested
        self._tick_s, self._patience_s = tick_s, patience_s
        self._anchored_ns = 0
        #: The largest correction of the clock so far.
        self.clock_drift_ns = 0
        #: (native phase, index of the stretch) of what was not drained at its end.
        self._undrained: list[tuple[int, int]] = []
        self.stretches: list[Stretch] = []

    def hold(
        self,
        phase: str,
        load: Load,
        duration_s: float,
        *,
        drain: bool = True,
        until: Callable[[list[Interval]], bool] | None = None,
    ) -> Held:
        """Holds `load`; see `scenarios.driver.Driver`. Raises `Interrupted` and `SafetyStop`."""
        self._meter.start()
        self._engine.gaps()
        number, begin_ns = self._begin(load)
        self._listener.begun(phase, load, begin_ns / 1e9, duration_s)
        # A stretch that may end early is a probe: its percentiles are not published by themselves.
        history = None
        if drain and until is None and is_constant(load):
            history = History(duration_s, lambda past_s: self._figures(number, past_s * 1e9))
        intervals = self._watch(phase, load, begin_ns, duration_s, until, history)
        loaded_ns = self._engine.now() - begin_ns
        drain = drain or self._stop_requested()
        if drain:
            self._engine.cease()
        resources = self._resources(number, loaded_ns)
        sentinel = self._sentinel(resources)
        if drain:
            self._settle()
            intervals += self._intervals(intervals, begin_ns)
        stretch = self._file(number, phase, load, begin_ns, loaded_ns, history, drain=drain)
        if self._stop_requested():
            raise Interrupted("interrupted: drained, and everything so far is kept")
        return Held(
            phase,
            load,
            stretch.start_s,
            stretch.duration_s,
            stretch.figures,
            tuple(intervals),
            resources,
            sentinel,
        )

    def event(self, kind: str, **fields: object) -> None:
        """Appends one record to the run's events."""
        self._listener.event(self._engine.now() / 1e9, kind, fields)

    def capacity(self, component: str, duration_s: float) -> float:
        """Operations per second that a component alone completes in its closed loop."""
        counts = [each.stress_in_flight if each.name == component else 0 for each in self._tracks]
        number, begin_ns = self._engine.begin_closed(counts)
        end_ns = begin_ns + round(duration_s * 1e9)
        while (left_s := (end_ns - self._engine.now()) / 1e9) > 0 and not self._stop_requested():
            self._engine.wait(min(self._tick_s, left_s))
        loaded_ns = self._engine.now() - begin_ns
        figures = self._figures(number, loaded_ns)[component]
        self._engine.cease()
        self._settle()
        if self._stop_requested():
            raise Interrupted("interrupted: drained, and everything so far is kept")
        return figures.ok / (loaded_ns / 1e9)

    def finish(self) -> None:
        """Ends what an undrained last stretch left under way and completes its figures."""
        self._engine.cease()
        self._settle()

    def _begin(self, load: Load) -> tuple[int, int]:
        if isinstance(load, OpenLoop):
            return self._engine.begin_open(list(load.multipliers))
        return self._engine.begin_closed(self._closed_counts(load.share))

    def _closed_counts(self, share: float) -> list[int]:
        return [max(1, round(track.stress_in_flight * share)) for track in self._tracks]

    def _watch(
        self,
        phase: str,
        load: Load,
        begin_ns: int,
        duration_s: float,
        until: Callable[[list[Interval]], bool] | None,
        history: History | None,
    ) -> list[Interval]:
        """Lets the stretch pass, interval by interval, and holds the load to what health allows."""
        intervals: list[Interval] = []
        factor = 1.0
        end_ns = begin_ns + round(duration_s * 1e9)
        while (left_s := (end_ns - self._engine.now()) / 1e9) > 0 and not self._stop_requested():
            self._engine.wait(min(self._tick_s, left_s))
            latest = self._intervals(intervals, begin_ns)
            intervals += latest
            elapsed_s = (self._engine.now() - begin_ns) / 1e9
            allowed = self._listener.tick(phase, elapsed_s, latest)
            if allowed != factor:
                self._scale(load, elapsed_s, allowed)
                self.event("load", phase=phase, factor=allowed, epoch=self._engine.epoch())
                factor = allowed
            if self._engine.aborted() is not None:
                name = self._tracks[self._engine.aborted() or 0].name
                raise SafetyStop(f"workload `{name}` was overloaded and its policy is `abort`")
            if until is not None and until(latest):
                break
            if history is not None:
                history.keep(elapsed_s)
            if len(intervals) >= INTERVALS_MAX * len(self._tracks):
                intervals = halved(intervals, len(self._tracks))
            self._anchor()
        return intervals

    def _scale(self, load: Load, elapsed_s: float, factor: float) -> None:
        if isinstance(load, ClosedLoop):
            self._engine.change_closed(self._closed_counts(load.share * factor))
        else:
            self._engine.change(multiplier_at(load, elapsed_s) * factor)

    def _anchor(self) -> None:
        now_ns = self._engine.now()
        if now_ns - self._anchored_ns > ANCHOR_S * 1e9:
            self.clock_drift_ns = self._engine.anchor()
            self._anchored_ns = now_ns

    def _settle(self) -> None:
        if not self._engine.settle(self._patience_s):
            raise SafetyStop(
                f"an operation has not ended {2 * self._patience_s:g} s after the end of its load",
                hint="the component that hangs is the one still in flight in components.jsonl",
            )
        for number, index in self._undrained:
            stretch = self.stretches[index]
            peaks = [(f.queue_depth_max, f.in_flight_max) for f in stretch.figures.values()]
            figures = self._figures(number, stretch.duration_s * 1e9, peaks)
            self.stretches[index] = replace(stretch, figures=figures)
            self._listener.ended(self.stretches[index])
        self._undrained.clear()

    def _intervals(self, before: Sequence[Interval], begin_ns: int) -> list[Interval]:
        started_s = begin_ns / 1e9
        if before:
            started_s = before[-1].start_s + before[-1].duration_s
        now_s, epoch = self._engine.now() / 1e9, self._engine.epoch()
        latest = []
        for track, reading in zip(self._tracks, self._engine.interval(), strict=True):
            counters = reading.counters()
            latest.append(
                Interval(
                    start_s=started_s,
                    duration_s=max(0.0, now_s - started_s),
                    component=track.name,
                    load_epoch=epoch,
                    scheduled=counters["scheduled"],
                    ok=counters["ok"],
                    errors=counters["errors"],
                    rejected=counters["rejected"],
                    queue_depth=reading.queue_depth,
                    in_flight=max(0, reading.in_flight - reading.queue_depth),
                    busy_ns=counters["busy_ns"],
                    response=reading.response,
                )
            )
        return latest

    def _resources(self, number: int, loaded_ns: int) -> Resources:
        """The machine's resources over the loaded part, with the workers' own share."""
        resources = self._meter.read()
        busy_ns = 0
        for ops in self._engine.reading(number):
            for reading in ops:
                counters = reading.counters()
                busy_ns += counters["busy_ns"] + counters["verify_ns"]
        share = busy_ns / max(1, loaded_ns * self._workers)
        return replace(resources, workers_busy=min(1.0, share))

    def _sentinel(self, resources: Resources) -> Sentinel:
        gaps = self._engine.gaps()
        gap_p99_ns = gaps.percentile(99.0)
        steal = resources.steal or 0.0
        return Sentinel(
            gap_p99_ns=gap_p99_ns,
            gap_max_ns=gaps.max,
            steal=steal,
            run_delay=resources.run_delay or 0.0,
            bad=steal > STEAL_MAX or gap_p99_ns > GAP_P99_NS_MAX,
        )

    def _file(
        self,
        number: int,
        phase: str,
        load: Load,
        begin_ns: int,
        loaded_ns: int,
        history: History | None,
        *,
        drain: bool,
    ) -> Stretch:
        figures = self._figures(number, loaded_ns)
        if history is not None:
            figures = history.told(figures)
        stretch = Stretch(phase, load, begin_ns / 1e9, loaded_ns / 1e9, figures)
        self.stretches.append(stretch)
        if drain:
            self._listener.ended(stretch)
        else:
            self._undrained.append((number, len(self.stretches) - 1))
        return stretch

    def _figures(
        self, number: int, duration_ns: float, maxima: Sequence[tuple[int, int]] | None = None
    ) -> dict[str, Figures]:
        """Figures of a stretch; `maxima` are its own where another has begun since."""
        readings = self._engine.reading(number)
        maxima = self._engine.maxima() if maxima is None else maxima
        now_ns = self._engine.now()
        return {
            track.name: component_figures(track, ops, peak, duration_ns, now_ns)
            for track, ops, peak in zip(self._tracks, readings, maxima, strict=True)
        }


def is_constant(load: Load) -> bool:
    """Whether the load is the same from beginning to end."""
    return isinstance(load, ClosedLoop) or len({m for _, m in load.multipliers}) == 1


def multiplier_at(load: OpenLoop, elapsed_s: float) -> float:
    """The multiplier of an open loop at a moment, linear between its points."""
    before = load.multipliers[0]
    for point in load.multipliers:
        if point[0] > elapsed_s:
            share = (elapsed_s - before[0]) / (point[0] - before[0])
            return before[1] + share * (point[1] - before[1])
        before = point
    return before[1]


def component_figures(
    track: Track,
    ops: Sequence[_native.Reading],
    maxima: tuple[int, int],
    duration_ns: float,
    now_ns: int,
) -> Figures:
    """A component's figures over all op types, with those of each; maxima are the component's."""
    operations = {
        name: op_figures([reading], maxima, duration_ns, now_ns)
        for name, reading in zip(track.ops, ops, strict=True)
        if reading.counters()["scheduled"] or len(track.ops) == 1
    }
    return replace(op_figures(ops, maxima, duration_ns, now_ns), operations=operations)


def op_figures(
    readings: Sequence[_native.Reading], maxima: tuple[int, int], duration_ns: float, now_ns: int
) -> Figures:
    """The sum of some readings as `Figures`."""
    total: dict[str, int] = {}
    for reading in readings:
        for name, value in reading.counters().items():
            total[name] = total.get(name, 0) + value
    ended = total["ok"] + total["errors"] + total["rejected"] + total["abandoned"]
    # Sums of moments are kept modulo 2^64; their difference is a sum of stays and far below it.
    under_way_ns = (total["scheduled"] - ended) * now_ns
    stay_ns = (total["ended_sum_ns"] + under_way_ns - total["entered_sum_ns"]) % _WORD
    return Figures(
        scheduled=total["scheduled"],
        ok=total["ok"],
        errors=total["errors"],
        rejected=total["rejected"],
        abandoned=total["abandoned"],
        units=total["units"],
        response=merged([reading.response for reading in readings]),
        service=merged([reading.service for reading in readings]),
        lateness=merged([reading.lateness for reading in readings]),
        busy_ns=total["busy_ns"],
        queue_depth_max=maxima[0],
        in_flight_max=maxima[1],
        verified=total["verified"],
        violations=total["violations"],
        occupancy_mean=(stay_ns - total["failed_stay_ns"]) / max(1.0, duration_ns),
        unqueued=merged([reading.unqueued for reading in readings]),
        verify_ns=total["verify_ns"],
    )


def merged(histograms: Sequence[_native.Histogram]) -> _native.Histogram:
    """The exact sum of some histograms."""
    total = _native.Histogram()
    for histogram in histograms:
        total = total.merged(histogram)
    return total
