"""A generation in Numba: with its own random numbers as it is usually written, and with ours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange, uint32, uint64

BOUND = np.float32(5.12)
LOGARITHM = np.array(
    [
        *(-2.000_002, 1.000_022_3, -0.666_290_16, 0.498_195_02),
        *(-0.409_926_98, 0.373_355_98, -0.237_919_15),
    ],
    np.float32,
)
SINE = np.array([6.283_179_3, -41.338_943, 81.395_355, -71.474_69], np.float32)
HALF_SINE = np.array([math.pi, -5.167_71, 2.550_069_8, -0.598_242_1, 0.077_560_39], np.float32)


@njit(parallel=True, fastmath=True, nogil=True)
def generation(genes: Any, fitness: Any, elites: Any, sigma: Any, after: Any, found: Any) -> None:
    """Children from row `len(elites)` on, by Numba's own generators, one for each thread.

    `genes`, `after`: float32 (population, genome); `fitness`, `found`: float32 (population,).
    """
    population, genome = genes.shape
    after[: len(elites)] = genes[elites]
    found[: len(elites)] = fitness[elites]
    turn, ten = np.float32(2.0 * math.pi), np.float32(10.0)
    for child in prange(len(elites), population):
        first = np.random.randint(population)
        second = np.random.randint(population)
        for _ in range(2):
            candidate = np.random.randint(population)
            first = candidate if fitness[candidate] < fitness[first] else first
            candidate = np.random.randint(population)
            second = candidate if fitness[candidate] < fitness[second] else second
        total = np.float32(0.0)
        for gene in range(genome):
            x = genes[first, gene] if np.random.random() < 0.5 else genes[second, gene]
            if np.random.random() < 0.5:
                x += sigma * np.float32(np.random.normal())
            x = min(max(x, -BOUND), BOUND)
            after[child, gene] = x
            total += x * x + ten - ten * math.cos(turn * x)
        found[child] = total


@njit(inline="always")
def philox(c0: Any, c1: Any, c2: Any, c3: Any, rounds: Any) -> Any:
    """Philox4x32-10 of one block; `rounds`: uint64 (10, 2), the keys of the rounds."""
    low32, shift = uint64(0xFFFFFFFF), uint64(32)
    for turn in range(10):
        low, high = c0 * uint64(0xD2511F53), c2 * uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (high >> shift) ^ c1 ^ rounds[turn, 0],
            high & low32,
            (low >> shift) ^ c3 ^ rounds[turn, 1],
            low & low32,
        )
    return c0, c1, c2, c3


@njit(inline="always")
def horner(x: Any, coefficients: Any) -> Any:
    total = coefficients[len(coefficients) - 1]
    for place in range(len(coefficients) - 2, -1, -1):
        total = np.float32(np.float32(total * x) + coefficients[place])
    return total


@njit(inline="always")
def draw_words(words: Any, individual: Any, request: Any, rounds: Any) -> None:
    for block in range(len(words) // 4):
        drawn = philox(uint64(block), uint64(individual), request[0], request[1], rounds)
        for word in range(4):
            words[4 * block + word] = uint32(drawn[word])


@njit(inline="always")
def draw_steps(steps: Any, words: Any, sigma: Any) -> None:
    """The two normal variates of each word: `words` uint32 (n / 2,), `steps` float32 (n,)."""
    quarter, half = np.float32(0.25), np.float32(0.5)
    for place in range(len(words)):
        word = words[place]
        rank = np.float32(np.int32(word >> uint32(1))) + half
        group, block, part = place // 32, place % 32 // 4, place % 4
        line, lane = 64 * group + part // 2 * 32, block * 2 + part % 2
        mantissa, exponent = math.frexp(rank)
        if mantissa < np.float32(0.70710677):
            mantissa, exponent = mantissa * np.float32(2.0), exponent - 1
        z = np.float32(mantissa) - np.float32(1.0)
        scaled = np.float32(np.float32(exponent - 31) * np.float32(-1.386_294_4))
        radius = np.float32(math.sqrt(np.float32(np.float32(z * horner(z, LOGARITHM)) + scaled)))
        radius = np.float32(radius * sigma)
        turn = np.float32(np.int32(uint32(word * uint32(0x9E3779B9)))) * np.float32(2.0**-32)
        cosine = quarter - abs(turn)
        sine = quarter - abs(cosine)
        steps[line + lane] = np.float32(cosine * horner(cosine * cosine, SINE)) * radius
        wave = np.float32(sine * horner(sine * sine, SINE))
        steps[line + 16 + lane] = (-wave if turn < 0 else wave) * radius


@njit(inline="always")
def choose(words: Any, first: Any, place: Any, population: Any) -> Any:
    best = int((uint64(words[first]) * uint64(population)) >> uint64(32))
    for pick in range(1, 3):
        other = int((uint64(words[first + pick]) * uint64(population)) >> uint64(32))
        best = other if place[other] < place[best] else best
    return best


@njit(parallel=True, nogil=True)
def same_generation(
    genes: Any, place: Any, elites: Any, request: Any, keys: Any, sigma: Any, after: Any, found: Any
) -> None:
    """The very children of ours at tournament 3 and a mutation of 0.5, bit for bit.

    `place`: the rank of each individual; `keys`: uint64 (2, 10, 2), round keys of control and
    normals; `request`: uint64 (2,); genome a multiple of 64; other arrays as in `generation`.
    """
    population, genome = genes.shape
    masks = genome // 32
    after[: len(elites)] = genes[elites]
    for thread in prange(64):
        control = np.empty((6 + 2 * masks + 3) // 4 * 4, np.uint32)
        words, steps = np.empty(genome // 2, np.uint32), np.empty(genome, np.float32)
        lanes = np.empty(16, np.float32)
        for child in range(len(elites) + thread, population, 64):
            draw_words(control, child, request, keys[0])
            draw_words(words, child, request, keys[1])
            draw_steps(steps, words, sigma)
            first = choose(control, 0, place, population)
            second = choose(control, 3, place, population)
            lanes[:] = np.float32(0.0)
            for gene in range(genome):
                bit = uint32(gene & 31)
                crossed = control[6 + gene // 32] >> bit & uint32(1)
                mutated = control[6 + masks + gene // 32] >> bit & uint32(1)
                x = genes[second, gene] if crossed else genes[first, gene]
                x = x + steps[gene] if mutated else x
                x = min(max(x, -BOUND), BOUND)
                after[child, gene] = x
                rest = x - np.float32(np.rint(x))
                sine = np.float32(rest * horner(rest * rest, HALF_SINE))
                term = np.float32(x * x) + np.float32(sine * sine) * np.float32(20.0)
                lanes[gene & 15] += term
            for half in (8, 4, 2, 1):
                for lane in range(half):
                    lanes[lane] += lanes[lane + half]
            found[child] = lanes[0]
