"""The machine's ceilings as a table of text."""

from __future__ import annotations

from swarmbench.ceilings import MEANINGS, Calibration, Ceiling

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def render(calibration: Calibration) -> str:
    """One line a ceiling with its spread and meaning, then what is absent and what it took."""
    width = max(len(name) for name in MEANINGS)
    lines = [f"{'ceiling':{width}}  {'value':>15}  {'spread':>7}  threads  meaning"]
    for name, ceiling in calibration.ceilings.items():
        lines.append(
            f"{name:{width}}  {quantity(ceiling):>15}  {ceiling.spread:>7.1%}  "
            f"{ceiling.threads:>7}  {MEANINGS[name]}"
        )
    lines += [f"{name:{width}}  absent: {reason}" for name, reason in calibration.absent.items()]
    lines += [f"note: {note}" for note in calibration.notes]
    lines.append(
        f"took {calibration.duration_s:.1f} s, {calibration.memory_bytes / 1e6:.0f} MB of memory "
        f"(freed) and {calibration.disk_written_bytes / 1e6:.0f} MB of writes (removed)"
    )
    return "\n".join(lines)


def quantity(ceiling: Ceiling) -> str:
    """The value with three digits and a prefix its size asks for; nanoseconds up to seconds."""
    if ceiling.unit == "ns":
        for factor, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
            if ceiling.value >= factor:
                return f"{ceiling.value / factor:.3g} {unit}"
        return f"{ceiling.value:.3g} ns"
    for factor, prefix in _PREFIXES:
        if ceiling.value >= factor:
            return f"{ceiling.value / factor:.3g} {prefix}{ceiling.unit}"
    return f"{ceiling.value:.3g} {ceiling.unit}"
