"""A planted /proc and /sys: the kernel's own text, in a folder, for what reads the machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 26
model name\t: Example 9000
stepping\t: 1
microcode\t: 0xb10
flags\t\t: fpu avx2 fma avx512f constant_tsc nonstop_tsc

processor\t: 1
model name\t: Another
"""
MEMINFO = """MemTotal:       1000000 kB
MemAvailable:    600000 kB
SwapTotal:       100000 kB
SwapFree:         75000 kB
HugePages_Total:       3
"""


def plant(root: Path, files: Mapping[str, str]) -> Path:
    """Writes each file below `root`, folders and all; returns `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def proc_stat(*cores: tuple[int, ...], switches: int = 0, runnable: int = 1) -> str:
    """/proc/stat of cores given as (user, system, idle, iowait, steal) in ticks."""
    lines = ["cpu  0 0 0 0 0 0 0 0 0 0"]
    for number, (user, system, idle, iowait, steal) in enumerate(cores):
        lines.append(f"cpu{number} {user} 0 {system} {idle} {iowait} 0 0 {steal} 0 0")
    return "\n".join([*lines, f"ctxt {switches}", f"procs_running {runnable}", ""])


def self_stat(ticks: int, *, minor: int = 0, major: int = 0, pages: int = 10) -> str:
    """/proc/self/stat of a program whose name has a blank and a bracket in it."""
    before = f"7 (a b) c) S 1 7 7 0 -1 0 {minor} 0 {major} 0"
    return f"{before} {ticks} 0 0 0 20 0 4 0 99 123456 {pages} 0"


def pressure(total_us: int) -> str:
    """A file of /proc/pressure."""
    return (
        f"some avg10=0.00 avg60=0.00 avg300=0.00 total={total_us}\n"
        f"full avg10=0.00 avg60=0.00 avg300=0.00 total=999\n"
    )
