"""Agents on the emulated device: any swarm, any sequence, any shape of launch, several lanes."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from swarmbench.components import populations
from swarmbench.components.agents import Agents
from swarmbench.components.base import Arrays, same_arrays
from swarmbench.components.cuda import swarms
from swarmbench.components.cuda.agents import AgentsLane, CudaAgents, Launch
from swarmbench.components.cuda.swarms import HostSwarm, adds_up
from swarmbench.components.populations import GENERATION_MAX, Shape, Slab
from swarmbench.errors import MachineError
from swarmbench.gpu.emulated import EmulatedDevice
from swarmbench.gpu.host_compiler import Build

#: Inputs change with every run; a failure says which they were.
SEED = secrets.randbits(32)
SHAPES: dict[str, dict[str, Any]] = {
    "smallest": {"population_min": 1, "population_max": 1, "swarms": 1},
    "one at a time": {"population_min": 20, "population_max": 40, "swarms": 1},
    "in batches": {"population_min": 60, "population_max": 90, "swarms": 1, "batch": 30},
    "more than there are": {"population_min": 1, "population_max": 20, "swarms": 1, "batch": 25},
}
#: A swarm of so many slots has 128 columns, of which the kernels see 64.
WIDE: dict[str, Any] = {"population_min": 20, "population_max": 100, "swarms": 1, "batch": 4096}
LAUNCHES = (Launch(1, 1), Launch(1, 33), Launch(2, 8), Launch(3, 64))
SLAB_OPS = ("spawn", "destroy", "destroy_oldest", "step", "tick")

shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def built(launch: Launch | None = None, build: Build = "plain", **parameters: Any) -> CudaAgents:
    component = Agents(**parameters)
    native = component.prepare(seed=SEED).native
    device = EmulatedDevice(seed=SEED, build=build)
    return CudaAgents(component, native, device, SEED, launch=launch)


def lane_of(cuda: CudaAgents) -> AgentsLane:
    lane = cuda.operation()
    assert isinstance(lane, AgentsLane)
    return lane


def host_swarm(cuda: CudaAgents, index: int) -> HostSwarm:
    stream, host = cuda.device.stream(), HostSwarm.on(cuda.device, cuda.slots)
    host.download(stream, cuda.swarms.row(index))
    stream.synchronize()
    return host


def assert_all_add_up(cuda: CudaAgents) -> None:
    for index in range(cuda.agents.swarms):
        swarm = host_swarm(cuda, index)
        assert adds_up(swarm, index * cuda.slots), f"swarm {index}, seed {SEED}"
        shape = cuda.agents.shape(SEED)
        assert shape.least <= swarm.number("live") <= shape.most


def with_worn_slots(given: Arrays, random: np.random.Generator) -> Arrays:
    """The swarm with slots that have nearly, or quite, used up their ids."""
    worn = random.choice(given["order"], min(20, len(given["order"])), replace=False)
    given["generation"][worn] = GENERATION_MAX - random.integers(0, 2, len(worn)).astype(np.uint64)
    return given


@shapes
@pytest.mark.parametrize("launch", LAUNCHES, ids=str)
def test_any_sequence_is_that_of_the_reference_whatever_the_launch(
    shape: dict[str, Any], launch: Launch
) -> None:
    random = np.random.default_rng([SEED, launch.block, len(shape)])
    cuda = built(launch, **shape)
    lane, component = lane_of(cuda), cuda.agents
    swarm = populations.synthetic(component.shape(SEED), int(random.integers(1 << 32)))
    for op in random.permutation(np.repeat(SLAB_OPS, 2)).tolist():
        key = random.integers(0, 1 << 64, 1, dtype=np.uint64)
        given = swarm | {"key": key, "seed": np.array([SEED], np.uint64)}
        right = component.reference(op, given)
        assert same_arrays(lane.evaluate(op, given), right), f"{op}, {launch}, seed {SEED}"
        swarm = {name: array for name, array in right.items() if name != "ids"}


@pytest.mark.parametrize("op", ["destroy", "destroy_oldest", "step", "tick"])
def test_slots_that_have_used_up_their_ids_are_not_used_again(op: str) -> None:
    random = np.random.default_rng(SEED)
    cuda = built(Launch(1, 64), "traced", **SHAPES["in batches"])
    given = cuda.agents.inputs(op, SEED, int(random.integers(1 << 32)))
    given = with_worn_slots(given, random)
    right = cuda.agents.reference(op, given)
    assert same_arrays(lane_of(cuda).evaluate(op, given), right), f"seed {SEED}"


@pytest.mark.parametrize("op", ["spawn", "destroy", "destroy_oldest", "tick"])
def test_a_swarm_where_nobody_lives_loses_nobody(op: str) -> None:
    """Threads still wait for each other where there is nothing to do."""
    cuda = built(Launch(1, 48), "traced", **SHAPES["one at a time"])
    given = cuda.agents.inputs(op, SEED, 1)
    given["state"][:] = populations.STOPPED
    given["order"] = given["order"][:0]
    right = cuda.agents.reference(op, given)
    assert same_arrays(lane_of(cuda).evaluate(op, given), right), f"seed {SEED}"


@pytest.mark.parametrize("parity", [0, 1])
@pytest.mark.parametrize("op", ["step", "tick"])
def test_a_swarm_of_more_cells_than_fit_is_stepped_over_wider_ones(op: str, parity: int) -> None:
    """An odd key crowds the agents at a corner, across the torus's seam."""
    cuda = built(Launch(1, 64), **WIDE)
    assert cuda.cell_list == (6, 13)
    key = 2 * int(np.random.default_rng(SEED).integers(1 << 32)) + parity
    given = cuda.agents.inputs(op, SEED, key)
    right = cuda.agents.reference(op, given)
    assert same_arrays(lane_of(cuda).evaluate(op, given), right), f"key {key}, seed {SEED}"


