"""Real runs on this machine: what they leave, what ends them early, and what they cost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from same_counts import HOUR_NS, assert_same_counts
from swarmbench import hlog
from swarmbench._native import Histogram
from swarmbench.analysis.littles import TOLERANCE
from swarmbench.errors import Status
from swarmbench.plan import harness_bytes
from swarmbench.runrecord import RunRecord, read_run
from swarmbench.schema import RESULT_SCHEMA, json_schema

SMOKE = Path(__file__).resolve().parent.parent / "configs" / "smoke.yaml"
NULL = ("--config", str(SMOKE))
REAL = ("--components", "consensus,streaming,knowledge_graph", "--duration", "12s")
PHASES = ["ramp_up", "sustained", "search", "recovery"]


def command(out: Path, *arguments: str) -> list[str]:
    whole = ["max-throughput", *arguments, "--out", str(out), "--allow-concurrent"]
    return [sys.executable, "-m", "swarmbench", *whole]


@dataclass(frozen=True)
class Run:
    """A run that has ended: its status, what it said, its record."""

    status: int
    stdout: str
    stderr: str
    record: RunRecord


def whole_run(out: Path, *arguments: str) -> Run:
    ended = subprocess.run(command(out, *arguments), capture_output=True, text=True, check=False)
    (path,) = out.iterdir()
    return Run(ended.returncode, ended.stdout, ended.stderr, read_run(path))


@pytest.fixture(scope="module", params=[NULL, REAL], ids=["null", "real"])
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return whole_run(tmp_path_factory.mktemp("runs"), *request.param, "--json")


def result_of(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_in_a_pipe_there_is_one_object_and_no_other_word(ended: Run) -> None:
    found = result_of(ended)

    assert ended.stderr == ""
    assert ended.status in (Status.OK, Status.CRITERION_FAILED, Status.UNTRUSTED)
    jsonschema.validate(found, json_schema(RESULT_SCHEMA))
    assert ended.record.complete
    assert ended.record.warnings == ()


def test_every_phase_did_work_lost_none_and_keeps_littles_law(ended: Run) -> None:
    phases = result_of(ended)["phases"]

    assert [phase["name"] for phase in phases] == PHASES
    for phase in phases:
        for name, figures in phase["components"].items():
            where = f"{name} in {phase['name']}"
            ends = ("ok", "errors", "rejected", "abandoned")
            assert figures["scheduled"] == sum(figures[end] for end in ends), where
            assert figures["achieved_ops_s"] > 0, where
            assert figures["violations"] == 0, where
            error = figures["littles_law_error"]
            assert error is None or abs(error) <= TOLERANCE, f"{where}: {error}"


def test_the_log_gives_hdrhistogram_the_percentiles_of_the_result(ended: Run) -> None:
    merged: dict[str, HdrHistogram] = {}
    log = str(ended.record.path / "latency.hlog")
    with closing(HistogramLogReader(log, HdrHistogram(1, HOUR_NS, 3))) as reader:
        while (histogram := reader.get_next_interval_histogram()) is not None:
            total = merged.setdefault(histogram.get_tag(), HdrHistogram(1, HOUR_NS, 3))
            total.add(histogram)

    checked = 0
    for phase in result_of(ended)["phases"]:
        for name, figures in phase["components"].items():
            theirs = merged[f"{name}.{phase['name']}.response"]
            for field, percent in (("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99_9", 99.9)):
                ours = figures["response_ns"][field]
                if ours is not None:
                    value = theirs.get_value_at_percentile(percent)
                    assert value == pytest.approx(ours, rel=0.002)
                    checked += 1
    assert checked >= 4


def test_hdrhistogram_reads_the_log_bit_for_bit(ended: Run) -> None:
    path = ended.record.path / "latency.hlog"
    log = hlog.read(path)
    buckets = 0
    with closing(HistogramLogReader(str(path), HdrHistogram(1, HOUR_NS, 3))) as reader:
        for entry in log.entries:
            theirs = reader.get_next_interval_histogram()
            start_s = log.start_time_s + entry.start_s
            assert theirs.get_tag() == entry.tag
            assert theirs.get_start_time_stamp() == pytest.approx(start_s * 1e3, abs=1)
            end_ms = (start_s + entry.duration_s) * 1e3
            assert theirs.get_end_time_stamp() == pytest.approx(end_ms, abs=1)
            buckets += assert_same_counts(entry.histogram, theirs)
            assert Histogram.decode(theirs.encode().decode()) == entry.histogram
        assert reader.get_next_interval_histogram() is None
        assert reader.get_start_time_sec() == log.start_time_s
    assert buckets > 1000


def test_the_harness_by_itself_is_small(ended: Run) -> None:
    if "null" not in result_of(ended)["components"]:
        pytest.skip("its components are not small")
    manifest = ended.record.manifest
    assert manifest is not None
    sampled = [row["process_resident_bytes"] for row in ended.record.system]
    sizes = [size for size in sampled if isinstance(size, float)]

    assert len(sizes) >= 4
    assert max(sizes) < harness_bytes(1)
    # Nothing of it has a roof of memory, so calibration held no working set before.
    assert manifest["calibration"]["memory_bytes"] == 0
    assert "copy_bytes_s" in manifest["calibration"]["absent"]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts runs that are under load when they are given back, and ends what is left of them."""
    processes: list[subprocess.Popen[str]] = []

    def start(out: Path = tmp_path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(out, *NULL), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        deadline = time.monotonic() + 60.0
        while not any(path.stat().st_size for path in out.glob("*/components.jsonl")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_the_run_and_keeps_everything(
    tmp_path: Path, started: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    process = started()
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)

    assert process.returncode == Status.INTERRUPTED
    assert "Traceback" not in stderr
    (path,) = tmp_path.iterdir()
    record = read_run(path)
    assert not record.complete
    assert [line for line in record.warnings if "did not end" not in line] == []
    assert record.components
    assert record.manifest is not None
    assert str(record.manifest["state"]).startswith("interrupted")


def test_a_killed_run_leaves_a_record_that_can_be_read(
    tmp_path: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    process = started()
    process.kill()
    process.communicate()

    (path,) = tmp_path.iterdir()
    record = read_run(path)
    assert not record.complete
    assert record.components
    assert record.events
    assert len(record.warnings) <= 2  # a torn line, and that the run did not end


def test_a_removed_run_directory_stops_the_run_in_one_line(
    tmp_path: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    process = started()
    (path,) = tmp_path.iterdir()
    shutil.rmtree(path)
    stdout, stderr = process.communicate(timeout=30)

    assert process.returncode == Status.SAFETY_STOP
    assert stdout == ""
    assert "Traceback" not in stderr
    assert stderr.startswith("error: ")


def test_a_full_disk_stops_the_run_and_what_is_written_stays(
    tmp_path: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs more rights")
    try:
        (disk / "runs").mkdir()
        process = started(disk / "runs")
        with (disk / "filler").open("wb") as filler:
            block = bytes(1 << 16)
            with suppress(OSError):
                while True:
                    filler.write(block)
                    filler.flush()
        _, stderr = process.communicate(timeout=30)
        (path,) = (disk / "runs").iterdir()
        record = read_run(path)
    finally:
        subprocess.run(["umount", str(disk)], check=True)

    assert process.returncode == Status.SAFETY_STOP
    assert "Traceback" not in stderr
    assert record.components
