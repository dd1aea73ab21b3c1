"""The summary of a result for a terminal: verdict first, readable at 80 columns, without colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import StringIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from swarmbench.schema import (
    BreakingPoint,
    ComponentFigures,
    CriterionResult,
    Interval,
    OperationFigures,
    Percentiles,
    Result,
)
from swarmbench.units import about_bytes, about_count, about_seconds

WIDTH = 80
_STYLES = {
    "pass": "green",
    "warn": "yellow",
    "fail": "red",
    "untrusted": "magenta",
    "unresolved": "yellow",
    "censored": "cyan",
}
#: Columns of the longest name of an op of ours below its component's: it is not folded.
_NAME_WIDTH = 17
_NOTHING = "-"


def summary(result: Result, *, width: int = WIDTH, colour: bool = False) -> str:
    """The result as text of at most `width` columns; with `colour`, with terminal codes in it."""
    out = StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        legacy_windows=False,
    )
    style = _STYLES[result.verdict]
    console.print(f"{result.scenario}: [{style}]{result.verdict.upper()}[/{style}]")
    for line in _reasons(result):
        console.print(f"  {escape(line)}")
    console.print()
    for label, text in _facts(result):
        console.print(_fact(label, text))
    console.print()
    console.print(_components_table(result))
    for line in _claims(result):
        console.print(escape(line))
    console.print()
    console.print(_criteria_table(result.criteria))
    if result.notes:
        console.print()
    for note in result.notes:
        console.print(escape(f"note: {note}"))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _fact(label: str, text: str) -> Table:
    """One line of the head; a long text goes on under itself, not under its label."""
    row = Table.grid(padding=(0, 2))
    row.add_column(width=14)
    row.add_column(overflow="fold")
    row.add_row(label, escape(text))
    return row


def _reasons(result: Result) -> Iterator[str]:
    """Why the verdict is not a pass, one line each."""
    yield from result.trust.reasons
    for each in result.criteria:
        if each.verdict in ("fail", "warn", "unresolved"):
            said = {"fail": "failed", "warn": "is short of its target", "unresolved": "is open"}
            yield f"{_words(each.metric)} {said[each.verdict]}: {_value(each)}"
    for name, figures in result.components.items():
        if figures.violations:
            yield f"{name} gave {figures.violations} wrong results"


def _facts(result: Result) -> Iterator[tuple[str, str]]:
    yield "run", result.run_id if result.name is None else f"{result.run_id} ({result.name})"
    took = about_seconds(result.duration_s)
    yield "profile", f"{result.profile} on {result.backend}, seed {result.seed}, took {took}"
    if result.production_scale != 1:
        yield "production", f"1x is {result.production_scale:.3g} of the production rates here"
    point = result.breaking_point
    if point is not None:
        yield "breaking point", _breaking_point(point)
        if point.cascade:
            steps = (f"{each.component} {about_seconds(each.after_s)}" for each in point.cascade)
            yield "cascade", "then " + ", ".join(steps) + " after it"
    if result.recovery_s is not None:
        yield "recovery", f"{about_seconds(result.recovery_s)} after the load fell back to 1x"
    elif point is not None:
        yield "recovery", "not seen before the end of the phase"
    for each in result.bottlenecks:
        yield "bottleneck", f"{_words(each.resource)} in {_words(each.phase)}: {each.evidence}"
    yield from _worker_time(result)
    yield "trust", _trust(result)


def _worker_time(result: Result) -> Iterator[tuple[str, str]]:
    """Who took which share of the machine, the largest first, and what checking it cost."""
    shares = {name: figures.machine_share for name, figures in result.components.items()}
    taken = sorted(((share, name) for name, share in shares.items() if share), reverse=True)
    if taken:
        parts = (f"{name} {_percent(share)}" for share, name in taken)
        yield "worker time", ", ".join(parts)
    checks = {name: figures.verify_share for name, figures in result.components.items()}
    spent = sorted(((share, name) for name, share in checks.items() if share), reverse=True)
    if spent:
        parts = (f"{name} {_percent(share)}" for share, name in spent)
        yield "spent checking", f"{', '.join(parts)} of their own"


def _percent(share: float) -> str:
    return f"{share * 100:.2g} %" if share < 0.995 else "100 %"


def _breaking_point(point: BreakingPoint) -> str:
    if point.censored:
        return f"none up to {point.multiplier:.3g}x"
    first = f", {point.first_component} first" if point.first_component else ""
    resource = f", limited by {_words(point.resource)}" if point.resource else ""
    return f"{point.multiplier:.3g}x{_interval(point.interval, 'x')}{first}{resource}"


def _trust(result: Result) -> str:
    trust = result.trust
    lateness = "unknown" if trust.lateness_ns_p99 is None else _nanoseconds(trust.lateness_ns_p99)
    parts = [f"generator late by {lateness} at p99"]
    parts.append("converged" if trust.converged else "did not converge")
    if trust.generator_limited:
        parts.append("limited by the generator")
    if trust.throttled_percent is not None:
        parts.append(f"throttled {trust.throttled_percent:.3g} % of the time")
    if trust.observer_cost_percent is not None:
        parts.append(f"observing cost {trust.observer_cost_percent:.2g} %")
    if trust.sentinel.bad:
        parts.append("the machine was disturbed")
    return ", ".join(parts)


def _components_table(result: Result) -> Table:
    """The main phase; what was offered has a column where any loop was open."""
    rows: list[tuple[str, OperationFigures, str]] = []
    for name, figures in result.components.items():
        rows.append((name, figures, _share(figures)))
        if len(figures.operations) > 1:
            rows += [(f"  {op}", each, "") for op, each in figures.operations.items()]
    is_open = any(figures.offered_ops_s is not None for _, figures, _ in rows)
    offered = ("offered",) if is_open else ()
    table = _table("component", *offered, "achieved", "p50", "p99", "goodput", "roof", "share")
    for name, row, share in rows:
        cells = _figures_cells(row)
        table.add_row(escape(name), *(cells if is_open else cells[1:]), share)
    return table


def _figures_cells(figures: OperationFigures) -> tuple[str, ...]:
    goodput = figures.goodput
    value = roof = _NOTHING
    if goodput is not None:
        value = f"{about_count(goodput.value)} {goodput.unit}/s"
        if goodput.unit.endswith("bytes"):
            # Of which kind comes behind the quantity, where the column breaks.
            kind = goodput.unit.removesuffix("bytes")
            value = f"{about_bytes(goodput.value)}/s {kind}".rstrip()
        if goodput.percent_of_ceiling is not None:
            roof = _roof(goodput.percent_of_ceiling)
    offered = figures.offered_ops_s
    return (
        "closed" if offered is None else about_count(float(f"{offered:.3g}")),
        about_count(float(f"{figures.achieved_ops_s:.3g}")),
        _nanoseconds(figures.response_ns.p50),
        _nanoseconds(figures.response_ns.p99) + _half_width(figures.response_ns),
        value,
        roof,
    )


def _roof(percent: float) -> str:
    """Of what the machine can do; what is hardly any of it needs no digits."""
    return "<0.01%" if 0 < percent < 0.01 else f"{percent:.3g}%"


def _half_width(response: Percentiles) -> str:
    """` ±5%`: the further end of the p99's interval, as a share of it; nothing without one."""
    told = None if response.interval_95 is None else response.interval_95.p99
    if told is None or not response.p99:
        return ""
    furthest = max(response.p99 - told[0], told[1] - response.p99)
    return f" ±{furthest / response.p99:.0%}"


