"""The ring under ThreadSanitizer: its kernel in one thread, its feeder in another."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from swarmbench.gpu import source
from swarmbench.gpu.host_compiler import compiler

FEEDER = Path(__file__).parent / "ring_feeder.cpp"
EMULATOR = Path(source.__file__).parent / "emulator"
FLAGS = ("-std=c++20", "-O1", "-g", "-DHOST_CUDA", "-ffp-contract=off", "-w", "-pthread")
MESSAGES = 2_000
#: The status with which the sanitizer ends a program that raced.
RACED = 66
#: What guards a message or an answer, as a plain access: of the device in a copy of the emulator,
#: of the feeder by a definition.
DEVICE = {
    "the device's acquire": ("return __atomic_load_n(word, __ATOMIC_ACQUIRE);", "return *word;"),
    "the device's release": ("__atomic_store_n(word, value, __ATOMIC_RELEASE);", "*word = value;"),
}
FEEDING = {"the feeder's release": "-DPLAIN_STORE", "the feeder's acquire": "-DPLAIN_LOAD"}


def run(folder: Path, emulator: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """The program's end, compiled with the emulator that lies in a folder."""
    kernel, program = folder / "kernel.cpp", folder / "ring_feeder"
    entries = "{HOST_CUDA_ENTRY(ring_echo), {}}"
    listed = f'extern "C" const host_cuda::Entry host_cuda_entries[] = {entries};'
    kernel.write_text(source.text_of("ring.cu") + listed)
    included = (f"-I{source.DIRECTORY}", f"-I{emulator}")
    files = (FEEDER, emulator / "host_cuda.cpp", kernel)
    command = [compiler(), *FLAGS, "-fsanitize=thread", *flags, *included, *map(str, files)]
    subprocess.run([*command, "-o", str(program)], check=True, capture_output=True, text=True)
    environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=1"}
    ended = subprocess.run(
        [program, str(MESSAGES)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    if "unexpected memory mapping" in ended.stderr:
        pytest.skip("ThreadSanitizer does not run under this kernel's address randomisation")
    return ended


def test_nothing_races_between_a_feeder_and_its_kernel(tmp_path: Path) -> None:
    ended = run(tmp_path, EMULATOR)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"{MESSAGES} messages, 0 wrong words\n"


@pytest.mark.parametrize("guard", DEVICE)
def test_a_plain_access_of_the_device_races(guard: str, tmp_path: Path) -> None:
    copied = tmp_path / "emulator"
    shutil.copytree(EMULATOR, copied)
    text = (copied / "host_cuda.cpp").read_text()
    guarding, plain = DEVICE[guard]
    assert text.count(guarding) == 1
    (copied / "host_cuda.cpp").write_text(text.replace(guarding, plain))
    ended = run(tmp_path, copied)
    assert ended.returncode == RACED
    assert "data race" in ended.stderr


@pytest.mark.parametrize("guard", FEEDING)
def test_a_plain_access_of_the_feeder_races(guard: str, tmp_path: Path) -> None:
    ended = run(tmp_path, EMULATOR, FEEDING[guard])
    assert ended.returncode == RACED
    assert "data race" in ended.stderr
