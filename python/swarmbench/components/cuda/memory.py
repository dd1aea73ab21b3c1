"""Memory on a device: blocks in three tiers, and a storm of allocations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np

from swarmbench.components.base import Arrays, Component
from swarmbench.components.cuda.base import Cost, CudaComponent, CudaOperation, Done
from swarmbench.components.cuda.memory_link import Link, staged_bytes
from swarmbench.components.cuda.memory_storm import Outcome, Storm
from swarmbench.components.cuda.memory_tiers import Block, Hop, Target, Tier, Tiers
from swarmbench.components.memory import DOMAIN_BLOCK, Memory
from swarmbench.components.philox import philox, stream_key

#: Operations whose draws are made in one go.
_STRETCH = 256
_KEY_MAX = (1 << 64) - 1
#: Where a migration in one direction begins and ends.
_ENDS = {"any": None, "up": (Tier.CPU, Tier.GPU), "down": (Tier.GPU, Tier.CPU)}


class CudaMemory(CudaComponent):
    """What the lanes share: the native component, which has the disk and the write budget.

    Each lane has blocks of its own, the same ones.
    """

    name: ClassVar[str] = "memory"

    def operation(self) -> CudaOperation:
        return Mover(self)

    @classmethod
    def device_bytes(cls, component: Component, lanes: int) -> int:
        memory = cast(Memory, component)
        return lanes * sum(kind.device_bytes(memory) for kind in (Link, Tiers, Storm))

    @classmethod
    def host_bytes(cls, component: Component, lanes: int) -> int:
        memory = cast(Memory, component)
        return lanes * sum(kind.host_bytes(memory) for kind in (Link, Tiers, Storm))

    @classmethod
    def hinders_waiting(cls, component: Component) -> bool:
        memory = cast(Memory, component)
        return memory.allocator == "raw" or memory.host_memory == "pageable"

    def describe(self) -> dict[str, Any]:
        memory = cast(Memory, self.component)
        return {
            "tiers": [tier.name.lower() for tier in Tier],
            "tier_bytes": memory.tier_bytes(),
            "streams": memory.streams,
            "staged_chunk_bytes": staged_bytes(memory),
            "host_memory": memory.host_memory,
            "way": memory.way,
            "allocator": memory.allocator,
        }


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What keys from `first` on make of a migration: its block, and the farther tier or not."""

    first: int
    blocks: list[int]
    are_farther: list[bool]


@dataclass(frozen=True, slots=True)
class _Moved:
    """A block whose journey was not verified yet, and where it should be."""

    block: Block
    tier: Tier


