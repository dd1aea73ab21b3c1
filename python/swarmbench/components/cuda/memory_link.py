"""Blocks between the host and a device: chunks on several streams, summed at both ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from swarmbench import _native
from swarmbench.components.chunks import PIECE_BYTES
from swarmbench.components.memory import PAGE_BYTES, Memory
from swarmbench.gpu.device import Argument, Array, Buffer, Device, Stream

_FILE = "memory.cu"
#: Threads that sum a piece, those of a block, and the ones that write content.
_TEAM, BLOCK, _GENERATE_BLOCK = 16, 64, 256
#: Words of a piece that are summed side by side, and bytes of a stripe of one for each.
_LANES, _STRIPE_BYTES = 64, 256
#: Blocks to a multiprocessor of a full grid.
_BLOCKS_EACH = 16
#: What the kernels read and write at once.
WORD_BYTES = 16
#: Sums that are under way at a time: of what leaves and of what arrives.
_SLOTS = 2


def whole(nbytes: int, unit: int) -> int:
    """`nbytes` rounded up to whole units."""
    return -(-nbytes // unit) * unit


@dataclass(frozen=True, slots=True)
class HostBytes:
    """Bytes of the host, as it and, where they are page-locked, as the device sees them."""

    array: Array
    mapped: Buffer | None

    @classmethod
    def of(cls, device: Device, component: Memory, nbytes: int) -> Self:
        """So many bytes of the memory that a component asks for, touched."""
        if component.host_memory == "pageable":
            return cls(device.pageable(nbytes, np.uint8), None)
        array = device.pinned(nbytes, np.uint8)
        return cls(array, device.mapped(array))

    def part(self, first: int, nbytes: int) -> HostBytes:
        """Some of them."""
        mapped = None if self.mapped is None else self.mapped.part(first, nbytes)
        return HostBytes(self.array[first : first + nbytes], mapped)


class Link:
    """What a lane moves blocks with; `read`, `written` and `multiply_adds` add up what its kernels
    must move and work out.

    A chunk goes by the copy engine into a staging buffer and from there by a kernel that sums it to
    its place, or the other way round; chunks of different streams overlap. Whatever is given has
    room up to the next 16 bytes, and ends of a journey stay untouched until it has ended. What
    arrives in pinned memory the device sums, what arrives in pageable memory the processor.
    """

    def __init__(
        self, device: Device, component: Memory, *, grid: int | None = None, block: int = BLOCK
    ) -> None:
        self.read = self.written = self.multiply_adds = 0
        self._streams = [device.stream() for _ in range(component.streams)]
        self._chunk_bytes = staged_bytes(component)
        self._staging = [device.empty(self._chunk_bytes, np.uint8) for _ in self._streams]
        self._pieces_max = _pieces(max(component.block_sizes()))
        self._sums = device.empty(_SLOTS * self._pieces_max, np.uint64)
        self._done = device.empty(_SLOTS, np.uint32)
        self._found = device.pinned(_SLOTS, np.uint64)
        self._found_mapped = device.mapped(self._found)
        self._copy, self._sum, self._generate = (
            device.kernel(_FILE, f"memory_{name}") for name in ("copy", "sum", "generate")
        )
        self._block = block
        self._grid_max = grid or device.multiprocessors * _BLOCKS_EACH
        self._streams[0].fill(self._done, 0)
        self._synchronize()

    @staticmethod
    def device_bytes(component: Memory) -> int:
        """What one takes of the device, in bytes."""
        sums = _SLOTS * (8 * _pieces(max(component.block_sizes())) + 4)
        return component.streams * staged_bytes(component) + sums

    @staticmethod
    def host_bytes(component: Memory) -> int:
        """What one takes of the host's memory, in bytes."""
        return _SLOTS * 8

    def up(self, target: Buffer, source: HostBytes, nbytes: int) -> int:
        """Moves `nbytes` to the device; the checksum of what arrived."""
        pieces = _pieces(nbytes)
        for stream, staging, first, length in self._chunks(nbytes):
            staged = staging.part(0, length)
            stream.upload(staged, source.array[first : first + length])
            ends: list[Argument] = [staged, target.part(first, length)]
            self._launch_copy(stream, ends, first, min(length, nbytes - first), pieces)
        self._synchronize()
        return int(self._found[0])

    def down(self, target: HostBytes, source: Buffer, nbytes: int) -> tuple[int, int]:
        """Moves `nbytes` to the host; the checksums of what left and of what arrived, which the
        device reads back while the next chunk is on its way if it can see it."""
        pieces = _pieces(nbytes)
        for stream, staging, first, length in self._chunks(nbytes):
            staged, counted = staging.part(0, length), min(length, nbytes - first)
            self._launch_copy(stream, [source.part(first, length), staged], first, counted, pieces)
            arrived = target.part(first, length)
            stream.download(arrived.array, staged)
            if arrived.mapped is not None:
                self._launch_sum(stream, arrived.mapped, first, counted, pieces, 1)
        self._synchronize()
        left = int(self._found[0])
        if target.mapped is None:
            return left, _native.block_checksum(target.array[:nbytes])
        return left, int(self._found[1])

    def sum(self, where: Buffer, nbytes: int) -> int:
        """The checksum of `nbytes` where they lie, as the device sees them."""
        part = where.part(0, whole(nbytes, WORD_BYTES))
        self._launch_sum(self._streams[0], part, 0, nbytes, _pieces(nbytes), 0)
        self._synchronize()
        return int(self._found[0])

    def sum_host(self, where: HostBytes, nbytes: int) -> int:
        """The checksum of `nbytes` of the host where they lie."""
        if where.mapped is None:
            return _native.block_checksum(where.array[:nbytes])
        return self.sum(where.mapped, nbytes)

    def generate(self, target: Buffer, index: int, key: tuple[int, int], nbytes: int) -> None:
        """Makes the content of block `index` on the device."""
        self._launch_generate(target.part(0, whole(nbytes, WORD_BYTES)), 0, index, key)
        self._synchronize()

    def generate_down(
        self, target: HostBytes, index: int, key: tuple[int, int], nbytes: int
    ) -> None:
        """Makes the content of block `index` and brings it to the host."""
        for _, staging, first, length in self._chunks(nbytes):
            staged = staging.part(0, length)
            self._launch_generate(staged, first // WORD_BYTES, index, key)
            self._synchronize()
            self._streams[0].download(target.array[first : first + length], staged)
            self._synchronize()

    def change(self, where: Buffer, place: int, bits: int) -> None:
        """Flips bits of one byte on the device."""
        byte = np.zeros(1, np.uint8)
        self._streams[0].download(byte, where.part(place, 1))
        self._synchronize()
        byte ^= np.uint8(bits)
        self._streams[0].upload(where.part(place, 1), byte)
        self._synchronize()

    def _chunks(self, nbytes: int) -> list[tuple[Stream, Buffer, int, int]]:
        """(stream, its staging buffer, first byte, bytes up to the next whole word) of each."""
        firsts = range(0, nbytes, self._chunk_bytes)
        lengths = [whole(min(self._chunk_bytes, nbytes - first), WORD_BYTES) for first in firsts]
        count = len(self._streams)
        return [
            (self._streams[turn % count], self._staging[turn % count], first, length)
            for turn, (first, length) in enumerate(zip(firsts, lengths, strict=True))
        ]

    def _launch_copy(
        self, stream: Stream, ends: list[Argument], first: int, nbytes: int, pieces: int
    ) -> None:
        arguments = [*ends, *self._gathered(first, nbytes, pieces, 0)]
        stream.launch(self._copy, self._grid(nbytes), self._block, arguments)
        self.written += whole(nbytes, WORD_BYTES)

    def _launch_sum(
        self, stream: Stream, where: Buffer, first: int, nbytes: int, pieces: int, slot: int
    ) -> None:
        arguments = [where, *self._gathered(first, nbytes, pieces, slot)]
        stream.launch(self._sum, self._grid(nbytes), self._block, arguments)

    def _gathered(self, first: int, nbytes: int, pieces: int, slot: int) -> list[Argument]:
        """Which pieces a launch sums, and where their sums go; counts what it has to do: a product
        for each word of whole stripes, and every thread of a team folds a piece's lanes."""
        here = _pieces(nbytes)
        self.multiply_adds += whole(nbytes, _STRIPE_BYTES) // 4 + here * _TEAM * _LANES
        self.read += whole(nbytes, WORD_BYTES)
        self.written += 8 * here
        first_piece = first // PIECE_BYTES
        if first_piece + here == pieces:
            self.read += 8 * pieces
            self.written += 8
            self.multiply_adds += (pieces - 1) * _TEAM
        return [
            np.uint64(nbytes),
            np.uint32(first_piece),
            np.uint32(pieces),
            self._sums.part(slot * self._pieces_max, self._pieces_max),
            self._done.part(slot, 1),
            self._found_mapped.part(slot, 1),
        ]

    def _launch_generate(
        self, target: Buffer, first: int, index: int, key: tuple[int, int]
    ) -> None:
        words = target.nbytes // WORD_BYTES
        numbers = (words, first, index, *key)
        grid = min(self._grid_max, -(-words // _GENERATE_BLOCK))
        arguments: list[Argument] = [target, *(np.uint32(number) for number in numbers)]
        self._streams[0].launch(self._generate, grid, _GENERATE_BLOCK, arguments)

    def _grid(self, nbytes: int) -> int:
        return min(self._grid_max, -(-_pieces(nbytes) * _TEAM // self._block))

    def _synchronize(self) -> None:
        for stream in self._streams:
            stream.synchronize()


def staged_bytes(component: Memory) -> int:
    """A chunk on its way: whole pieces, and no more than the largest block has."""
    largest = whole(max(component.block_sizes()), PAGE_BYTES)
    return whole(min(component.chunk_bytes, largest), PIECE_BYTES)


def _pieces(nbytes: int) -> int:
    return -(-nbytes // PIECE_BYTES)
