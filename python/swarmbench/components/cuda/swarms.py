"""Swarms as the agents' kernels keep them: rows of planes, and the arrays of the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from swarmbench.components.base import Arrays
from swarmbench.components.populations import GENERATION_MAX, SLOT_BITS, STOPPED
from swarmbench.gpu.device import Buffer, Device, Stream

#: The planes of one u32 a slot, in their order; the kernels' module `slab` has the same.
FIELDS = (
    "x", "y", "velocity_x", "velocity_y", "energy", "state", "ticks", "since", "heard",
    "rng_0", "rng_1", "rng_2", "rng_3", "turn", "list_0", "list_1",
)  # fmt: skip
#: The planes of one u64 a slot.
LONGS = ("generation", "born", "inbox_even", "inbox_odd")
#: The numbers of a swarm's ledger.
LEDGER = (
    "steps", "ticks", "owed", "live", "spawned", "destroyed", "replaced", "expired", "retired",
    "stepped", "sent", "read", "dead", "births", "deaths", "start", "end",
)  # fmt: skip
_SIGNED = {"velocity_x", "velocity_y", "energy"}

Words = npt.NDArray[np.uint32]
Longs = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Swarms:
    """So many swarms on a device."""

    fields: Buffer
    longs: Buffer
    bits: Buffer
    ledger: Buffer
    slots: int

    @classmethod
    def on(cls, device: Device, swarms: int, slots: int) -> Self:
        """Swarms of which nothing is known yet."""
        return cls(
            fields=device.empty(swarms * len(FIELDS) * slots, np.uint32),
            longs=device.empty(swarms * len(LONGS) * slots, np.uint64),
            bits=device.empty(swarms * 2 * words_of(slots), np.uint32),
            ledger=device.empty(swarms * len(LEDGER), np.int64),
            slots=slots,
        )

    @staticmethod
    def nbytes(slots: int) -> int:
        """Bytes of one swarm."""
        bits = 2 * words_of(slots)
        return slots * (4 * len(FIELDS) + 8 * len(LONGS)) + 4 * bits + 8 * len(LEDGER)

    @property
    def buffers(self) -> tuple[Buffer, Buffer, Buffer, Buffer]:
        """In the order that the kernels take them."""
        return self.fields, self.longs, self.bits, self.ledger

    def row(self, index: int) -> Swarms:
        """One swarm, as a view."""
        parts = []
        swarms = self.ledger.count // len(LEDGER)
        for buffer in self.buffers:
            each = buffer.count // swarms
            parts.append(buffer.part(index * each, each))
        fields, longs, bits, ledger = parts
        return Swarms(fields, longs, bits, ledger, self.slots)

    def take(self, stream: Stream, other: Swarms) -> None:
        """Enqueues a copy of as many other swarms."""
        for target, origin in zip(self.buffers, other.buffers, strict=True):
            stream.copy(target, origin)


@dataclass(slots=True)
class HostSwarm:
    """One swarm in the host's memory, array by array as on the device."""

    fields: Words
    longs: Longs
    bits: Words
    ledger: npt.NDArray[np.int64]

    @classmethod
    def on(cls, device: Device, slots: int) -> Self:
        """Page-locked room for one."""
        return cls(
            device.pinned(len(FIELDS) * slots, np.uint32),
            device.pinned(len(LONGS) * slots, np.uint64),
            device.pinned(2 * words_of(slots), np.uint32),
            device.pinned(len(LEDGER), np.int64),
        )

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        return self.fields, self.longs, self.bits, self.ledger

    def download(self, stream: Stream, swarm: Swarms) -> None:
        """Fetches a swarm; the stream has to be waited for."""
        for array, buffer in zip(self.arrays, swarm.buffers, strict=True):
            stream.download(array, buffer)

    def upload(self, stream: Stream, swarm: Swarms) -> None:
        """Sends it to the device; the stream has to be waited for."""
        for array, buffer in zip(self.arrays, swarm.buffers, strict=True):
            stream.upload(buffer, array)

    def number(self, name: str) -> int:
        """A number of the ledger."""
        return int(self.ledger[LEDGER.index(name)])

    def plane(self, name: str) -> npt.NDArray[Any]:
        """A plane, one element a slot."""
        names, array = (FIELDS, self.fields) if name in FIELDS else (LONGS, self.longs)
        plane: npt.NDArray[Any] = array.reshape(len(names), -1)[names.index(name)]
        return plane.view(np.int32) if name in _SIGNED else plane

    @property
    def occupied(self) -> npt.NDArray[np.bool_]:
        """Per slot, whether an agent lives there."""
        count = len(self.fields) // len(FIELDS)
        return np.unpackbits(self._half(0).view(np.uint8), bitorder="little")[:count].astype(bool)

    @property
    def vacant(self) -> npt.NDArray[np.bool_]:
        """Per slot, whether an agent may be born there."""
        count = len(self.fields) // len(FIELDS)
        return np.unpackbits(self._half(1).view(np.uint8), bitorder="little")[:count].astype(bool)

    def _half(self, which: int) -> Words:
        half: Words = self.bits.reshape(2, -1)[which]
        return half

    def order(self) -> Words:
        """The live agents' slots, the oldest first."""
        listed = np.concatenate([self.plane("list_0"), self.plane("list_1")])
        turns = np.arange(self.number("start"), self.number("end"))
        slots = listed[turns]
        found: Words = slots[self.occupied[slots] & (self.plane("turn")[slots] == turns)]
        return found

    def ids(self, first_slot: int = 0) -> Longs:
        """The ids of the live agents, in the order of slots."""
        slots = np.flatnonzero(self.occupied).astype(np.uint64)
        generation: Longs = self.plane("generation")[self.occupied]
        return generation << np.uint64(SLOT_BITS) | slots + np.uint64(first_slot)

    def as_reference(self) -> Arrays:
        """Copies of the arrays that the reference takes."""
        clock = self.ledger[: LEDGER.index("live")].view(np.uint64)
        rng = np.stack([self.plane(f"rng_{word}") for word in range(4)], axis=1)
        copies = {name: self.plane(name).copy() for name in (*FIELDS[:9], *LONGS)}
        return copies | {"rng": rng.reshape(-1), "order": self.order(), "clock": clock.copy()}

    def read(self, given: Arrays) -> None:
        """Takes a swarm as the reference has it; its ledger counts from there."""
        for name in (*FIELDS[:9], *LONGS):
            self.plane(name)[:] = given[name]
        for word in range(4):
            self.plane(f"rng_{word}")[:] = given["rng"].reshape(-1, 4)[:, word]
        order, live = given["order"], len(given["order"])
        slots = len(self.fields) // len(FIELDS)
        listed = np.zeros(2 * slots, np.uint32)
        listed[:live] = order
        self.plane("list_0")[:], self.plane("list_1")[:] = listed[:slots], listed[slots:]
        self.plane("turn")[:] = 0
        self.plane("turn")[order] = np.arange(live)
        occupied = given["state"] != STOPPED
        usable = given["generation"] < GENERATION_MAX
        for half, mask in enumerate((occupied, ~occupied & usable)):
            packed = np.packbits(mask, bitorder="little")
            self._half(half).view(np.uint8)[:] = 0
            self._half(half).view(np.uint8)[: len(packed)] = packed
        self.ledger[:] = 0
        self.ledger[: LEDGER.index("live")] = given["clock"].view(np.int64)
        for name in ("live", "spawned", "end"):
            self.ledger[LEDGER.index(name)] = live
        self.ledger[LEDGER.index("births")] = digest(self.ids()).astype(np.int64)


