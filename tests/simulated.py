"""Systems whose truth is known, as a driver in virtual time: the test double of the scenarios."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

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

Values = npt.NDArray[np.float64]
INTERVAL_S = 0.1


class Sample:
    """An exact histogram: sorted nanoseconds."""

    def __init__(self, values_ns: Values) -> None:
        self.values = np.sort(values_ns)

    @property
    def count(self) -> int:
        return len(self.values)

    @property
    def min(self) -> int:
        return int(self.values[0]) if self.count else 0

    @property
    def max(self) -> int:
        return int(self.values[-1]) if self.count else 0

    @property
    def mean(self) -> float:
        return float(self.values.mean()) if self.count else 0.0

    def percentile(self, q: float) -> int:
        rank = max(1, math.ceil(q / 100.0 * self.count - 1e-9))
        return int(self.values[min(rank, self.count) - 1])

    def merged(self, other: Sample) -> Sample:
        return Sample(np.concatenate((self.values, other.values)))

    def count_between(self, low: int, high: int) -> int:
        bounds = np.searchsorted(self.values, [low, high + 0.5])
        return int(bounds[1] - bounds[0])


@dataclass(frozen=True)
class Stream:
    """One component's operations in a stretch, in seconds: intended, started, finished."""

    due: Values
    started: Values
    done: Values


@dataclass(frozen=True)
class Ended(Stream):
    """A stream in the order in which its operations finished, and its arrivals in theirs."""

    intended: Values


@dataclass(frozen=True)
class Stretch:
    """A hold with its figures, as the engine's driver keeps them."""

    phase: str
    load: Load
    start_s: float
    duration_s: float
    figures: Mapping[str, Figures]


System = Callable[[np.random.Generator, float, float, dict[str, Values]], dict[str, Stream]]


def poisson(rng: np.random.Generator, rate: float, seconds: float) -> Values:
    count = rng.poisson(rate * seconds)
    return np.sort(rng.uniform(0.0, seconds, count))


@dataclass
class SimulatedDriver:
    """Runs a system at Poisson arrivals; `resources` and `bad` say how the machine stood.

    In a stretch that is `bad`, the system is `disturbed` where there is one.
    """

    system: System
    rates: Mapping[str, float]
    seed: int
    resources: Callable[[float], Resources] = lambda multiplier: Resources()
    bad: Callable[[int], bool] = lambda stretch: False
    disturbed: System | None = None
    clock_s: float = 0.0
    stretches: list[Stretch] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    backlog: dict[str, Values] = field(default_factory=dict)

    def hold(
        self,
        phase: str,
        load: Load,
        duration_s: float,
        *,
        drain: bool = True,
        until: Callable[[list[Interval]], bool] | None = None,
    ) -> Held:
        number = len(self.stretches)
        rng = np.random.default_rng([self.seed, number])
        multiplier = load.multipliers[-1][1] if isinstance(load, OpenLoop) else 2.0
        due = {n: poisson(rng, r * multiplier, duration_s) for n, r in self.rates.items()}
        carried = {name: self.backlog.get(name, np.empty(0)) for name in self.rates}
        arrivals = {name: np.concatenate((carried[name], due[name])) for name in due}
        bad = self.bad(number)
        system = self.disturbed if bad and self.disturbed is not None else self.system
        streams = system(rng, multiplier, self.clock_s, arrivals)
        fresh = {
            name: Stream(*(part[len(carried[name]) :] for part in (s.due, s.started, s.done)))
            for name, s in streams.items()
        }
        duration_s, intervals = self._intervals(fresh, duration_s, until)
        cut = {name: _before(stream, duration_s) for name, stream in fresh.items()}
        self.backlog = {}
        if not drain:
            self.backlog = {n: _waiting(s, duration_s) - duration_s for n, s in streams.items()}
        held = Held(
            phase,
            load,
            self.clock_s,
            duration_s,
            {name: _figures(stream, duration_s) for name, stream in cut.items()},
            tuple(intervals),
            self.resources(multiplier if isinstance(load, OpenLoop) else math.inf),
            Sentinel(1000, 5000, 0.3 if bad else 0.0, 0.0, bad),
        )
        end = max((s.done.max() for s in cut.values() if len(s.done)), default=0.0)
        self.clock_s += max(duration_s, float(end)) if drain else duration_s
        self.held.append(held)
        self.stretches.append(Stretch(phase, load, held.start_s, duration_s, held.components))
        return held

    def event(self, kind: str, **fields: object) -> None:
        self.events.append((kind, fields))

    def _intervals(
        self,
        streams: Mapping[str, Stream],
        duration_s: float,
        until: Callable[[list[Interval]], bool] | None,
    ) -> tuple[float, list[Interval]]:
        found: list[Interval] = []
        ended = {name: _in_order_of_ends(stream) for name, stream in streams.items()}
        for step in range(math.ceil(duration_s / INTERVAL_S - 1e-9)):
            low = step * INTERVAL_S
            high = min(duration_s, low + INTERVAL_S)
            latest = [self._interval(n, s, low, high) for n, s in ended.items()]
            found += latest
            if until is not None and until(latest):
                return high, found
        return duration_s, found

    def _interval(self, name: str, stream: Ended, low: float, high: float) -> Interval:
        arrived = np.searchsorted(stream.intended, [low, high])
        first, last = np.searchsorted(stream.done, [low, high])
        outstanding = int(arrived[1] - last)
        responses = (stream.done - stream.due)[first:last] * 1e9
        busy = (stream.done - stream.started)[first:last].sum() * 1e9
        return Interval(
            self.clock_s + low,
            high - low,
            name,
            0,
            int(arrived[1] - arrived[0]),
            int(last - first),
            0,
            0,
            max(0, outstanding - 1),
            min(1, outstanding),
            int(busy),
            Sample(responses),
        )


