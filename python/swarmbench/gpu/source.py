"""The kernel files: which kernels each has, their parameters, and what their heads say of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

#: Where the kernel files lie, in the repository and in the installed package.
DIRECTORY = Path(__file__).parent.parent / "kernels"
#: The parts of a head that begin with their own word; a sentence and a formula come before them.
PARTS = ("Work", "Launch", "Needs", "Checked against")

_SCALARS = {
    "u8": np.uint8,
    "u16": np.uint16,
    "u32": np.uint32,
    "u64": np.uint64,
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
    "f32": np.float32,
    "f64": np.float64,
}
_KERNEL = re.compile(
    r"(?P<head>(?://[^\n]*\n)*)"
    r"(?:template\s*<[^>]*>\s*)?"
    r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s*)?'
    r"(?P<name>\w+)\((?P<parameters>[^)]*)\)"
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a kernel; `dtype` is a scalar's, None where it is a pointer."""

    name: str
    declared: str
    dtype: npt.DTypeLike | None


@dataclass(frozen=True, slots=True)
class KernelSource:
    """One kernel as it stands in its file: name, parameters and head.

    `parts` has the paragraphs of the head by their first words (`PARTS`); `summary` is what comes
    before them.
    """

    file: str
    name: str
    parameters: tuple[Parameter, ...]
    summary: str
    parts: dict[str, str]

    @property
    def signature(self) -> str:
        """The parameters as they were declared."""
        return ", ".join(f"{each.declared} {each.name}" for each in self.parameters)


def files() -> tuple[str, ...]:
    """The kernel files by name, without the header that they share."""
    return tuple(sorted(path.name for path in DIRECTORY.glob("*.cu")))


def text_of(file: str) -> str:
    """The text of a kernel file or header."""
    return (DIRECTORY / file).read_text(encoding="utf-8")


@cache
def kernels(file: str) -> tuple[KernelSource, ...]:
    """The kernels of one file, in its order."""
    return tuple(parsed(file, text_of(file)))


def parsed(file: str, text: str) -> Iterator[KernelSource]:
    """The kernels in the text of a file."""
    for found in _KERNEL.finditer(text):
        summary, parts = _head(found["head"])
        parameters = tuple(
            _parameter(each) for each in found["parameters"].split(",") if each.strip()
        )
        yield KernelSource(file, found["name"], parameters, summary, parts)


def every_kernel() -> tuple[KernelSource, ...]:
    """The kernels of all files."""
    return tuple(kernel for file in files() for kernel in kernels(file))


def _parameter(text: str) -> Parameter:
    words = text.replace("__restrict__", " ").replace("*", " * ").split()
    name, declared = words[-1], " ".join(words[:-1]).replace(" *", "*")
    kind = next(word for word in words[:-1] if word != "const")
    is_pointer = "*" in words
    if not is_pointer and kind not in _SCALARS:
        raise ValueError(f"parameter `{text.strip()}`: give scalars as {', '.join(_SCALARS)}")
    return Parameter(name, declared, None if is_pointer else np.dtype(_SCALARS[kind]))


def _head(comment: str) -> tuple[str, dict[str, str]]:
    """What comes before the parts, and the parts by their first words."""
    summary: list[str] = []
    parts: dict[str, list[str]] = {}
    lines = summary
    for line in comment.splitlines():
        text = line.removeprefix("//")
        begun = next((part for part in PARTS if text.strip().startswith(part)), None)
        if begun is not None and begun not in parts:
            lines = parts.setdefault(begun, [])
            text = text.strip().removeprefix(begun)
        lines.append(text.strip())
    joined = {name: " ".join(part for part in found if part) for name, found in parts.items()}
    return "\n".join(summary).strip(), joined
