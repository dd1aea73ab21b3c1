"""Blocks and the three tiers they lie in: the device, memory of the host, and a file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

import numpy as np

from swarmbench import _native
from swarmbench.components.cuda.memory_link import WORD_BYTES, HostBytes, Link, whole
from swarmbench.components.memory import DOMAIN_CONTENT, PAGE_BYTES, Memory
from swarmbench.components.philox import stream_key
from swarmbench.gpu.device import Array, Buffer, Device

_LOW_WORD = 0xFFFFFFFF


class Tier(IntEnum):
    """Where a block can be."""

    GPU = 0
    CPU = 1
    NVME = 2


class Hop(Enum):
    """How a hop ended; but for `MOVED` the block is where it was."""

    MOVED = "moved"
    #: The disk failed.
    FAILED = "failed"
    #: The bytes were not the block's.
    CORRUPT = "corrupt"


@dataclass(slots=True)
class Block:
    """One block; its bytes never change, so that its checksum is known all the time."""

    index: int
    nbytes: int
    #: Of its extent in the file.
    offset: int
    checksum: int = 0
    tier: Tier = Tier.NVME
    #: First page of its bytes in its tier; None in the file.
    room: int | None = None
    #: How often it was written, which gives the mask of its extent.
    generation: int = 0

    @property
    def pages(self) -> int:
        return -(-self.nbytes // PAGE_BYTES)

    def mask(self, generation: int) -> int:
        """What the words of its extent are under: another for each generation."""
        return ((generation + 1) * 0x9E3779B1 ^ self.index * 0x85EBCA6B) & _LOW_WORD


@dataclass(frozen=True, slots=True)
class Target:
    """Where a block is to go: a tier and the room that was taken for it there."""

    tier: Tier
    room: int | None


class Tiers:
    """All blocks of a lane, in exactly one tier each.

    The tiers `GPU` and `CPU` hold half of the blocks and the largest. Between the file and the
    device a block passes through memory of the host. Raises `ValueError` where the write
    budget does not allow the blocks that begin in the file, `OSError` where the disk fails.
    """

    def __init__(
        self, device: Device, component: Memory, native: _native.Component, seed: int, link: Link
    ) -> None:
        self.link, self._key = link, stream_key(seed, DOMAIN_CONTENT)
        offset, self.blocks = 0, list[Block]()
        for index, nbytes in enumerate(component.block_sizes()):
            self.blocks.append(Block(index, nbytes, offset))
            offset += whole(nbytes, PAGE_BYTES)
        self.tier_bytes = component.tier_bytes()
        self.file = native.block_file()
        self._beyond = offset
        self._device_room = device.empty(self.tier_bytes, np.uint8)
        self._host_room = HostBytes.of(device, component, self.tier_bytes)
        self.transit = HostBytes.of(device, component, _transit_bytes(component))
        self._pools = [_native.SpanPool(self.tier_bytes // PAGE_BYTES) for _ in range(2)]
        #: Bytes and blocks of each tier, by the commits alone.
        self.bytes_held, self.blocks_held = [0, 0, 0], [0, 0, 0]
        self._lent: tuple[Block, Target] | None = None
        for block in self.blocks:
            self._settle(block, Tier(block.index % 3))
        self.recount()

    @staticmethod
    def device_bytes(component: Memory) -> int:
        """What they take of the device, in bytes."""
        return component.tier_bytes()

    @staticmethod
    def host_bytes(component: Memory) -> int:
        """What they take of the host's memory, in bytes."""
        return component.tier_bytes() + _transit_bytes(component)

    def choose(self, first: int, is_farther: bool) -> tuple[Block, Target] | None:
        """The block `first`, or the next that can move, and where to: of the two other tiers the
        one farther from the device, or the nearer one, where there is room for it."""
        count = len(self.blocks)
        for probe in range(count):
            block = self.blocks[(first + probe) % count]
            others = [tier for tier in Tier if tier != block.tier]
            for tier in reversed(others) if is_farther else others:
                target = self.taken(block, tier)
                if target is not None:
                    return block, target
        return None

    def choose_within(self, first: int, begin: Tier, end: Tier) -> tuple[Block, Target] | None:
        """The block `first`, or the next that is in one tier and finds room in another."""
        count = len(self.blocks)
        for probe in range(count):
            block = self.blocks[(first + probe) % count]
            if block.tier == begin and (target := self.taken(block, end)) is not None:
                return block, target
        return None

    def taken(self, block: Block, tier: Tier) -> Target | None:
        """Where a block can go in a tier; takes the room. None where there is none for it."""
        if tier == Tier.NVME:
            return Target(tier, None) if self.can_write(block) else None
        room = self._pools[tier].allocate(block.pages)
        return None if room is None else Target(tier, room)

    def hop(self, block: Block, target: Target) -> Hop:
        """Moves a block; its room is the caller's to give back where it `MOVED`, and the target's
        is given back where it did not."""
        try:
            sums = self._carried(block, target)
        except OSError:
            ended = Hop.FAILED
        else:
            is_right = all(each == block.checksum for each in sums)
            ended = Hop.MOVED if is_right else Hop.CORRUPT
        if ended is Hop.MOVED:
            self._commit(block, target)
        else:
            self.vacate(target)
        return ended

    def move(self, block: Block, target: Target) -> Hop:
        """Moves a block and gives back the room that it had."""
        left = Target(block.tier, block.room)
        ended = self.hop(block, target)
        if ended is Hop.MOVED:
            self.vacate(left)
        return ended

    def lend(self, block: Block, target: Target) -> Hop:
        """Moves a block that `come_home` brings back without moving a byte: its room is kept."""
        home = Target(block.tier, block.room)
        ended = self.hop(block, target)
        if ended is Hop.MOVED:
            self._lent = block, home
        return ended

    def come_home(self) -> None:
        """Lets a block that was lent be where its bytes have stayed."""
        if self._lent is None:
            return
        (block, home), self._lent = self._lent, None
        self.put_back(block, home)

    def put_back(self, block: Block, home: Target) -> None:
        """Gives up the room of a block that its home still has."""
        self.vacate(Target(block.tier, block.room))
        self._commit(block, home)

    def vacate(self, place: Target) -> None:
        """Gives a room back."""
        if place.room is not None:
            self._pools[place.tier].free(place.room)

    def can_write(self, block: Block) -> bool:
        """Whether the write budget allows it."""
        return self.file.write_budget_left_bytes >= block.pages * PAGE_BYTES

    def is_right(self, block: Block, tier: Tier) -> bool:
        """Whether a block is in `tier` and nowhere else, bit for bit, and the tiers add up."""
        if block.tier != tier or not self.adds_up():
            return False
        try:
            return self._found(block) == block.checksum
        except OSError:
            return False

    def adds_up(self) -> bool:
        """Whether what the tiers hold is all blocks, each in a room of its own."""
        rooms_pages = [0, 0]
        if self._lent is not None:
            rooms_pages[self._lent[1].tier] += self._lent[0].pages
        for block in self.blocks:
            if (block.room is None) != (block.tier == Tier.NVME):
                return False
            if block.room is not None:
                if self._pools[block.tier].length_of(block.room) != block.pages:
                    return False
                rooms_pages[block.tier] += block.pages
        used = [pool.used_granules for pool in self._pools]
        return used == rooms_pages and (self.bytes_held, self.blocks_held) == self._counted()

    def recount(self) -> None:
        """Counts the tiers anew."""
        self.bytes_held, self.blocks_held = self._counted()

    def repair(self, block: Block) -> None:
        """Makes a block what it was; one without a room goes to the file, as far as the write
        budget allows it."""
        if block.room is None:
            block.tier = Tier.NVME
            self._generate_host(block, self.transit)
            self._written(block, self.transit)
        elif block.tier == Tier.GPU:
            self.link.generate(self._device(block), block.index, self._key, block.nbytes)
        else:
            self._generate_host(block, self._host(block))
        self.recount()

    def plant(self, block: Block, fault: str) -> bool:
        """Damages a block; False where the write budget does not let it."""
        if fault == "doubled_result":
            other = Tier((block.tier + 1) % 3)
            self.bytes_held[other] += block.nbytes
            self.blocks_held[other] += 1
            return True
        if block.tier == Tier.NVME:
            return self._plant_in_file(block, fault)
        if fault == "lost_result":
            self.vacate(Target(block.tier, block.room))
            block.room = None
        elif block.tier == Tier.GPU:
            self.link.change(self._device(block), block.nbytes // 2, 0x10)
        else:
            self._host(block).array[block.nbytes // 2] ^= 0x10
        return True

    def there_and_back(self, given: Array, by_file: bool) -> tuple[HostBytes, list[int]]:
        """Takes bytes to the device and back, then to the file and back: what arrived and each
        checksum on the way."""
        nbytes = len(given)
        if not 1 <= nbytes <= len(self.transit.array):
            raise ValueError(f"block: {nbytes} is not within 1 to {len(self.transit.array)} bytes")
        guest = Block(len(self.blocks), nbytes, self._beyond)
        room = self._made_room(guest)
        # Whoever left for it went this way too.
        place = self.transit.part(0, whole(nbytes, WORD_BYTES))
        place.array[:nbytes] = given
        sums = [self.link.up(room, place, nbytes)]
        place.array[:] = 0
        sums += self.link.down(place, room, nbytes)
        self.vacate(Target(Tier.GPU, guest.room))
        if by_file:
            sums += self._written(guest, place)
            place.array[:] = 0
            sums.append(self.file.read(place.array[:nbytes], guest.offset, guest.mask(1)))
        return self.transit.part(0, nbytes), sums

    def _made_room(self, guest: Block) -> Buffer:
        """Room on the device for a block that is none of these; others leave where it is full."""
        target = self.taken(guest, Tier.GPU)
        for block in self.blocks:
            if target is not None:
                break
            if block.tier == Tier.GPU and (away := self.taken(block, Tier.NVME)) is not None:
                self.move(block, away)
                target = self.taken(guest, Tier.GPU)
        if target is None:
            raise ValueError("block: the write budget lets no other leave the device for it")
        guest.tier, guest.room = target.tier, target.room
        return self._device(guest)

    def _settle(self, block: Block, tier: Tier) -> None:
        """Lets a block begin in a tier, by its content alone."""
        target = None if tier == Tier.NVME else self.taken(block, tier)
        if target is None:
            self._generate_host(block, self.transit)
            sums = self._written(block, self.transit)
            if not sums:
                raise ValueError("write_budget_bytes: is less than what its blocks take")
            block.checksum = sums[0]
            return
        block.tier, block.room = target.tier, target.room
        if tier == Tier.GPU:
            self.link.generate(self._device(block), block.index, self._key, block.nbytes)
        else:
            self._generate_host(block, self._host(block))
        block.checksum = self._found(block)

    def _carried(self, block: Block, target: Target) -> list[int]:
        """Every checksum of a hop's bytes; raises `OSError` where the disk fails."""
        arriving = Block(block.index, block.nbytes, block.offset, room=target.room)
        nbytes, link = block.nbytes, self.link
        if block.tier == Tier.NVME:
            host = self._host(arriving) if target.tier == Tier.CPU else self.transit
            sums = [self.file.read(host.array[:nbytes], block.offset, self._mask(block))]
            if target.tier == Tier.GPU:
                sums.append(link.up(self._device(arriving), host, nbytes))
            return sums
        if block.tier == Tier.CPU:
            if target.tier == Tier.GPU:
                return [link.up(self._device(arriving), self._host(block), nbytes)]
            return self._written_or_refused(block, self._host(block))
        host = self._host(arriving) if target.tier == Tier.CPU else self.transit
        sums = list(link.down(host, self._device(block), nbytes))
        return sums if target.tier == Tier.CPU else sums + self._written_or_refused(block, host)

    def _written_or_refused(self, block: Block, host: HostBytes) -> list[int]:
        sums = self._written(block, host)
        if not sums:
            raise OSError("the write budget is spent")
        return sums

    def _written(self, block: Block, host: HostBytes) -> list[int]:
        """Writes a block to its extent: the checksum of what left, none where the write budget
        does not allow it."""
        block.generation += 1
        written = host.array[: block.nbytes]
        sum_written = self.file.write(written, block.offset, self._mask(block))
        return [] if sum_written is None else [sum_written]

    def _mask(self, block: Block) -> int:
        return block.mask(block.generation)

    def _commit(self, block: Block, target: Target) -> None:
        for tier, sign in ((block.tier, -1), (target.tier, 1)):
            self.bytes_held[tier] += sign * block.nbytes
            self.blocks_held[tier] += sign
        block.tier, block.room = target.tier, target.room

    def _counted(self) -> tuple[list[int], list[int]]:
        bytes_held, blocks_held = [0, 0, 0], [0, 0, 0]
        for block in self.blocks:
            bytes_held[block.tier] += block.nbytes
            blocks_held[block.tier] += 1
        return bytes_held, blocks_held

    def _found(self, block: Block) -> int:
        """The checksum of a block where it lies."""
        if block.tier == Tier.NVME:
            room = self.transit.array[: block.nbytes]
            return self.file.read(room, block.offset, self._mask(block))
        if block.tier == Tier.GPU:
            return self.link.sum(self._device(block), block.nbytes)
        return self.link.sum_host(self._host(block), block.nbytes)

    def _device(self, block: Block) -> Buffer:
        assert block.room is not None, "it has a room on the device"
        return self._device_room.part(block.room * PAGE_BYTES, block.pages * PAGE_BYTES)

    def _host(self, block: Block) -> HostBytes:
        assert block.room is not None, "it has a room on the host"
        return self._host_room.part(block.room * PAGE_BYTES, block.pages * PAGE_BYTES)

    def _generate_host(self, block: Block, host: HostBytes) -> None:
        self.link.generate_down(host, block.index, self._key, block.nbytes)

    def _plant_in_file(self, block: Block, fault: str) -> bool:
        """A bit of the extent, or the extent as if its last write had never happened."""
        room, mask = self.transit.array[: block.nbytes], self._mask(block)
        self.file.read(room, block.offset, mask)
        if fault == "flipped_bit":
            room[0] ^= 0x10
        else:
            mask = block.mask(block.generation - 1)
        return self.file.write(room, block.offset, mask) is not None


def _transit_bytes(component: Memory) -> int:
    return whole(max(component.block_sizes()), PAGE_BYTES)
