"""The benchmark's generation as an EvoX algorithm: EvoX's tournaments, workflow and Rastrigin.

EvoX has neither uniform crossover nor Gaussian mutation among its operators; both are plain torch
here. Compiled as EvoX advises, with torch's own random numbers inside: those that the compiler
would write instead are two to three times slower on a processor.
"""

from __future__ import annotations

import numpy as np
import torch
from evox.core import Algorithm, Mutable
from evox.operators.selection import tournament_selection
from evox.problems.numerical import Rastrigin
from evox.workflows import StdWorkflow
from torch._inductor import config


class Genetic(Algorithm):
    """Tournaments of 3, uniform crossover, mutation of half the genes, elites kept.

    `pop` and `fit` are the names that EvoX's workflow reads.
    """

    def __init__(self, first: np.ndarray, elites: int, sigma: float, bound: float) -> None:
        super().__init__()
        self.elites, self.sigma, self.bound = elites, sigma, bound
        self.pop = Mutable(torch.from_numpy(first))
        self.fit = Mutable(torch.zeros(len(first)))

    def init_step(self) -> None:
        self.fit = self.evaluate(self.pop)

    def step(self) -> None:
        population, genome = self.pop.shape
        size = population - self.elites
        parents = self.pop[tournament_selection(size, self.fit, 3)]
        others = self.pop[tournament_selection(size, self.fit, 3)]
        # One draw in [0, 1) makes two independent fair bits.
        drawn = torch.rand(size, genome)
        second, mutates = drawn < 0.5, (drawn < 0.25) | (drawn >= 0.75)
        children = torch.where(second, others, parents)
        children = children + torch.randn(size, genome) * self.sigma * mutates
        children = children.clamp(-self.bound, self.bound)
        leaders = torch.topk(self.fit, self.elites, largest=False).indices
        found = self.evaluate(children)
        self.pop = torch.cat((self.pop[leaders], children))
        self.fit = torch.cat((self.fit[leaders], found))


class EvoxSearch:
    """The population float32 on `threads` threads, one compiled call a generation."""

    def __init__(
        self, first: np.ndarray, elites: int, sigma: float, bound: float, threads: int
    ) -> None:
        torch.set_num_threads(threads)
        config.fallback_random = True
        self.made_of = (first, elites, sigma, bound)
        self.start()
        self.step()
        self.start()

    def start(self) -> None:
        torch.manual_seed(7)
        first, *others = self.made_of
        self.workflow = StdWorkflow(Genetic(first.copy(), *others), Rastrigin())
        self.workflow.init_step()
        self.compiled = torch.compile(self.workflow.step)

    def step(self) -> None:
        with torch.no_grad():
            self.compiled()

    def best(self) -> float:
        return float(self.fitness().min())

    def genes(self) -> np.ndarray:
        return np.asarray(self.workflow.algorithm.pop)

    def fitness(self) -> np.ndarray:
        return np.asarray(self.workflow.algorithm.fit)