class Mover(CudaOperation):
    """One lane: it moves its blocks between the tiers and keeps a storm of allocations.

    `grid` bounds the kernels' grids and `block` shapes those that sum.
    """

    def __init__(
        self, shared: CudaMemory, *, grid: int | None = None, block: int | None = None
    ) -> None:
        super().__init__(shared.device)
        self._component = cast(Memory, shared.component)
        self._native = shared.native
        self._block_key = stream_key(shared.seed, DOMAIN_BLOCK)
        shape = {} if block is None else {"block": block}
        self.link = Link(self.device, self._component, grid=grid, **shape)
        self.tiers = Tiers(self.device, self._component, shared.native, shared.seed, self.link)
        self.storm = Storm(self.device, self._component, self.stream, grid=grid)
        self._drawn = _Drawn(0, [], [])
        self._asked_first, self._asked = 0, list[tuple[int, int]]()
        self._unverified: _Moved | Storm | None = None
        self._violations = 0

    def run(self, op: str, key: int) -> Done:
        self._unverified = None
        is_checked = key % self._component.check_every == 0
        if op == "allocate":
            self.storm.read = self.storm.written = 0
            return self._allocate(key, is_checked)
        self.link.read = self.link.written = self.link.multiply_adds = 0
        return self._journey(op, key, is_checked)

    def verify(self) -> tuple[int, int]:
        """A block where it lies, with the tiers that have to add up; or an allocation, its canaries
        and the books. What is damaged is made right again."""
        unverified, self._unverified = self._unverified, None
        is_right = True
        if isinstance(unverified, _Moved):
            is_right = self.tiers.is_right(unverified.block, unverified.tier)
            if not is_right:
                self.tiers.repair(unverified.block)
        elif unverified is not None:
            is_right = unverified.is_right()
            if not is_right:
                unverified.restart()
        violations, self._violations = self._violations + int(not is_right), 0
        # What a canary or a hop's checksum has shown counts, whichever operation met it.
        broken, self.storm.broken = self.storm.broken, 0
        violations += broken
        return max(int(unverified is not None), violations), violations

    def plant(self, fault: str) -> bool:
        unverified = self._unverified
        if isinstance(unverified, _Moved):
            return self.tiers.plant(unverified.block, fault)
        return unverified is not None and unverified.plant(fault)

    def evaluate(self, op: str, inputs: Arrays) -> Arrays:
        """As `reference`; `round_trip` goes by the file as well. Every end sums the same."""
        self._unverified = None
        self.tiers.come_home()
        if op == "allocate":
            return self.storm.answers(inputs["sizes"].tolist(), inputs["lifetimes"].tolist())
        arrived, sums = self.tiers.there_and_back(inputs["block"], op == "round_trip")
        assert len(set(sums)) == 1, f"the ends of a journey sum differently: {sums}"
        return {"block": arrived.array.copy(), "checksum": np.array(sums[:1], np.uint64)}

    def cost(self, op: str) -> Cost:
        """Kernels of a journey through the file alone move nothing."""
        if op == "allocate":
            return Cost(self.storm.read, self.storm.written)
        link = self.link
        return Cost(link.read, link.written, multiply_adds=link.multiply_adds)

    def _allocate(self, key: int, is_checked: bool) -> Done:
        nbytes, lifetime = self._allocation(key)
        outcome = self.storm.step(nbytes, lifetime, key, is_guarded=is_checked)
        if outcome is not Outcome.PLACED:
            return Done(0, "rejected")
        if is_checked:
            self._unverified = self.storm
        return Done(nbytes)

    def _journey(self, op: str, key: int, is_checked: bool) -> Done:
        self.tiers.come_home()
        first, is_farther = self._choice(key)
        ends = _ENDS[self._component.way] if op == "migrate" else None
        if ends is None:
            found = self.tiers.choose(first, is_farther)
        else:
            found = self.tiers.choose_within(first, *ends)
        if found is None:
            return Done(0, "rejected")
        block, target = found
        home = Target(block.tier, block.room)
        if op == "round_trip":
            ended, hops = self._round_trip(block, target, home), 2
        elif ends is not None:
            ended, hops = self.tiers.lend(block, target), 1
        else:
            ended, hops = self.tiers.move(block, target), 1
        if ended is not Hop.MOVED:
            if ended is Hop.CORRUPT:
                self._violations += 1
                self.tiers.repair(block)
            return Done(0, "error")
        if is_checked:
            self._unverified = _Moved(block, home.tier if op == "round_trip" else target.tier)
        return Done(hops * block.nbytes)

    def _round_trip(self, block: Block, target: Target, home: Target) -> Hop:
        """There and back into the room that is kept meanwhile."""
        ended = self.tiers.hop(block, target)
        if ended is not Hop.MOVED:
            return ended
        if home.tier == Tier.NVME and not self.tiers.can_write(block):
            self.tiers.put_back(block, home)
            return ended
        return self.tiers.move(block, home)

    def _choice(self, key: int) -> tuple[int, bool]:
        """The block that a key draws, and whether it goes to the farther tier."""
        place = key - self._drawn.first
        if not 0 <= place < len(self._drawn.blocks):
            self._drawn, place = self._draw(key), 0
        return self._drawn.blocks[place], self._drawn.are_farther[place]

    def _draw(self, key: int) -> _Drawn:
        count = min(_STRETCH, _KEY_MAX - key + 1)
        keys = np.uint64(key) + np.arange(count, dtype=np.uint64)
        counters = np.zeros((len(keys), 4), np.uint32)
        counters[:, 2] = keys & np.uint64(0xFFFFFFFF)
        counters[:, 3] = keys >> np.uint64(32)
        words = philox(counters, self._block_key)
        blocks = len(self.tiers.blocks)
        draws = (words[:, 0] | words[:, 1].astype(np.uint64) << np.uint64(32)).tolist()
        return _Drawn(key, [draw * blocks >> 64 for draw in draws], (words[:, 2] & 1 == 1).tolist())

    def _allocation(self, key: int) -> tuple[int, int]:
        """Size and lifetime that a key draws, from the native component's draws."""
        place = key - self._asked_first
        if not 0 <= place < len(self._asked):
            index = np.array([self._native.ops().index("allocate")], np.uint8)
            inputs: Arrays = {"op": index, "key": np.array([key], np.uint64)}
            drawn = self._native.evaluate("source", inputs)
            self._asked = list(
                zip(drawn["sizes"].tolist(), drawn["lifetimes"].tolist(), strict=True)
            )
            self._asked_first, place = key, 0
        return self._asked[place]
