"""The fingerprint, a container's limits and the GPU's absence, read from planted trees."""

from __future__ import annotations

import getpass
import json
import platform
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fake_root import CPUINFO, MEMINFO, plant
from swarmbench import cgroup, machine
from swarmbench.gpu import nvml

V2_MOUNT = "30 20 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
V1_MOUNTS = (
    "30 20 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "31 20 0:27 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
)


def test_the_tightest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/user.slice/job"
    root = plant(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice/job\n",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/user.slice/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/user.slice/memory.max": "5000\n",
            "sys/fs/cgroup/user.slice/memory.current": "4000\n",
            "sys/fs/cgroup/user.slice/memory.stat": "anon 3\ninactive_file 500\n",
            f"{group}/cpu.max": "400000 100000\n",
            f"{group}/cpu.stat": "usage_usec 9\nthrottled_usec 2500000\n",
            f"{group}/memory.max": "9000\n",
            f"{group}/memory.current": "100\n",
        },
    )
    assert cgroup.limits(root) == cgroup.Limits(2, 1.5, 5000, 1500)
    assert cgroup.throttled_s(root) == 2.5


def test_version_one_is_read_below_what_the_mount_shows(tmp_path: Path) -> None:
    root = plant(
        tmp_path,
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/job\n3:memory:/docker/abc/inner\n0::/\n",
            "proc/self/mountinfo": V1_MOUNTS,
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/inner/memory.limit_in_bytes": "7000\n",
            "sys/fs/cgroup/memory/inner/memory.usage_in_bytes": "8000\n",
        },
    )
    assert cgroup.limits(root) == cgroup.Limits(1, 0.5, 7000, 0)
    no_limit = {"sys/fs/cgroup/memory/inner/memory.limit_in_bytes": "9223372036854771712\n"}
    assert cgroup.limits(plant(root, no_limit)).memory_limit_bytes is None


def test_no_control_group_is_no_limit(tmp_path: Path) -> None:
    assert cgroup.limits(tmp_path) == cgroup.Limits()
    assert cgroup.throttled_s(tmp_path) is None


def test_a_part_of_a_core_is_left_unused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {5, 1, 3, 7})
    assert machine.allowed_cpus() == (1, 3, 5, 7)
    assert machine.usable_threads(tmp_path) == 4
    group = {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": V2_MOUNT}
    for quota, threads in (("250000", 2), ("50000", 1), ("900000", 4)):
        root = plant(tmp_path, {**group, "sys/fs/cgroup/cpu.max": f"{quota} 100000\n"})
        assert machine.usable_threads(root) == threads


def test_available_memory_respects_the_container(tmp_path: Path) -> None:
    root = plant(tmp_path, {"proc/meminfo": MEMINFO})
    assert machine.meminfo(root)["HugePages_Total"] == 3
    assert machine.memory_available_bytes(root) == 600_000 * 1024
    files = {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": V2_MOUNT,
        "sys/fs/cgroup/memory.max": "4096\n",
        "sys/fs/cgroup/memory.current": "1096\n",
    }
    assert machine.memory_available_bytes(plant(root, files)) == 3000


def test_the_digest_is_the_machines_and_not_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0, 1})
    governor = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    root = plant(
        tmp_path,
        {"proc/cpuinfo": CPUINFO, "proc/meminfo": MEMINFO, governor: "powersave\n"},
    )
    first = machine.fingerprint(root=root)
    assert first["cpu"]["model"] == "Example 9000"
    assert first["cpu"]["instruction_sets"] == ["avx2", "fma", "avx512f"]
    assert first["settings"]["governor"] == "powersave"
    again = machine.fingerprint(root=plant(root, {governor: "performance\n"}))
    assert again["settings"] != first["settings"]
    assert again["digest"] == first["digest"]
    other = CPUINFO.replace("0xb10", "0xb11")
    assert (
        machine.fingerprint(root=plant(root, {"proc/cpuinfo": other}))["digest"] != first["digest"]
    )


def test_a_real_fingerprint_is_json_and_names_nobody() -> None:
    text = json.dumps(machine.fingerprint(Path.cwd()))
    for private in (platform.node(), str(Path.cwd()), str(Path.home())):
        assert len(private) < 4 or private not in text
    user = getpass.getuser()
    assert len(user) < 5 or user not in text


def test_bracketed_choices_and_kernel_lists_are_understood() -> None:
    assert machine.chosen("always [madvise] never") == "madvise"
    assert machine.chosen("none") == "none"
    assert machine.chosen(None) is None
    assert machine._count("0-3,8,10-11") == 7


def test_the_driver_decides_the_extra(tmp_path: Path) -> None:
    line = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build\n"
    for version, extra in (("580.65.06", "cuda13"), ("535.54.03", "cuda12"), ("470.1", None)):
        root = plant(tmp_path, {"proc/driver/nvidia/version": line.format(version)})
        assert nvml.driver_version(root) == version
        assert nvml.Gpus((), version, "why").extra() == extra
    assert nvml.Gpus((), None, "why").extra() is None


class _Fault(Exception):
    """Stands for the library's own error."""


def _library(capability: tuple[int, int]) -> Any:
    """The library on a machine with one board that answers two questions."""

    def refuse(*_: object) -> object:
        raise _Fault("not supported")

    names = (
        *("EccMode", "MigMode", "DisplayActive", "EnforcedPowerLimit", "ComputeRunningProcesses"),
        *("UUID", "VbiosVersion", "MaxPcieLinkGeneration", "MaxPcieLinkWidth", "MemoryInfo"),
    )
    return SimpleNamespace(
        NVMLError=_Fault,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlSystemGetDriverVersion=lambda: b"580.1",
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda _: "Board",
        nvmlDeviceGetCudaComputeCapability=lambda _: capability,
        **{f"nvmlDeviceGet{name}": refuse for name in names},
    )


def test_a_board_that_answers_little_is_still_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _library((9, 0)))
    found = nvml.read_gpus()
    assert found.driver == "580.1"
    assert found.usable() == (True, "Board")
    assert found.devices[0].ecc is None
    monkeypatch.setitem(sys.modules, "pynvml", _library((7, 0)))
    usable, reason = nvml.read_gpus().usable()
    assert not usable
    assert "7.5" in reason
