"""Whole runs of the memory component: above its bound, and where the system refuses something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from swarmbench import machine
from swarmbench.errors import Status
from swarmbench.runrecord import read_run

REFUSING = str(Path(__file__).with_name("refusing.py"))
#: Where Linux has a file system in memory.
MEMORY_FILES = Path("/dev/shm")
SMALL = {"pool_bytes": 2 << 20, "allocation_max_bytes": 1_000_000, "size_max_bytes": 1 << 18}


def ended(out: Path, *python: str, **parameters: Any) -> subprocess.CompletedProcess[str]:
    """A run of memory alone, of these parameters."""
    command = [sys.executable, *python, "max-throughput", "--components", "memory"]
    command += ["--duration", "8s", "--out", str(out), "--allow-concurrent", "--json"]
    for key, value in parameters.items():
        command += ["--set", f"workloads.memory.params.{key}={value}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_storm_above_its_bound_is_rejected_and_counted_and_the_run_goes_on(
    tmp_path: Path,
) -> None:
    """At this share of the bound one allocation in some thousand finds no room: few enough for the
    load to count as carried."""
    blocks = MEMORY_FILES if MEMORY_FILES.is_dir() else tmp_path
    run = ended(tmp_path, "-m", "swarmbench", live_share=0.08, directory=blocks, **SMALL)

    assert run.returncode in (Status.OK, Status.CRITERION_FAILED, Status.UNTRUSTED), run.stderr
    rejected = 0
    for phase in json.loads(run.stdout)["phases"]:
        figures = phase["components"]["memory"]
        for each in (figures, *figures["operations"].values()):
            ends = ("ok", "errors", "rejected", "abandoned")
            assert each["scheduled"] == sum(each[end] for end in ends)
        assert figures["errors"] == figures["violations"] == 0
        assert figures["operations"]["migrate"]["rejected"] == 0
        assert figures["operations"]["allocate"]["rejected"] == figures["rejected"]
        assert figures["goodput"]["unit"] == "bytes"
        assert figures["goodput"] == figures["operations"]["migrate"]["goodput"]
        rejected += figures["rejected"]
    record = read_run(next(tmp_path.iterdir()))
    assert record.manifest is not None
    counters = record.manifest["counters"]["memory"]
    assert counters["over_bound"] + counters["unplaced"] == rejected > 0
    assert counters["allocated"] == counters["freed"]
    # Their disk's roof is that of the file system they lie on, not of the record's.
    assert record.manifest["calibration"]["disk"] == machine.disk(blocks)
    swapped = {row["swap_used_bytes"] for row in record.system}
    assert len(swapped) == 1, "the machine swapped"


def test_a_storm_that_never_fits_ends_as_a_load_that_this_machine_cannot_carry(
    tmp_path: Path,
) -> None:
    run = ended(tmp_path, "-m", "swarmbench", live_share=0.9, **SMALL)

    assert run.returncode == Status.MACHINE_UNFIT
    assert [line.partition(":")[0] for line in run.stderr.splitlines()] == ["error", "hint"]
    assert run.stdout == ""


@pytest.mark.parametrize(
    ("python", "parameters", "said"),
    [
        (("-m", "swarmbench"), {"directory": "/proc"}, "directory: `/proc`: "),
        ((REFUSING, "room"), {}, "directory: `{directory}`: File too large"),
        ((REFUSING, "io_uring"), {"io": "io_uring"}, "io: `io_uring` is refused here: "),
    ],
    ids=["a directory that takes no file", "no room", "no io_uring"],
)
def test_what_the_system_refuses_is_one_line_and_leaves_nothing_behind(
    tmp_path: Path, python: tuple[str, ...], parameters: dict[str, str], said: str
) -> None:
    blocks, out = tmp_path / "blocks", tmp_path / "out"
    blocks.mkdir()

    run = ended(out, *python, **{"directory": blocks, **parameters})

    assert run.returncode == Status.WRONG_ARGUMENTS
    (line,) = run.stderr.splitlines()
    expected = said.format(directory=blocks)
    assert line.startswith(f"error: workloads.memory.params: {expected}"), line
    assert run.stdout == ""
    assert list(blocks.iterdir()) == []
    (path,) = out.iterdir()
    manifest = json.loads((path / "manifest.json").read_text())
    assert expected in manifest["state"]


WITHOUT_IO_URING = """
import sys
sys.path.insert(0, sys.argv[1])
import refusing
refusing.without_io_uring()
from swarmbench.components.memory import Memory
print(Memory.small().prepare(seed=1).native.describe())
"""


def test_where_io_uring_is_forbidden_threads_move_the_blocks_unless_it_was_asked_for() -> None:
    command = [sys.executable, "-c", WITHOUT_IO_URING, str(Path(REFUSING).parent)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["io"] == "threads"
