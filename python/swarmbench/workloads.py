"""A planned workload as the native engine takes it."""

from __future__ import annotations

from swarmbench import _native
from swarmbench.plan import WorkloadPlan


def native_workload(
    each: WorkloadPlan, component: _native.Component, *, planted_delay: float = 0.0
) -> _native.Workload:
    """A workload of the plan as the engine takes it.

    With `planted_delay` every operation keeps its worker busy for that many times its own
    duration more: a slow component whose slowness is known.
    """
    process, rate_s = each.process, each.rate_s or 0.0
    on_s, off_s = process.on_s or 1.0, process.off_s or 0.0
    return _native.Workload(
        component,
        weights=[float(each.op_weights.get(op, 0.0)) for op in component.ops()],
        rate=rate_s,
        process=process.kind,
        shape=process.shape or 1.0,
        # Bursts live in operational time: their mean length in operations at 1x.
        burst_ops=max(1e-9, rate_s * (on_s + off_s)),
        duty=on_s / (on_s + off_s),
        instants_s=[time_ns / 1e9 for time_ns in process.times_ns],
        max_in_flight=max(each.in_flight_max, each.stress_in_flight),
        queue=each.queue_max,
        overload=each.overload,
        planted_delay=planted_delay,
    )