def words_of(slots: int) -> int:
    """Words of 32 bits for a bit a slot."""
    return -(-slots // 32)


def digest(ids: Longs) -> np.uint64:
    """The mixed ids by exclusive or, as the kernels keep it."""
    word = ids.copy()
    word = (word ^ word >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ word >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    found: np.uint64 = np.bitwise_xor.reduce(word ^ word >> np.uint64(31))
    return found


def adds_up(swarm: HostSwarm, first_slot: int) -> bool:
    """Whether slots, bits, list of births, ids and messages are what the ledger says."""
    live = swarm.number("live")
    unread = sum(int((swarm.plane(name) >> np.uint64(40)).sum()) for name in LONGS[2:])
    births = (swarm.number("births") ^ swarm.number("deaths")) & (1 << 64) - 1
    order = swarm.order()
    return (
        swarm.number("spawned") - swarm.number("destroyed") == live
        and int(swarm.occupied.sum()) == live
        and len(np.unique(order)) == len(order) == live
        and bool(((swarm.plane("state") != STOPPED) == swarm.occupied).all())
        and live + int(swarm.vacant.sum()) + swarm.number("retired") == len(swarm.occupied)
        and births == int(digest(swarm.ids(first_slot)))
        and swarm.number("sent") == swarm.number("read") + unread + swarm.number("dead")
    )
