"""The seam between a scenario and what runs it: load as data in, figures of a stretch out.

A scenario sees only this protocol, so the same function runs against the engine and against a
simulated system whose truth is known. It owns no clock, no thread and no file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from swarmbench.measured import (
    ClosedLoop,
    Figures,
    Held,
    Histogram,
    Interval,
    Load,
    OpenLoop,
    Resources,
    Sentinel,
)

__all__ = [
    "ClosedLoop",
    "Driver",
    "Figures",
    "Held",
    "Histogram",
    "Interval",
    "Load",
    "OpenLoop",
    "Resources",
    "Sentinel",
]


class Driver(Protocol):
    """What runs the load: the engine on a machine, or a simulated system under a virtual clock."""

    def hold(
        self,
        phase: str,
        load: Load,
        duration_s: float,
        *,
        drain: bool = True,
        until: Callable[[list[Interval]], bool] | None = None,
    ) -> Held:
        """Holds `load` for `duration_s`, or until `until` is true of the latest intervals.

        With `drain` the stretch ends with nothing queued or in flight; without, what is left
        completes during the next one and still belongs to this one.
        """
        ...

    def event(self, kind: str, **fields: object) -> None:
        """Appends one record to the run's events, at the driver's own time."""
        ...