def test_the_first_agents_are_those_of_the_cpu() -> None:
    cuda = built(population_min=40, population_max=60, swarms=3)
    shape = cuda.agents.shape(SEED)
    empty = populations.synthetic(shape, 0)
    empty = {name: np.zeros_like(array) for name, array in empty.items()}
    empty |= {"state": empty["state"] + np.uint32(3), "order": empty["order"][:0]}
    whole = Shape(shape.slots, shape.least, shape.most, shape.target, SEED)
    for index in range(3):
        right = Slab(whole, empty).spawn((1 << 64) - 1 - (1 << 16) + index)
        found = host_swarm(cuda, index).as_reference()
        assert same_arrays(found, {k: v for k, v in right.items() if k != "ids"}), f"seed {SEED}"


@pytest.mark.parametrize(("batch", "count"), [(1, 1), (5, 2)])
def test_a_run_keeps_every_line_of_the_ledger(batch: int, count: int) -> None:
    """Every operation's swarm is held against the CPU's; the list of births is full now and then
    and forgets those who have ended."""
    random = np.random.default_rng([SEED, batch])
    sizes = {"population_min": 8 * count, "population_max": 12 * count, "swarms": count}
    cuda = built(Launch(1, 16), batch=batch, check_every=1, **sizes)
    lane = lane_of(cuda)
    ids: set[int] = set()
    shortened = False
    for key in range(80):
        op = str(random.choice(SLAB_OPS, p=(0.6, 0.1, 0.1, 0.1, 0.1)))
        ends = [host_swarm(cuda, index).number("end") for index in range(count)]
        done = lane.run(op, key)
        assert done.status == "ok"
        born = lane._last.ids.tolist() if op == "spawn" and lane._last is not None else []
        assert lane.verify() == (1, 0), f"{op}, key {key}, seed {SEED}"
        assert ids.isdisjoint(born)
        ids.update(born)
        after = [host_swarm(cuda, index).number("end") for index in range(count)]
        shortened |= any(now < then for now, then in zip(after, ends, strict=True))
        assert_all_add_up(cuda)
    assert shortened


