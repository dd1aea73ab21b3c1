"""A generation of the evolution component in the plainest words: a thread makes one individual."""

import math
from typing import Any

import numpy as np
from numba import cuda, types

from swarmbench.gpu.numba.declared import device_function, f32, f32s, kernel, u32, u64, u64s
from swarmbench.gpu.numba.words import philox

_BOUND = np.float32(5.12)
_ONE, _HALF, _QUARTER, _ZERO = (np.float32(number) for number in (1.0, 0.5, 0.25, 0.0))
_ROOT_HALF, _TWO, _TWENTY = np.float32(0.70710677), np.float32(2.0), np.float32(20.0)
_MINUS_TWO_LN_2, _TURN = np.float32(-1.3862944), np.float32(2.0**-32)
_ROUNDING, _PER_SAMPLE = np.float32(12_582_912.0), np.float32(1 / 32)
_GOLDEN = np.uint32(0x9E3779B9)
_LOG = tuple(
    np.float32(number)
    for number in (
        *(-0.23791915, 0.37335598, -0.40992698, 0.49819502),
        *(-0.66629016, 1.0000223, -2.000002),
    )
)
_SINE = tuple(np.float32(number) for number in (-71.47469, 81.395355, -41.338943, 6.2831793))
_HALF_SINE = tuple(
    np.float32(number) for number in (0.07756039, -0.5982421, 2.5500698, -5.16771, 3.1415927)
)
_LANES, _SAMPLES, _SPHERE, _MLP = 16, 32, 0, 2


@device_function
def _horner(x: Any, coefficients: Any) -> Any:
    total = _ZERO
    for coefficient in coefficients:
        total = np.float32(np.float32(total * x) + coefficient)
    return total


@device_function
def _wave(turn: Any) -> Any:
    """The sine of 2 pi `turn`, within a quarter of a turn."""
    return np.float32(turn * _horner(np.float32(turn * turn), _SINE))


