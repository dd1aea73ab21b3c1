"""Readings and samples from planted counters, whose right values are known."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

import pytest

from fake_root import MEMINFO, plant, pressure, proc_stat, self_stat
from swarmbench import machine
from swarmbench.errors import SafetyStop
from swarmbench.measured import Resources
from swarmbench.monitoring import procfs
from swarmbench.monitoring.probes import ResourceMeter
from swarmbench.monitoring.sampler import SYSTEM_COLUMNS, Row, Sampler, row, snapshot

DISKS = "{0} 0 vda 1 0 {1} 0 1 0 {2} 0 0 {3} 0\n{0} 1 vda1 9 0 {1} 0 9 0 {2} 0 0 {3} 0\n"
NETWORK = """Inter-|   Receive  |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets
    lo: {0} 9 0 0 0 0 0 0 {1} 9 0 0 0 0 0 0
  eth0: {0} 9 0 0 0 0 0 0 {1} 9 0 0 0 0 0 0
"""


def _moment(root: Path, part: int) -> Path:
    """The counters at the start (`part` 0) and at the end (1) of a stretch of 2 s."""
    cores = [(100, 50, 800, 10, 5), (0, 0, 1000, 0, 0), (7, 7, 7, 7, 7)]
    if part:
        cores = [(200, 90, 850, 10, 15), (40, 0, 1160, 0, 0), (900, 7, 7, 7, 7)]
    return plant(
        root,
        {
            "proc/stat": proc_stat(*cores, switches=1000 + 5000 * part, runnable=3),
            "proc/self/stat": self_stat(20 + 60 * part, minor=100 + 50 * part, major=part),
            "proc/self/task/7/comm": "sb-worker-0\n",
            "proc/self/task/7/schedstat": f"5 {100_000_000 + 900_000_000 * part} 1\n",
            "proc/self/task/8/comm": "sb-worker-1\n",
            "proc/self/task/8/schedstat": f"5 {100_000_000 * part} 1\n",
            "proc/self/task/9/comm": "python\n",
            "proc/self/task/9/schedstat": f"5 {10**12 * part} 1\n",
            "proc/pressure/cpu": pressure(500_000 * part),
            "proc/pressure/memory": pressure(1_000_000 + 100_000 * part),
            "proc/pressure/io": pressure(400_000 * part),
            "proc/meminfo": MEMINFO,
            "proc/diskstats": DISKS.format(254, 100 + 4000 * part, 50 + 8000 * part, 700 * part),
            "proc/net/dev": NETWORK.format(1000 + 2000 * part, 10 + 400 * part),
            "sys/block/vda/size": "1\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "3000000\n",
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "2000000\n",
            "sys/class/thermal/thermal_zone0/temp": "61500\n",
            "sys/class/hwmon/hwmon0/temp1_input": "-273150\n",
            "sys/class/hwmon/hwmon0/temp2_input": "255000\n",
        },
    )


class _Reading:
    def __init__(self, memory: float | None) -> None:
        self._memory = memory

    def memory_slowdown(self, idle: object) -> float | None:
        return self._memory

    def compute_slowdown(self, idle: object) -> float | None:
        return 1.25


class _Canary:
    def __init__(self) -> None:
        self.idle = _Reading(None)
        self.resets = 0

    def read(self) -> _Reading:
        return _Reading(2.5)

    def reset(self) -> _Reading:
        self.resets += 1
        return self.read()


def test_a_stretch_gives_the_shares_that_were_planted(tmp_path: Path) -> None:
    canary, times = _Canary(), iter([10.0, 12.0])
    meter = ResourceMeter((0, 1), canary=canary, root=tmp_path, clock=lambda: next(times))
    _moment(tmp_path, 0)
    meter.start()
    _moment(tmp_path, 1)
    # 400 ticks passed on cores 0 and 1: 180 busy (60 of them our own), 10 stolen.
    assert meter.read() == Resources(
        cpu_busy=pytest.approx(180 / 400),
        cpu_foreign=pytest.approx(120 / 400),
        workers_busy=None,
        run_delay=pytest.approx(1.0 / 2 / 2),
        steal=pytest.approx(10 / 400),
        memory_slowdown=2.5,
        compute_slowdown=1.25,
        disk_pressure=pytest.approx(0.2),
        memory_pressure=pytest.approx(0.05),
    )
    assert canary.resets == 1


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    times = iter([10.0, 12.0])
    meter = ResourceMeter((0, 1), root=tmp_path, clock=lambda: next(times))
    meter.start()
    assert set(dataclasses.astuple(meter.read())) == {None}


def test_a_worker_that_came_later_counts_from_its_start(tmp_path: Path) -> None:
    times = iter([10.0, 12.0])
    meter = ResourceMeter((0,), root=tmp_path, clock=lambda: next(times))
    meter.start()
    _moment(tmp_path, 1)
    assert meter.read().run_delay == pytest.approx((1.0 + 0.1) / 2 / 2)


def test_a_row_holds_every_column_with_the_planted_value(tmp_path: Path) -> None:
    before = snapshot(_moment(tmp_path, 0), (0, 1), "sb-worker", tmp_path, 10.0)
    after = snapshot(_moment(tmp_path, 1), (0, 1), "sb-worker", tmp_path, 12.0)
    found = row(before, after, cost_ms=1.5)
    assert list(found) == [column.name for column in SYSTEM_COLUMNS]
    expected: Row = {
        "time_s": 12.0,
        "cpu_percent": 45.0,
        "cpu_user_percent": 35.0,
        "cpu_system_percent": 10.0,
        "cpu_steal_percent": 2.5,
        "cpu_foreign_percent": 30.0,
        "cpu_busiest_percent": 70.0,
        "cpu_throttled_percent": None,
        "cpu_frequency_hz": 2.5e9,
        "cpu_temperature_c": 61.5,
        "runnable": 3,
        "run_delay_percent": 25.0,
        "context_switches_s": 2500.0,
        "pressure_cpu_percent": 25.0,
        "pressure_io_percent": 20.0,
        "memory_used_bytes": 400_000 * 1024,
        "swap_used_bytes": 25_000 * 1024,
        "disk_read_bytes_s": 1_024_000.0,
        "disk_written_bytes_s": 2_048_000.0,
        "disk_busy_percent": 35.0,
        "network_received_bytes_s": 1000.0,
        "network_sent_bytes_s": 200.0,
        "process_cpu_percent": 60 / procfs.TICKS_S / 2 * 100,
        "process_threads": 4,
        "process_faults_minor_s": 25.0,
        "process_faults_major_s": 0.5,
        "sampler_cost_ms": 1.5,
    }
    assert {name: found[name] for name in expected} == expected


def test_a_row_of_an_empty_tree_has_gaps_and_no_numbers(tmp_path: Path) -> None:
    sight = snapshot(tmp_path, (0, 1), "sb-worker", tmp_path / "gone", 10.0)
    found = row(sight, dataclasses.replace(sight), cost_ms=0.0)
    known = {name for name, value in found.items() if value is not None}
    assert known == {"time_s", "memory_available_bytes", "sampler_cost_ms"}


def test_columns_are_named_once_with_unit_and_meaning() -> None:
    names = [column.name for column in SYSTEM_COLUMNS]
    assert len(set(names)) == len(names)
    assert all(column.unit and column.meaning for column in SYSTEM_COLUMNS)
    for column in SYSTEM_COLUMNS:
        assert column.name.endswith("_percent") == (column.unit == "%"), column


def test_the_sampler_keeps_its_interval_and_measures_itself(tmp_path: Path) -> None:
    rows: list[Row] = []
    enough = threading.Event()

    def receive(sample: Row) -> None:
        rows.append(sample)
        if len(rows) == 3:
            enough.set()

    sampler = Sampler(receive, directory=tmp_path, interval_s=0.05)
    sampler.start()
    assert enough.wait(30)
    sampler.stop()
    counted = len(rows)
    time.sleep(0.1)
    assert len(rows) == counted == sampler.rows
    assert sampler.cost_s > 0
    assert 0 < sampler.cost_percent < 100
    assert all(value is not None and value >= 0 for value in (rows[-1]["cpu_percent"],))


def test_a_full_disk_ends_the_sampling_and_is_raised_at_the_stop(tmp_path: Path) -> None:
    def refuse(_: Row) -> None:
        raise SafetyStop("the disk is full")

    sampler = Sampler(refuse, directory=tmp_path, interval_s=0.01)
    sampler.start()
    sampler._thread.join(30)
    assert isinstance(sampler.failure, SafetyStop)
    with pytest.raises(SafetyStop, match="full"):
        sampler.stop()


def test_this_machine_is_read_without_gaps_in_the_essentials() -> None:
    cores, system = procfs.cpu_times(Path("/"))
    assert set(machine.allowed_cpus()) <= set(cores)
    assert system["ctxt"] > 0
    process = procfs.process(Path("/"))
    assert process is not None
    assert process.resident_bytes > 1_000_000
    assert process.threads >= 1
