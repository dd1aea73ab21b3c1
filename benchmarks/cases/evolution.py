"""Generations of a genetic algorithm beside five peers, and how fast they find.

Population 10 000, Rastrigin, tournament of 3, uniform crossover, mutation 0.5, 16 elites. Ours
works as the pool does, an island on each thread, and its generations are those of both; a peer
splits one population over its threads. A search is judged by where it gets as well: after the same
number of generations the best must be as good as the peer's, within `SLACK`. evosax selects
otherwise, so of it only that it improves is asked. The libraries' fitness is computed again.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, Protocol

import numpy as np

from paired import Case, PeerMissing
from swarmbench.components import genetics
from swarmbench.components.evolution import Evolution
from swarmbench.components.philox import stream_key

SEED = 7
THREADS = 2
#: Generations after which two searches are compared, and by how much the best may differ.
COMPARED = 40
SLACK = 0.15
BOUND = 5.12
#: Individuals of a library's population whose fitness is computed again, in float64.
RECOMPUTED = 256


class Search(Protocol):
    """A population that `step` takes a generation further; `best` is its best fitness."""

    def start(self) -> None: ...

    def step(self) -> None: ...

    def best(self) -> float: ...


@cache
def native(component: Evolution) -> Any:
    return component.prepare(seed=SEED).native


def ours(component: Evolution, count: int) -> float:
    """Generations per second of an island on each thread."""
    found = native(component).run("rastrigin", count=count, threads=THREADS, verify=False)
    return float(found["ok"] / found["elapsed_ns"] * 1e9)


def theirs(search: Search, count: int) -> float:
    """Generations per second of a peer."""
    began = time.perf_counter_ns()
    for _ in range(count):
        search.step()
    return count / (time.perf_counter_ns() - began) * 1e9


def our_seconds(component: Evolution) -> float:
    """Seconds until a fresh island on one thread has reached its target."""
    built = component.prepare(seed=SEED).native
    found = built.run("rastrigin", count=400, verify=False)
    counters = dict(built.counters())
    if counters["targets_reached"] != 1 or found["errors"]:
        raise RuntimeError("the target was not reached")
    return float(counters["ns_to_target"]) / 1e9


def their_seconds(search: Search, target: float) -> float:
    """Seconds until a peer that starts anew has reached the target."""
    search.start()
    began = time.perf_counter_ns()
    for _ in range(4000):
        search.step()
        if search.best() <= target:
            return (time.perf_counter_ns() - began) / 1e9
    return float("inf")


def first_genes(component: Evolution) -> np.ndarray:
    return genetics.initial(SEED, component.population, component.genome)


def our_best(component: Evolution) -> float:
    """The best of an island after `COMPARED` generations."""
    inputs = component.inputs("rastrigin", SEED, 0)
    for key in range(COMPARED):
        inputs["key"] = np.array([key], np.uint64)
        answers = native(component).evaluate("rastrigin", inputs)
        inputs["genes"] = answers["genes"]
    return float(answers["fitness"].min())


def searches_as_well(component: Evolution, search: Search) -> bool:
    """Whether both are as good after as many generations from the same start."""
    search.start()
    for _ in range(COMPARED):
        search.step()
    mine, other = our_best(component), search.best()
    return abs(mine - other) <= SLACK * max(mine, other)


def fitness_is_right(search: Any) -> bool:
    """Whether a library's genes are in bounds and their fitness is theirs, by a sample."""
    rows = np.linspace(0, len(search.fitness()) - 1, RECOMPUTED).astype(np.int64)
    genes = search.genes()[rows].astype(np.float64)
    exact = (genes * genes + 10.0 - 10.0 * np.cos(2.0 * np.pi * genes)).sum(1)
    in_bounds = bool((np.abs(search.genes()) <= np.float32(BOUND)).all())
    return in_bounds and np.allclose(search.fitness()[rows], exact, rtol=1e-5, atol=1e-2)


def improves(component: Evolution, search: Search) -> bool:
    """Whether both are better after as many generations than the first population was."""
    start = float(genetics.rastrigin(first_genes(component)).min())
    search.start()
    for _ in range(COMPARED):
        search.step()
    return max(our_best(component), search.best()) < start