def _waiting(stream: Stream, end: float) -> Values:
    """The intended starts of what had arrived by then and was not done."""
    return stream.due[(stream.due < end) & (stream.done > end)]


def _in_order_of_ends(stream: Stream) -> Ended:
    order = np.argsort(stream.done, kind="stable")
    return Ended(stream.due[order], stream.started[order], stream.done[order], stream.due)


def _before(stream: Stream, end: float) -> Stream:
    kept = stream.due < end
    return Stream(stream.due[kept], stream.started[kept], stream.done[kept])


def _figures(stream: Stream, duration_s: float) -> Figures:
    count = len(stream.due)
    response = (stream.done - stream.due) * 1e9
    service = (stream.done - stream.started) * 1e9
    return Figures(
        scheduled=count,
        ok=count,
        errors=0,
        rejected=0,
        abandoned=0,
        units=count,
        response=Sample(response),
        service=Sample(service),
        lateness=Sample(np.full(count, 100.0)),
        busy_ns=int(service.sum()),
        queue_depth_max=0,
        in_flight_max=1,
        verified=count,
        violations=0,
        occupancy_mean=float(response.sum() / 1e9 / duration_s),
    )


def single_server(due: Values, service: Values) -> Stream:
    """One server, first come first served, by Lindley's recursion in closed form."""
    if not len(due):
        return Stream(due, due, due)
    total = np.cumsum(service)
    done = total + np.maximum.accumulate(due - np.concatenate(([0.0], total[:-1])))
    return Stream(due, done - service, done)


def mm1(knee: float, rate: float) -> System:
    """M/M/1 whose p99 doubles at `knee`: mu = rate (2 knee - 1), because p99 ~ 1/(mu - lambda)."""
    mean = 1.0 / (rate * (2.0 * knee - 1.0))

    def run(
        rng: np.random.Generator, multiplier: float, at_s: float, due: dict[str, Values]
    ) -> dict[str, Stream]:
        return {n: single_server(d, rng.exponential(mean, len(d))) for n, d in due.items()}

    return run


def hard(knee: float, rate: float) -> System:
    """Undisturbed up to the knee, a queue that grows by the excess beyond it."""

    def run(
        rng: np.random.Generator, multiplier: float, at_s: float, due: dict[str, Values]
    ) -> dict[str, Stream]:
        streams = {}
        for name, d in due.items():
            service = rng.lognormal(math.log(1e-4), 0.3, len(d))
            excess = max(0.0, 1.0 - knee / multiplier)
            started = d + excess * np.maximum(d, 0.0)
            streams[name] = Stream(d, started, started + service)
        return streams

    return run


