"""How the machine's resources stood over a stretch: what was used, by whom, who had to wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from swarmbench import machine
from swarmbench.measured import Resources
from swarmbench.monitoring import procfs
from swarmbench.monitoring.procfs import CpuTimes, Process

#: The engine's workers, by the names of their threads.
WORKER_THREADS = "sb-worker"


class CanaryReading(Protocol):
    """The observer's medians over a stretch; `swarmbench._native.CanaryReading` is one."""

    def memory_slowdown(self, idle: CanaryReading, /) -> float | None: ...
    def compute_slowdown(self, idle: CanaryReading, /) -> float | None: ...


class Canary(Protocol):
    """The observer of a run; `swarmbench._native.Canary` is one."""

    @property
    def idle(self) -> CanaryReading: ...
    def read(self) -> CanaryReading: ...
    def reset(self) -> CanaryReading: ...


@dataclass(frozen=True, slots=True)
class Counters:
    """The kernel's counters at one moment, those of the allowed cores alone."""

    time_s: float
    cores: dict[int, CpuTimes]
    system: dict[str, int]
    process: Process | None
    run_delays_ns: dict[int, int] | None
    pressure_us: dict[str, int | None]

    @property
    def cpu(self) -> CpuTimes:
        """All allowed cores together."""
        total = CpuTimes(0, 0, 0, 0, 0)
        for times in self.cores.values():
            total = total.plus(times)
        return total


def counters(root: Path, cpus: Sequence[int], worker_threads: str, time_s: float) -> Counters:
    """Reads them all; a millisecond on an ordinary machine."""
    cores, system = procfs.cpu_times(root)
    return Counters(
        time_s=time_s,
        cores={cpu: cores[cpu] for cpu in cpus if cpu in cores},
        system=system,
        process=procfs.process(root),
        run_delays_ns=procfs.run_delays_ns(root, worker_threads),
        pressure_us={name: procfs.pressure_us(root, name) for name in ("cpu", "memory", "io")},
    )


def busy_share(before: Counters, after: Counters) -> float | None:
    """Share of the allowed cores' time in which this machine ran something on them."""
    spent = after.cpu.since(before.cpu)
    return spent.busy / spent.total if spent.total else None


def steal_share(before: Counters, after: Counters) -> float | None:
    """Share of the allowed cores' time that the hypervisor took."""
    spent = after.cpu.since(before.cpu)
    return spent.steal / spent.total if spent.total else None


def foreign_share(before: Counters, after: Counters) -> float | None:
    """Share of the allowed cores' time that other processes, and the kernel for them, used.

    Both sides count in ticks of 10 ms, so that a stretch under a second knows it to a few percent
    only.
    """
    spent = after.cpu.since(before.cpu)
    if not spent.total or before.process is None or after.process is None:
        return None
    own = after.process.cpu_ticks - before.process.cpu_ticks
    return min(1.0, max(0, spent.busy - own) / spent.total)


def run_delay_share(before: Counters, after: Counters) -> float | None:
    """Share of the workers' time in which one was runnable and had no core."""
    if after.run_delays_ns is None or after.time_s <= before.time_s:
        return None
    known = before.run_delays_ns or {}
    waited_ns = sum(ns - known.get(thread, 0) for thread, ns in after.run_delays_ns.items())
    threads = len(after.run_delays_ns)
    return min(1.0, max(0.0, waited_ns / 1e9 / (after.time_s - before.time_s) / threads))


def pressure_share(before: Counters, after: Counters, resource: str) -> float | None:
    """PSI `some`: the share of time in which some task waited for cpu, memory or io."""
    first, last = before.pressure_us[resource], after.pressure_us[resource]
    if first is None or last is None or after.time_s <= before.time_s:
        return None
    return min(1.0, max(0.0, (last - first) / 1e6 / (after.time_s - before.time_s)))


class ResourceMeter:
    """Reads `Resources` over stretches: `start`, then `read` as often as wanted.

    `canary` is reset by `start`. `workers_busy` is the engine's own knowledge and stays None
    here (`dataclasses.replace` adds it).
    """

    def __init__(
        self,
        cpus: Sequence[int] | None = None,
        *,
        canary: Canary | None = None,
        worker_threads: str = WORKER_THREADS,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cpus = machine.allowed_cpus() if cpus is None else tuple(cpus)
        self._canary = canary
        self._worker_threads = worker_threads
        self._root = root
        self._clock = clock
        self._before: Counters | None = None

    def start(self) -> None:
        """Begins a stretch."""
        if self._canary is not None:
            self._canary.reset()
        self._before = self._counters()

    def read(self) -> Resources:
        """How the resources stood since `start`."""
        before, after = self._before, self._counters()
        assert before is not None, "read before start"
        memory_slowdown = compute_slowdown = None
        if self._canary is not None:
            reading, idle = self._canary.read(), self._canary.idle
            memory_slowdown = reading.memory_slowdown(idle)
            compute_slowdown = reading.compute_slowdown(idle)
        return Resources(
            cpu_busy=busy_share(before, after),
            cpu_foreign=foreign_share(before, after),
            run_delay=run_delay_share(before, after),
            steal=steal_share(before, after),
            memory_slowdown=memory_slowdown,
            compute_slowdown=compute_slowdown,
            disk_pressure=pressure_share(before, after, "io"),
            memory_pressure=pressure_share(before, after, "memory"),
        )

    def _counters(self) -> Counters:
        return counters(self._root, self._cpus, self._worker_threads, self._clock())