class NumbaSearch:
    """Numba's loop over the children, with Numba's own random numbers."""

    def __init__(self, component: Evolution, threads: int) -> None:
        import numba

        from peers import evolution_numba

        self.use_threads = partial(numba.set_num_threads, threads)
        self.component, self.generation = component, evolution_numba.generation
        self.start()
        self.step()
        self.start()

    def start(self) -> None:
        self.genes = first_genes(self.component)
        self.after = self.genes.copy()
        self.fitness = genetics.rastrigin(self.genes)
        self.found = self.fitness.copy()

    def step(self) -> None:
        self.use_threads()
        elites = np.argpartition(self.fitness, self.component.elites)[: self.component.elites]
        sigma = np.float32(self.component.sigma)
        self.generation(self.genes, self.fitness, elites, sigma, self.after, self.found)
        self.genes, self.after = self.after, self.genes
        self.fitness, self.found = self.found, self.fitness

    def best(self) -> float:
        return float(self.fitness.min())


class NumbaSame(NumbaSearch):
    """Numba's loop with our random numbers and polynomials: the same population, bit for bit."""

    def __init__(self, component: Evolution, threads: int) -> None:
        from peers import evolution_numba

        domains = (genetics.DOMAIN_CONTROL, genetics.DOMAIN_NORMALS)
        weyl = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)
        rounds = np.arange(10, dtype=np.uint64)[:, None] * weyl
        keys = [np.array(stream_key(SEED, domain), np.uint64) + rounds for domain in domains]
        self.keys = np.array(keys) & np.uint64(0xFFFFFFFF)
        self.same = evolution_numba.same_generation
        super().__init__(component, threads)

    def start(self) -> None:
        super().start()
        self.request = 0

    def step(self) -> None:
        self.use_threads()
        order = np.argsort(self.fitness, kind="stable")
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        elites, sigma = order[: self.component.elites], np.float32(self.component.sigma)
        request = np.array([self.request, 0], np.uint64)
        self.found[: len(elites)] = self.fitness[elites]
        after = (self.after, self.found)
        self.same(self.genes, place, elites, request, self.keys, sigma, *after)
        self.genes, self.after = self.after, self.genes
        self.fitness, self.found = self.found, self.fitness
        self.request += 1


def same_population(component: Evolution, search: NumbaSame) -> bool:
    """Whether the next three generations have the same bits."""
    search.start()
    inputs = component.inputs("rastrigin", SEED, 0)
    for key in range(3):
        inputs["key"] = np.array([key], np.uint64)
        answers = native(component).evaluate("rastrigin", inputs)
        search.step()
        inputs["genes"] = answers["genes"]
    same = np.array_equal(answers["genes"], search.genes.reshape(-1))
    return same and np.array_equal(answers["fitness"], search.fitness)


class TorchSearch:
    """Whole-population operations of torch, float32, in inference mode."""

    def __init__(self, component: Evolution) -> None:
        import torch

        torch.set_num_threads(THREADS)
        torch.manual_seed(SEED)
        self.torch, self.component = torch, component
        self.start()

    def start(self) -> None:
        self.genes = self.torch.from_numpy(first_genes(self.component))
        self.fitness = self.judge(self.genes)

    def judge(self, genes: Any) -> Any:
        return (genes * genes + 10.0 - 10.0 * (genes * (2.0 * np.pi)).cos_()).sum(1)

    def step(self) -> None:
        torch, elites = self.torch, self.component.elites
        with torch.inference_mode():
            population, genome = self.genes.shape
            size = population - elites
            picks = torch.randint(population, (size, 2, 3))
            winner = self.fitness[picks].argmin(2, keepdim=True)
            parents = picks.gather(2, winner).squeeze(2)
            second = torch.empty((size, genome), dtype=torch.bool).random_(2)
            children = torch.where(second, self.genes[parents[:, 1]], self.genes[parents[:, 0]])
            mutates = torch.empty((size, genome), dtype=torch.bool).random_(2)
            children += torch.randn(size, genome).mul_(self.component.sigma).mul_(mutates)
            children.clamp_(-BOUND, BOUND)
            leaders = self.fitness.topk(elites, largest=False).indices
            found = self.judge(children)
            self.genes = torch.cat((self.genes[leaders], children))
            self.fitness = torch.cat((self.fitness[leaders], found))

    def best(self) -> float:
        return float(self.fitness.min())


