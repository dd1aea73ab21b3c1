"""The `evolution` component: generations of a genetic algorithm over vectors of floats."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from swarmbench.components import genetics
from swarmbench.components.base import Arrays, Component, Op, Profile

_PROFILE_GENOMES: dict[Profile, int] = {"quick": 64, "standard": 256, "full": 1000}
#: A check reads the whole population at once: 0.05 to 1.5 ms at these genomes.
_PROFILE_CHECKED_EVERY: dict[Profile, int] = {"quick": 1, "standard": 4, "full": 16}
_POPULATION_MIN = 16
#: Children whose parents and masks are drawn together (`evolution/breed.rs`).
_TILE = 8


def _op(name: str) -> Op:
    """Of an individual both parents' genes are read and its own written: 12 bytes per gene, from
    the caches at the default sizes."""
    return Op(name, "individuals", "cache_read_bytes_s", 12.0 * _PROFILE_GENOMES["quick"])


class Evolution(Component):
    """One op is one generation: tournament, uniform crossover, mutation, fitness, elitism.

    Each worker's copy is an island with a population for every fitness function, and an op advances
    the one of its type by a generation; so as many generations are in flight as there are workers,
    each of another island. All islands start from the same population and part ways with their
    first generations, whose randomness is keyed by the request: Philox's counter is (block,
    individual, key). A gene mutates with a probability that is a multiple of 2^-16, by a normal
    variate of deviation `sigma`, and is then kept within -5.12 to 5.12. Less fitness is better, of
    equal individuals the first counts as the better one.
    """

    name: ClassVar[str] = "evolution"
    unit: ClassVar[str] = "individuals"
    ops: ClassVar[tuple[Op, ...]] = (_op("sphere"), _op("rastrigin"), _op("mlp"))
    weights: ClassVar[dict[str, float]] = {"sphere": 1.0, "rastrigin": 1.0, "mlp": 1.0}
    production_rate_s: ClassVar[float | None] = 10.0
    #: Two per worker on four cores: a generation takes 0.3 ms and more, so none waits for the next.
    stress_in_flight: ClassVar[int] = 8
    claim: ClassVar[str] = "100 generations/s"

    #: Individuals of an island.
    population: int = Field(default=10_000, ge=_POPULATION_MIN, le=1 << 20)
    #: Genes of an individual, single precision.
    genome: int = Field(default=64, ge=16, le=4096, multiple_of=4)
    #: Individuals that survive as they are.
    elites: int = Field(default=16, ge=1, le=1024)
    #: Candidates among which each parent is the best.
    tournament: int = Field(default=3, ge=1, le=16)
    #: Probability that a gene mutates.
    mutation: float = Field(default=0.5, ge=0.0, le=1.0)
    #: Standard deviation of a mutation.
    sigma: float = Field(default=0.1, ge=0.0, le=5.0)
    #: The target fitness as a share of the best of the first population: what the counters
    #: `generations_to_target` and `ns_to_target` run up to.
    target_share: float = Field(default=0.25, ge=0.0, le=1.0)
    #: One generation in so many is checked.
    checked_every: int = Field(default=1, ge=1, le=1 << 16)

    @model_validator(mode="before")
    @classmethod
    def _as_many_elites_as_fit(cls, given: Any) -> Any:
        """Where nothing is said, a small population has few elites."""
        population = given.get("population") if isinstance(given, dict) else None
        if not isinstance(population, int) or "elites" in given or population < _POPULATION_MIN:
            return given
        return {**given, "elites": min(cls.model_fields["elites"].default, population // 2)}

    @model_validator(mode="after")
    def _some_are_bred(self) -> Self:
        if self.elites > self.population // 2:
            raise ValueError(f"elites: {self.elites} is more than half of the population")
        return self

    @classmethod
    def for_profile(cls, profile: Profile, **parameters: Any) -> Self:
        """Genomes of 64, 256 or 1000, every, every 4th or every 16th generation checked; given
        parameters win."""
        genome = _PROFILE_GENOMES[profile]
        checked_every = _PROFILE_CHECKED_EVERY[profile]
        return cls(**{"genome": genome, "checked_every": checked_every, **parameters})

    @classmethod
    def small(cls) -> Self:
        """A genome that fills no group of vectors, a population that fills no tile."""
        return cls(population=301, genome=100)

    @property
    def rules(self) -> genetics.Rules:
        """How a generation follows from the one before."""
        numerator, bits = genetics.chance(self.mutation)
        return genetics.Rules(self.elites, self.tournament, numerator, bits, np.float32(self.sigma))

    def resident_bytes(self, workers: int) -> int:
        """A population for each op type and one to breed into; what is drawn for a tile."""
        row = genetics.padded(self.genome)
        population = self.population * (4 * row + 8) + 8 * self.elites
        blocks = genetics.control_blocks(self.genome, self.tournament, self.rules.bits)
        scratch = 4 * blocks * 4 * _TILE
        return workers * ((len(self.ops) + 1) * population + scratch)

    def cost(self, op: Op) -> float:
        """12 bytes per gene."""
        return 12.0 * self.genome

    def fitted(self, budget_bytes: int, workers: int) -> tuple[Self, list[str]]:
        """A smaller population where the budget asks for it, 16 at the least."""
        if self.resident_bytes(workers) <= budget_bytes:
            return self, []
        low, high = _POPULATION_MIN, self.population
        while high - low > 1:
            middle = (low + high) // 2
            fits = self._with_population(middle).resident_bytes(workers) <= budget_bytes
            low, high = (middle, high) if fits else (low, middle)
        fitted = self._with_population(low)
        lines = [f"evolution.population: {self.population} -> {fitted.population}"]
        if fitted.elites < self.elites:
            lines.append(f"evolution.elites: {self.elites} -> {fitted.elites}")
        return fitted, lines

    def _with_population(self, population: int) -> Self:
        elites = min(self.elites, population // 2)
        return self.model_copy(update={"population": population, "elites": elites})

    def inputs(self, op: str, seed: int, key: int) -> Arrays:
        """The first population's `genes` (f32, one individual after the other), `seed` and `key`:
        the generation that an island with this request would begin with."""
        return {
            "genes": genetics.initial(seed, self.population, self.genome).reshape(-1),
            "seed": np.array([seed], np.uint64),
            "key": np.array([key], np.uint64),
        }

    def reference(self, op: str, inputs: Arrays) -> Arrays:
        """The next population: `genes` and `fitness` (f32), and the `digest` of both (u64)."""
        seed, key = int(inputs["seed"][0]), int(inputs["key"][0])
        before = inputs["genes"].reshape(self.population, self.genome)
        genes, fitness = genetics.next_generation(op, seed, before, key, self.rules)
        word = genetics.digest(genes, fitness)
        return {
            "genes": genes.reshape(-1),
            "fitness": fitness,
            "digest": np.array([word], np.uint64),
        }