def unbreakable(
    rng: np.random.Generator, multiplier: float, at_s: float, due: dict[str, Values]
) -> dict[str, Stream]:
    """No queue at any load."""
    return {n: Stream(d, d, d + rng.lognormal(math.log(1e-4), 0.3, len(d))) for n, d in due.items()}


def soft(knee: float) -> System:
    """Responses grow as a power of the load that reaches 2 at the knee."""
    power = math.log(2.0) / math.log(knee)

    def run(
        rng: np.random.Generator, multiplier: float, at_s: float, due: dict[str, Values]
    ) -> dict[str, Stream]:
        factor = multiplier**power
        return {
            n: Stream(d, d, d + factor * rng.lognormal(math.log(1e-4), 0.3, len(d)))
            for n, d in due.items()
        }

    return run


def noisy(system: System, share: float) -> System:
    """A system on a machine whose speed differs by `share` (one sigma) from stretch to stretch.

    All responses of a stretch are stretched by the same lognormal factor of median 1, so the
    knee is the system's own: that of the median machine.
    """

    def run(
        rng: np.random.Generator, multiplier: float, at_s: float, due: dict[str, Values]
    ) -> dict[str, Stream]:
        factor = math.exp(share * rng.standard_normal())
        streams = system(rng, multiplier, at_s, due)
        return {
            n: Stream(
                s.due, s.due + factor * (s.started - s.due), s.due + factor * (s.done - s.due)
            )
            for n, s in streams.items()
        }

    return run


def drifting(knee: float, rate: float, per_second: float, middle_s: float) -> System:
    """`mm1` whose capacity changes by the share `per_second`, and is that of `knee` at `middle_s`.

    The knee of any other moment is `drifted(knee, ...)` there.
    """

    def run(
        rng: np.random.Generator, multiplier: float, at_s: float, due: dict[str, Values]
    ) -> dict[str, Stream]:
        return mm1(drifted(knee, per_second, at_s - middle_s), rate)(rng, multiplier, at_s, due)

    return run


def drifted(knee: float, per_second: float, seconds: float) -> float:
    """The knee of an M/M/1, baseline and all, whose capacity went up by so much a second."""
    return ((2.0 * knee - 1.0) * (1.0 + per_second * seconds) + 1.0) / 2.0


@dataclass(frozen=True)
class Pool:
    """k workers shared by start-time fair queueing; mean service seconds per component."""

    workers: int
    service_s: Mapping[str, float]
    variation: float = 0.3

    def __call__(
        self, rng: np.random.Generator, multiplier: float, at_s: float, due: dict[str, Values]
    ) -> dict[str, Stream]:
        names = list(due)
        service = [
            self.service_s[n] * rng.lognormal(-0.5 * self.variation**2, self.variation, len(due[n]))
            for n in names
        ]
        started = [np.zeros(len(due[n])) for n in names]
        arrivals = sorted((t, i, j) for i, n in enumerate(names) for j, t in enumerate(due[n]))
        free = [0.0] * self.workers
        tags = [0.0] * len(names)
        waiting: list[tuple[float, int, int]] = []
        virtual, at = 0.0, 0
        while at < len(arrivals) or waiting:
            now = free[0]
            if not waiting and at < len(arrivals):
                now = max(now, arrivals[at][0])
            while at < len(arrivals) and arrivals[at][0] <= now:
                _, i, j = arrivals[at]
                start_tag = max(virtual, tags[i])
                tags[i] = start_tag + self.service_s[names[i]]
                heapq.heappush(waiting, (start_tag, i, j))
                at += 1
            virtual, i, j = heapq.heappop(waiting)
            begin = max(now, float(due[names[i]][j]))
            started[i][j] = begin
            heapq.heapreplace(free, begin + service[i][j])
        return {n: Stream(due[n], started[i], started[i] + service[i]) for i, n in enumerate(names)}


__all__ = [
    "ClosedLoop",
    "Pool",
    "SimulatedDriver",
    "drifted",
    "drifting",
    "hard",
    "mm1",
    "noisy",
    "soft",
    "unbreakable",
]
