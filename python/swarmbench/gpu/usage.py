"""What kernels take of a multiprocessor, whichever language they are written in."""

from __future__ import annotations

from collections.abc import Mapping

from swarmbench.gpu import compiler, source
from swarmbench.gpu.compiler import Usage
from swarmbench.gpu.numba import compiling


def usage(file: str, architecture: int) -> Mapping[str, Usage]:
    """The usage of each kernel of a file, compiled for `sm_<architecture>`.

    Raises `MachineError` where the compiler is missing, `CompileError` for what does not compile.
    """
    if source.is_numba(file):
        built = compiling.compiled(file, architecture)
        return {name: kernel.usage for name, kernel in built.items()}
    return compiler.compiled(file, architecture).usage
