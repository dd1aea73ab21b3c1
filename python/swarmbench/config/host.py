"""What this machine lets a run have: the cores, memory and disk that a plan is fitted to."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_NVIDIA = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class Host:
    """What a plan is fitted to: the cores allowed, and what is free where the run will be.

    `cpu_quota` is the number of cores that a container may use, None without a limit;
    `gpu_problem` says why there is no usable GPU, None where there is one.
    """

    cpus: tuple[int, ...]
    cpu_quota: float | None
    memory_available_bytes: int
    disk_free_bytes: int
    gpu_problem: str | None


def read_host(out: Path) -> Host:
    """The host of this process, for a run that writes under `out`, which need not exist."""
    nearest = out.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    return Host(
        cpus=tuple(sorted(os.sched_getaffinity(0))),
        cpu_quota=_cpu_quota(_CGROUP),
        memory_available_bytes=min(psutil.virtual_memory().available, _memory_left(_CGROUP)),
        disk_free_bytes=shutil.disk_usage(nearest).free,
        gpu_problem=None if _NVIDIA.exists() else "no NVIDIA driver is loaded",
    )


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []


def _cpu_quota(cgroup: Path) -> float | None:
    match _words(cgroup / "cpu.max"):
        case [quota, period] if quota.isdigit():
            return int(quota) / int(period)
    return None


def _memory_left(cgroup: Path) -> int:
    """What the container may still take; a number above all memory without a limit."""
    match _words(cgroup / "memory.max"), _words(cgroup / "memory.current"):
        case [limit], [used] if limit.isdigit():
            return max(0, int(limit) - int(used))
    return 2**63
