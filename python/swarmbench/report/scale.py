"""Throughput along an axis, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from swarmbench.analysis.usl import Fit, Interval
from swarmbench.units import about_count, about_seconds


class Point(Protocol):
    """One component at one number of workers."""

    @property
    def threads(self) -> int: ...
    @property
    def rate_s(self) -> float: ...
    @property
    def rates_s(self) -> Sequence[float]: ...
    @property
    def response_p99_ns(self) -> int | None: ...
    @property
    def converged(self) -> bool: ...
    @property
    def doubts(self) -> Sequence[str]: ...


class Scaling(Protocol):
    """One component along the axis."""

    @property
    def component(self) -> str: ...
    @property
    def points(self) -> Sequence[Point]: ...
    @property
    def fit(self) -> Fit | None: ...


def scaling_text(found: Sequence[Scaling]) -> str:
    """A table for each component, and the fitted law below it."""
    return "\n\n".join("\n".join(_lines(each)) for each in found)


def _lines(scaling: Scaling) -> Iterator[str]:
    yield scaling.component
    titles = (("ops/s", 9), ("lowest", 9), ("highest", 9), ("speedup", 7), ("p99", 8))
    yield "  threads" + "".join(f"  {title:>{width}}" for title, width in titles)
    first = scaling.points[0]
    for point in scaling.points:
        p99 = "-" if point.response_p99_ns is None else about_seconds(point.response_p99_ns / 1e9)
        speedup = "-" if not first.rate_s else f"{point.rate_s / first.rate_s:.2f}x"
        mark = "" if point.converged else " *"
        yield (
            f"  {point.threads:>7}  {_rate(point.rate_s):>9}  {_rate(min(point.rates_s)):>9}  "
            f"{_rate(max(point.rates_s)):>9}  {speedup:>7}  {p99:>8}{mark}"
        )
    for point in scaling.points:
        if not point.converged:
            reason, *more = point.doubts
            others = f", and {len(more)} more" if more else ""
            yield f"  * {point.threads} did not converge: {reason}{others}"
    if scaling.fit is None:
        yield "  no law: it needs two points or more, each with work done"
        return
    law = scaling.fit.law
    yield f"  contention {_share(law.contention, scaling.fit.contention)}"
    if len(scaling.points) > 2:
        yield f"  coherence {_share(law.coherence, scaling.fit.coherence)}"
        peak = "never" if law.peak is None else f"beyond {law.peak:.3g} threads"
        yield f"  throughput falls {peak}"
    else:
        yield "  coherence taken as 0: it takes three points"


def _rate(rate_s: float) -> str:
    return about_count(float(f"{rate_s:.3g}"))


def _share(value: float, interval: Interval) -> str:
    return f"{value:.4f} ({interval[0]:.4f} to {interval[1]:.4f})"
