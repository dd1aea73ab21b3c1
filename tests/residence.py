"""Measures what a component adds to a process of its own: `python residence.py NAME SIZES`.

Prints one JSON object: the bytes of the formula and its peak, what stays resident while every op
runs on two threads, the most that was resident while it was built, and what was swapped out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from swarmbench.components import COMPONENTS

WORKERS = 2


def status_bytes(field: str) -> int:
    """`VmRSS`, `VmHWM` or `VmSwap` of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def forget_peak() -> None:
    """Resets the kernel's high-water mark (proc(5), clear_refs, value 5)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def measured(name: str, sizes: str) -> dict[str, int]:
    kind = COMPONENTS[name]
    component = kind.small() if sizes == "small" else kind.for_profile("quick")
    # The allocator's and the threads' own pages are there before anything is counted.
    COMPONENTS["null"]().prepare(seed=1, threads=WORKERS).run(threads=WORKERS)
    before = status_bytes("VmRSS")
    forget_peak()
    prepared = component.prepare(seed=20240607, threads=WORKERS)
    built = status_bytes("VmHWM") - before
    forget_peak()
    resident = 0
    for op in component.ops:
        prepared.run(op=op.name, batches=4, threads=WORKERS)
        resident = max(resident, status_bytes("VmHWM") - before)
        forget_peak()
    return {
        "formula": component.resident_bytes(WORKERS),
        "peak": component.peak_bytes(WORKERS),
        "resident": resident,
        "built": built,
        "swapped": status_bytes("VmSwap"),
    }


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], sys.argv[2])))
