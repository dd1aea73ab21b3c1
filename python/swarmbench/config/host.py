"""What this machine lets a run have: the cores, memory and disk that a plan is fitted to."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from swarmbench import machine
from swarmbench.gpu.found import card_problem
from swarmbench.gpu.nvml import driver_version


@dataclass(frozen=True, slots=True)
class Host:
    """What a plan is fitted to: the cores allowed, and what is free where the run will be.

    `threads_max` is how many threads can run at once on those cores, fewer than cores where a
    container has a quota; `gpu_problem` says why there is no usable GPU, None where there is one;
    `has_driver` that a driver is loaded.
    """

    cpus: tuple[int, ...]
    threads_max: int
    memory_available_bytes: int
    disk_free_bytes: int
    gpu_problem: str | None
    has_driver: bool = False


def read_host(out: Path) -> Host:
    """The host of this process, for a run that writes under `out`, which need not exist."""
    nearest = out.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    return Host(
        cpus=machine.allowed_cpus(),
        threads_max=machine.usable_threads(),
        memory_available_bytes=machine.memory_available_bytes(),
        disk_free_bytes=shutil.disk_usage(nearest).free,
        gpu_problem=card_problem(),
        has_driver=driver_version() is not None,
    )