@device_function
def _word(index: Any, individual: Any, request: Any, stream: Any) -> Any:
    """Word `index` of an individual's, four to a Philox block."""
    words = philox(np.uint32(index // 4), np.uint32(individual), request, stream)
    return words[index % 4]


@device_function
def _normal(word: Any, is_second: Any, sigma: Any) -> Any:
    """One of the two normal variates of a word (Box and Muller, 1958)."""
    rank = np.float32(np.float32(word >> np.uint32(1)) + _HALF)
    half, exponent = math.frexp(rank)
    mantissa, exponent = np.float32(half), exponent - 31
    if mantissa < _ROOT_HALF:
        mantissa, exponent = np.float32(mantissa * _TWO), exponent - 1
    z = np.float32(mantissa - _ONE)
    log = np.float32(z * _horner(z, _LOG))
    square = np.float32(log + np.float32(np.float32(exponent) * _MINUS_TWO_LN_2))
    radius = np.float32(np.float32(math.sqrt(square)) * sigma)
    turn = np.float32(np.float32(np.int32(np.uint32(word * _GOLDEN))) * _TURN)
    cosine = np.float32(_QUARTER - abs(turn))
    if not is_second:
        return np.float32(_wave(cosine) * radius)
    wave = _wave(np.float32(_QUARTER - abs(cosine)))
    return np.float32((-wave if turn < _ZERO else wave) * radius)


@device_function
def _moved(gene: Any, individual: Any, request: Any, stream: Any, sigma: Any) -> Any:
    """By how much a gene moves if it mutates: of every 64 genes eight blocks move eight each."""
    quarter, lane = gene % 64 // 16, gene % 16
    block = gene // 64 * 8 + lane // 2
    word = _word(4 * block + quarter // 2 * 2 + lane % 2, individual, request, stream)
    return _normal(word, quarter % 2 == 1, sigma)


@device_function
def _parent(which: Any, draws: Any, ranks: Any, population: Any, tournament: Any) -> Any:
    """The better of the candidates of a tournament."""
    individual, request, stream = draws
    best = ~np.uint64(0)
    for turn in range(tournament):
        word = _word(which * tournament + turn, individual, request, stream)
        candidate = np.uint64(word) * np.uint64(population) >> np.uint64(32)
        best = min(best, ranks[np.uint32(candidate)])
    return np.uint32(best & np.uint64(0xFFFFFFFF))


@device_function
def _mutates(gene: Any, draws: Any, first: Any, row: Any, chance: Any) -> Any:
    """Whether a threshold of `bits` bits, the complement of its layers, is below the numerator."""
    individual, request, stream = draws
    numerator, bits = chance
    threshold = np.uint32(0)
    for bit in range(bits):
        word = _word(first + (1 + bit) * (row // 32) + gene // 32, individual, request, stream)
        is_set = np.uint32(word >> np.uint32(gene % 32)) & np.uint32(1)
        threshold |= np.uint32((np.uint32(1) - is_set) << np.uint32(bit))
    return threshold < numerator


@device_function
def _added(lanes: Any) -> Any:
    """The sum of sixteen lanes, each half added to the other."""
    half = 8
    while half > 0:
        for lane in range(half):
            lanes[lane] = np.float32(lanes[lane] + lanes[lane + half])
        half //= 2
    return lanes[0]


@device_function
def _error(sample: Any, genes: Any, first: Any, genome: Any, samples: Any) -> Any:
    """By how much the network that the genes are the weights of is off for a sample."""
    output = _ZERO
    for unit in range(first, first + genome, 4):
        left = np.float32(genes[unit] * samples[sample])
        right = np.float32(genes[unit + 1] * samples[_SAMPLES + sample])
        reached = np.float32(np.float32(left + right) + genes[unit + 2])
        if reached > _ZERO:
            output = np.float32(output + np.float32(reached * genes[unit + 3]))
    return np.float32(output - samples[2 * _SAMPLES + sample])


@device_function
def _term(gene: Any, judged: Any) -> Any:
    """What a gene adds to the sphere's or to Rastrigin's function."""
    square = np.float32(gene * gene)
    if judged == _SPHERE:
        return square
    rest = np.float32(gene - np.float32(np.float32(gene + _ROUNDING) - _ROUNDING))
    sine = np.float32(rest * _horner(np.float32(rest * rest), _HALF_SINE))
    return np.float32(square + np.float32(np.float32(sine * sine) * _TWENTY))


@device_function
def _fitness(genes: Any, first: Any, genome: Any, judged: Any, samples: Any) -> Any:
    lanes = cuda.local.array(_LANES, types.float32)
    for lane in range(_LANES):
        lanes[lane] = _ZERO
    if judged == _MLP:
        for sample in range(_SAMPLES):
            error = _error(sample, genes, first, genome, samples)
            lanes[sample % _LANES] += np.float32(error * error)
        return np.float32(_added(lanes) * _PER_SAMPLE)
    for gene in range(genome):
        lanes[gene % _LANES] += _term(genes[first + gene], judged)
    return _added(lanes)


# One generation: leaders as they are, then children of two tournaments' winners.
#
#   child[g] = clip(parent[second[g]][g] + (mutates[g] ? sigma * N(0, 1) : 0), -5.12, 5.12)
#
# Work    per child and gene: 8 bytes read, 4 written, and every random word drawn anew where it is
#         needed. Bound by arithmetic. It is there to be read; `evolution_breed` is the fast one.
# Launch  one thread per individual: any grid and block, the threads go on by strides.
# Needs   rows of `row` genes, whole groups of 64; ranks are fitness and place as one word.
# Checked against genetics.next_generation: exact in the simulator; a card may fuse a product and a
#         sum, so 1e-4 of the larger of 1 and the value there.
@kernel
def evolution_generation(
    population: u32,
    genome: u32,
    row: u32,
    elites: u32,
    judged: u32,
    tournament: u32,
    numerator: u32,
    bits: u32,
    sigma: f32,
    control: u64,
    normals: u64,
    request: u64,
    leaders: u64s,
    samples: f32s,
    before: f32s,
    ranks: u64s,
    after: f32s,
    fitness: f32s,
) -> None:
    threads = cuda.gridDim.x * cuda.blockDim.x
    size, width = int(genome), int(row)
    for individual in range(cuda.grid(1), population, threads):
        first = individual * width
        draws = individual, request, control
        chance = numerator, int(bits)
        mother = father = np.uint32(0)
        if individual < elites:
            mother = father = np.uint32(leaders[individual] & np.uint64(0xFFFFFFFF))
        else:
            mother = _parent(0, draws, ranks, population, int(tournament))
            father = _parent(1, draws, ranks, population, int(tournament))
        masks = 2 * int(tournament)
        for gene in range(size):
            value = before[int(mother) * width + gene]
            if individual >= elites:
                word = _word(masks + gene // 32, individual, request, control)
                if np.uint32(word >> np.uint32(gene % 32)) & np.uint32(1):
                    value = before[int(father) * width + gene]
                if _mutates(gene, draws, masks, width, chance):
                    value += _moved(gene, individual, request, normals, sigma)
                value = min(max(value, -_BOUND), _BOUND)
            after[first + gene] = value
        fitness[individual] = _fitness(after, first, size, judged, samples)
