"""Whether the system under load is healthy, and how far its load is lowered: a pure state machine.

One `Check` a second in; at most one `Change` of the load factor out. No clock, thread or file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from swarmbench.plan import Health

#: The load is never lowered below this: what has not helped by then will not.
FACTOR_MIN = 0.1
#: Checks over which a queue must have grown, at every one of them, to count as growing.
GROWTH_CHECKS = 5
#: A queue shorter than this is noise.
GROWTH_DEPTH_MIN = 16
#: Operations that must have ended before an error share says anything.
ERRORS_SAMPLE_MIN = 10


@dataclass(frozen=True, slots=True)
class Vitals:
    """One component since the check before; None where it cannot be known.

    `response_p99_ns` is held against `response_limit_ns`; counts are increments, `queue_depth`
    the moment's. `stalled_s` is for how long it had work and completed none.
    """

    response_p99_ns: float | None = None
    response_limit_ns: float | None = None
    completed: int = 0
    errors: int = 0
    queue_depth: int = 0
    stalled_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Check:
    """All that one check looks at; shares are in 0..1."""

    time_s: float
    components: Mapping[str, Vitals] = field(default_factory=dict)
    memory_pressure: float | None = None
    memory_available: float | None = None
    disk_free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Symptom:
    """One measured value on the wrong side of its threshold; `component` None: the machine's."""

    name: str
    component: str | None
    value: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Change:
    """The load factor changed: an event of the record.

    `since_s` is the time of the first check of the streak that led to it; `symptoms` are the
    last check's (none where the load is restored).
    """

    time_s: float
    since_s: float
    factor_before: float
    factor: float
    symptoms: tuple[Symptom, ...]

    def to_json(self) -> dict[str, object]:
        """The fields of the event, JSON values."""
        return {
            "since_s": self.since_s,
            "factor_before": self.factor_before,
            "factor": self.factor,
            "symptoms": [
                {
                    "name": each.name,
                    "component": each.component,
                    "value": each.value,
                    "threshold": each.threshold,
                }
                for each in self.symptoms
            ],
        }


class Watch:
    """Counts healthy and unhealthy checks in a row and lowers or restores the load.

    After `unhealthy_checks` in a row the factor is multiplied by `load_factor`, after
    `healthy_checks` in a row the last lowering is taken back; each change starts a new count.
    """

    def __init__(self, thresholds: Health) -> None:
        self._thresholds = thresholds
        self._lowered: list[float] = []
        self._healthy = True
        self._streak = 0
        self._since_s = 0.0
        self._depths: dict[str, deque[int]] = {}
        self.symptoms: tuple[Symptom, ...] = ()

    @property
    def factor(self) -> float:
        """What the load is to be multiplied by, in `FACTOR_MIN`..1."""
        return self._lowered[-1] if self._lowered else 1.0

    @property
    def healthy(self) -> bool:
        """Whether the last check found no symptom."""
        return self._healthy

    def observe(self, check: Check) -> Change | None:
        """Takes one check; returns the change of load that it leads to, if any."""
        self.symptoms = tuple(self._examine(check))
        healthy = not self.symptoms
        if healthy != self._healthy or self._streak == 0:
            self._healthy, self._streak, self._since_s = healthy, 0, check.time_s
        self._streak += 1
        before = self.factor
        if healthy and self._lowered and self._streak >= self._thresholds.healthy_checks:
            self._lowered.pop()
        elif not healthy and self._streak >= self._thresholds.unhealthy_checks:
            lower = before * self._thresholds.load_factor
            if lower < FACTOR_MIN:
                return None
            self._lowered.append(lower)
        else:
            return None
        self._streak = 0
        return Change(check.time_s, self._since_s, before, self.factor, self.symptoms)

    def _examine(self, check: Check) -> list[Symptom]:
        found: list[Symptom] = []
        for name, vitals in check.components.items():
            found += self._examine_component(name, vitals)
        limits = self._thresholds
        pressure, available = check.memory_pressure, check.memory_available
        if pressure is not None and pressure > limits.memory_pressure_max:
            found.append(Symptom("memory_pressure", None, pressure, limits.memory_pressure_max))
        if available is not None and available < limits.memory_available_min:
            found.append(Symptom("memory_available", None, available, limits.memory_available_min))
        free = check.disk_free_bytes
        if free is not None and free < limits.disk_free_bytes_min:
            found.append(Symptom("disk_free_bytes", None, free, limits.disk_free_bytes_min))
        return found

    def _examine_component(self, name: str, vitals: Vitals) -> list[Symptom]:
        found: list[Symptom] = []
        response, limit = vitals.response_p99_ns, vitals.response_limit_ns
        if response is not None and limit is not None and response > limit:
            found.append(Symptom("response_p99_ns", name, response, limit))
        ended = vitals.completed + vitals.errors
        share = vitals.errors / ended if ended else 0.0
        if ended >= ERRORS_SAMPLE_MIN and share > self._thresholds.error_share_max:
            found.append(Symptom("error_share", name, share, self._thresholds.error_share_max))
        if vitals.stalled_s > self._thresholds.stall_s_max:
            threshold = self._thresholds.stall_s_max
            found.append(Symptom("stalled_s", name, vitals.stalled_s, threshold))
        depths = self._depths.setdefault(name, deque(maxlen=GROWTH_CHECKS + 1))
        depths.append(vitals.queue_depth)
        if _growing(depths):
            found.append(Symptom("queue_depth_growing", name, depths[-1], depths[0]))
        return found


def _growing(depths: deque[int]) -> bool:
    """Longer at every one of the last checks than at the one before it."""
    if len(depths) <= GROWTH_CHECKS or depths[-1] < GROWTH_DEPTH_MIN:
        return False
    pairs = zip(list(depths)[:-1], list(depths)[1:], strict=True)
    return all(later > earlier for earlier, later in pairs)
