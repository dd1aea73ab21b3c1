"""What the result says of a component beside its measurements: units, roofs, targets, claims."""

from __future__ import annotations

from fractions import Fraction
from statistics import harmonic_mean

from swarmbench.analysis.result import Capacity, ComponentFacts
from swarmbench.ceilings import Calibration
from swarmbench.components import Component
from swarmbench.measured import Figures
from swarmbench.plan import WorkloadPlan


def facts_of(each: WorkloadPlan, done: Figures, ceilings: Calibration | None) -> ComponentFacts:
    """What the result says of a component beside its measurements."""
    component = each.component
    # What a server elsewhere or a GPU can do is no matter of the CPU's roofs.
    ceilings = None if each.has_desk else ceilings
    return ComponentFacts(
        capacity=Capacity(component.unit, mixed_ceiling(component, done, ceilings)),
        operations={
            op.name: Capacity(op.unit, op_ceiling(component, op.name, ceilings))
            for op in component.ops
        },
        latency_target_s=None if each.latency_target_ns is None else each.latency_target_ns / 1e9,
        throughput_target=each.throughput_target_s,
        claim=component.claim or None,
        admitted_max=each.admitted_max,
    )


def op_ceiling(component: Component, name: str, ceilings: Calibration | None) -> float | None:
    """Units per second that the measured roof allows one op type; None where it has no roof."""
    op = next(op for op in component.ops if op.name == name)
    roof = None if ceilings is None else ceilings.value(op.roof)
    cost = component.cost(op)
    return None if roof is None or cost <= 0 else roof / cost


def mixed_ceiling(
    component: Component, done: Figures, ceilings: Calibration | None
) -> float | None:
    """The roof of what was done in the component's unit: the least times of each op's units add up.

    None where one of these op types has no roof. The roof of one op type alone is its own, to the
    last bit.
    """
    roofs, weights = [], []
    for op in component.ops:
        part = done.operations.get(op.name)
        if part is None or part.units == 0 or op.unit != component.unit:
            continue
        ceiling = op_ceiling(component, op.name, ceilings)
        if ceiling is None:
            return None
        roofs.append(Fraction(ceiling))
        weights.append(part.units)
    return float(harmonic_mean(roofs, weights)) if weights else None
