"""evosax's SimpleGA under jit: its nearest to the benchmark's generation, and less work.

It sorts and draws both parents of a child from the better half where ours holds tournaments, keeps
no elites, and mutates every gene where ours draws which. Crossover is uniform; children are cut to
the bounds, which SimpleGA does not do by itself.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from evosax.algorithms import SimpleGA


def rastrigin(genes: jax.Array) -> jax.Array:
    return (genes * genes + 10.0 - 10.0 * jnp.cos(2.0 * jnp.pi * genes)).sum(1)


class EvosaxSearch:
    """The population float32 on all the processor's threads, one compiled call a generation."""

    def __init__(self, first: np.ndarray, sigma: float, bound: float) -> None:
        population, genome = first.shape
        self.first = first
        self.strategy = SimpleGA(
            population_size=population,
            solution=jnp.zeros(genome),
            std_schedule=optax.constant_schedule(sigma),
        )
        self.parameters = self.strategy.default_params.replace(crossover_rate=0.5)

        def generation(key: jax.Array, state: object) -> tuple[jax.Array, object]:
            key, asking, telling = jax.random.split(key, 3)
            children, state = self.strategy.ask(asking, state, self.parameters)
            children = jnp.clip(children, -bound, bound)
            found = rastrigin(children)
            state, _ = self.strategy.tell(telling, children, found, state, self.parameters)
            return key, state

        self.compiled = jax.jit(generation)
        self.start()
        self.step()
        self.start()

    def start(self) -> None:
        self.key = jax.random.key(7)
        genes = jnp.asarray(self.first)
        self.state = self.strategy.init(self.key, genes, rastrigin(genes), self.parameters)

    def step(self) -> None:
        self.key, self.state = self.compiled(self.key, self.state)
        self.state.population.block_until_ready()

    def best(self) -> float:
        """The best it has met; without elites the last generation may have lost it."""
        return float(self.state.best_fitness)

    def genes(self) -> np.ndarray:
        return np.asarray(self.state.population)

    def fitness(self) -> np.ndarray:
        return np.asarray(self.state.fitness)
