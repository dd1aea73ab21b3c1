"""What `calibrate` and `doctor` found out about a machine, as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Protocol

from swarmbench.ceilings import MEANINGS, Calibration, Ceiling
from swarmbench.units import about_bytes, about_count, about_seconds

WIDTH = 80


class Finding(Protocol):
    """One line of the doctor's: what, how it stands, and what would do where it is not ok."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def value(self) -> str: ...
    @property
    def remedy(self) -> str | None: ...


def ceilings_text(calibration: Calibration) -> str:
    """Every ceiling with its spread and meaning, then what could not be measured and why."""
    rows = [
        (name, _value(name, ceiling), f"± {ceiling.spread:.1%}", MEANINGS[name])
        for name, ceiling in calibration.ceilings.items()
    ]
    rows += [(name, "absent", "", reason) for name, reason in calibration.absent.items()]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines: list[str] = []
    for name, value, spread, meaning in rows:
        head = f"{name:<{widths[0]}}  {value:>{widths[1]}}  {spread:<{widths[2]}}"
        lines += [head.rstrip(), f"    {meaning}"]
    lines += [f"note: {note}" for note in calibration.notes]
    written = about_bytes(calibration.disk_written_bytes)
    took = about_seconds(calibration.duration_s)
    lines.append(f"{calibration.threads} threads, {took}, {written} written and removed again")
    return "\n".join(lines)


def findings_text(findings: Sequence[Finding]) -> str:
    """One line a finding, its remedy below it where there is one, then the counts."""
    lines: list[str] = []
    for each in findings:
        lines += textwrap.wrap(
            f"{each.state:<8}{each.name}: {each.value}", WIDTH, subsequent_indent=" " * 10
        )
        if each.remedy is not None and each.state != "ok":
            lines += textwrap.wrap(
                each.remedy, WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8
            )
    states = [each.state for each in findings]
    counts = (f"{states.count(state)} {state}" for state in ("ok", "warn", "missing"))
    return "\n".join([*lines, ", ".join(counts)])


def _value(name: str, ceiling: Ceiling) -> str:
    if name.endswith("_ns"):
        return about_seconds(ceiling.value / 1e9)
    if name.endswith("bytes_s"):
        return f"{about_bytes(ceiling.value)}/s"
    return f"{about_count(ceiling.value)} {ceiling.unit}"
