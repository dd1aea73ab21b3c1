"""The kernel files: which kernels each has, their parameters, and what their heads say of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

#: Where the kernel files lie, in the repository and in the installed package.
DIRECTORY = Path(__file__).parent.parent / "kernels"
#: Where the kernels are that are written in Python.
NUMBA_DIRECTORY = Path(__file__).parent / "numba"
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


@cache
def numba_files() -> tuple[str, ...]:
    """The files with kernels that are written in Python, by name."""
    names = sorted(path.name for path in NUMBA_DIRECTORY.glob("*.py"))
    return tuple(name for name in names if kernels(name))


def is_numba(file: str) -> bool:
    """Whether the kernels of a file are written in Python."""
    return file.endswith(".py")


def text_of(file: str) -> str:
    """The text of a kernel file or header."""
    directory = NUMBA_DIRECTORY if is_numba(file) else DIRECTORY
    return (directory / file).read_text(encoding="utf-8")


@cache
def kernels(file: str) -> tuple[KernelSource, ...]:
    """The kernels of one file, in its order."""
    return tuple(parsed(file, text_of(file)))


def parsed(file: str, text: str) -> Iterator[KernelSource]:
    """The kernels in the text of a file."""
    if is_numba(file):
        yield from _numba_kernels(file, text)
        return
    for found in _KERNEL.finditer(text):
        summary, parts = _head(found["head"])
        parameters = tuple(
            _parameter(each) for each in found["parameters"].split(",") if each.strip()
        )
        yield KernelSource(file, found["name"], parameters, summary, parts)


def every_kernel() -> tuple[KernelSource, ...]:
    """The kernels of all files."""
    return tuple(kernel for file in (*files(), *numba_files()) for kernel in kernels(file))


def _numba_kernels(file: str, text: str) -> Iterator[KernelSource]:
    """The functions that are marked as kernels, with the comments directly above them."""
    lines = text.splitlines()
    for node in ast.parse(text).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        marks = [mark for mark in node.decorator_list if getattr(mark, "id", "") == "kernel"]
        if not marks:
            continue
        first = end = marks[0].lineno - 1
        while first > 0 and lines[first - 1].startswith("#"):
            first -= 1
        head = "\n".join(line.replace("#", "//", 1) for line in lines[first:end])
        summary, parts = _head(head)
        given = tuple(_numba_parameter(each) for each in node.args.args)
        yield KernelSource(file, node.name, given, summary, parts)


def _numba_parameter(argument: ast.arg) -> Parameter:
    declared = argument.annotation.id if isinstance(argument.annotation, ast.Name) else ""
    kind = declared.removesuffix("s")
    if kind not in _SCALARS:
        raise ValueError(f"parameter `{argument.arg}`: give types as {', '.join(_SCALARS)}")
    is_array = kind != declared
    dtype = None if is_array else np.dtype(_SCALARS[kind])
    return Parameter(argument.arg, f"{kind}*" if is_array else kind, dtype)


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