def test_every_access_of_a_run_is_in_bounds_and_ordered() -> None:
    """Shared memory included; births, ends, ends that are due and lists that are full."""
    sizes = {"population_min": 60, "population_max": 80, "swarms": 2}
    cuda = built(Launch(2, 40), "traced", batch=20, check_every=1, **sizes)
    lane = lane_of(cuda)
    turnover = ("destroy", "spawn", "destroy_oldest", "spawn", "spawn") * 3
    for key, op in enumerate((*turnover, "step", "tick", "spawn")):
        assert lane.run(op, key).status == "ok"
        assert lane.verify() == (1, 0), f"{op}, key {key}, seed {SEED}"
    found = [host_swarm(cuda, index) for index in range(2)]
    for name in ("replaced", "expired"):
        assert sum(swarm.number(name) for swarm in found) > 0
    assert any(swarm.number("end") < swarm.number("spawned") for swarm in found)


def test_lanes_take_turns_at_the_swarms_and_lose_nothing() -> None:
    cuda = built(Launch(1, 8), population_min=20, population_max=40, swarms=2, check_every=2)
    lanes = [lane_of(cuda) for _ in range(3)]

    def work(number: int) -> list[tuple[int, int]]:
        lane, verdicts = lanes[number], []
        for key in range(12):
            assert lane.run(SLAB_OPS[(key + number) % 5], key + (number << 48)).status == "ok"
            verdicts.append(lane.verify())
        return verdicts

    with ThreadPoolExecutor(3) as pool:
        for verdicts in pool.map(work, range(3)):
            assert sum(checked for checked, _ in verdicts) > 6
            assert not any(wrong for _, wrong in verdicts), f"seed {SEED}"
    assert_all_add_up(cuda)


@pytest.mark.parametrize("name", ["generation", "inbox_even", "inbox_odd"])
def test_a_swarm_that_does_not_add_up_is_seen(name: str) -> None:
    cuda = built(**SHAPES["one at a time"])
    swarm = host_swarm(cuda, 0)
    assert adds_up(swarm, 0)
    swarm.plane(name)[int(swarm.order()[0])] += np.uint64(1 if name == "generation" else 1 << 40)
    assert not adds_up(swarm, 0)


def test_host_and_kernels_agree_where_everything_is() -> None:
    built(**SHAPES["smallest"])
    slab: Any = import_module("swarmbench.gpu.numba.slab")
    planes = {"x": slab.X, "y": slab.Y, "energy": slab.ENERGY, "state": slab.STATE}
    planes |= {"ticks": slab.AGE, "since": slab.SINCE, "heard": slab.HEARD, "rng_0": slab.RNG}
    planes |= {"velocity_x": slab.VX, "velocity_y": slab.VY, "turn": slab.TURN, "list_0": slab.LIST}
    assert all(swarms.FIELDS.index(name) == plane for name, plane in planes.items())
    longs = {"generation": slab.GENERATION, "born": slab.BORN, "inbox_even": slab.INBOX}
    assert all(swarms.LONGS.index(name) == plane for name, plane in longs.items())
    numbers = [getattr(slab, name.upper()) for name in swarms.LEDGER]
    assert numbers == list(range(len(swarms.LEDGER)))
    counts = [slab.FIELDS, slab.LONGS, slab.LEDGER]
    assert counts == [len(swarms.FIELDS), len(swarms.LONGS), len(swarms.LEDGER)]


def test_a_device_with_too_little_shared_memory_is_refused_with_what_helps() -> None:
    class Small(EmulatedDevice):
        shared_bytes_max = 1 << 10

    component = Agents.small()
    native = component.prepare(seed=SEED).native
    with pytest.raises(MachineError, match=r"swarms of 64 slots do not fit") as refused:
        CudaAgents(component, native, Small(), SEED)
    assert refused.value.hint == "raise `agents.swarms`"


def test_one_process_more_than_the_bound_is_rejected() -> None:
    cuda = built(processes_max=1, **SHAPES["smallest"])
    lane = lane_of(cuda)
    with cuda.processes:
        assert lane.run("process", 1).status == "rejected"
    assert lane.run("process", 2).status == "ok"
    assert lane.verify() == (1, 0)
