"""Compiles Numba kernels to cubins without a card: NVVM makes PTX, nvJitLink assembles it.

It runs as a program of its own (`python -m swarmbench.gpu.numba.compiling FILE ARCHITECTURE
ARCHIVE`), because a process that simulates cannot compile.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

from swarmbench.errors import MachineError
from swarmbench.gpu import source
from swarmbench.gpu.cache import cached_file
from swarmbench.gpu.compiler import CompileError, Usage, usage_of
from swarmbench.gpu.numba.declared import Elements, parameters

#: What a parameter that is an array becomes: two pointers that are none, the number of elements,
#: their size, where they are, and once more the number and the size.
WORDS_OF_ARRAY = 7
#: With so many registers two blocks of 256 threads fit a multiprocessor.
_REGISTERS_MAX = 128
_PACKAGES = ("numba", "numba-cuda")
_HINT = "install swarmbench[cuda12] or swarmbench[cuda13], whichever fits the driver"


@dataclass(frozen=True, slots=True)
class NumbaCompiled:
    """One kernel for one architecture: its cubin, the name it has there, its PTX and its usage."""

    cubin: bytes
    entry: str
    ptx: str
    usage: Usage


def compiled(file: str, architecture: int) -> Mapping[str, NumbaCompiled]:
    """The kernels of a file for `sm_<architecture>`, from the cache where they were compiled.

    Raises `MachineError` where Numba's compiler is missing, `CompileError` for what does not
    compile.
    """
    try:
        versions = [importlib.metadata.version(name) for name in _PACKAGES]
    except importlib.metadata.PackageNotFoundError as error:
        raise MachineError(
            f"{error.name}, which compiles kernels, is not here", hint=_HINT
        ) from None
    texts = [path.read_text() for path in sorted(source.NUMBA_DIRECTORY.glob("*.py"))]
    digest = hashlib.sha256("\0".join((file, *versions, *texts)).encode()).hexdigest()[:24]
    stem = f"cubins/numba-{file.removesuffix('.py')}-sm_{architecture}-{digest}.zip"
    archive = cached_file(stem, lambda path: _compile_apart(file, architecture, path))
    with ZipFile(archive) as kept:
        return {
            name: NumbaCompiled(
                cubin=kept.read(f"{name}.cubin"),
                entry=facts["entry"],
                ptx=kept.read(f"{name}.ptx").decode(),
                usage=Usage(**facts["usage"]),
            )
            for name, facts in json.loads(kept.read("facts.json")).items()
        }


def _compile_apart(file: str, architecture: int, path: Path) -> None:
    environment = dict(os.environ, NUMBA_ENABLE_CUDASIM="0")
    command = [sys.executable, "-m", __name__, file, str(architecture), str(path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        said = [line for line in ended.stderr.strip().splitlines() if line.strip()]
        reason = said[-1] if said else "the compiler gives no reason"
        raise CompileError(f"kernel file `{file}` does not compile: {reason}", hint=_HINT)


def compile_file(file: str, architecture: int, path: Path) -> None:
    """Writes the archive of a file's kernels; only in a process that does not simulate."""
    # Functions that kernels call are compiled for the present device, which need not be there.
    dispatcher: Any = importlib.import_module("numba.cuda.dispatcher")
    device = SimpleNamespace(compute_capability=divmod(architecture, 10))
    dispatcher.get_current_device = lambda: device
    module = importlib.import_module(f"swarmbench.gpu.numba.{file.removesuffix('.py')}")
    facts: dict[str, Any] = {}
    with ZipFile(path, "w") as archive:
        for kernel in source.kernels(file):
            ptx = _ptx(getattr(module, kernel.name), architecture)
            cubin, log = _assembled(ptx, architecture)
            ((entry, usage),) = usage_of(log).items()
            archive.writestr(f"{kernel.name}.cubin", cubin)
            archive.writestr(f"{kernel.name}.ptx", ptx)
            facts[kernel.name] = {"entry": entry, "usage": asdict(usage)}
        archive.writestr("facts.json", json.dumps(facts))


def _ptx(function: Any, architecture: int) -> str:
    from numba import cuda, from_dtype, types

    kinds = [
        types.Array(from_dtype(kind.dtype), 1, "C")
        if isinstance(kind, Elements)
        else from_dtype(kind)
        for kind in parameters(function)
    ]
    found: tuple[str, Any] = cuda.compile(
        function,
        types.void(*kinds),
        cc=divmod(architecture, 10),
        device=False,
        abi="numba",
        output="ptx",
    )
    return found[0]


def _assembled(ptx: str, architecture: int) -> tuple[bytes, str]:
    linker = importlib.import_module("cuda.bindings.nvjitlink")
    options = [
        f"-arch=sm_{architecture}",
        f"-maxrregcount={_REGISTERS_MAX}",
        "-verbose",
        "-Xptxas=-v",
    ]
    task = linker.create(len(options), options)
    try:
        text = ptx.encode()
        linker.add_data(task, linker.InputType.PTX, text, len(text), "kernel")
        linker.complete(task)
        cubin = bytearray(linker.get_linked_cubin_size(task))
        linker.get_linked_cubin(task, cubin)
        log = bytearray(linker.get_info_log_size(task))
        linker.get_info_log(task, log)
        return bytes(cubin), log.rstrip(b"\0").decode()
    finally:
        linker.destroy(task)


if __name__ == "__main__":
    compile_file(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
