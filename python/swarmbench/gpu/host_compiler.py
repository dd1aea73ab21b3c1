"""Compiles kernel files for the processor, together with the emulator that runs them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Literal

from swarmbench.errors import MachineError
from swarmbench.gpu import source
from swarmbench.gpu.cache import cached_file

#: How the kernels are compiled: fast, with AddressSanitizer, or with every access followed.
Build = Literal["plain", "address", "traced"]

_EMULATOR = Path(__file__).parent / "emulator"
_FLAGS = ("-std=c++20", "-O2", "-g1", "-fPIC", "-DHOST_CUDA", "-ffp-contract=off", "-w")
_BUILD_FLAGS: dict[Build, tuple[str, ...]] = {
    "plain": (),
    "address": ("-fsanitize=address",),
    "traced": ("-DHOST_CUDA_TRACED",),
}
#: What a traced build's kernels are compiled with beside that; no sanitizer is linked, for what it
#: calls is in `tracing.cpp`.
_TRACED_KERNEL = "-fsanitize=thread"
#: The fake driver's parts, which know nothing of the emulator but the type of one function.
_DRIVER = ("fake_driver.h", "fake_driver.cpp", "fake_streams.cpp", "fake_control.cpp")
_RUNTIME: dict[Build, tuple[str, ...]] = {
    "plain": ("host_cuda.cpp",),
    "address": ("host_cuda.cpp",),
    "traced": ("host_cuda.cpp", "tracing.cpp"),
}


@cache
def compiler() -> str:
    """The host's C++ compiler; raises `MachineError` where there is none."""
    found = shutil.which("g++")
    if found is None:
        raise MachineError(
            "the emulated device compiles the kernels with `g++`, which is not installed",
            hint="install a C++ toolchain, or leave `--device emulated` out",
        )
    return found


def library_path(file: str, text: str, defines: tuple[tuple[str, int], ...], build: Build) -> Path:
    """The shared library of a kernel file, compiled once for each text, emulator and set of flags.

    Raises `MachineError` with the compiler's first error where it does not compile.
    """
    names = [each.name for each in source.parsed(file, text)]
    entries = ", ".join(f"HOST_CUDA_ENTRY({name})" for name in names)
    wrapper = (
        f'#line 1 "{file}"\n{text}\n'
        f'extern "C" const host_cuda::Entry host_cuda_entries[] = {{{entries}, {{}}}};\n'
    )
    flags = (*_BUILD_FLAGS[build], *(f"-D{name}={value}" for name, value in defines))

    def make(target: Path) -> None:
        kernels = target.with_suffix(".o")
        traced = (_TRACED_KERNEL,) if build == "traced" else ()
        _compile(file, (*flags, *traced, "-x", "c++", "-c", "-"), kernels, wrapper)
        runtime = [str(_runtime(part, build)) for part in _RUNTIME[build]]
        _compile(file, (*flags, "-shared", str(kernels), *runtime), target)

    headers = source.DIRECTORY.glob("*.cuh")
    digest = _digest((wrapper, build, *flags), (*_emulator_files(), *headers))
    return cached_file(f"emulated/{Path(file).stem}-{digest}.so", make)


def fake_driver_path(build: Build) -> Path:
    """The shared library that stands for the CUDA driver where there is no card.

    Raises `MachineError` where there is no compiler.
    """
    files = [_EMULATOR / name for name in _DRIVER]
    flags = (*_BUILD_FLAGS[build], "-pthread", "-shared")
    sources = (str(path) for path in files if path.suffix == ".cpp")
    digest = _digest((build, *flags), files)
    return cached_file(
        f"emulated/fake_driver-{digest}.so",
        lambda target: _compile("fake_driver.cpp", (*flags, *sources), target),
    )


def _runtime(part: str, build: Build) -> Path:
    """A part of the emulator as an object file."""
    headers = [source.DIRECTORY / "common.cuh"]
    digest = _digest((part, build), (*_emulator_files(), *headers))
    flags = (*_BUILD_FLAGS[build], "-c", str(_EMULATOR / part))
    return cached_file(
        f"emulated/{Path(part).stem}-{digest}.o", lambda target: _compile(part, flags, target)
    )


def _emulator_files() -> Iterator[Path]:
    """The files of the emulator, without those of the fake driver."""
    found = (path for path in _EMULATOR.iterdir() if path.suffix in (".h", ".cpp"))
    return (path for path in found if path.name not in _DRIVER)


def _digest(words: Iterable[str], files: Iterable[Path]) -> str:
    """What a compiled file depends on: words, files, the compiler and its flags."""
    digest = hashlib.sha256("\0".join((*words, *_FLAGS, compiler())).encode())
    for path in sorted(files):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def _compile(file: str, flags: tuple[str, ...], target: Path, text: str = "") -> None:
    included = (f"-I{source.DIRECTORY}", f"-I{_EMULATOR}")
    command = [compiler(), *_FLAGS, *included, *flags, "-o", str(target)]
    ended = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        first = next((line for line in ended.stderr.splitlines() if "error" in line), "")
        raise MachineError(f"kernel file `{file}` does not compile for the host: {first}")
