"""Evolution on a device: every rule of breeding, at several shapes of the launch, bit for bit."""

from __future__ import annotations

import secrets

import numpy as np
import pytest

from swarmbench.components import Evolution
from swarmbench.components.base import same_arrays
from swarmbench.components.cuda.evolution import CudaEvolution, Island
from swarmbench.gpu.emulated import EmulatedDevice

SEED = secrets.randbits(32)


def island(component: Evolution, grid: int | None = None, teams: int | None = None) -> Island:
    native = component.prepare(seed=SEED).native
    shared = CudaEvolution(component, native, EmulatedDevice(seed=SEED, is_random=True), SEED)
    return Island(shared, grid=grid, teams=teams)


@pytest.mark.parametrize(("grid", "teams"), [(1, 4), (3, 8), (40, 32)])
@pytest.mark.parametrize("op", ["sphere", "rastrigin", "mlp"])
def test_a_generation_is_the_same_at_every_shape(op: str, grid: int, teams: int) -> None:
    component = Evolution(population=77, genome=68, elites=5)
    key = secrets.randbits(48)
    inputs = component.inputs(op, SEED, key)
    found = island(component, grid, teams).evaluate(op, inputs)
    assert same_arrays(found, component.reference(op, inputs)), f"seed {SEED}, key {key}"


@pytest.mark.parametrize(
    "component",
    [
        Evolution(population=40, genome=16, tournament=1, elites=20),
        Evolution(population=40, genome=64, tournament=16, mutation=0.0),
        Evolution(population=40, genome=64, mutation=1.0, sigma=5.0),
        Evolution(population=40, genome=132, mutation=0.3),
        Evolution(population=24, genome=4096, mutation=1 / 65536),
        Evolution(population=2500, genome=16, elites=1024),
    ],
    ids=lambda component: f"{component.population}x{component.genome}-{component.mutation:g}",
)
def test_every_rule_of_breeding_is_followed(component: Evolution) -> None:
    key = secrets.randbits(48)
    inputs = component.inputs("rastrigin", SEED, key)
    found = island(component).evaluate("rastrigin", inputs)
    right = component.reference("rastrigin", inputs)
    assert same_arrays(found, right), f"seed {SEED}, key {key}"


def test_generations_follow_one_another_as_the_reference_has_them() -> None:
    component = Evolution(population=60, genome=20, elites=4)
    lane, keys = island(component), [secrets.randbits(40) for _ in range(12)]
    inputs = component.inputs("sphere", SEED, keys[0])
    best = np.inf
    for key in keys:
        lane.run("sphere", key)
        right = component.reference("sphere", inputs | {"key": np.array([key], np.uint64)})
        inputs["genes"] = right["genes"]
        assert lane.digest_of("sphere") == int(right["digest"][0]), f"seed {SEED}, keys {keys}"
        assert right["fitness"][0] <= best
        best = right["fitness"][0]
        assert lane.verify() == (1, 0)
