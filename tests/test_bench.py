"""`make bench` succeeds exactly where a valid result was left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bench import bench

from figures import result
from swarmbench.rundir import RunDirectory


def runs_of(folder: Path, status: int, *, ends: bool) -> Callable[[Sequence[str]], int]:
    """A command line that leaves a run, with a result where it `ends`."""

    def swarmbench(arguments: Sequence[str]) -> int:
        assert arguments[-1] == str(folder)
        run = RunDirectory.create(folder, "max-throughput", started=datetime.now(UTC))
        with run:
            run.write_manifest({"scenario": "max-throughput"})
            if ends:
                run.write_result(result())
        return status

    return swarmbench


@pytest.mark.parametrize("status", [0, 1, 7, 130])
def test_a_valid_result_makes_it_succeed_whatever_the_verdict(
    tmp_path: Path, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(runs_of(tmp_path, status, ends=True), tmp_path) == 0
    assert f"swarmbench's own status: {status} " in capsys.readouterr().out


@pytest.mark.parametrize(("status", "expected"), [(0, 1), (3, 3), (4, 4)])
def test_a_run_without_a_result_fails_it(tmp_path: Path, status: int, expected: int) -> None:
    assert bench(runs_of(tmp_path, status, ends=False), tmp_path) == expected


def test_a_result_of_an_earlier_run_does_not_count(tmp_path: Path) -> None:
    runs_of(tmp_path, 0, ends=True)(["--out", str(tmp_path)])
    assert bench(lambda arguments: 2, tmp_path) == 2
