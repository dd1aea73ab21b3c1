"""The allocation storm of a lane: its books on the host, its memory where the allocator says."""

from __future__ import annotations

from collections import defaultdict
from enum import Enum

import numpy as np

from swarmbench.components.base import Arrays
from swarmbench.components.cuda.memory_source import Allocation, source_of
from swarmbench.components.memory import GRANULE_BYTES, PAGE_BYTES, Memory, taken_bytes
from swarmbench.gpu.device import Argument, Buffer, Device, Stream

_FILE = "memory.cu"
_TOUCHES = {"none": 0, "page": 1, "fill": 2}
_BLOCK, _GUARDS_BLOCK = 256, 64
#: Blocks to a multiprocessor of a full grid.
_BLOCKS_EACH = 8
#: Most allocations alive at once, as the CPU's storm has it.
ALIVE_MAX = 8192
_LIFETIME_MAX = (1 << 16) - 1
_CANARIES_BYTES, _KNOWN_BYTES = 16, 24
_WORD_MASK = (1 << 64) - 1


class Outcome(Enum):
    """How a step of the storm ended."""

    PLACED = 1
    OVER_BOUND = 0
    #: Under the bound, and yet no span was long enough, or the device had too little memory.
    UNPLACED = 2


class Storm:
    """The allocations of a lane, where each of them is and when it is freed.

    `read` and `written` add up what its kernels must move. Each step frees what is due, whose
    canaries a kernel looks at, then allocates and lets a kernel touch it; with nothing to look at
    and nothing to touch it is over without the device.
    """

    def __init__(
        self, device: Device, component: Memory, stream: Stream, *, grid: int | None = None
    ) -> None:
        self.read = self.written = 0
        self._stream = stream
        self._touch = _TOUCHES[component.touch]
        self._bound_bytes = component.pool_bytes
        self._source = source_of(device, component, stream)
        self.pool = self._source.spans
        self._kernels = {
            name: device.kernel(_FILE, f"memory_{name}") for name in ("touch", "holds", "guards")
        }
        self._grid_max = grid or device.multiprocessors * _BLOCKS_EACH
        self._freed = device.pinned(3 * ALIVE_MAX, np.uint64)
        self._freed_mapped = device.mapped(self._freed)
        self._wrong = device.pinned(1, np.uint32)
        self._wrong_mapped = device.mapped(self._wrong)
        self._due: defaultdict[int, list[Allocation]] = defaultdict(list)
        self._now = 0
        self.last: Allocation | None = None
        self.alive = self.alive_bytes = 0
        self.allocated = self.freed = self.over_bound = self.unplaced = self.broken = 0

    @staticmethod
    def device_bytes(component: Memory) -> int:
        """What one takes of the device at most, in bytes: raw allocations while it runs."""
        return 0 if component.allocator == "pinned" else component.pool_bytes // 8 * 8

    @staticmethod
    def host_bytes(component: Memory) -> int:
        """What one takes of the host's memory, in bytes."""
        pool = component.pool_bytes // 8 * 8 if component.allocator == "pinned" else 0
        return pool + 3 * 8 * ALIVE_MAX + 4

    def step(self, nbytes: int, lifetime: int, stamp: int, *, is_guarded: bool) -> Outcome:
        """Frees what is due, then allocates and touches; with `is_guarded`, or where it touches
        anyway, the allocation gets canaries."""
        self._now += 1
        self.last = None
        due = self._due.pop(self._now, None)
        is_busy = due is not None and self._free(due)
        outcome = self._place(nbytes, lifetime, stamp, is_guarded or self._touch > 0)
        if is_busy or (self.last is not None and self.last.is_guarded):
            self._stream.synchronize()
            self.broken += self._take_wrong()
        return outcome

    def is_right(self) -> bool:
        """Whether the last allocation is its own, holds what was written to it between whole
        canaries, and the books agree with the pool."""
        one = self.last
        if one is None:
            return True
        if self.pool.length_of(one.first) != one.granules:
            return False
        if self.pool.used_granules * GRANULE_BYTES != self.alive_bytes:
            return False
        if one.is_guarded:
            arguments = [*self._described(one), self._wrong_mapped]
            self._stream.launch(self._kernels["holds"], self._grid(one), _BLOCK, arguments)
            self._stream.synchronize()
        return self._take_wrong() == 0

    def plant(self, fault: str) -> bool:
        """Damages the last allocation; False where there is nothing that could be damaged so."""
        one = self.last
        if one is None or (fault == "flipped_bit" and not one.is_guarded):
            return False
        if fault == "lost_result":
            return self.pool.free(one.first)
        if fault == "doubled_result":
            return self.pool.allocate(1) is not None
        place = self.place_of(one)
        # Without a touch the canary behind the bytes is all that is there.
        word = place.part(8 + (one.words if self._touch == 0 else 0), 1)
        value = np.zeros(1, np.uint64)
        self._stream.download(value, word)
        self._stream.synchronize()
        value ^= np.uint64(0x400)
        self._stream.upload(word, value)
        self._stream.synchronize()
        return True

    def restart(self) -> None:
        """Frees everything and starts over; what the books had wrong is gone."""
        broken = self.broken
        self.drain()
        self.pool.clear()
        self.broken = broken

    def drain(self) -> None:
        """Frees all that is alive."""
        while self._due:
            self._free(self._due.popitem()[1])
            self._stream.synchronize()
            self.broken += self._take_wrong()
        self.last = None

    def answers(self, sizes: list[int], lifetimes: list[int]) -> Arrays:
        """What `Memory.reference` says of a storm that starts empty."""
        self.restart()
        accepted, live_bytes = [], []
        for step, (size, lifetime) in enumerate(zip(sizes, lifetimes, strict=True)):
            within = min(max(lifetime, 1), _LIFETIME_MAX)
            accepted.append(self.step(size, within, step, is_guarded=True).value)
            assert self.is_right(), f"allocation {step} is damaged"
            live_bytes.append(self.alive_bytes)
        self.drain()
        return {
            "accepted": np.array(accepted, np.uint8),
            "live_bytes": np.array(live_bytes, np.uint64),
        }

    def place_of(self, one: Allocation) -> Buffer:
        """Its words as the device sees them: a line in front, its bytes, a word behind."""
        return self._source.place_of(one)

    def _place(self, nbytes: int, lifetime: int, stamp: int, is_guarded: bool) -> Outcome:
        taken = taken_bytes(nbytes)
        if self.alive_bytes + taken > self._bound_bytes or self.alive == ALIVE_MAX:
            self.over_bound += 1
            return Outcome.OVER_BOUND
        granules = taken // GRANULE_BYTES
        first = self.pool.allocate(granules)
        if first is None:
            self.unplaced += 1
            return Outcome.UNPLACED
        one = Allocation(first, granules, nbytes, stamp & _WORD_MASK, is_guarded)
        self._due[self._now + lifetime].append(one)
        self.last = one
        self.allocated += 1
        self.alive += 1
        self.alive_bytes += taken
        if is_guarded:
            self._stream.launch(
                self._kernels["touch"], self._grid(one), _BLOCK, self._described(one)
            )
            self.written += _CANARIES_BYTES + self._touched_bytes(one)
        return Outcome.PLACED

    def _free(self, due: list[Allocation]) -> bool:
        """Frees; whether a kernel looks at canaries, before anything else is put there."""
        guarded = [one for one in due if one.is_guarded]
        if guarded:
            self._look_at(guarded)
        # The last that came to be due first, as the CPU's storm has it: the same places follow.
        for one in reversed(due):
            if not self.pool.free(one.first):
                self.broken += 1
            self.alive -= 1
            self.alive_bytes -= one.granules * GRANULE_BYTES
        self.freed += len(due)
        return bool(guarded)

    def _look_at(self, guarded: list[Allocation]) -> None:
        """Lets kernels look at the canaries of allocations, a launch for each buffer."""
        first = 0
        for buffer, placed in self._source.parts(guarded):
            count = len(placed)
            for place, (word, one) in enumerate(placed, first):
                self._freed[3 * place : 3 * place + 3] = (word, one.nbytes, one.stamp)
            known = self._freed_mapped.part(3 * first, 3 * count)
            arguments: list[Argument] = [buffer, known, np.uint32(count), self._wrong_mapped]
            grid = -(-count // _GUARDS_BLOCK)
            self._stream.launch(self._kernels["guards"], grid, _GUARDS_BLOCK, arguments)
            first += count
        self.read += first * (_KNOWN_BYTES + _CANARIES_BYTES)

    def _take_wrong(self) -> int:
        wrong = int(self._wrong[0])
        self._wrong[0] = 0
        return wrong

    def _described(self, one: Allocation) -> list[Argument]:
        numbers = (np.uint64(one.nbytes), np.uint64(one.stamp), np.uint32(self._touch))
        return [self.place_of(one), *numbers]

    def _touched_bytes(self, one: Allocation) -> int:
        pages = -(-one.words * 8 // PAGE_BYTES)
        return {0: 0, 1: 8 * pages, 2: 8 * one.words}[self._touch]

    def _grid(self, one: Allocation) -> int:
        threads = {0: 1, 1: one.words // (PAGE_BYTES // 8) + 1, 2: one.words // 2 + 1}
        return min(self._grid_max, -(-threads[self._touch] // _BLOCK))
