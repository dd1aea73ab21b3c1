"""Evolution on a device: every rule of breeding, at several shapes of the launch, bit for bit."""

from __future__ import annotations

import secrets

import numpy as np
import pytest

from swarmbench.components import Evolution, genetics
from swarmbench.components.base import same_arrays
from swarmbench.components.cuda.evolution import CudaEvolution, Island
from swarmbench.components.philox import stream_key
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


@pytest.mark.parametrize("op", ["sphere", "rastrigin", "mlp"])
@pytest.mark.parametrize(
    "component",
    [
        Evolution(population=40, genome=68, elites=3, mutation=0.3),
        Evolution(population=20, genome=64, tournament=2),
    ],
    ids=["a part of a group", "a whole one"],
)
def test_the_readable_kernel_makes_the_same_generation(component: Evolution, op: str) -> None:
    key, device = secrets.randbits(48), EmulatedDevice(seed=SEED)
    inputs = component.inputs(op, SEED, key)
    right = component.reference(op, inputs)
    before = inputs["genes"].reshape(component.population, component.genome)
    fitness = genetics.fitness_of(op, SEED, before)
    words = fitness.view(np.uint32) ^ np.uint32(1 << 31)
    ranks = words.astype(np.uint64) << np.uint64(32) | np.arange(
        component.population, dtype=np.uint64
    )
    rows = np.zeros((component.population, genetics.padded(component.genome)), np.float32)
    rows[:, : component.genome] = before
    after, found = device.empty(rows.size, np.float32), device.empty(len(rows), np.float32)
    rules, streams = component.rules, []
    for domain in (genetics.DOMAIN_CONTROL, genetics.DOMAIN_NORMALS):
        low, high = stream_key(SEED, domain)
        streams.append(np.uint64(low | high << 32))
    numbers = [component.population, component.genome, rows.shape[1], component.elites]
    numbers += [["sphere", "rastrigin", "mlp"].index(op), component.tournament]
    numbers += [rules.numerator, rules.bits]
    device.stream().launch(
        device.kernel("evolution.py", "evolution_generation"),
        2,
        16,
        [
            *(np.uint32(number) for number in numbers),
            np.float32(rules.sigma),
            *streams,
            np.uint64(key),
            device.uploaded(np.sort(ranks)[: component.elites]),
            device.uploaded(np.concatenate(genetics.samples(SEED))),
            device.uploaded(rows.reshape(-1)),
            device.uploaded(ranks),
            after,
            found,
        ],
    )
    genes = after.array.reshape(rows.shape)[:, : component.genome].reshape(-1)
    assert np.array_equal(genes, right["genes"]), f"seed {SEED}, key {key}"
    assert np.array_equal(found.array, right["fitness"]), f"seed {SEED}, key {key}"
