"""One run per machine: refused by name, free again after SIGKILL, allowed beside when asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from swarmbench.errors import MachineError
from swarmbench.lock import machine_lock

HOLDER = """
import sys
from pathlib import Path
from swarmbench.lock import machine_lock
with machine_lock("max-throughput", Path("runs"), path=Path(sys.argv[1])) as lock:
    lock.name_run(Path("/runs/first"))
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = start_holder(path)
    try:
        with (
            pytest.raises(MachineError) as caught,
            machine_lock("max-throughput", Path("runs/second"), path=path),
        ):
            pass
    finally:
        holder.communicate("")
    assert str(caught.value) == (
        f"another run is on this machine: max-throughput, process {holder.pid}, in `/runs/first`"
    )
    assert caught.value.exit_code == 3
    with machine_lock("max-throughput", Path("runs/third"), path=path) as lock:
        assert lock.alone


def test_a_holder_killed_by_sigkill_leaves_the_machine_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = start_holder(path)
    holder.kill()
    holder.communicate()
    with machine_lock("max-throughput", Path("runs/next"), path=path) as lock:
        assert lock.alone


def test_a_concurrent_run_is_allowed_when_asked_and_knows_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        machine_lock("max-throughput", Path("runs/first"), path=path),
        machine_lock("x", Path("runs/second"), path=path, allow_concurrent=True) as lock,
    ):
        before = path.read_text()
        lock.name_run(Path("runs/second"))
        assert not lock.alone
        assert path.read_text() == before


def test_whatever_stands_in_the_file_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with machine_lock("max-throughput", Path("runs/first"), path=path):
        path.write_text('{"pid": 1, "scenario": "a\\nb", "run_directory": "c"}')
        with (
            pytest.raises(MachineError, match=r"a b, process 1, in `c`$"),
            machine_lock("x", Path("y"), path=path),
        ):
            pass
        path.write_text("no json")
        with (
            pytest.raises(MachineError, match=r"not said which$"),
            machine_lock("x", path, path=path),
        ):
            pass


def test_a_file_deleted_under_the_holder_is_made_anew_for_the_next(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with machine_lock("max-throughput", Path("runs/first"), path=path):
        path.unlink()
    with machine_lock("max-throughput", Path("runs/next"), path=path):
        assert path.exists()


def test_the_file_is_for_every_user_and_no_link_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with machine_lock("max-throughput", Path("runs/first"), path=path):
        assert path.stat().st_mode & 0o777 == 0o666
    precious = tmp_path / "precious"
    precious.write_text("kept")
    link = tmp_path / "link"
    for target in (precious, tmp_path / "absent"):
        link.symlink_to(target)
        with (
            pytest.raises(MachineError, match="cannot be opened"),
            machine_lock("x", link, path=link),
        ):
            pass
        link.unlink()
    assert precious.read_text() == "kept"
    assert not (tmp_path / "absent").exists()
