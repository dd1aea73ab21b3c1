"""The fake driver under ThreadSanitizer, and that it sees each lock and each order that is gone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from swarmbench.gpu import host_compiler

PROGRAM = Path(__file__).parent / "driver_threads.cpp"
DRIVER = Path(host_compiler.__file__).parent / "emulator"
FLAGS = ("-std=c++20", "-O1", "-g1", "-fsanitize=thread", "-pthread")
LOCK = "    const std::lock_guard guard(stream->lock);\n"
ALL_LOCK = "    const std::lock_guard guard(driver.lock);\n"
#: What is taken away: the file, what stands there, and what stands in its place.
MUTANTS = {
    "the queue's lock": (
        "fake_streams.cpp",
        LOCK + "    if (stream->is_capturing) {",
        "    if (stream->is_capturing) {",
    ),
    "the lock of the counts": (
        "fake_control.cpp",
        ALL_LOCK + "    const u64 at",
        "    const u64 at",
    ),
    "the lock of the handles": (
        "fake_driver.cpp",
        ALL_LOCK + "    const auto found = driver.streams",
        "    const auto found = driver.streams",
    ),
    "the acquire of a word": (
        "fake_streams.cpp",
        "load(std::memory_order_acquire)",
        "load(std::memory_order_relaxed)",
    ),
    "the release of a word": (
        "fake_streams.cpp",
        "std::memory_order_release",
        "std::memory_order_relaxed",
    ),
    "the atomic of a lost device": ("fake_driver.h", "std::atomic<int> lost{", "int lost{"),
}


def compiled(arguments: Sequence[str | Path]) -> None:
    command = [host_compiler.compiler(), *FLAGS, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot find" in ended.stderr and "tsan" in ended.stderr:
        pytest.skip("the compiler has no ThreadSanitizer")
    assert ended.returncode == 0, ended.stderr


def objects(folder: Path, sources: Iterable[Path]) -> dict[str, Path]:
    """The sources compiled into a folder, by their names."""
    made = {source.name: folder / f"{source.name}.o" for source in sources}
    for source in sources:
        compiled(["-c", source, "-o", made[source.name]])
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The program and the fake driver as they are."""
    folder = tmp_path_factory.mktemp("whole")
    return objects(folder, [PROGRAM, *DRIVER.glob("fake_*.cpp")])


def run(folder: Path, parts: Iterable[Path]) -> subprocess.CompletedProcess[str]:
    program = folder / "driver_threads"
    compiled([*parts, "-o", program])
    environment = {"TSAN_OPTIONS": "halt_on_error=1"}
    return subprocess.run(
        [program], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_no_thread_of_the_fake_driver_races_another(whole: dict[str, Path], tmp_path: Path) -> None:
    ended = run(tmp_path, whole.values())
    assert (ended.returncode, ended.stdout) == (0, "whole\n"), ended.stderr[-3000:]


@pytest.mark.parametrize("taken", MUTANTS)
def test_a_lock_or_an_order_that_is_gone_is_seen(
    taken: str, whole: dict[str, Path], tmp_path: Path
) -> None:
    for path in DRIVER.glob("fake_*"):
        shutil.copy(path, tmp_path)
    file, there, instead = MUTANTS[taken]
    changed = tmp_path / file
    text = changed.read_text(encoding="utf-8")
    assert text.count(there) == 1, f"{file} was written anew: say here what to take away"
    changed.write_text(text.replace(there, instead), encoding="utf-8")
    sources = [changed] if changed.suffix == ".cpp" else list(tmp_path.glob("fake_*.cpp"))
    ended = run(tmp_path, (whole | objects(tmp_path, sources)).values())
    assert ended.returncode != 0
    assert "ThreadSanitizer: data race" in ended.stderr, ended.stdout
