"""Evolution on a device: an island of populations, each advanced by a launch a generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt

from swarmbench.components import genetics
from swarmbench.components.base import Arrays, Component
from swarmbench.components.cuda.base import Cost, CudaComponent, CudaOperation, Done
from swarmbench.components.evolution import Evolution
from swarmbench.components.philox import stream_key
from swarmbench.gpu.device import Argument, Buffer, Device

_FILE = "evolution.cu"
#: Threads of an individual and of a block, and the block that names the best.
TEAM, BLOCK, LEAD_BLOCK = 8, 256, 1024
#: Blocks to a multiprocessor of a full grid.
_BLOCKS_EACH = 8
#: Shared memory that the choices of a block's children may take; every card grants it.
_CONTROL_BYTES_MAX = 32 << 10
#: Words of a digest, and those that the block's shared memory begins with.
_SUMS, _SUMS_PADDED = 17, 20
#: Shared memory that the block which ends last names the best in.
_LEAD_BYTES = 16 << 10
#: Genes that a block of random words moves, and products of its four pairs of normal variates.
_MOVED_BY_BLOCK, _NORMAL_PRODUCTS = 8, 4 * 22
#: Products of a gene in a sum of terms; samples of the network.
_TERM_PRODUCTS, _SAMPLES = {"sphere": 1, "rastrigin": 9}, 32
#: One checked generation in so many is bred again by the CPU's backend.
ORACLE_EVERY = 16


@dataclass(frozen=True, slots=True)
class Population:
    """One population: rows of whole groups of genes, ranks, the best of it, and who can be."""

    genes: Buffer
    ranks: Buffer
    candidates: Buffer
    candidate_count: Buffer
    leaders: Buffer

    @classmethod
    def on(cls, device: Device, component: Evolution) -> Self:
        """An empty one."""
        row = genetics.padded(component.genome)
        return cls(
            genes=device.empty(component.population * row, np.float32),
            ranks=device.empty(component.population, np.uint64),
            candidates=device.empty(component.population, np.uint32),
            candidate_count=device.empty(1, np.uint32),
            leaders=device.empty(component.elites, np.uint64),
        )

    @staticmethod
    def nbytes(component: Evolution) -> int:
        """Bytes of one."""
        genes = 4 * genetics.padded(component.genome)
        return component.population * (genes + 12) + 4 + 8 * component.elites


class CudaEvolution(CudaComponent):
    """What all islands share: the network's samples and the launches' shapes."""

    name: ClassVar[str] = "evolution"

    def build(self) -> None:
        samples = np.concatenate(genetics.samples(self.seed))
        self.samples = self.device.uploaded(samples)

    def operation(self) -> CudaOperation:
        return Island(self)

    @classmethod
    def device_bytes(cls, component: Component, lanes: int) -> int:
        evolution = cast(Evolution, component)
        populations = (len(evolution.ops) + 1) * Population.nbytes(evolution)
        return 4 * 3 * genetics.SAMPLES + lanes * (populations + 2 * 4 * _SUMS + 4)

    @classmethod
    def host_bytes(cls, component: Component, lanes: int) -> int:
        evolution = cast(Evolution, component)
        genes = evolution.population * genetics.padded(evolution.genome)
        return lanes * (4 * genes + 8 * evolution.population + 4 * _SUMS + 8 + 4)


@dataclass(slots=True)
class _Last:
    """The last generation, as its check needs it."""

    op: str
    key: int
    digest: int


class Island(CudaOperation):
    """A population for every fitness function and one to breed into; `grid` and `teams` shape the
    breeding, `teams` being individuals of a block."""

    def __init__(
        self, shared: CudaEvolution, *, grid: int | None = None, teams: int | None = None
    ) -> None:
        super().__init__(shared.device)
        self._shared = shared
        self._component = component = cast(Evolution, shared.component)
        self._rules = component.rules
        self._row = genetics.padded(component.genome)
        self._control_blocks = genetics.control_blocks(
            component.genome, component.tournament, self._rules.bits
        )
        self._teams = teams or self._teams_that_fit()
        full = self.device.multiprocessors * _BLOCKS_EACH
        self._grid = grid or min(full, -(-component.population // self._teams))
        self._ops = [op.name for op in component.ops]
        self._constants = {op: self._constants_of(op) for op in self._ops}
        self._kernels = {
            name: self.device.kernel(_FILE, f"evolution_{name}")
            for name in ("settle", "judge", "lead", "breed", "digest")
        }
        self._populations = {op: Population.on(self.device, component) for op in self._ops}
        self._spare = Population.on(self.device, component)
        #: Those of the last launch and of the next, which the last one has set to 0.
        self._sums, self._next_sums = (self.device.empty(_SUMS, np.uint32) for _ in range(2))
        self._finished = self.device.empty(1, np.uint32)
        self._found = self.device.pinned(_SUMS, np.uint32)
        self._genes = self.device.pinned(component.population * self._row, np.float32)
        self._ranks = self.device.pinned(component.population, np.uint64)
        self._best = self.device.pinned(1, np.uint64)
        self._last: _Last | None = None
        self._checked = 0
        self._elites = self.device.pinned(1, np.uint32)
        self._elites[0] = component.elites
        self.stream.fill(self._finished, 0)
        self.stream.fill(self._next_sums, 0)
        for op in self._ops:
            self._settle(op)
        self._spare_is_ready()
        self.stream.synchronize()

    def run(self, op: str, key: int) -> Done:
        before, after = self._populations[op], self._spare
        self._breed(op, key, before, after)
        self.stream.download(self._found, self._sums)
        self.stream.synchronize()
        self._populations[op], self._spare = after, before
        self._last = _Last(op, key, folded(self._found))
        return Done(self._component.population)

    def verify(self) -> tuple[int, int]:
        """The digest of what lies in memory against that of the breeding, the best against the best
        of before, and now and then the whole generation against the CPU's."""
        last, self._last = self._last, None
        if last is None or last.key % self._component.checked_every:
            return 0, 0
        self._checked += 1
        after = self._populations[last.op]
        holds = self._digest(after) == last.digest and self._best_kept(after)
        if holds and self._checked % ORACLE_EVERY == 1:
            holds = self._same_as_native(last)
        return 1, int(not holds)

    def plant(self, fault: str) -> bool:
        if self._last is None:
            return False
        after, row = self._populations[self._last.op], self._row
        child = self._component.population - 1
        mine = after.genes.part(child * row, row)
        if fault == "flipped_bit":
            self.stream.download(self._genes[:row], mine)
            self.stream.synchronize()
            self._genes[:1].view(np.uint32)[0] ^= 1 << 20
            self.stream.upload(mine, self._genes[:row])
        elif fault == "lost_result":
            self.stream.fill(mine, 0)
        else:
            self.stream.copy(mine, after.genes.part((child - 1) * row, row))
        self.stream.synchronize()
        return True

    def evaluate(self, op: str, inputs: Arrays) -> Arrays:
        component, given = self._component, self._populations[op]
        rows = self._genes.reshape(component.population, self._row)
        rows[:] = 0
        rows[:, : component.genome] = inputs["genes"].reshape(component.population, -1)
        self.stream.upload(given.genes, self._genes)
        self._judge(op, given)
        self._lead(given)
        self._breed(op, int(inputs["key"][0]), given, self._spare)
        self.stream.download(self._found, self._sums)
        answers = self._answers(self._spare)
        answers["digest"] = np.array([folded(self._found)], np.uint64)
        self._settle(op)
        self._spare_is_ready()
        self.stream.synchronize()
        return answers

    def cost(self, op: str) -> Cost:
        """Distinct bytes of the launch: the parents' rows and the candidates' ranks once. Children
        are drawn and varied, and everybody is judged and digested."""
        assert self._last is not None, "a generation has been bred"
        component, row = self._component, 4 * self._row
        population = component.population
        parents, candidates, elites = self._touched(self._last.key)
        children = population - component.elites
        read = len(np.union1d(parents, elites)) * row + 8 * len(candidates)
        read += 8 * component.elites + (384 if op == "mlp" else 0)
        # Judging reads the rows again, and sums are read where they are added to.
        read += children * 4 * component.genome if op == "mlp" else population * row
        led = self._led(op)
        read += 12 * led + 4 * (_SUMS + 2)
        written = population * (row + 8) + 8 * component.elites + 4 * led + 4 * (2 * _SUMS + 3)
        blocks = children * self._row // _MOVED_BY_BLOCK
        return Cost(
            bytes_read=read,
            bytes_written=written,
            multiply_adds=_NORMAL_PRODUCTS * blocks + population * self._row + self._judged(op),
            random_draws=children * self._control_blocks + blocks,
        )

    def _judged(self, op: str) -> int:
        """Products of the fitness functions: padded genes count, and teams without an individual
        have errors of nothing."""
        component = self._component
        if op != "mlp":
            return component.population * self._row * _TERM_PRODUCTS[op]
        teams = self._grid * self._teams
        started = -(-component.population // teams) * teams
        each = -(-component.genome // 4) * 3 * _SAMPLES
        return component.population * each + started * (_SAMPLES + TEAM)

    def _teams_that_fit(self) -> int:
        teams = BLOCK // TEAM
        while teams > 4 and 16 * self._control_blocks * teams > _CONTROL_BYTES_MAX:
            teams //= 2
        return teams

    def _rows(self, op: str) -> list[Argument]:
        component = self._component
        return [
            np.uint32(component.population),
            np.uint32(component.genome),
            np.uint32(self._row),
            np.uint32(self._ops.index(op)),
        ]

    def _constants_of(self, op: str) -> list[Argument]:
        """What every launch that breeds for a fitness function begins with."""
        component, rules, seed = self._component, self._rules, self._shared.seed
        population, genome, row, judged = self._rows(op)
        numbers = (component.tournament, rules.numerator, rules.bits)
        control = stream_key(seed, genetics.DOMAIN_CONTROL)
        normals = stream_key(seed, genetics.DOMAIN_NORMALS)
        return [
            population,
            genome,
            row,
            np.uint32(component.elites),
            judged,
            *(np.uint32(number) for number in numbers),
            np.float32(rules.sigma),
            *(np.uint32(number) for number in (self._control_blocks, *control, *normals)),
        ]

    def _settle(self, op: str) -> None:
        to = self._populations[op]
        low, high = stream_key(self._shared.seed, genetics.DOMAIN_INITIAL)
        keys = [np.uint32(low), np.uint32(high)]
        settled = [to.genes, to.ranks, to.candidates, to.candidate_count]
        arguments = [*self._rows(op), *keys, self._shared.samples, *settled]
        self.stream.launch(self._kernels["settle"], self._grid, BLOCK, arguments)

        self._lead(to)

    def _spare_is_ready(self) -> None:
        """Elites are the first candidates of whoever is bred next."""
        self.stream.upload(self._spare.candidate_count, self._elites)

    def _lead(self, of: Population) -> None:
        """Enqueues naming the best of a population that was not bred."""
        led = [of.ranks, of.candidates, of.candidate_count, of.leaders]
        elites = np.uint32(self._component.elites)
        self.stream.launch(self._kernels["lead"], 1, LEAD_BLOCK, [elites, *led])

    def _judge(self, op: str, to: Population) -> None:
        judged = [self._shared.samples, to.genes, to.ranks, to.candidates, to.candidate_count]
        self.stream.launch(self._kernels["judge"], self._grid, BLOCK, [*self._rows(op), *judged])

    def _breed(self, op: str, key: int, before: Population, after: Population) -> None:
        """Enqueues a generation; the sums of its digest are then on the device."""
        self._sums, self._next_sums = self._next_sums, self._sums
        self.stream.launch(
            self._kernels["breed"],
            self._grid,
            TEAM * self._teams,
            [
                *self._constants[op],
                np.uint64(key),
                before.leaders,
                self._shared.samples,
                before.genes,
                before.ranks,
                before.candidate_count,
                after.genes,
                after.ranks,
                after.candidates,
                after.candidate_count,
                after.leaders,
                self._sums,
                self._next_sums,
                self._finished,
            ],
            shared_bytes=max(
                _LEAD_BYTES, 4 * _SUMS_PADDED + 16 * self._control_blocks * self._teams
            ),
        )

    def digest_of(self, op: str) -> int:
        """The digest of a fitness function's population as it lies in memory."""
        return self._digest(self._populations[op])

    def _digest(self, of: Population) -> int:
        """The digest of a population as it lies in memory."""
        component = self._component
        self.stream.fill(self._sums, 0)
        arguments: list[Argument] = [np.uint32(component.population), np.uint32(self._row)]
        arguments += [of.genes, of.ranks, self._sums]
        self.stream.launch(self._kernels["digest"], self._grid, BLOCK, arguments)
        self.stream.download(self._found, self._sums)
        self.stream.synchronize()
        return folded(self._found)

    def _best_kept(self, after: Population) -> bool:
        """Whether the first elite is as good as the best of before."""
        self.stream.download(self._best, self._spare.leaders.part(0, 1))
        self.stream.synchronize()
        best = int(self._best[0]) >> 32
        self.stream.download(self._best, after.ranks.part(0, 1))
        self.stream.synchronize()
        return int(self._best[0]) >> 32 == best

    def _same_as_native(self, last: _Last) -> bool:
        """Whether the CPU's backend breeds the same from the population of before."""
        before = self._answers(self._spare)["genes"]
        inputs = {"genes": before, "key": np.array([last.key], np.uint64)}
        right = self._shared.native.evaluate(last.op, inputs)
        found = self._answers(self._populations[last.op])
        return int(right["digest"][0]) == last.digest and all(
            np.array_equal(found[name].view(np.uint32), right[name].view(np.uint32))
            for name in ("genes", "fitness")
        )

    def _answers(self, of: Population) -> Arrays:
        """Genes and fitness of a population, as the reference has them."""
        component = self._component
        self.stream.download(self._genes, of.genes)
        self.stream.download(self._ranks, of.ranks)
        self.stream.synchronize()
        rows = self._genes.reshape(component.population, self._row)
        words = (self._ranks >> np.uint64(32)).astype(np.uint32)
        flipped = np.where(words >> 31 == 1, np.uint32(1 << 31), np.uint32(0xFFFFFFFF))
        return {
            "genes": np.ascontiguousarray(rows[:, : component.genome]).reshape(-1),
            "fitness": (words ^ flipped).view(np.float32),
        }

    def _touched(self, key: int) -> tuple[npt.NDArray[Any], ...]:
        """Individuals of before by what the last generation read of them: as parents, as candidates
        of a tournament, as elites."""
        component = self._component
        self.stream.download(self._ranks, self._spare.ranks)
        self.stream.synchronize()
        individuals = np.arange(component.elites, component.population)
        key_words = stream_key(self._shared.seed, genetics.DOMAIN_CONTROL)
        size = 2 * component.tournament
        drawn = genetics.blocks_of(key_words, individuals, -(-size // 4), key)
        picks = drawn.reshape(len(individuals), -1)[:, :size].astype(np.uint64)
        chosen = (picks * np.uint64(component.population) >> np.uint64(32)).astype(np.intp)
        ranks = self._ranks[chosen].reshape(len(individuals), 2, component.tournament)
        parents = ranks.min(axis=2) & np.uint64(0xFFFFFFFF)
        leaders = np.sort(self._ranks)[: component.elites] & np.uint64(0xFFFFFFFF)
        return np.unique(parents), np.unique(chosen), leaders

    def _led(self, op: str) -> int:
        """Individuals of the last generation who could be among its best."""
        self.stream.download(self._found[:1], self._populations[op].candidate_count)
        self.stream.synchronize()
        return int(self._found[0])


def folded(sums: npt.NDArray[np.uint32]) -> int:
    """One word of the seventeen sums of a digest, as `genetics.digest` folds them."""
    word, mask = 0, (1 << 64) - 1
    for part in sums.tolist():
        word = (word << 5 | word >> 59) & mask
        word = (word ^ part) * 0x9E3779B97F4A7C15 & mask
    return word
