"""Counters of the kernel, read as they stand; `root` is `/` on a machine, a tree in a test.

A file that is missing or forbidden gives None or nothing, never a number.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmbench.machine import number, read

#: Ticks per second of /proc/stat and /proc/*/stat; a constant of the kernel's interface.
TICKS_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SECTOR_BYTES = 512
#: Devices that are not disks, or lie above others that are counted.
_NOT_DISKS = re.compile(r"^(loop|ram|zram|dm-|md|sr|fd)")


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """What a core, or all, did since the start, in ticks; guests are part of `user`."""

    user: int
    system: int
    idle: int
    iowait: int
    steal: int

    @property
    def busy(self) -> int:
        """Ticks in which this machine ran something."""
        return self.user + self.system

    @property
    def total(self) -> int:
        """All ticks, those of the hypervisor included."""
        return self.user + self.system + self.idle + self.iowait + self.steal

    def plus(self, other: CpuTimes) -> CpuTimes:
        return CpuTimes(
            self.user + other.user,
            self.system + other.system,
            self.idle + other.idle,
            self.iowait + other.iowait,
            self.steal + other.steal,
        )

    def since(self, before: CpuTimes) -> CpuTimes:
        """The growth since `before`; a counter that the kernel took back counts as unmoved."""
        return CpuTimes(
            max(0, self.user - before.user),
            max(0, self.system - before.system),
            max(0, self.idle - before.idle),
            max(0, self.iowait - before.iowait),
            max(0, self.steal - before.steal),
        )


@dataclass(frozen=True, slots=True)
class Process:
    """This process's own counters."""

    cpu_ticks: int
    faults_minor: int
    faults_major: int
    threads: int
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Disks:
    """All disks together, since the start; `busy_ms` by device."""

    read_bytes: int
    written_bytes: int
    busy_ms: Mapping[str, int]


def cpu_times(root: Path) -> tuple[dict[int, CpuTimes], dict[str, int]]:
    """Times by core, and the system's own counters (`ctxt`, `procs_running`)."""
    cores: dict[int, CpuTimes] = {}
    counters: dict[str, int] = {}
    for line in (read(root / "proc/stat") or "").splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name != "cpu" and len(fields) >= 8:
            user, nice, system, idle, iowait, irq, softirq, steal = map(int, fields[:8])
            cores[int(name[3:])] = CpuTimes(
                user=user + nice,
                system=system + irq + softirq,
                idle=idle,
                iowait=iowait,
                steal=steal,
            )
        elif name in ("ctxt", "procs_running") and fields:
            counters[name] = int(fields[0])
    return cores, counters


def process(root: Path) -> Process | None:
    """This process; None where /proc does not show it."""
    text = read(root / "proc/self/stat")
    if text is None:
        return None
    # The second field is the command in brackets and may hold blanks and brackets itself.
    fields = text.rpartition(")")[2].split()
    return Process(
        cpu_ticks=int(fields[11]) + int(fields[12]),
        faults_minor=int(fields[7]),
        faults_major=int(fields[9]),
        threads=int(fields[17]),
        resident_bytes=int(fields[21]) * _PAGE_BYTES,
    )


def run_delays_ns(root: Path, prefix: str) -> dict[int, int] | None:
    """Nanoseconds each thread of ours named `prefix`… was runnable without a core, by thread.

    None where the kernel keeps no such account.
    """
    delays: dict[int, int] = {}
    for task in _folders(root / "proc/self/task"):
        if prefix and not (read(task / "comm") or "").startswith(prefix):
            continue
        fields = (read(task / "schedstat") or "").split()
        if len(fields) == 3:
            delays[int(task.name)] = int(fields[1])
    return delays or None


def running_ns(root: Path, threads: Iterable[int]) -> int | None:
    """Processor time in nanoseconds that some threads of ours have had, those that still live.

    None where the kernel keeps no such account.
    """
    total = None
    for thread in threads:
        fields = (read(root / "proc/self/task" / str(thread) / "schedstat") or "").split()
        if len(fields) == 3:
            total = (total or 0) + int(fields[0])
    return total


def pressure_us(root: Path, resource: str) -> int | None:
    """Microseconds since the start in which some task waited for `resource` (cpu, memory, io)."""
    text = read(root / "proc/pressure" / resource) or ""
    found = re.search(r"^some .*total=(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else None


def disks(root: Path) -> Disks | None:
    """Whole disks, partitions and stacked devices left out; None where none can be read."""
    text = read(root / "proc/diskstats")
    if text is None:
        return None
    whole = {folder.name for folder in _folders(root / "sys/block")}
    moved, busy = [0, 0], {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 13 or fields[2] not in whole or _NOT_DISKS.match(fields[2]):
            continue
        moved[0] += int(fields[5]) * _SECTOR_BYTES
        moved[1] += int(fields[9]) * _SECTOR_BYTES
        busy[fields[2]] = int(fields[12])
    return Disks(moved[0], moved[1], busy)


def network_bytes(root: Path) -> tuple[int, int] | None:
    """(received, sent) over all interfaces but the loopback; None where none can be read."""
    text = read(root / "proc/net/dev")
    if text is None:
        return None
    received = sent = 0
    for line in text.splitlines():
        name, separator, rest = line.partition(":")
        fields = rest.split()
        if separator and name.strip() != "lo" and len(fields) >= 9:
            received += int(fields[0])
            sent += int(fields[8])
    return received, sent


def frequency_hz(root: Path, cpus: Sequence[int]) -> float | None:
    """The mean current frequency of `cpus`; None where the kernel does not say."""
    folder = root / "sys/devices/system/cpu"
    readings = (number(folder / f"cpu{cpu}/cpufreq/scaling_cur_freq") for cpu in cpus)
    known = [reading * 1000.0 for reading in readings if reading]
    return sum(known) / len(known) if known else None


def temperature_c(root: Path) -> float | None:
    """The hottest of the kernel's sensors of processor or board; None without any."""
    zones = (root / "sys/class/thermal").glob("thermal_zone*/temp")
    sensors = (root / "sys/class/hwmon").glob("hwmon*/temp*_input")
    readings = [number(path) for path in (*zones, *sensors)]
    # A sensor that is not connected reads as absolute zero or as hotter than any board survives.
    known = [each / 1000 for each in readings if each is not None and 0 < each < 150_000]
    return max(known, default=None)


def descriptors(root: Path) -> int | None:
    """Files that this process holds open."""
    try:
        return len(os.listdir(root / "proc/self/fd"))
    except OSError:
        return None


def _folders(parent: Path) -> list[Path]:
    try:
        return [parent / name for name in os.listdir(parent)]
    except OSError:
        return []
