"""Every component with a CUDA side, every op, on every device: answers, checks, memory."""

from __future__ import annotations

import secrets
from functools import cache
from typing import cast

import pytest

import costs
from swarmbench import _native
from swarmbench.components import COMPONENTS
from swarmbench.components.base import Arrays, agree
from swarmbench.components.cuda import CUDA
from swarmbench.components.cuda.base import Cost, CudaComponent, CudaOperation
from swarmbench.gpu.device import Device
from swarmbench.gpu.emulated import Build, EmulatedDevice
from swarmbench.gpu.found import open_device

#: Inputs change with every run; a failure says which they were.
SEED = secrets.randbits(32)
KEYS = (0, 1, 12_345, 7 << 48 | 1_234_567)
#: Operations of a run; more than any component leaves unchecked in a row.
RUN_OPS = 24

#: The emulator, and where there is one the card.
every_device = pytest.mark.parametrize(
    "kind", ["plain", pytest.param("card", marks=pytest.mark.gpu)]
)
every_component = pytest.mark.parametrize("name", CUDA)
every_op = pytest.mark.parametrize(
    ("name", "op"), [(name, op.name) for name in CUDA for op in COMPONENTS[name].ops]
)


def opened(kind: str) -> Device:
    if kind == "card":
        return open_device(0)
    return EmulatedDevice(seed=SEED, build=cast(Build, kind), is_random=kind == "plain")


def built(name: str, device: Device) -> CudaComponent:
    component = COMPONENTS[name].small()
    native = component.prepare(backend="cpu", seed=SEED, threads=2).native
    return CUDA[name](component, native, device, SEED)


@cache
def operation(name: str, kind: str) -> CudaOperation:
    return built(name, opened(kind)).operation()


@cache
def inputs_of(name: str, op: str, key: int) -> Arrays:
    inputs = COMPONENTS[name].small().inputs(op, SEED, key)
    for array in inputs.values():
        array.flags.writeable = False
    return inputs


@every_device
@every_op
def test_the_kernels_give_the_answers_of_the_reference(name: str, op: str, kind: str) -> None:
    lane = operation(name, kind)
    component = COMPONENTS[name].small()
    for key in KEYS:
        inputs = inputs_of(name, op, key)
        found = lane.evaluate(op, dict(inputs))
        right = component.reference(op, inputs)
        assert agree(found, right, component.tolerance), f"{name} {op}, seed {SEED}, key {key}"


@every_device
@every_op
def test_operations_are_right_and_their_checks_see_nothing(name: str, op: str, kind: str) -> None:
    lane = operation(name, kind)
    checked = 0
    for key in range(RUN_OPS):
        done = lane.run(op, key)
        assert done.status == "ok", f"{name} {op}, seed {SEED}, key {key}"
        assert done.units > 0
        verified, violations = lane.verify()
        assert violations == 0, f"{name} {op}, seed {SEED}, key {key}"
        checked += verified
    assert checked > 0


@every_device
@every_op
@pytest.mark.parametrize("fault", _native.fault_names())
def test_a_damaged_answer_is_seen_wherever_it_is_checked(
    name: str, op: str, fault: str, kind: str
) -> None:
    lane = operation(name, kind)
    seen = planted_count = 0
    for key in range(RUN_OPS):
        lane.run(op, key)
        planted = lane.plant(fault)
        verified, violations = lane.verify()
        assert violations <= verified
        assert violations == 0 or planted
        assert violations > 0 or not planted or not verified, f"seed {SEED}, key {key}"
        seen += violations
        planted_count += planted
    if planted_count == 0:
        assert fault != "flipped_bit", f"nothing was damaged in {name} {op}"
        return
    assert seen > 0
    lane.run(op, RUN_OPS)
    assert lane.verify()[1] == 0


@every_device
@every_op
def test_the_native_component_counts_the_same_units(name: str, op: str, kind: str) -> None:
    # As fresh as the native one: what was done before may change how much there is to do.
    lane = built(name, opened(kind)).operation()
    native = COMPONENTS[name].small().prepare(backend="cpu", seed=SEED).native
    found = lane.run(op, KEYS[1])
    assert found.units == native.run(op, first_key=KEYS[1], count=1)["units"]


@every_op
def test_accesses_are_in_bounds_and_ordered_and_all_work_is_as_declared(name: str, op: str) -> None:
    """The traced build stops at an access outside the buffers and at a data race."""
    traced = operation(name, "traced")
    with costs.followed(traced) as done:
        traced.run(op, KEYS[2])
    costs.check(done, traced.cost(op), f"{name} {op}, seed {SEED}")
    assert traced.verify()[1] == 0


@pytest.mark.parametrize("kind", costs.KINDS)
def test_a_declared_cost_that_is_off_by_a_tenth_is_seen(kind: str) -> None:
    done = dict.fromkeys(costs.KINDS, 100)
    costs.check(done, Cost(**done), "right")
    for declared in (0, 90, 110):
        with pytest.raises(AssertionError, match=f"100 {kind.replace('_', ' ')}, {declared} decl"):
            costs.check(done, Cost(**done | {kind: declared}), "wrong")
    nothing = dict.fromkeys(costs.KINDS, 0)
    with pytest.raises(AssertionError, match=r"0 .*, 1 declared"):
        costs.check(nothing, Cost(**nothing | {kind: 1}), "none")


@every_device
@every_component
def test_device_and_host_hold_what_the_formulas_say(name: str, kind: str) -> None:
    device = opened(kind)
    component = COMPONENTS[name].small()
    cuda = built(name, device)
    for lanes in (1, 2, 3):
        cuda.operation()
        assert device.allocated_bytes == CUDA[name].device_bytes(component, lanes)
        assert device.host_allocated_bytes == CUDA[name].host_bytes(component, lanes)


@every_device
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *(
            ("streaming", {"placement": place})
            for place in ("host_device_host", "file_device_file")
        ),
        ("memory", {"host_memory": "pageable"}),
        ("memory", {"allocator": "pinned"}),
        ("assistant", {"model": "base"}),
    ],
)
def test_the_formulas_hold_for_other_places_and_sizes(
    name: str, changes: dict[str, str], kind: str
) -> None:
    device = opened(kind)
    component = COMPONENTS[name].small().model_copy(update=changes)
    native = component.on_host().prepare(seed=SEED).native
    cuda = CUDA[name](component, native, device, SEED)
    for lanes in (1, 2):
        cuda.operation()
        assert device.allocated_bytes == CUDA[name].device_bytes(component, lanes)
        assert device.host_allocated_bytes == CUDA[name].host_bytes(component, lanes)


@every_device
@every_component
def test_an_operation_allocates_nothing(name: str, kind: str) -> None:
    device = opened(kind)
    lane = built(name, device).operation()
    before = device.allocated_bytes, device.host_allocated_bytes
    for op in COMPONENTS[name].ops:
        lane.run(op.name, 1)
        lane.verify()
    assert (device.allocated_bytes, device.host_allocated_bytes) == before


def test_every_component_that_works_on_a_card_is_a_component() -> None:
    assert set(CUDA) <= set(COMPONENTS)
