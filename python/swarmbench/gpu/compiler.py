"""Compiles kernel files to cubins with NVRTC, which needs no driver, and reads what it says."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZipFile

from swarmbench.errors import MachineError
from swarmbench.gpu import source
from swarmbench.gpu.cache import cached_file

#: Compute capabilities that the kernels are compiled for: Turing to Blackwell.
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_PROBLEM = re.compile(r"^(?P<place>[^\n]*?)(?:\((?P<line>\d+)\))?: error:? (?P<what>.*)$", re.M)


class CompileError(MachineError):
    """A kernel file that does not compile: the log's first error with its file and line."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one kernel takes of a multiprocessor: registers and stack bytes of a thread, spilled
    bytes, static shared bytes of a block."""

    registers: int
    stack_bytes: int
    spilled_bytes: int
    shared_bytes: int


@dataclass(frozen=True, slots=True)
class Compiled:
    """A kernel file for one architecture: the cubin, and each kernel's usage by name."""

    cubin: bytes
    usage: Mapping[str, Usage]


def compiled(file: str, architecture: int, defines: Mapping[str, int] | None = None) -> Compiled:
    """A kernel file for `sm_<architecture>`, from the cache where it was compiled before.

    Raises `MachineError` where NVRTC is missing, `CompileError` for what does not compile.
    """
    options = (*_OPTIONS, f"--gpu-architecture=sm_{architecture}", *_defines(defines))
    text = source.text_of(file)
    digest = hashlib.sha256("\0".join((version(), text, *_headers().values(), *options)).encode())
    stem = f"cubins/{file.removesuffix('.cu')}-sm_{architecture}-{digest.hexdigest()[:24]}"

    def make(path: Path) -> None:
        """The archive of cubin and log: one file, so that neither is there without the other."""
        cubin, log = compile_text(text, file, options)
        with ZipFile(path, "w") as archive:
            archive.writestr("cubin", cubin)
            archive.writestr("log", log)

    with ZipFile(cached_file(f"{stem}.zip", make)) as archive:
        return Compiled(archive.read("cubin"), usage_of(archive.read("log").decode()))


_OPTIONS = ("--std=c++17", "--device-as-default-execution-space", "--ptxas-options=-v", "-lineinfo")


def compile_text(text: str, file: str, options: tuple[str, ...]) -> tuple[bytes, str]:
    """The cubin and the log of a kernel file's text; raises `CompileError` with the first error."""
    nvrtc = _nvrtc()
    headers = _headers()
    program = _asked(
        nvrtc,
        nvrtc.nvrtcCreateProgram(
            text.encode(),
            file.encode(),
            len(headers),
            [header.encode() for header in headers.values()],
            [name.encode() for name in headers],
        ),
    )
    try:
        ended = nvrtc.nvrtcCompileProgram(
            program, len(options), [option.encode() for option in options]
        )[0]
        log = _text(nvrtc, program, "ProgramLog")
        if ended != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise CompileError(f"kernel file `{file}` does not compile: {first_problem(log)}")
        return _bytes(nvrtc, program, "CUBIN"), log
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def first_problem(log: str) -> str:
    """The first error of a compiler's log, with its file and line."""
    found = _PROBLEM.search(log)
    if found is None:
        lines = log.strip().splitlines()
        return lines[0] if lines else "the compiler gives no reason"
    place = found["place"] + (f":{found['line']}" if found["line"] else "")
    return f"{place}: {found['what']}"


def usage_of(log: str) -> dict[str, Usage]:
    """The usage of each kernel that a log of `--ptxas-options=-v` tells of."""
    usage: dict[str, Usage] = {}
    parts = _ENTRY.split(log)
    for name, said in zip(parts[1::2], parts[2::2], strict=True):
        used, spills = _USED.search(said), _SPILLS.search(said)
        shared = _SHARED.search(said)
        if used is None or spills is None:
            continue
        usage[name] = Usage(
            registers=int(used[1]),
            stack_bytes=int(spills[1]),
            spilled_bytes=int(spills[2]) + int(spills[3]),
            shared_bytes=int(shared[1]) if shared else 0,
        )
    return usage


@cache
def version() -> str:
    """The version of NVRTC, such as `13.2`."""
    nvrtc = _nvrtc()
    _, major, minor = nvrtc.nvrtcVersion()
    return f"{major}.{minor}"


@cache
def _headers() -> dict[str, str]:
    return {path.name: source.text_of(path.name) for path in source.DIRECTORY.glob("*.cuh")}


def _defines(defines: Mapping[str, int] | None) -> tuple[str, ...]:
    return tuple(f"-D{name}={value}" for name, value in sorted((defines or {}).items()))


@cache
def _nvrtc() -> ModuleType:
    try:
        nvrtc = importlib.import_module("cuda.bindings.nvrtc")
        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as error:
        raise MachineError(
            f"NVRTC, which compiles the kernels, is not here ({error})",
            hint="install swarmbench[cuda12] or swarmbench[cuda13], whichever fits the driver",
        ) from None
    return nvrtc


def _asked(nvrtc: Any, answer: tuple[Any, ...]) -> Any:
    """The value of an NVRTC answer; `MachineError` where it is a failure."""
    if answer[0] != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise MachineError(f"NVRTC says {nvrtc.nvrtcGetErrorString(answer[0])[1].decode()}")
    return answer[1] if len(answer) > 1 else None


def _bytes(nvrtc: Any, program: Any, what: str) -> bytes:
    size = _asked(nvrtc, getattr(nvrtc, f"nvrtcGet{what}Size")(program))
    # Written to in place: one byte alone would be the space of the whole interpreter.
    found: bytes = b" " * (size + 1)
    _asked(nvrtc, getattr(nvrtc, f"nvrtcGet{what}")(program, found))
    return found[:size]


def _text(nvrtc: Any, program: Any, what: str) -> str:
    return _bytes(nvrtc, program, what).rstrip(b"\0").decode()
