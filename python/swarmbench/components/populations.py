"""Swarms of agents and what operations make of them, in plain NumPy: the reference of `agents`.

A swarm is a dict of arrays, one element per slot (four for `rng`): `x`, `y`, `state`, `ticks`,
`since`, `heard`, `rng` uint32; `velocity_x`, `velocity_y`, `energy` int32; `generation`, `born`,
`inbox_even`, `inbox_odd` uint64. `order` lists the live slots, the oldest first (uint32). `clock`
is (steps, ticks, births owed; uint64).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swarmbench.components.base import Arrays
from swarmbench.components.philox import draws, philox, stream_key

CREATED, RUNNING, PAUSED, STOPPED = range(4)
DOMAIN_BIRTHS = 0x6167656E00000001
DOMAIN_SWARMS = 0x6167656E00000002
PLACE, STATE, CHOSEN, EXPIRED = range(4)

CELL_BITS = 12
SPEED_MAX = 511
ENERGY_LOW, ENERGY_HIGH, ENERGY_MAX = 1024, 8192, 1 << 20
SLOT_BITS = 24
GENERATION_MAX = (1 << (64 - SLOT_BITS)) - 1
MESSAGE = 1 << 40
COLUMNS_MIN = 16

_MASK = (1 << 64) - 1
_ROWS = 512

Words = npt.NDArray[np.uint32]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shape:
    """One swarm: its slots, the fewest and most agents it may have, and the seed of its births."""

    slots: int
    least: int
    most: int
    batch: int
    seed: int

    @property
    def target(self) -> int:
        """The size that the controller steers for."""
        return (self.least + self.most) // 2

    @property
    def coordinate_bits(self) -> int:
        """Bits of a coordinate: those of a cell's number, and twelve inside the cell."""
        return columns(self.slots).bit_length() - 1 + CELL_BITS


def columns(slots: int) -> int:
    """Columns of the torus: a power of two, and at least as many cells as slots."""
    count = COLUMNS_MIN
    while count * count < slots:
        count *= 2
    return count


def next_words(rng: Words) -> tuple[Words, Words]:
    """xoshiro128++ (Blackman and Vigna, ACM TOMS 2021): words (n) and new states (n, 4)."""
    s0, s1, s2, s3 = (rng[:, i].copy() for i in range(4))
    total = s0 + s3
    words = (total << np.uint32(7) | total >> np.uint32(25)) + s0
    shifted = s1 << np.uint32(9)
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    s2 ^= shifted
    s3 = s3 << np.uint32(11) | s3 >> np.uint32(21)
    return words, np.stack([s0, s1, s2, s3], axis=1)


def synthetic(shape: Shape, key: int) -> Arrays:
    """A swarm of its target's size, as chance has it; that of an odd key is crowded at a corner."""
    slots, bits = shape.slots, shape.coordinate_bits
    stream = stream_key(shape.seed, DOMAIN_SWARMS)
    words = draws(stream, key, 10 * slots).reshape(10, slots)
    order = np.argsort(words[0], kind="stable")[: shape.target].astype(np.uint32)
    live = np.zeros(slots, dtype=bool)
    live[order] = True
    corner = np.uint64(5 * 4096 if key % 2 else 1 << bits)
    origin = np.uint64((1 << bits) - 2 * 4096)
    place = [(word % corner + origin).astype(np.uint32) & ((1 << bits) - 1) for word in words[1:3]]
    pieces = [words[3] >> np.uint64(shift) for shift in (0, 16, 32, 50)]
    velocity = [(piece % 1023).astype(np.int32) - SPEED_MAX for piece in pieces[:2]]
    ticks = np.zeros(slots, np.uint32)
    ticks[order] = np.sort(pieces[3][order] % 50)[::-1]
    steps = 100 + key % 1000
    state = np.where(ticks == 0, CREATED, RUNNING + (words[4] & 1).astype(np.int64))
    mail = (words[5] % 3) * np.uint64(MESSAGE) + (words[5] >> np.uint64(32)) % (3 << 16)
    unread = np.where(live & (words[5] % 3 > 0), mail, 0).astype(np.uint64)
    parity, nothing = key % 2, np.zeros(slots, np.uint64)
    return {
        "x": place[0],
        "y": place[1],
        "velocity_x": velocity[0],
        "velocity_y": velocity[1],
        "energy": (words[6] % 12_000 + 500).astype(np.int32),
        "state": np.where(live, state, STOPPED).astype(np.uint32),
        "ticks": ticks,
        "since": np.uint32(steps) - ticks,
        "heard": (words[7] % 1000).astype(np.uint32),
        "rng": (words[8:10].T.reshape(-1).view(np.uint32) | 1).astype(np.uint32),
        "generation": words[7] >> np.uint64(40),
        "born": words[6],
        "inbox_even": nothing if parity else unread,
        "inbox_odd": unread if parity else nothing,
        "order": order,
        "clock": np.array([steps, parity, int(words[9][0]) % (2 * shape.target + 1)], np.uint64),
    }


