"""The findings of `doctor` as lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from swarmbench.doctor import Finding

_MARKS = {"ok": "ok     ", "warn": "warn   ", "missing": "missing"}


def render(findings: Sequence[Finding]) -> str:
    """One line a finding, a remedy below where there is one, and a count at the end."""
    width = max((len(each.name) for each in findings), default=0)
    lines = []
    for each in findings:
        lines.append(f"{_MARKS[each.state]}  {each.name:{width}}  {each.value}")
        if each.remedy is not None:
            lines.append(f"{'':{len(_MARKS[each.state])}}  {'':{width}}  -> {each.remedy}")
    counts = {state: sum(each.state == state for each in findings) for state in _MARKS}
    lines.append(", ".join(f"{count} {state}" for state, count in counts.items()))
    return "\n".join(lines)
