"""How much of the host's memory each workload gets: components are shrunk into the budget."""

from __future__ import annotations

from dataclasses import replace

from swarmbench import units
from swarmbench.components import Component
from swarmbench.components.cuda import CUDA
from swarmbench.errors import MachineError
from swarmbench.plan import Memory, WorkloadPlan, harness_bytes

#: Budgets that a component is given, one smaller than the other, until it fits with its device's.
_ATTEMPTS_MAX = 40


def fit_memory(
    workloads: list[WorkloadPlan], memory_budget: int, threads: int
) -> tuple[list[WorkloadPlan], dict[str, Memory]]:
    """Shrinks components into the budget: the small keep their size, the large share the rest.

    What a device's lanes take of the host, pinned most of it, is part of what a component needs.
    `MachineError` where one cannot be made to fit.
    """
    wanted = {each.name: _peak_bytes(each, each.component, threads) for each in workloads}
    left, shares = memory_budget - harness_bytes(len(workloads)), {}
    for position, (name, size) in enumerate(sorted(wanted.items(), key=lambda item: item[1])):
        shares[name] = min(size, left // (len(wanted) - position))
        left -= shares[name]
    fitted: list[WorkloadPlan] = []
    memory: dict[str, Memory] = {}
    for each in workloads:
        component, changes = _shrunk(each, shares[each.name], threads)
        fitted.append(replace(each, component=component))
        lines = (change.removeprefix(each.name).lstrip(":. ") for change in changes)
        for_device = _for_device_bytes(each, component)
        memory[each.name] = Memory(
            wanted_bytes=each.component.resident_bytes(threads)
            + _for_device_bytes(each, each.component),
            resident_bytes=component.resident_bytes(threads) + for_device,
            peak_bytes=_peak_bytes(each, component, threads),
            for_device_bytes=for_device,
            fitted=tuple(lines),
        )
    return fitted, memory


def _for_device_bytes(workload: WorkloadPlan, component: Component) -> int:
    on_cuda = workload.backend == "cuda"
    return CUDA[workload.name].host_bytes(component, workload.lanes) if on_cuda else 0


def _peak_bytes(workload: WorkloadPlan, component: Component, threads: int) -> int:
    return component.peak_bytes(threads) + _for_device_bytes(workload, component)


def _shrunk(workload: WorkloadPlan, share: int, threads: int) -> tuple[Component, list[str]]:
    """The component at a size whose peak is within its share, and a line for each size changed."""
    component, changes, budget = workload.component, list[str](), share
    needed = _peak_bytes(workload, component, threads)
    for _ in range(_ATTEMPTS_MAX):
        if needed <= share:
            return component, changes
        component, changes = workload.component.fitted(budget, threads)
        needed = _peak_bytes(workload, component, threads)
        # What a device takes of the host shrinks about as its component does.
        budget = min(budget - 1, budget * share // max(1, needed))
    if needed <= share:
        return component, changes
    raise MachineError(
        f"component `{workload.name}` needs {units.about_bytes(needed)} of memory"
        f"{_explained(workload, component)} and has {units.about_bytes(share)}",
        hint="raise `--memory-budget`, or leave components out by `--components`",
    )


def _explained(workload: WorkloadPlan, component: Component) -> str:
    nbytes = _for_device_bytes(workload, component)
    return f", {units.about_bytes(nbytes)} of it for its device," if nbytes else ""
