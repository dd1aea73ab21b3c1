"""The table of runs that `swarmbench list` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = ("run", "state", "verdict", "breaking_point")


def runs_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Runs as text, one a line, in the order given; says so where there is none."""
    if not runs:
        return "no runs"
    rows = [[title.replace("_", " ") for title in _COLUMNS]]
    rows += [[_cell(run[name]) for name in _COLUMNS] for run in runs]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}x" if isinstance(value, float) else str(value)