class DeapSearch:
    """DEAP's operators over NumPy individuals, one thread."""

    def __init__(self, component: Evolution) -> None:
        try:
            from deap import base, creator, tools
        except ImportError as error:
            raise PeerMissing(f"{error}; pip install deap") from error
        creator.create("Least", base.Fitness, weights=(-1.0,))
        creator.create("Individual", np.ndarray, fitness=creator.Least)
        self.tools, self.make, self.component = tools, creator.Individual, component
        self.random = np.random.default_rng(SEED)
        self.start()

    def start(self) -> None:
        self.members = [self.judged(row) for row in first_genes(self.component)]

    def judged(self, genes: np.ndarray) -> Any:
        member = self.make(genes)
        value = (genes * genes + 10.0 - 10.0 * np.cos(2.0 * np.pi * genes)).sum()
        member.fitness.values = (float(value),)
        return member

    def step(self) -> None:
        elites, genome = self.component.elites, self.component.genome
        size = len(self.members) - elites
        pairs = zip(
            self.tools.selTournament(self.members, size, 3),
            self.tools.selTournament(self.members, size, 3),
            strict=True,
        )
        after = self.tools.selBest(self.members, elites)
        for first, second in pairs:
            bits = self.random.random((2, genome)) < 0.5
            steps = self.random.normal(0.0, self.component.sigma, genome)
            genes = np.where(bits[0], second, first) + bits[1] * steps
            after.append(self.judged(np.clip(genes, -BOUND, BOUND)))
        self.members = after

    def best(self) -> float:
        return float(min(member.fitness.values[0] for member in self.members))


def evox_search(component: Evolution) -> Any:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise PeerMissing(f"EvoX's generation is compiled by {compiler}, which is not there")
    from peers.evolution_evox import EvoxSearch

    made_of = (component.elites, component.sigma, BOUND, THREADS)
    return EvoxSearch(first_genes(component), *made_of)


def evosax_search(component: Evolution) -> Any:
    from peers.evolution_evosax import EvosaxSearch

    return EvosaxSearch(first_genes(component), component.sigma, BOUND)


def libraries(component: Evolution) -> Iterator[Case]:
    """Beside EvoX, and beside evosax, which does less; what each does otherwise is in its name."""
    rows = (
        ("EvoX, crossover and mutation in torch, compiled", evox_search, searches_as_well),
        ("evosax SimpleGA: best half, no elites, every gene mutates", evosax_search, improves),
    )
    for name, make, judged in rows:
        peer = cache(partial(make, component))
        yield Case(
            benchmark="evolution",
            case=f"10 000 x {component.genome}, Rastrigin",
            unit="generations/s",
            goal=15.0,
            peer_name=name,
            ours=partial(ours, component, 12_800 // component.genome),
            peer=lambda peer=peer: theirs(peer(), max(4, 1280 // component.genome)),
            check=lambda peer=peer, judged=judged: (
                judged(component, peer()) and fitness_is_right(peer())
            ),
            threads=THREADS,
        )


def cases(large: bool) -> Iterator[Case]:
    """Genomes of 64 and 256; `large` adds 1000."""
    for genome in (64, 256, 1000) if large else (64, 256):
        component = Evolution(genome=genome)
        peers: dict[str, tuple[float | None, int, Callable[[], Any]]] = {
            "numba, its own random numbers": (15.0, THREADS, partial(NumbaSearch, component, 2)),
            "torch": (15.0, THREADS, partial(TorchSearch, component)),
        }
        if genome == 64:
            peers["DEAP (one thread)"] = (None, 1, partial(DeapSearch, component))
        for name, (goal, threads, make) in peers.items():
            peer = cache(make)
            yield Case(
                benchmark="evolution",
                case=f"10 000 x {genome}, Rastrigin",
                unit="generations/s",
                goal=goal,
                peer_name=name,
                ours=partial(ours, component, 12_800 // genome),
                peer=lambda peer=peer, threads=threads, genome=genome: theirs(
                    peer(), max(2, 640 * threads // genome) if threads > 1 else 1
                ),
                check=lambda peer=peer, component=component: searches_as_well(component, peer()),
                threads=threads,
            )
        yield from libraries(component)
        same = cache(partial(NumbaSame, component, THREADS))
        if genome % genetics.GROUP == 0:
            yield Case(
                benchmark="evolution",
                case=f"10 000 x {genome}, Rastrigin, the same bits",
                unit="generations/s",
                goal=None,
                peer_name="numba, our random numbers",
                ours=partial(ours, component, 12_800 // genome),
                peer=lambda same=same, genome=genome: theirs(same(), max(2, 1280 // genome)),
                check=lambda same=same, component=component: same_population(component, same()),
                threads=THREADS,
            )
    yield from to_target()


def to_target() -> Iterator[Case]:
    """Seconds on one thread until the best is a quarter of what the first population's was."""
    component = Evolution(genome=64)
    start = float(genetics.rastrigin(first_genes(component)).min())
    peer = cache(partial(NumbaSearch, component, 1))
    yield Case(
        benchmark="evolution",
        case="10 000 x 64, Rastrigin to a quarter of the first best",
        unit="s",
        goal=None,
        peer_name="numba, its own random numbers",
        ours=partial(our_seconds, component),
        peer=lambda: their_seconds(peer(), component.target_share * start),
        better="lower",
        threads=1,
    )
