"""Little's law, L = lambda W, on every component of every phase: the harness checks itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from swarmbench.measured import Figures

#: The largest relative error that stamping, snapshots and a phase's edges may leave.
TOLERANCE = 0.05
#: Completions below which a phase's edges alone exceed the tolerance.
COMPLETIONS_MIN = 200


@dataclass(frozen=True, slots=True)
class Violation:
    """A component of a phase whose occupancy contradicts its rate and its response time."""

    phase: str
    component: str
    occupancy: float
    expected: float

    def __str__(self) -> str:
        return (
            f"{self.component} in {self.phase}: {self.occupancy:.3g} operations in the system, "
            f"but rate times response time gives {self.expected:.3g}"
        )


def expected_occupancy(figures: Figures, duration_s: float) -> float | None:
    """Rate times mean time in the system (operations), or None with too few completions.

    Response time counts from the intended start and the occupancy from the hand-over, so the
    mean lateness is taken off.
    """
    if figures.response.count < COMPLETIONS_MIN or duration_s <= 0.0:
        return None
    late_ns = figures.lateness.mean if figures.lateness.count else 0.0
    in_system_s = max(0.0, figures.response.mean - late_ns) / 1e9
    return figures.response.count / duration_s * in_system_s


def error(figures: Figures, duration_s: float) -> float | None:
    """Measured over expected occupancy, minus 1; None where it cannot be told."""
    expected = expected_occupancy(figures, duration_s)
    if expected is None or expected <= 0.0:
        return None
    return figures.occupancy_mean / expected - 1.0


def violations(phase: str, components: Mapping[str, Figures], duration_s: float) -> list[Violation]:
    """The components of one phase whose error exceeds the tolerance."""
    found = []
    for name, figures in components.items():
        expected = expected_occupancy(figures, duration_s)
        wrong = error(figures, duration_s)
        if expected is not None and wrong is not None and abs(wrong) > TOLERANCE:
            found.append(Violation(phase, name, figures.occupancy_mean, expected))
    return found
