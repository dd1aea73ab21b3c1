"""One workload by itself until it is steady: nothing is recorded, nothing lowers its load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from swarmbench import _native
from swarmbench.engine import TICK_S, EngineDriver, Stretch, Track
from swarmbench.errors import MachineError, SafetyStop
from swarmbench.measured import ClosedLoop, Interval, Load, OpenLoop, Resources
from swarmbench.scenarios.steady import Rule, Steady, measure

#: Readings that the shortest measurement takes, and the shortest time between two of them: one
#: takes about a tenth of a millisecond of the control thread.
READINGS, TICK_MIN_S = 40, 0.002


def measured_alone(
    engine: _native.Engine, name: str, ops: Sequence[str], in_flight: int | None, rule: Rule
) -> Steady:
    """What the engine's only workload does once it is steady, by `rule`.

    It runs in a closed loop of `in_flight`, or at its own rate where that is None. Raises
    `MachineError` where an operation hangs.
    """
    driver = EngineDriver(
        engine,
        [Track(name, tuple(ops), in_flight or 1)],
        workers=1,
        meter=_Unread(),
        listener=_Unheard(),
        tick_s=min(TICK_S, max(TICK_MIN_S, rule.min_s / READINGS)),
    )
    load: Load = OpenLoop(((0.0, 1.0),)) if in_flight is None else ClosedLoop()
    try:
        return measure(driver, load, rule)
    except SafetyStop as error:
        raise MachineError(f"{name}: {error}", hint="give it a lower rate or less work") from None


class _Unread:
    """Reads no resources."""

    def start(self) -> None: ...
    def read(self) -> Resources:
        return Resources()


class _Unheard:
    """Is told of everything and does nothing."""

    def begun(self, phase: str, load: Load, start_s: float, duration_s: float) -> None: ...
    def tick(self, phase: str, elapsed_s: float, intervals: Sequence[Interval]) -> float:
        return 1.0

    def ended(self, stretch: Stretch) -> None: ...
    def event(self, at_s: float, kind: str, fields: Mapping[str, object]) -> None: ...
