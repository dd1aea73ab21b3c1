"""Measures the machine's own ceilings, which `percent_of_ceiling` in a result refers to."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from swarmbench import _native, machine
from swarmbench.ceilings import MEANINGS, Calibration, Ceiling
from swarmbench.components import Component

__all__ = [
    "MEANINGS",
    "MEMORY_ROOFS",
    "SECONDS_DEFAULT",
    "SECONDS_QUICK",
    "Calibration",
    "Ceiling",
    "disk_directory",
    "measure",
]

SECONDS_DEFAULT = 8.0
SECONDS_QUICK = 4.0
#: Roofs whose probes hold a working set of four last-level caches.
MEMORY_ROOFS = frozenset({"copy_bytes_s", "read_bytes_s", "write_bytes_s", "random_64b_s"})
#: The probes may hold this share of the memory that is free.
MEMORY_SHARE_MAX = 0.25
#: The scratch file; it is written up to seven times, and removed whatever happens.
DISK_FILE_BYTES = 64 << 20
DISK_FILE_QUICK_BYTES = 32 << 20


def disk_directory(components: Sequence[Component], otherwise: Path) -> Path:
    """Where the roofs of the disk are to be measured: where the first component lies that is held
    to them, or elsewhere where none is."""
    lying = (each.disk_directory() for each in components)
    return next((directory for directory in lying if directory is not None), otherwise)


def measure(
    threads: int,
    directory: Path,
    *,
    seconds: float = SECONDS_DEFAULT,
    cpus: Sequence[int] | None = None,
    memory_max_bytes: int | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Calibration:
    """Measures every ceiling with `threads` threads on `cpus` (default: all allowed cores).

    Takes about `seconds` (1 to 10), holds at most a quarter of the free memory and frees it, and
    writes and removes one scratch file in `directory`. With less than it needs in
    `memory_max_bytes` the ceilings of memory are absent and nothing large is held. `progress` is
    called with (stage, fraction done); an exception that it raises, and Ctrl-C, end the
    measurement. Raises `OSError` where the memory is refused.
    """
    chosen = machine.allowed_cpus() if cpus is None else tuple(cpus)
    quick = seconds <= SECONDS_QUICK
    free_bytes = int(MEMORY_SHARE_MAX * machine.memory_available_bytes())
    text = _native.measure_ceilings(
        threads=threads,
        cpus=list(chosen),
        directory=directory,
        seconds=min(max(seconds, 1.0), 10.0),
        memory_max_bytes=free_bytes
        if memory_max_bytes is None
        else min(free_bytes, memory_max_bytes),
        disk_file_bytes=DISK_FILE_QUICK_BYTES if quick else DISK_FILE_BYTES,
        progress=progress,
    )
    record = json.loads(text)
    ceilings = {each.pop("key"): Ceiling(**each) for each in record.pop("ceilings")}
    return Calibration(
        ceilings={name: ceilings[name] for name in MEANINGS if name in ceilings},
        absent=dict(record.pop("absent")),
        notes=tuple(record.pop("notes")),
        threads=threads,
        **record,
    )