def _share(figures: ComponentFigures) -> str:
    return _NOTHING if figures.machine_share is None else f"{figures.machine_share:.0%}"


def _claims(result: Result) -> Iterator[str]:
    """What the original claimed, beside what was measured here."""
    for name, figures in result.components.items():
        if figures.claim:
            measured = _nanoseconds(figures.response_ns.p99)
            yield f"claimed for {name}, never measured: {figures.claim}; p99 here {measured}"


def _criteria_table(criteria: Sequence[CriterionResult]) -> Table:
    table = _table("criterion", "value", "target", "fails at", "verdict")
    for each in criteria:
        style = _STYLES[each.verdict]
        table.add_row(
            _words(each.metric),
            _value(each),
            _with_unit(each.target, each.unit),
            _with_unit(each.failure_threshold, each.unit),
            f"[{style}]{each.verdict}[/{style}]",
        )
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(first, min_width=_NAME_WIDTH, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _value(criterion: CriterionResult) -> str:
    if criterion.value is None:
        return "no figure"
    interval = _interval(criterion.interval, criterion.unit)
    return _with_unit(criterion.value, criterion.unit) + interval


def _with_unit(value: float, unit: str) -> str:
    if unit == "s":
        return about_seconds(value)
    if unit == "x":
        return f"{value:.3g}x"
    # A share of wrong answers is told from none by its fifth or sixth digit.
    return f"{value:.6g}%" if unit in ("%", "percent") else f"{value:.4g} {unit}".rstrip()


def _interval(interval: Interval | None, unit: str) -> str:
    """` (low to high)`, open where an end was not reached, nothing where there is none."""
    if interval is None or interval == (None, None):
        return ""
    low, high = interval
    if low is None and high is not None:
        return f" (up to {_with_unit(high, unit)})"
    if high is None and low is not None:
        return f" (from {_with_unit(low, unit)})"
    assert low is not None
    assert high is not None
    return f" ({_with_unit(low, unit)} to {_with_unit(high, unit)})"


def _nanoseconds(value: int | None) -> str:
    return _NOTHING if value is None else about_seconds(value / 1e9)


def _words(name: str) -> str:
    return escape(name.replace("_", " "))
