"""The run directory: nothing torn, nothing lost, nothing secret, whatever happens to the disk."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from figures import result
from swarmbench.errors import ConfigurationError, SafetyStop
from swarmbench.rundir import RunDirectory, check_writable, redacted
from swarmbench.runrecord import read_run
from swarmbench.schema import Bottlenecks

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    with RunDirectory.create(tmp_path / "runs", "max-throughput", started=STARTED) as made:
        yield made


def fill(run: RunDirectory) -> None:
    """One record of every kind."""
    run.write_manifest({"seed": 7})
    run.append_event({"kind": "phase", "phase": "search"})
    run.append_component({"component": "null", "ok": 3})
    run.append_system({"time_s": 0.5, "cpu_percent": 12.25, "governor": "performance"})
    run.append_histograms("#[first]\nTag=null.search.response,0,1,2,HISTF\n")


def test_the_name_has_time_scenario_and_six_hex_digits(run: RunDirectory) -> None:
    assert re.fullmatch(r"20260102T030405Z_max-throughput_[0-9a-f]{6}", run.run_id)


def test_a_whole_run_reads_back_as_it_was_written(run: RunDirectory) -> None:
    fill(run)
    run.append_system({"time_s": 1.5, "cpu_percent": None, "governor": "performance"})
    run.write_result(result())
    run.write_bottlenecks(Bottlenecks(run_id=run.run_id, bottlenecks=[]))
    run.sync()
    record = read_run(run.path)
    assert record.complete
    assert record.warnings == ()
    assert record.manifest == {"seed": 7}
    assert record.events == [{"kind": "phase", "phase": "search"}]
    assert record.components == [{"component": "null", "ok": 3}]
    assert record.system == [
        {"time_s": 0.5, "cpu_percent": 12.25, "governor": "performance"},
        {"time_s": 1.5, "cpu_percent": None, "governor": "performance"},
    ]
    assert record.histogram_lines[1].startswith("Tag=null")
    assert record.result == result()
    assert sorted(path.name for path in run.path.iterdir()) == [
        "bottlenecks.json",
        "components.jsonl",
        "events.jsonl",
        "latency.hlog",
        "manifest.json",
        "result.json",
        "system.csv",
    ]


@pytest.mark.parametrize("name", ["events.jsonl", "components.jsonl", "system.csv", "latency.hlog"])
def test_a_torn_last_line_is_dropped_with_a_warning(run: RunDirectory, name: str) -> None:
    fill(run)
    whole = read_run(run.path)
    with (run.path / name).open("a") as file:
        file.write('{"kind": "pha')
    torn = read_run(run.path)
    assert f"{name}: the torn last line is left out" in torn.warnings
    assert (torn.events, torn.components, torn.system) == (
        whole.events,
        whole.components,
        whole.system,
    )
    assert torn.histogram_lines == whole.histogram_lines


def test_a_damaged_line_in_the_middle_costs_that_line_alone(run: RunDirectory) -> None:
    fill(run)
    with (run.path / "events.jsonl").open("a") as file:
        file.write("damage\n")
    run.append_event({"kind": "end"})
    record = read_run(run.path)
    assert [event["kind"] for event in record.events] == ["phase", "end"]
    assert "events.jsonl: line 2 is not a record and is left out" in record.warnings


def test_a_run_that_was_cut_off_is_read_and_called_incomplete(run: RunDirectory) -> None:
    fill(run)
    record = read_run(run.path)
    assert not record.complete
    assert "the run did not end" in record.warnings[0]
    assert record.events


def test_a_result_that_does_not_conserve_is_left_out_with_its_reason(run: RunDirectory) -> None:
    fill(run)
    content = result().to_json()
    content["components"]["consensus"]["ok"] += 1
    (run.path / "result.json").write_text(json.dumps(content))
    record = read_run(run.path)
    assert record.result is None
    assert any("are accounted for" in warning for warning in record.warnings)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no run") as caught:
        read_run(tmp_path / "absent")
    assert caught.value.exit_code == 2


WRITER = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from swarmbench.rundir import RunDirectory
run = RunDirectory.create(Path(sys.argv[1]), "max-throughput", started=datetime.now(UTC))
run.write_manifest({"seed": 7})
for number in range(100_000_000):
    run.append_event({"kind": "tick", "number": number})
    run.append_component({"component": "null", "number": number, "filler": "x" * (number % 500)})
"""