def _sums(x: Numbers, y: Numbers, velocity: Numbers, bits: int) -> Numbers:
    """Per agent: offsets and velocities of all within sight, added up, and their number."""
    half, side, totals = 1 << (bits - 1), 1 << bits, []
    for first in range(0, len(x), _ROWS):
        rows = slice(first, first + _ROWS)
        dx = (x[None, :] - x[rows, None] + half) % side - half
        dy = (y[None, :] - y[rows, None] + half) % side - half
        seen = (dx * dx + dy * dy < 1 << (2 * CELL_BITS)).astype(np.int64)
        parts = [(dx * seen).sum(axis=1), (dy * seen).sum(axis=1)]
        totals.append(np.stack([*parts, *(seen @ velocity).T, seen.sum(axis=1)]))
    return np.concatenate(totals, axis=1)


def step(shape: Shape, given: Arrays) -> Arrays:
    """All live agents move one step among those they see."""
    swarm = {name: array.copy() for name, array in given.items()}
    slots = np.flatnonzero(swarm["state"] != STOPPED)
    fields = ("x", "y", "velocity_x", "velocity_y", "energy", "state")
    x, y, vx, vy, energy, state = (swarm[name][slots].astype(np.int64) for name in fields)
    velocity = np.stack([vx, vy], axis=1)
    *sums, count = _sums(x, y, velocity, shape.coordinate_bits)
    words, states = next_words(swarm["rng"].reshape(-1, 4)[slots])
    noise = [(words >> np.uint32(shift) & 63).astype(np.int64) for shift in (0, 6, 12, 18)]
    moves = state < PAUSED
    for axis, name in enumerate(("x", "y")):
        own, offset, flow = velocity[:, axis], sums[axis], sums[2 + axis]
        change = noise[2 * axis] - noise[2 * axis + 1] - (offset >> 6)
        change += ((flow - count * own) >> 4) - (own >> 4)
        faster = np.clip(own + change, -SPEED_MAX, SPEED_MAX)
        at = ((x, y)[axis] + faster) & ((1 << shape.coordinate_bits) - 1)
        swarm[name][slots[moves]] = at[moves]
        swarm[f"velocity_{name}"][slots[moves]] = faster[moves]
    energy = np.where(moves, energy - 16 - np.minimum(count - 1, 15), energy + 64)
    awake = np.where(moves, ENERGY_LOW, ENERGY_HIGH)
    swarm["energy"][slots] = energy
    swarm["state"][slots] = np.where(energy < awake, PAUSED, RUNNING)
    swarm["ticks"][slots] += np.uint32(1)
    swarm["rng"].reshape(-1, 4)[slots] = states
    swarm["clock"][0] += np.uint64(1)
    return swarm | {"ids": np.zeros(0, np.uint64)}


