"""The case that decides: every component beside one busy neighbour on a core, and undisturbed.

Each component runs its main op in a closed loop on the engine's pool, as in `sustained`, on all
cores that are allowed. `ours` is its rate while another process keeps one of them busy, the peer is
the same engine without it; the goal of 0.4 says that it loses no more than 2.5 times.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from harness.neighbour import busy_neighbour
from paired import Case, main
from swarmbench import _native
from swarmbench.components import COMPONENTS, Component
from swarmbench.config import Override, make_plan
from swarmbench.plan import WorkloadPlan
from swarmbench.workloads import native_workload

SEED = 7
STRETCH_S = 1.0
PATIENCE_S = 5.0
#: A component may be left with this share of its rate: one part in 2.5.
GOAL = 0.4


class Pool:
    """A component alone in the engine's pool, in a closed loop of its main op."""

    def __init__(self, planned: WorkloadPlan, threads: int) -> None:
        self.in_flight = planned.stress_in_flight
        native = planned.component.prepare(seed=SEED, threads=threads).native
        workload = native_workload(planned, native)
        self.engine = _native.Engine([workload], seed=SEED, workers=threads)
        self.wrong = 0

    def units_s(self) -> float:
        """Units of work per second over one stretch; what is still under way is not counted."""
        phase, began_ns = self.engine.begin_closed([self.in_flight])
        self.engine.wait(STRETCH_S)
        units = self._total(phase, "units")
        elapsed_ns = self.engine.now() - began_ns
        self.engine.cease()
        if not self.engine.settle(PATIENCE_S):
            raise TimeoutError("an operation hangs")
        self.wrong += self._total(phase, "violations") + self._total(phase, "errors")
        return units / elapsed_ns * 1e9

    def disturbed_units_s(self, core: int) -> float:
        """The same beside a busy neighbour on `core`."""
        with busy_neighbour(core):
            return self.units_s()

    def _total(self, phase: int, counter: str) -> int:
        (ops,) = self.engine.reading(phase)
        return sum(reading.counters()[counter] for reading in ops)


def case_of(component: Component, pool: Pool, cores: list[int]) -> Case:
    unit = next(op.unit for op in component.ops if op.name == component.main_op)
    return Case(
        benchmark="neighbour",
        case=f"{component.name} {component.main_op}",
        unit=f"{unit}/s",
        goal=GOAL,
        peer_name="undisturbed",
        ours=lambda: pool.disturbed_units_s(cores[-1]),
        peer=pool.units_s,
        check=lambda: pool.wrong == 0,
        threads=len(cores),
    )


def cases(large: bool) -> Iterator[Case]:
    """One case a component; `large` are the sizes of the profile `standard`."""
    cores = sorted(os.sched_getaffinity(0))
    for name in sorted(COMPONENTS.keys() - {"null"}):
        profile = Override(("profile",), "standard" if large else "quick", "--large")
        main_op = COMPONENTS[name]().main_op
        ops = Override(("workloads", name, "ops"), {main_op: 1.0}, "the main op")
        plan = make_plan("max-throughput", overrides=[profile, ops], components=[name])
        pool = Pool(plan.workload(name), len(cores))
        yield case_of(plan.workload(name).component, pool, cores)
        pool.engine.stop()


if __name__ == "__main__":
    sys.exit(main(cases, __doc__))