def test_a_run_killed_in_the_middle_leaves_every_record_but_the_last(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], env=os.environ)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 100_000 for path in tmp_path.glob("*/components.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    record = read_run(next(tmp_path.iterdir()))
    assert [event["number"] for event in record.events] == list(range(len(record.events)))
    assert len(record.events) - len(record.components) in (0, 1)
    assert record.manifest == {"seed": 7}


@pytest.mark.parametrize("removed", ["the directory", "one file"])
def test_a_removed_record_stops_the_run_for_safety(run: RunDirectory, removed: str) -> None:
    fill(run)
    if removed == "the directory":
        shutil.rmtree(run.path)
    else:
        (run.path / "events.jsonl").unlink()
    with pytest.raises(SafetyStop, match="was removed during the run") as caught:
        run.append_event({"kind": "late"})
    assert caught.value.exit_code == 4
    if removed == "the directory":
        with pytest.raises(SafetyStop, match="was removed during the run"):
            run.write_result(result())


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Makes the kernel refuse larger files, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stops_the_run_and_keeps_every_whole_record(run: RunDirectory) -> None:
    fill(run)
    run.write_result(result())
    with files_of_at_most(1000):
        with pytest.raises(SafetyStop, match="is full") as caught:
            deque(run.append_event({"kind": "tick", "number": number}) for number in range(1000))
        with pytest.raises(SafetyStop, match="is full"):
            run.write_result(result())
    assert caught.value.exit_code == 4
    record = read_run(run.path)
    assert record.warnings == ()
    assert [event["number"] for event in record.events[1:]] == list(range(len(record.events) - 1))
    assert len(record.events) > 10
    assert record.result == result()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_an_append_that_fails_half_way_leaves_no_half_line(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    fill(run)
    write = os.write

    def half(descriptor: int, content: bytes) -> int:
        if len(content) > 10:
            return write(descriptor, content[: len(content) // 2])
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(SafetyStop):
        run.append_event({"kind": "a record that is torn"})
    monkeypatch.undo()
    run.append_event({"kind": "end"})
    assert [event["kind"] for event in read_run(run.path).events] == ["phase", "end"]


def test_no_secret_reaches_a_file(run: RunDirectory) -> None:
    secret = "s3cr3t-value"
    run.write_manifest(
        {
            "endpoint": {"url": f"https://me:{secret}@host:8000/v1?sig={secret}", "key": secret},
            "nested": [{"api_key": secret, "Authorization": secret}],
        }
    )
    run.append_event({"kind": "request", "error": f"no answer of http://u:{secret}@host/"})
    for path in run.path.iterdir():
        assert secret not in path.read_text()
    endpoint = json.loads((run.path / "manifest.json").read_text())["endpoint"]
    assert "host:8000/v1" in endpoint["url"]


def test_what_is_no_secret_stays_as_it_is() -> None:
    content = {"key": 7, "keys": ["a"], "monkey": "x", "url": "http://host/v1", "tokens": 64}
    assert redacted(content) == content


def test_a_folder_that_cannot_be_written_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    for parent in (blocker / "runs", blocker, Path("/proc/absent/runs")):
        with pytest.raises(ConfigurationError, match=r"--out: .* cannot be written"):
            check_writable(parent)
        with pytest.raises(ConfigurationError, match=r"--out: .* cannot be written"):
            RunDirectory.create(parent, "max-throughput", started=STARTED)
    assert list(tmp_path.iterdir()) == [blocker]
    check_writable(tmp_path / "new" / "runs")
    assert list(tmp_path.iterdir()) == [blocker]


def test_parents_made_for_nothing_are_taken_away_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = Path.mkdir

    def refuse(path: Path, *arguments: object, **options: object) -> None:
        if "max-throughput" in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        mkdir(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ConfigurationError, match="No space left"):
        RunDirectory.create(tmp_path / "a" / "b", "max-throughput", started=STARTED)
    assert list(tmp_path.iterdir()) == []


def test_a_cell_that_would_break_the_table_is_our_mistake(run: RunDirectory) -> None:
    run.append_system({"time_s": 0.5})
    with pytest.raises(AssertionError):
        run.append_system({"time_s": "a,b"})
    with pytest.raises(AssertionError):
        run.append_system({"unknown": 1})
