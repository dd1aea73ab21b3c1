"""One generation of a genetic algorithm in plain NumPy, every float operation in single precision.

The same operations in the same order as `rust/core/src/operations/evolution/`, none of them fused,
so that the bits are the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from swarmbench.components.philox import philox, stream_key

Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.bool_]

#: Streams of randomness, as in `evolution/parameters.rs` and `evolution/numbers.rs`.
DOMAIN_CONTROL = 0x6576_6F6C_0000_0001
DOMAIN_NORMALS = 0x6576_6F6C_0000_0002
DOMAIN_INITIAL = 0x6576_6F6C_0000_0003
DOMAIN_SAMPLES = 0x6576_6F6C_0000_0004

#: Every gene lies within -BOUND to BOUND.
BOUND = np.float32(5.12)
#: Lanes of a vector, genes of one group of eight Philox blocks, samples of the network.
LANES, GROUP, SAMPLES = 16, 64, 32

_GOLDEN = np.uint32(0x9E3779B9)
_ROUNDING = np.float32(12_582_912.0)
_ROOT_HALF = np.uint32(0x3F3504F3)
_MINUS_TWO_LN_2 = np.float32(-1.386_294_4)
_LOG = (
    *(-2.000_002, 1.000_022_3, -0.666_290_16, 0.498_195_02),
    *(-0.409_926_98, 0.373_355_98, -0.237_919_15),
)
_SINE = (6.283_179_3, -41.338_943, 81.395_355, -71.474_69)
_HALF_SINE = (np.pi, -5.167_71, 2.550_069_8, -0.598_242_1, 0.077_560_39)
_TURN = np.float32(2.0**-32)
_UNIT = np.float32(2.0**-23)


class Rules(NamedTuple):
    """How a generation follows from the one before."""

    elites: int
    tournament: int
    #: A gene mutates with probability `numerator` / 2^`bits`.
    numerator: int
    bits: int
    sigma: np.float32


class Children(NamedTuple):
    """Children, one row each: the same genes of both parents, what became of them, and how."""

    parents: npt.NDArray[np.intp]
    second: Flags
    inherited: Floats
    mutated: Flags
    genes: Floats


def padded(genome: int) -> int:
    """Genes of a stored row: whole groups."""
    return -(-genome // GROUP) * GROUP


def chance(probability: float) -> tuple[int, int]:
    """The nearest multiple of 2^-16 as (numerator, bits) of the shortest such fraction."""
    scaled = int(probability * 65536 + 0.5)
    shift = min((scaled & -scaled).bit_length() - 1, 16) if scaled else 16
    return scaled >> shift, 16 - shift


def control_blocks(genome: int, tournament: int, bits: int) -> int:
    """Philox blocks that choose the parents and the masks of one child."""
    return -(-(2 * tournament + padded(genome) // 32 * (1 + bits)) // 4)


def blocks_of(
    key: tuple[int, int], individuals: npt.NDArray[np.intp], blocks: int, request: int
) -> Words:
    """Blocks 0 to `blocks` of each individual, shape (individuals, blocks, 4)."""
    counters = np.empty((len(individuals), blocks, 4), np.uint32)
    counters[:, :, 0] = np.arange(blocks, dtype=np.uint32)
    counters[:, :, 1] = individuals.astype(np.uint32)[:, None]
    counters[:, :, 2] = request & 0xFFFFFFFF
    counters[:, :, 3] = request >> 32
    return philox(counters.reshape(-1, 4), key).reshape(len(individuals), blocks, 4)


def _lines(blocks: Words) -> Words:
    """Words by line, (n, lines, 16): of every eight blocks words 0 and 1, then 2 and 3."""
    count = len(blocks)
    halves = blocks.reshape(count, -1, 8, 2, 2).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(halves).reshape(count, -1, LANES)


def initial(seed: int, population: int, genome: int) -> Floats:
    """The first population, shape (population, genome), evenly spread over the bounds."""
    key = stream_key(seed, DOMAIN_INITIAL)
    words = _lines(blocks_of(key, np.arange(population), padded(genome) // 4, 0))
    unit = (words >> np.uint32(8)).astype(np.float32) * _UNIT - np.float32(1.0)
    return (unit * BOUND).reshape(population, -1)[:, :genome].copy()


def _horner(x: Floats, coefficients: tuple[float, ...]) -> Floats:
    total = np.full_like(x, np.float32(coefficients[-1]))
    for coefficient in coefficients[-2::-1]:
        total = total * x + np.float32(coefficient)
    return total


def normal_pairs(words: Words, sigma: np.float32) -> tuple[Floats, Floats]:
    """Two independent normal variates of each word (Box and Muller, 1958).

    The word is the rank of the radius, its product with the golden ratio the angle: the pairs lie
    on Vogel's spiral (1979).
    """
    rank = (words >> np.uint32(1)).astype(np.float32) + np.float32(0.5)
    offset = rank.view(np.uint32) - (_ROOT_HALF + np.uint32(31 << 23))
    exponent = (offset.view(np.int32) >> np.int32(23)).astype(np.float32)
    mantissa = (offset & np.uint32(0x007FFFFF)) + _ROOT_HALF
    z = mantissa.view(np.float32) - np.float32(1.0)
    radius = np.sqrt(z * _horner(z, _LOG) + exponent * _MINUS_TWO_LN_2) * sigma
    turn = (words * _GOLDEN).view(np.int32).astype(np.float32) * _TURN
    cosine = np.float32(0.25) - np.abs(turn)
    sine = np.float32(0.25) - np.abs(cosine)
    first = cosine * _horner(cosine * cosine, _SINE)
    second = np.copysign(np.float32(1.0), turn) * (sine * _horner(sine * sine, _SINE))
    return first * radius, second * radius


def steps(
    seed: int, individuals: npt.NDArray[np.intp], genome: int, request: int, sigma: np.float32
) -> Floats:
    """By how much each gene moves if it mutates, shape (individuals, genome)."""
    key = stream_key(seed, DOMAIN_NORMALS)
    lines = _lines(blocks_of(key, individuals, padded(genome) // 8, request))
    pairs = np.stack(normal_pairs(lines, sigma), axis=2)
    return np.ascontiguousarray(pairs.reshape(len(individuals), -1)[:, :genome])


def _bits(words: Words, genome: int) -> npt.NDArray[np.uint8]:
    """The bits of rows of words, the lowest first, as many as there are genes."""
    return np.unpackbits(
        np.ascontiguousarray(words).view(np.uint8), axis=1, count=genome, bitorder="little"
    )


def breed(seed: int, genes: Floats, fitness: Floats, request: int, rules: Rules) -> Children:
    """All children of a population; the first of them is individual `rules.elites`."""
    population, genome = genes.shape
    individuals = np.arange(rules.elites, population)
    blocks = control_blocks(genome, rules.tournament, rules.bits)
    drawn = blocks_of(stream_key(seed, DOMAIN_CONTROL), individuals, blocks, request)
    words = drawn.reshape(len(individuals), -1)

    place = np.empty(population, np.intp)
    place[np.argsort(fitness, kind="stable")] = np.arange(population)
    picks = words[:, : 2 * rules.tournament].astype(np.uint64) * np.uint64(population)
    candidates = (picks >> np.uint64(32)).astype(np.intp).reshape(-1, 2, rules.tournament)
    best = place[candidates].argmin(axis=2)
    parents = np.take_along_axis(candidates, best[:, :, None], axis=2)[:, :, 0]

    size = padded(genome) // 32
    masks = words[:, 2 * rules.tournament :]
    second = _bits(masks[:, :size], genome).astype(bool)
    threshold = np.zeros(second.shape, np.uint32)
    for bit in range(rules.bits):
        layer = _bits(masks[:, (1 + bit) * size : (2 + bit) * size], genome)
        threshold |= (1 - layer).astype(np.uint32) << np.uint32(bit)
    mutated = threshold < rules.numerator

    inherited = np.where(second, genes[parents[:, 1]], genes[parents[:, 0]])
    moved = inherited + steps(seed, individuals, genome, request, rules.sigma)
    kept = np.where(mutated, moved, inherited)
    return Children(parents, second, inherited, mutated, np.clip(kept, -BOUND, BOUND))


def _summed(terms: Floats) -> Floats:
    """Row sums: sixteen lanes in order, then each half of the lanes added to the other."""
    lanes = np.zeros((len(terms), LANES), np.float32)
    for first in range(0, terms.shape[1], LANES):
        part = terms[:, first : first + LANES]
        lanes[:, : part.shape[1]] += part
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def sphere(genes: Floats) -> Floats:
    """The sum of squares."""
    return _summed(genes * genes)


def rastrigin(genes: Floats) -> Floats:
    """The sum of x^2 + 10 - 10 cos(2 pi x), as x^2 + 20 sin^2(pi x)."""
    rest = genes - ((genes + _ROUNDING) - _ROUNDING)
    sine = rest * _horner(rest * rest, _HALF_SINE)
    return _summed(genes * genes + sine * sine * np.float32(20.0))


def samples(seed: int) -> tuple[Floats, Floats, Floats]:
    """Two inputs within -1 to 1 and their product, which the network of `mlp` learns."""
    counters = np.zeros((SAMPLES, 4), np.uint32)
    counters[:, 0] = np.arange(SAMPLES)
    words = philox(counters, stream_key(seed, DOMAIN_SAMPLES))[:, :2]
    drawn = (words >> np.uint32(8)).astype(np.float32) * _UNIT - np.float32(1.0)
    return drawn[:, 0], drawn[:, 1], drawn[:, 0] * drawn[:, 1]


def network_error(seed: int, genes: Floats) -> Floats:
    """Mean squared error of the network that the genes are the weights of.

    Two inputs, a quarter as many rectified hidden units as genes (two weights, bias, outgoing
    weight), one output.
    """
    left, right, wanted = samples(seed)
    outputs: Floats = np.zeros((len(genes), SAMPLES), np.float32)
    for unit in range(0, genes.shape[1], 4):
        first, second, bias, outgoing = (genes[:, unit + i : unit + i + 1] for i in range(4))
        reached = first * left + second * right + bias
        outputs += np.maximum(reached, np.float32(0.0)) * outgoing
    errors = outputs - wanted
    return _summed(errors * errors) * np.float32(1.0 / SAMPLES)


def fitness_of(op: str, seed: int, genes: Floats) -> Floats:
    """The fitness of every row; less is better."""
    if op == "mlp":
        return network_error(seed, genes)
    return {"sphere": sphere, "rastrigin": rastrigin}[op](genes)


def digest(genes: Floats, fitness: Floats) -> int:
    """One word of all bits of a population: sums, modulo 2^32, weighted by place."""
    population, genome = genes.shape
    rows = np.zeros((population, padded(genome)), np.float32)
    rows[:, :genome] = genes
    lines = rows.view(np.uint32).reshape(population, -1, LANES)
    weight = (2 * np.arange(population, dtype=np.uint64) + 1) * 0x9E3779B1
    places = np.arange(lines.shape[1] + 1, dtype=np.uint64) * (2 * 0x85EBCA6B & 0xFFFFFFFF)
    weights = (weight[:, None] + places[None, :]).astype(np.uint32)
    sums = (lines * weights[:, :-1, None]).sum(axis=(0, 1), dtype=np.uint32)
    bits = fitness.view(np.uint32)
    ordered = bits ^ np.where(bits >> 31 == 1, np.uint32(0xFFFFFFFF), np.uint32(1 << 31))
    last = (ordered * weights[:, -1]).sum(dtype=np.uint32)
    word = 0
    for part in [*sums.tolist(), int(last)]:
        word = (word << 5 | word >> 59) & (1 << 64) - 1
        word = (word ^ part) * 0x9E3779B97F4A7C15 & (1 << 64) - 1
    return word


def next_generation(
    op: str, seed: int, genes: Floats, request: int, rules: Rules
) -> tuple[Floats, Floats]:
    """The population after this one, and its fitness: elites first, best first, then children."""
    fitness = fitness_of(op, seed, genes)
    leaders = np.argsort(fitness, kind="stable")[: rules.elites]
    children = breed(seed, genes, fitness, request, rules).genes
    after = np.concatenate([genes[leaders], children])
    found = np.concatenate([fitness[leaders], fitness_of(op, seed, children)])
    return after, found
