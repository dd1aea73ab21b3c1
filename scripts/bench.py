"""Runs max-throughput on this machine and exits 0 whenever that left a valid result.

A break below the target is a finding, not a failure of `make bench`; swarmbench's own status is
printed. Without a valid result the exit status is swarmbench's own, or 1 where that was 0.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from swarmbench.cli import main
from swarmbench.errors import Status
from swarmbench.runrecord import list_runs

RUNS = Path("runs")
ARGUMENTS = ("max-throughput", "--profile", "quick")


def complete_runs(folder: Path) -> set[str]:
    """The names of the runs that have a valid result."""
    return {run["run"] for run in list_runs(folder) if run["state"] == "complete"}


def bench(swarmbench: Callable[[Sequence[str]], int], folder: Path = RUNS) -> int:
    """The exit status of `make bench`, from a command line and the runs that it leaves."""
    before = complete_runs(folder)
    status = swarmbench([*ARGUMENTS, "--out", str(folder)])
    words = Status(status).name.lower().replace("_", " ")
    print(f"swarmbench's own status: {status} ({words})")
    if complete_runs(folder) - before:
        return 0
    return status or 1


if __name__ == "__main__":
    sys.exit(bench(main))