def tick(shape: Shape, given: Arrays) -> Arrays:
    """All live agents read their messages and send one to anybody alive."""
    swarm = {name: array.copy() for name, array in given.items()}
    slots = np.flatnonzero(swarm["state"] != STOPPED)
    names = ("inbox_even", "inbox_odd")
    parity = int(swarm["clock"][1]) % 2
    read = swarm[names[parity]][slots]
    swarm[names[parity]][slots] = 0
    swarm["heard"][slots] += (read // np.uint64(MESSAGE)).astype(np.uint32)
    gain = (read % np.uint64(MESSAGE)) >> np.uint64(12)
    energy = swarm["energy"][slots] + gain.astype(np.int64)
    swarm["energy"][slots] = np.minimum(energy, ENERGY_MAX)
    words, states = next_words(swarm["rng"].reshape(-1, 4)[slots])
    swarm["rng"].reshape(-1, 4)[slots] = states
    rank = (words.astype(np.uint64) * np.uint64(len(slots))) >> np.uint64(32)
    message = np.uint64(MESSAGE) + (words & np.uint32(0xFFFF)).astype(np.uint64)
    np.add.at(swarm[names[1 - parity]], slots[rank.astype(np.int64)], message)
    swarm["clock"][1] += np.uint64(1)
    return swarm | {"ids": np.zeros(0, np.uint64)}


class Slab:
    """A swarm whose agents come and go, one at a time, the lowest vacant slots being used first."""

    def __init__(self, shape: Shape, given: Arrays) -> None:
        self.shape = shape
        self.fields = {name: array.copy() for name, array in given.items()}
        self.order: list[int] = self.fields["order"].tolist()
        usable = self.fields["generation"] < GENERATION_MAX
        vacant = (self.fields["state"] == STOPPED) & usable
        #: A heap: the lowest is used first.
        self.vacant: list[int] = np.flatnonzero(vacant).tolist()
        owed = int(self.fields["clock"][2])
        self.owed = owed - (1 << 64) if owed >> 63 else owed
        self.ids: list[int] = []
        self.stream = stream_key(shape.seed, DOMAIN_BIRTHS)

    def spawn(self, key: int) -> Arrays:
        """A batch of births, and the ends that lifetimes ask for since."""
        self.owed += len(self.order) * self.shape.batch
        for ordinal in range(self.shape.batch):
            self.ids.append(self._bear(key, ordinal))
        shape, live = self.shape, len(self.order)
        due = max(min(self.owed // shape.target, live - shape.least), live - shape.most, 0)
        for slot in self._chosen(key, EXPIRED, due):
            self._end(slot)
        self.owed -= shape.target * due
        return self._result()

    def destroy(self, key: int, *, oldest: bool) -> Arrays:
        """A batch of ends, and the births that the band is short of then."""
        shape = self.shape
        count = min(shape.batch, len(self.order))
        for slot in self.order[:count] if oldest else self._chosen(key, CHOSEN, count):
            self.ids.append(self._id(slot))
            self._end(slot)
        credit = shape.target * (shape.most - shape.target)
        self.owed = max(self.owed - shape.target * len(self.ids), -credit)
        ordinal = shape.batch
        while len(self.order) < shape.least:
            self._bear(key, ordinal)
            ordinal += 1
        return self._result()

    def _result(self) -> Arrays:
        clock = [*self.fields["clock"][:2].tolist(), self.owed & _MASK]
        return self.fields | {
            "order": np.array(self.order, np.uint32),
            "clock": np.array(clock, np.uint64),
            "ids": np.array(self.ids, np.uint64),
        }

    def _id(self, slot: int) -> int:
        return int(self.fields["generation"][slot]) << SLOT_BITS | slot

    def _block(self, key: int, ordinal: int, purpose: int) -> list[int]:
        counter = np.array([[ordinal, purpose, key & 0xFFFFFFFF, key >> 32]], np.uint32)
        block: list[int] = philox(counter, self.stream)[0].tolist()
        return block

    def _chosen(self, key: int, purpose: int, count: int) -> list[int]:
        """So many live slots, in their order, any of them as likely as any other.

        Floyd's sample (Bentley and Floyd, "A sample of brilliance", CACM 1987) of their ranks; a
        block has four words.
        """
        live, ranks = len(self.order), set[int]()
        for ordinal in range(count):
            top = live - count + ordinal
            word = self._block(key, ordinal // 4, purpose)[ordinal % 4]
            rank = word * (top + 1) >> 32
            ranks.add(top if rank in ranks else rank)
        slots = sorted(self.order)
        return [slots[rank] for rank in sorted(ranks)]

    def _bear(self, key: int, ordinal: int) -> int:
        slot = heapq.heappop(self.vacant)
        place, rng = self._block(key, ordinal, PLACE), self._block(key, ordinal, STATE)
        shift = 32 - self.shape.coordinate_bits
        born: dict[str, Any] = {
            "x": place[0] >> shift,
            "y": place[1] >> shift,
            "velocity_x": (place[2] & 0xFF) - 128,
            "velocity_y": (place[2] >> 8 & 0xFF) - 128,
            "energy": ENERGY_HIGH + (place[2] >> 19),
            "state": CREATED,
            "ticks": 0,
            "since": int(self.fields["clock"][0]) & 0xFFFFFFFF,
            "heard": 0,
            "generation": int(self.fields["generation"][slot]) + 1,
            "born": key,
        }
        for name, value in born.items():
            self.fields[name][slot] = value
        self.fields["rng"][4 * slot : 4 * slot + 4] = [*rng[:3], rng[3] | 1]
        self.order.append(slot)
        return self._id(slot)

    def _end(self, slot: int) -> None:
        self.order.remove(slot)
        if self.fields["generation"][slot] < GENERATION_MAX:
            heapq.heappush(self.vacant, slot)
        self.fields["state"][slot] = STOPPED
        self.fields["inbox_even"][slot] = self.fields["inbox_odd"][slot] = 0


def mixed(word: int) -> int:
    """The finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _MASK
    return word ^ word >> 31


def solitary_life(key: int, steps: int) -> npt.NDArray[np.uint64]:
    """What the process of `key` reports after so many steps: key, steps, place, digest."""
    first, second = mixed(key ^ 0x6167656E7473), mixed(key + 1 & _MASK)
    x, y = first & 0xFFFFFFFF, first >> 32
    state = [second & 0xFFFFFFFF, second >> 32, x ^ 0x9E3779B9, y | 1]
    rng, digest = np.array([state], np.uint32), 0
    for _ in range(steps):
        words, rng = next_words(rng)
        x = x + (int(words[0]) & 0xFFFF) - 0x8000 & 0xFFFFFFFF
        y = y + (int(words[0]) >> 16) - 0x8000 & 0xFFFFFFFF
        digest = (digest << 5 | digest >> 59) & _MASK ^ (x | y << 32)
    return np.array([key, steps, x | y << 32, mixed(digest)], np.uint64)
