"""The GPU kernels as a catalogue: what each computes, moves and takes of a multiprocessor."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from typing import Any

from swarmbench.errors import ConfigurationError, MachineError
from swarmbench.gpu import compiler, source
from swarmbench.gpu.source import KernelSource
from swarmbench.gpu.usage import usage


@dataclass(frozen=True, slots=True)
class Entry:
    """One kernel of the catalogue; `usage` is by architecture, such as `sm_90`.

    `problem` says why there is no usage where there is none.
    """

    kernel: KernelSource
    usage: dict[str, compiler.Usage]
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The entry as JSON values."""
        return {
            "name": self.kernel.name,
            "file": self.kernel.file,
            "signature": self.kernel.signature,
            "summary": self.kernel.summary,
            **{name.lower().replace(" ", "_"): text for name, text in self.kernel.parts.items()},
            "usage": {name: asdict(usage) for name, usage in self.usage.items()},
        }


def catalogue() -> list[KernelSource]:
    """All kernels, by file."""
    return list(source.every_kernel())


def entry(name: str) -> Entry:
    """One kernel, compiled for every architecture where its compiler is here.

    Raises `ConfigurationError` for a name that there is not, `CompileError` where its file does
    not compile.
    """
    kernels = {kernel.name: kernel for kernel in catalogue()}
    if name not in kernels:
        nearest = difflib.get_close_matches(name, kernels, n=1, cutoff=0.6)
        right = f"did you mean `{nearest[0]}`?" if nearest else "see `swarmbench kernel list`"
        raise ConfigurationError("NAME", f"there is no kernel `{name}`; {right}")
    kernel = kernels[name]
    try:
        found = {
            f"sm_{architecture}": usage(kernel.file, architecture)[name]
            for architecture in compiler.ARCHITECTURES
        }
    except compiler.CompileError:
        raise
    except MachineError as error:
        return Entry(kernel, {}, str(error))
    return Entry(kernel, found)
