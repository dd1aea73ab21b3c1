"""One thread that samples the machine and this process, a row a second, and knows its own cost."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmbench import cgroup, machine
from swarmbench.errors import SwarmbenchError
from swarmbench.monitoring import probes, procfs
from swarmbench.monitoring.probes import Counters

Row = dict[str, float | int | None]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `system.csv`; rates and shares are over the time since the row before."""

    name: str
    unit: str
    meaning: str


SYSTEM_COLUMNS: tuple[Column, ...] = (
    Column("time_s", "s", "run time at which the row was taken"),
    Column("cpu_percent", "%", "of the allowed cores' time: everything that ran on them"),
    Column("cpu_user_percent", "%", "of it in programs"),
    Column("cpu_system_percent", "%", "of it in the kernel, interrupts included"),
    Column("cpu_iowait_percent", "%", "idle while something waited for a disk"),
    Column("cpu_steal_percent", "%", "taken by the hypervisor"),
    Column("cpu_foreign_percent", "%", "used by other processes"),
    Column("cpu_busiest_percent", "%", "the busiest allowed core's own"),
    Column("cpu_throttled_percent", "%", "stopped by the container's quota"),
    Column("cpu_frequency_hz", "Hz", "mean over the allowed cores"),
    Column("cpu_temperature_c", "°C", "the hottest sensor"),
    Column("runnable", "tasks", "running or waiting for a core, at the moment"),
    Column("run_delay_percent", "%", "of the workers' time: runnable without a core"),
    Column("context_switches_s", "1/s", "of the whole machine"),
    Column("pressure_cpu_percent", "%", "PSI some: a task waited for a core"),
    Column("pressure_memory_percent", "%", "PSI some: a task waited for memory"),
    Column("pressure_io_percent", "%", "PSI some: a task waited for a disk"),
    Column("memory_used_bytes", "bytes", "not available to programs"),
    Column("memory_available_bytes", "bytes", "can be taken, a container's limit respected"),
    Column("swap_used_bytes", "bytes", "in use"),
    Column("disk_read_bytes_s", "bytes/s", "all disks"),
    Column("disk_written_bytes_s", "bytes/s", "all disks"),
    Column("disk_busy_percent", "%", "the busiest disk's time with a request in flight"),
    Column("disk_free_bytes", "bytes", "free where the run directory is"),
    Column("network_received_bytes_s", "bytes/s", "all interfaces but the loopback"),
    Column("network_sent_bytes_s", "bytes/s", "all interfaces but the loopback"),
    Column("process_cpu_percent", "%", "of one core: this process"),
    Column("process_resident_bytes", "bytes", "this process's memory in use"),
    Column("process_threads", "threads", "of this process"),
    Column("process_descriptors", "files", "held open by this process"),
    Column("process_faults_minor_s", "1/s", "pages made resident without a disk"),
    Column("process_faults_major_s", "1/s", "pages read from a disk"),
    Column("sampler_cost_ms", "ms", "processor time that taking the row before took"),
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a row is made of, at one moment."""

    counters: Counters
    memory: Mapping[str, int]
    memory_available_bytes: int
    disks: procfs.Disks | None
    network_bytes: tuple[int, int] | None
    throttled_s: float | None
    frequency_hz: float | None
    temperature_c: float | None
    descriptors: int | None
    disk_free_bytes: int | None


def snapshot(
    root: Path, cpus: Sequence[int], worker_threads: str, directory: Path, time_s: float
) -> Snapshot:
    """Reads everything once."""
    try:
        disk = os.statvfs(directory)
        disk_free = disk.f_bavail * disk.f_frsize
    except OSError:
        disk_free = None
    return Snapshot(
        counters=probes.counters(root, cpus, worker_threads, time_s),
        memory=machine.meminfo(root),
        memory_available_bytes=machine.memory_available_bytes(root),
        disks=procfs.disks(root),
        network_bytes=procfs.network_bytes(root),
        throttled_s=cgroup.throttled_s(root),
        frequency_hz=procfs.frequency_hz(root, cpus),
        temperature_c=procfs.temperature_c(root),
        descriptors=procfs.descriptors(root),
        disk_free_bytes=disk_free,
    )


def row(before: Snapshot, after: Snapshot, cost_ms: float) -> Row:
    """One row, every column of `SYSTEM_COLUMNS` in its order; None where it cannot be known."""
    elapsed_s = after.counters.time_s - before.counters.time_s
    values: Row = {
        "time_s": round(after.counters.time_s, 3),
        **_processor(before, after),
        **_waiting(before, after),
        **_memory(after),
        **_transfers(before, after, elapsed_s),
        **_process(before, after, elapsed_s),
        "disk_free_bytes": after.disk_free_bytes,
        "sampler_cost_ms": round(cost_ms, 3),
    }
    return {column.name: values[column.name] for column in SYSTEM_COLUMNS}


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def _rate(before: float | None, after: float | None, elapsed_s: float) -> float | None:
    if before is None or after is None or elapsed_s <= 0:
        return None
    return round(max(0.0, after - before) / elapsed_s, 2)


def _processor(before: Snapshot, after: Snapshot) -> Row:
    first, last = before.counters, after.counters
    spent = last.cpu.since(first.cpu)
    cores = [last.cores[cpu].since(first.cores[cpu]) for cpu in last.cores if cpu in first.cores]
    elapsed_s = last.time_s - first.time_s

    def share(ticks: int) -> float | None:
        return _percent(ticks / spent.total) if spent.total else None

    return {
        "cpu_percent": share(spent.busy),
        "cpu_user_percent": share(spent.user),
        "cpu_system_percent": share(spent.system),
        "cpu_iowait_percent": share(spent.iowait),
        "cpu_steal_percent": share(spent.steal),
        "cpu_foreign_percent": _percent(probes.foreign_share(first, last)),
        "cpu_busiest_percent": _percent(
            max((core.busy / core.total for core in cores if core.total), default=None)
        ),
        "cpu_throttled_percent": _percent(_rate(before.throttled_s, after.throttled_s, elapsed_s)),
        "cpu_frequency_hz": after.frequency_hz,
        "cpu_temperature_c": after.temperature_c,
    }


def _waiting(before: Snapshot, after: Snapshot) -> Row:
    first, last = before.counters, after.counters
    elapsed_s = last.time_s - first.time_s
    switches = _rate(first.system.get("ctxt"), last.system.get("ctxt"), elapsed_s)
    return {
        "runnable": last.system.get("procs_running"),
        "run_delay_percent": _percent(probes.run_delay_share(first, last)),
        "context_switches_s": switches,
        **{
            f"pressure_{name}_percent": _percent(probes.pressure_share(first, last, name))
            for name in ("cpu", "memory", "io")
        },
    }


def _memory(after: Snapshot) -> Row:
    memory = after.memory
    total, available = memory.get("MemTotal"), memory.get("MemAvailable")
    swap, swap_free = memory.get("SwapTotal"), memory.get("SwapFree")
    return {
        "memory_used_bytes": None if total is None or available is None else total - available,
        "memory_available_bytes": after.memory_available_bytes,
        "swap_used_bytes": None if swap is None or swap_free is None else swap - swap_free,
    }


def _transfers(before: Snapshot, after: Snapshot, elapsed_s: float) -> Row:
    values: Row = dict.fromkeys(("disk_read_bytes_s", "disk_written_bytes_s", "disk_busy_percent"))
    first, last = before.disks, after.disks
    if first is not None and last is not None:
        busy = (
            _rate(first.busy_ms.get(name, 0), ms, elapsed_s) for name, ms in last.busy_ms.items()
        )
        busiest = max((each for each in busy if each is not None), default=None)
        values = {
            "disk_read_bytes_s": _rate(first.read_bytes, last.read_bytes, elapsed_s),
            "disk_written_bytes_s": _rate(first.written_bytes, last.written_bytes, elapsed_s),
            "disk_busy_percent": None if busiest is None else min(100.0, round(busiest / 10, 2)),
        }
    received = sent = None
    if before.network_bytes is not None and after.network_bytes is not None:
        received = _rate(before.network_bytes[0], after.network_bytes[0], elapsed_s)
        sent = _rate(before.network_bytes[1], after.network_bytes[1], elapsed_s)
    return {**values, "network_received_bytes_s": received, "network_sent_bytes_s": sent}


def _process(before: Snapshot, after: Snapshot, elapsed_s: float) -> Row:
    first, last = before.counters.process, after.counters.process
    names = ("cpu_percent", "resident_bytes", "threads", "faults_minor_s", "faults_major_s")
    values: Row = dict.fromkeys(f"process_{name}" for name in names)
    if first is not None and last is not None:
        ticks_s = _rate(first.cpu_ticks, last.cpu_ticks, elapsed_s)
        values = {
            "process_cpu_percent": _percent(None if ticks_s is None else ticks_s / procfs.TICKS_S),
            "process_resident_bytes": last.resident_bytes,
            "process_threads": last.threads,
            "process_faults_minor_s": _rate(first.faults_minor, last.faults_minor, elapsed_s),
            "process_faults_major_s": _rate(first.faults_major, last.faults_major, elapsed_s),
        }
    return {**values, "process_descriptors": after.descriptors}


class Sampler:
    """Samples every `interval_s` on one thread and hands each row to `receive`.

    A `SwarmbenchError` that `receive` raises (a full disk) ends the sampling, stands in `failure`
    from then on and is raised by `stop`.
    """

    def __init__(
        self,
        receive: Callable[[Row], None],
        *,
        directory: Path,
        interval_s: float = 1.0,
        cpus: Sequence[int] | None = None,
        worker_threads: str = probes.WORKER_THREADS,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._receive = receive
        self._interval_s = interval_s
        self._cpus = machine.allowed_cpus() if cpus is None else tuple(cpus)
        self._sources = (root, self._cpus, worker_threads, directory)
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="sb-sampler", daemon=True)
        self.failure: SwarmbenchError | None = None
        self.rows = 0
        #: Processor time of all rows so far, seconds.
        self.cost_s = 0.0
        self._elapsed_s = 0.0

    @property
    def cost_percent(self) -> float:
        """Of one core, over the time sampled so far."""
        return 100 * self.cost_s / self._elapsed_s if self._elapsed_s else 0.0

    def start(self) -> None:
        """Begins; the first row comes after one interval."""
        self._thread.start()

    def stop(self) -> None:
        """Ends at once; raises what `receive` raised."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _sample(self) -> None:
        try:
            self._rows()
        except SwarmbenchError as error:
            self.failure = error

    def _rows(self) -> None:
        began = due = time.monotonic()
        before = snapshot(*self._sources, self._clock())
        cost_ms = 0.0
        while True:
            due += self._interval_s
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                return
            spent_ns = time.thread_time_ns()
            after = snapshot(*self._sources, self._clock())
            self._receive(row(before, after, cost_ms))
            before = after
            cost_ms = (time.thread_time_ns() - spent_ns) / 1e6
            self.cost_s += cost_ms / 1000
            self.rows += 1
            self._elapsed_s = time.monotonic() - began
            # A machine that stood still owes no rows: the next one is due an interval from now.
            due = max(due, time.monotonic() - self._interval_s)
