"""A planned workload as the native engine takes it, and the hosting of those in Python."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from swarmbench import _native
from swarmbench.components import Component
from swarmbench.plan import WorkloadPlan


def native_workload(
    each: WorkloadPlan, component: _native.Component, *, planted_delay: float = 0.0
) -> _native.Workload:
    """A workload of the plan as the engine takes it.

    With `planted_delay` every operation keeps its worker busy for that many times its own
    duration more: a slow component whose slowness is known.
    """
    process, rate_s = each.process, each.rate_s or 0.0
    if each.has_desk:
        component = _native.Component.outside(component.ops())
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


class Host:
    """Serves the workloads whose components have no native backend, a thread for each.

    The threads end when the engine is stopped. `failures` has then, by component, the first thing
    that an operation raised; every one that did was counted as an error.
    """

    def __init__(
        self, engine: _native.Engine, workloads: Sequence[WorkloadPlan], seed: int
    ) -> None:
        self.failures: dict[str, str] = {}
        #: Where the clients of model servers and the lanes of CUDA workloads take their operations,
        #: by component.
        self.desks: dict[str, _native.Desk] = {}
        self._threads: list[threading.Thread] = []
        native = _native.component_names()
        # The engine gives out the workloads that run outside of it in their order.
        for each in workloads:
            if each.has_desk:
                desk = _native.Desk.of(engine)
                assert desk is not None
                self.desks[each.name] = desk
                continue
            if each.name in native:
                continue
            component, drain = each.component, engine.drain()
            assert drain is not None
            served = threading.Thread(
                target=self._serve, args=(drain, component, seed), name=component.name, daemon=True
            )
            served.start()
            self._threads.append(served)

    def _serve(self, drain: _native.Drain, component: Component, seed: int) -> None:
        error = drain.serve(_call(component, seed), per_op=True)
        if error is not None:
            self.failures[component.name] = f"{type(error).__name__}: {error}"

    def join(self) -> None:
        """Waits for the threads, after the engine was stopped."""
        for thread in self._threads:
            thread.join()


def _call(component: Component, seed: int) -> Callable[[int, int], bool]:
    names = [op.name for op in component.ops]
    return lambda op, key: component.perform(names[op], seed, key)
