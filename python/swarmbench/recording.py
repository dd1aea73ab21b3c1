"""What is kept of a run while it goes on: events, intervals, histograms; and the watch over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from swarmbench import hlog
from swarmbench._native import Histogram
from swarmbench.engine import Stretch
from swarmbench.measured import ClosedLoop, Interval, Load
from swarmbench.monitoring.health import Check, Vitals, Watch
from swarmbench.rundir import RunDirectory

#: Percentiles of each interval that `components.jsonl` has.
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0}
#: Samples beyond a percentile that it takes to name it.
BEYOND_MIN = 10

Progress = Callable[[str, float], None]


@dataclass(slots=True)
class _Sum:
    """One component since its last line in `components.jsonl`."""

    started_s: float
    response: Histogram = field(default_factory=Histogram)
    scheduled: int = 0
    ok: int = 0
    errors: int = 0
    rejected: int = 0
    busy_ns: int = 0

    def add(self, interval: Interval) -> None:
        self.scheduled += interval.scheduled
        self.ok += interval.ok
        self.errors += interval.errors
        self.rejected += interval.rejected
        self.busy_ns += interval.busy_ns
        assert isinstance(interval.response, Histogram)
        self.response = self.response.merged(interval.response)


class Recording:
    """The listener of a real run: writes its directory, shows progress, guards its health.

    `health` None leaves the load alone. `limits_ns` are latency targets by component, for the
    health checks; `total_s` is the plan's length of all phases, for the progress.
    """

    def __init__(
        self,
        directory: RunDirectory,
        *,
        progress: Progress,
        total_s: float,
        interval_s: float,
        health: Watch | None = None,
        limits_ns: Mapping[str, int] | None = None,
    ) -> None:
        self._directory = directory
        self._progress = progress
        self._total_s = total_s
        self._interval_s = interval_s
        self._health = health
        self._limits_ns = limits_ns or {}
        self._sums: dict[str, _Sum] = {}
        self._stalled_s: dict[str, float] = {}
        self._began_s: float | None = None

    def begun(self, phase: str, load: Load, start_s: float, duration_s: float) -> None:
        """A stretch begins."""
        if self._began_s is None:
            self._began_s = start_s
        kind = "closed" if isinstance(load, ClosedLoop) else "open"
        self.event(start_s, "stretch", {"phase": phase, "loop": kind, **asdict(load)})

    def tick(self, phase: str, elapsed_s: float, intervals: Sequence[Interval]) -> float:
        """Files a tick's intervals; returns the factor on the load that health allows."""
        if not intervals:
            return 1.0 if self._health is None else self._health.factor
        now_s = intervals[0].start_s + intervals[0].duration_s
        for interval in intervals:
            self._sums.setdefault(interval.component, _Sum(interval.start_s)).add(interval)
        due = now_s - min(each.started_s for each in self._sums.values()) >= self._interval_s
        if due:
            self._write(phase, now_s, intervals)
        began_s = now_s if self._began_s is None else self._began_s
        self._progress(phase.replace("_", " "), min(1.0, (now_s - began_s) / self._total_s))
        return 1.0 if self._health is None else self._health.factor

    def ended(self, stretch: Stretch) -> None:
        """A stretch is over and drained: its histograms go into `latency.hlog`."""
        lines = []
        for name, figures in stretch.figures.items():
            kinds = {
                "response": figures.response,
                "service": figures.service,
                "lateness": figures.lateness,
            }
            for kind, histogram in kinds.items():
                assert isinstance(histogram, Histogram)
                if histogram.count:
                    tag = f"{name}.{stretch.phase}.{kind}"
                    entry = hlog.Entry(tag, stretch.start_s, stretch.duration_s, histogram)
                    lines.append(hlog.line(entry))
        if lines:
            self._directory.append_histograms("".join(lines))

    def event(self, at_s: float, kind: str, fields: Mapping[str, object]) -> None:
        """Appends one record to `events.jsonl`."""
        self._directory.append_event({"time_s": round(at_s, 6), "event": kind, **fields})

    def _write(self, phase: str, now_s: float, latest: Sequence[Interval]) -> None:
        vitals = {}
        for interval in latest:
            name, total = interval.component, self._sums[interval.component]
            self._directory.append_component(_line(phase, now_s, interval, total))
            elapsed_s = now_s - total.started_s
            waiting = interval.queue_depth + interval.in_flight
            stalled_s = self._stalled_s.get(name, 0.0) + elapsed_s if waiting else 0.0
            self._stalled_s[name] = 0.0 if total.ok + total.errors else stalled_s
            vitals[name] = Vitals(
                response_p99_ns=_percentile(total.response, 99.0),
                response_limit_ns=self._limits_ns.get(name),
                completed=total.ok,
                errors=total.errors,
                queue_depth=interval.queue_depth,
                stalled_s=self._stalled_s[name],
            )
            self._sums[name] = _Sum(now_s)
        if self._health is not None:
            change = self._health.observe(Check(time_s=now_s, components=vitals))
            if change is not None:
                self.event(now_s, "health", change.to_json())


def _line(phase: str, now_s: float, interval: Interval, total: _Sum) -> dict[str, object]:
    """One line of `components.jsonl`: a component over one sample interval."""
    elapsed_s = max(1e-9, now_s - total.started_s)
    return {
        "time_s": round(now_s, 6),
        "duration_s": round(elapsed_s, 6),
        "phase": phase,
        "component": interval.component,
        "load_epoch": interval.load_epoch,
        "scheduled": total.scheduled,
        "ok": total.ok,
        "errors": total.errors,
        "rejected": total.rejected,
        "offered_ops_s": round(total.scheduled / elapsed_s, 3),
        "achieved_ops_s": round(total.ok / elapsed_s, 3),
        "in_flight": interval.queue_depth + interval.in_flight,
        "queue_depth": interval.queue_depth,
        "busy_ns": total.busy_ns,
        "response_ns": {
            name: _percentile(total.response, percent) for name, percent in PERCENTILES.items()
        },
    }


def _percentile(histogram: Histogram, percent: float) -> int | None:
    """A percentile with enough samples beyond it, else None."""
    if histogram.count * (100.0 - percent) / 100.0 < BEYOND_MIN:
        return None
    return histogram.percentile(percent)
