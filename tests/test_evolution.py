"""Evolution against its NumPy reference, and that reference against what must hold of a search."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from swarmbench import _native
from swarmbench.components import genetics
from swarmbench.components.base import same_arrays
from swarmbench.components.evolution import Evolution

SEED = 20240607
SMALL = Evolution.small()
OPS = [op.name for op in Evolution.ops]
FAULTS = ("flipped_bit", "lost_result", "doubled_result")


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    "component",
    [
        Evolution(population=16, genome=16, elites=1, tournament=1, mutation=0.0),
        Evolution(population=200, genome=64),
        Evolution(population=77, genome=256, mutation=0.01, tournament=16, sigma=3.0),
        Evolution(population=40, genome=1000, elites=20, mutation=1.0),
    ],
    ids=lambda component: f"{component.population}x{component.genome}",
)
def test_a_generation_has_the_bits_of_the_reference(component: Evolution, op: str) -> None:
    native = component.prepare(seed=SEED).native
    for key in (0, 3 << 48 | 99):
        inputs = component.inputs(op, SEED, key)
        right = component.reference(op, inputs)
        assert same_arrays(native.evaluate(op, inputs), right)
        own_start = {"key": inputs["key"]}
        assert same_arrays(native.evaluate(op, own_start), right), "the first populations differ"
        later = inputs | {"genes": right["genes"]}
        assert same_arrays(native.evaluate(op, later), component.reference(op, later))


@pytest.mark.parametrize("op", OPS)
def test_a_search_by_the_reference_gets_better_and_never_worse(op: str) -> None:
    genes = genetics.initial(SEED, 300, 64)
    best = [float(genetics.fitness_of(op, SEED, genes).min())]
    for key in range(25):
        leaders = np.argsort(genetics.fitness_of(op, SEED, genes), kind="stable")[:16]
        after, fitness = genetics.next_generation(op, SEED, genes, key, Evolution().rules)
        assert np.array_equal(after[:16], genes[leaders])
        assert np.array_equal(fitness, genetics.fitness_of(op, SEED, after))
        assert np.abs(after).max() <= genetics.BOUND
        best.append(float(fitness.min()))
        genes = after
    assert all(later <= before for before, later in itertools.pairwise(best))
    assert best[-1] < 0.5 * best[0]


@settings(max_examples=30, deadline=None)
@given(
    key=st.integers(0, 2**64 - 1),
    mutation=st.floats(0.0, 1.0),
    sigma=st.floats(0.0, 5.0),
    shape=st.tuples(st.integers(16, 60), st.integers(4, 60)),
)
def test_a_child_is_made_of_its_parents_and_of_few_enough_mutations(
    key: int, mutation: float, sigma: float, shape: tuple[int, int]
) -> None:
    population, genome = shape[0], 4 * shape[1]
    component = Evolution(population=population, genome=genome, mutation=mutation, sigma=sigma)
    genes = genetics.initial(SEED, population, genome)
    fitness = genetics.sphere(genes)
    made = genetics.breed(SEED, genes, fitness, key, component.rules)
    first, second = genes[made.parents[:, 0]], genes[made.parents[:, 1]]
    assert ((made.inherited == first) | (made.inherited == second)).all()
    assert np.array_equal(made.genes[~made.mutated], made.inherited[~made.mutated])
    assert np.abs(made.genes).max() <= genetics.BOUND
    probability = component.rules.numerator / 2**component.rules.bits
    for flags, share in ((made.mutated, probability), (made.second, 0.5)):
        deviation = np.sqrt(flags.size * share * (1 - share))
        assert abs(flags.sum() - flags.size * share) <= 5 * deviation


def test_steps_have_the_moments_of_a_normal_variate() -> None:
    steps = genetics.steps(SEED, np.arange(4000), 256, 5, np.float32(2.0)).astype(np.float64) / 2.0
    for power, moment, deviation in ((1, 0.0, 1.0), (2, 1.0, 2**0.5), (4, 3.0, 96**0.5)):
        assert abs((steps**power).mean() - moment) < 5 * deviation / steps.size**0.5
    neighbours = [(steps[:, 16:] * steps[:, :-16]).mean(), (steps[:, 1:] * steps[:, :-1]).mean()]
    assert np.abs(neighbours).max() < 5 / (steps.size * 0.9) ** 0.5


def test_fitness_in_single_precision_is_that_in_double() -> None:
    genes = genetics.initial(SEED, 500, 1000)
    genes[:100] *= np.float32(1e-3)
    genes[0] = 0.0
    x = genes.astype(np.float64)
    exact = {
        "sphere": (x * x).sum(axis=1),
        "rastrigin": (x * x + 10 - 10 * np.cos(2 * np.pi * x)).sum(axis=1),
    }
    for op, right in exact.items():
        np.testing.assert_allclose(genetics.fitness_of(op, SEED, genes), right, rtol=2e-5)
    left, right, wanted = (part.astype(np.float64) for part in genetics.samples(SEED))
    first, second, bias, outgoing = (x[:, unit::4, None] for unit in range(4))
    outputs = (np.maximum(first * left + second * right + bias, 0.0) * outgoing).sum(axis=1)
    error = ((outputs - wanted) ** 2).mean(axis=1)
    np.testing.assert_allclose(genetics.network_error(SEED, genes), error, rtol=1e-3)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_generation_is_seen(op: str, fault: str) -> None:
    native = SMALL.prepare(seed=SEED).native
    damaged = native.run(op, count=20, fault=fault)
    assert damaged["planted"] == damaged["verified"] == damaged["violations"] == 20
    whole = native.run(op, count=20, threads=2)
    assert (whole["verified"], whole["violations"]) == (40, 0)
    assert whole["units"] == 40 * SMALL.population


def test_checks_can_be_fewer_and_are_counted() -> None:
    native = SMALL.model_copy(update={"checked_every": 4}).prepare(seed=SEED).native
    result = native.run("sphere", count=40)
    assert result["verified"] == 10
    assert result["verify_ns"] > 0
    counters = dict(native.counters())
    assert counters["children_recomputed"] == 20
    assert counters["generations"] == 40
    assert counters["individuals"] == 40 * SMALL.population
    share = counters["genes_mutated"] / counters["genes"]
    assert abs(share - 0.5) < 5 * (0.25 / counters["genes"]) ** 0.5


@pytest.mark.parametrize("op", OPS)
def test_the_target_is_reached_and_what_it_took_is_told(op: str) -> None:
    component = Evolution(population=1000, genome=64)
    native = component.prepare(seed=SEED).native
    native.run(op, count=300, threads=2, verify=False)
    counters = dict(native.counters())
    assert counters["targets_reached"] == 2
    assert 2 <= counters["generations_to_target"] < 600
    assert counters["ns_to_target"] > 0
    facts = json.loads(native.describe())
    start = genetics.fitness_of(op, SEED, genetics.initial(SEED, 1000, 64)).min()
    assert facts["best_fitness"][op] <= component.target_share * start
    assert facts["mutation"] == 0.5
    assert facts["vectors"] in ("avx512", "avx2", "portable")


@settings(max_examples=40, deadline=None)
@given(
    population=st.integers(16, 400),
    genome=st.integers(4, 300),
    mutation=st.floats(0.0, 1.0),
    workers=st.integers(1, 5),
)
def test_the_memory_formula_is_the_backends(
    population: int, genome: int, mutation: float, workers: int
) -> None:
    component = Evolution(population=population, genome=4 * genome, mutation=mutation)
    native = component.prepare(seed=SEED).native
    assert native.resident_bytes(workers) == component.resident_bytes(workers)


def test_a_population_is_fitted_to_the_budget_and_that_is_said() -> None:
    default = Evolution()
    assert default.fitted(1 << 30, workers=2) == (default, [])
    fitted, lines = default.fitted(2 << 20, workers=2)
    assert fitted.resident_bytes(2) <= 2 << 20
    larger = fitted.model_copy(update={"population": fitted.population + 1})
    assert larger.resident_bytes(2) > 2 << 20
    assert lines == [f"evolution.population: 10000 -> {fitted.population}"]
    least, lines = default.fitted(1, workers=1)
    assert (least.population, least.elites) == (16, 8)
    assert lines[1] == "evolution.elites: 16 -> 8"


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("population", 15),
        ("population", (1 << 20) + 1),
        ("genome", 66),
        ("genome", 12),
        ("genome", 4100),
        ("elites", 0),
        ("elites", 151),
        ("tournament", 17),
        ("mutation", 1.5),
        ("sigma", -0.1),
        ("target_share", 2.0),
        ("checked_every", 0),
    ],
)
def test_bad_parameters_are_refused_on_both_sides(parameter: str, value: float) -> None:
    good = SMALL.model_dump()
    with pytest.raises(ValidationError, match=parameter):
        Evolution(**(good | {parameter: value}))
    with pytest.raises(ValueError, match=f"^{parameter}: "):
        _native.Component("evolution", json.dumps(good | {parameter: value}), seed=1)


def test_inputs_that_do_not_fit_are_refused_in_one_line() -> None:
    native = SMALL.prepare(seed=SEED).native
    inputs = SMALL.inputs("sphere", SEED, 0)
    for bad, said in (
        ({"genes": inputs["genes"]}, "`key` must be u64"),
        (inputs | {"genes": inputs["genes"][:-1]}, "population \\* genome"),
        (inputs | {"key": np.zeros(2, np.uint64)}, "`key` must be one"),
    ):
        with pytest.raises(ValueError, match=said):
            native.evaluate("sphere", bad)
    with pytest.raises(ValueError, match="name sphere"):
        native.evaluate("ackley", inputs)
