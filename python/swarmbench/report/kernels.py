"""The catalogue of kernels as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Protocol

WIDTH = 80


class Kernel(Protocol):
    """What is shown of a kernel."""

    @property
    def name(self) -> str: ...
    @property
    def file(self) -> str: ...
    @property
    def signature(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def parts(self) -> dict[str, str]: ...


class Usage(Protocol):
    """What a kernel takes of a multiprocessor."""

    @property
    def registers(self) -> int: ...
    @property
    def spilled_bytes(self) -> int: ...
    @property
    def shared_bytes(self) -> int: ...


def kernels_table(kernels: Sequence[Kernel]) -> str:
    """One line a kernel, under its file: the name and the first sentence of its head."""
    width = max((len(each.name) for each in kernels), default=0)
    lines: list[str] = []
    file = None
    for each in kernels:
        if each.file != file:
            file = each.file
            lines.append(file)
        text, *more = textwrap.wrap(_first_line(each.summary), WIDTH - width - 6) or [""]
        text += " …" if more else ""
        lines.append(f"  {each.name:<{width}}  {text}".rstrip())
    return "\n".join(lines)


def kernel_text(kernel: Kernel, usage: Mapping[str, Usage], problem: str | None) -> str:
    """One kernel: its head, its parameters, and what it takes on each architecture."""
    lines = [f"{kernel.name} ({kernel.file})", "", *kernel.summary.splitlines(), ""]
    for part, text in kernel.parts.items():
        lines += textwrap.wrap(text, WIDTH, initial_indent=f"{part}: ", subsequent_indent="    ")
    lines += [
        "",
        *textwrap.wrap(f"Parameters: {kernel.signature}", WIDTH, subsequent_indent="    "),
    ]
    if usage:
        lines += ["", "architecture  registers  spilled bytes  shared bytes"]
        lines += [
            f"{name:<12}  {each.registers:>9}  {each.spilled_bytes:>13}  {each.shared_bytes:>12}"
            for name, each in usage.items()
        ]
    if problem is not None:
        lines += ["", f"registers are not known here: {problem}"]
    return "\n".join(lines)


def _first_line(summary: str) -> str:
    """The sentence that a head begins with."""
    return " ".join(summary.split("\n\n")[0].split())
