"""Where a storm's allocations come from: a pool in one buffer, or the device's driver each time."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from swarmbench import _native
from swarmbench.components.memory import GRANULE_BYTES, Memory
from swarmbench.gpu.device import Buffer, Device, DeviceLostError, DeviceMemoryError, Stream

_GRANULE_WORDS = GRANULE_BYTES // 8


@dataclass(slots=True)
class Allocation:
    """One that is alive; made in every step, which a frozen one would slow down."""

    #: What its spans call it, and how many granules it has.
    first: int
    granules: int
    nbytes: int
    stamp: int
    #: It has canaries.
    is_guarded: bool

    @property
    def words(self) -> int:
        return -(-self.nbytes // 8)


#: The first word of an allocation in its buffer, and the allocation.
Placed = tuple[int, Allocation]


class Spans(Protocol):
    """What is allocated, in whole granules: `_native.SpanPool`, or one that asks the driver."""

    def allocate(self, granules: int, /) -> int | None: ...
    def free(self, first: int, /) -> bool: ...
    def length_of(self, first: int, /) -> int | None: ...
    def clear(self) -> None: ...
    @property
    def used_granules(self) -> int: ...


class Source(ABC):
    """The memory of a storm and who gives it out."""

    spans: Spans

    @abstractmethod
    def place_of(self, one: Allocation) -> Buffer:
        """The words of an allocation (u64) as the device sees them."""

    @abstractmethod
    def parts(self, ones: Sequence[Allocation]) -> Iterator[tuple[Buffer, list[Placed]]]:
        """The buffers that allocations lie in, and which of them where in each; what was given
        back before lies in none."""


class Pool(Source):
    """Spans of one buffer: of the device, or of the host and pinned."""

    def __init__(self, device: Device, component: Memory) -> None:
        words = component.pool_bytes // 8
        self.spans = _native.SpanPool(component.pool_bytes // GRANULE_BYTES)
        self._buffer = (
            device.mapped(device.pinned(words, np.uint64))
            if component.allocator == "pinned"
            else device.empty(words, np.uint64)
        )

    def place_of(self, one: Allocation) -> Buffer:
        return self._buffer.part(one.first * _GRANULE_WORDS, one.granules * _GRANULE_WORDS)

    def parts(self, ones: Sequence[Allocation]) -> Iterator[tuple[Buffer, list[Placed]]]:
        yield self._buffer, [(one.first * _GRANULE_WORDS, one) for one in ones]


class Raw(Source):
    """Every allocation is one of the driver's: the control."""

    def __init__(self, device: Device, stream: Stream) -> None:
        self.spans = self._driver = DriverSpans(device, stream)

    def place_of(self, one: Allocation) -> Buffer:
        return self._driver.buffers[one.first]

    def parts(self, ones: Sequence[Allocation]) -> Iterator[tuple[Buffer, list[Placed]]]:
        for one in ones:
            if one.first in self._driver.buffers:
                yield self._driver.buffers[one.first], [(0, one)]


class DriverSpans:
    """Raw allocations of a device under numbers of their own, which are never used again.

    None is given back before the stream has done what was enqueued.
    """

    def __init__(self, device: Device, stream: Stream) -> None:
        self._device, self._stream = device, stream
        self._next = 0
        self.buffers: dict[int, Buffer] = {}
        self.used_granules = 0
        # At the process's end the driver takes everything back by itself.
        weakref.finalize(self, _give_back, device, stream, self.buffers).atexit = False

    def allocate(self, granules: int, /) -> int | None:
        """The number of `granules` in a row; None where the device has none."""
        try:
            buffer = self._device.raw_allocation(granules * _GRANULE_WORDS, np.uint64)
        except DeviceMemoryError:
            return None
        self._next += 1
        self.buffers[self._next] = buffer
        self.used_granules += granules
        return self._next

    def free(self, first: int, /) -> bool:
        """Gives one back; whether there was one under this number."""
        buffer = self.buffers.pop(first, None)
        if buffer is None:
            return False
        self._stream.synchronize()
        self._device.raw_free(buffer)
        self.used_granules -= buffer.nbytes // GRANULE_BYTES
        return True

    def length_of(self, first: int, /) -> int | None:
        """Its granules; None where there is none under this number."""
        buffer = self.buffers.get(first)
        return None if buffer is None else buffer.nbytes // GRANULE_BYTES

    def clear(self) -> None:
        """Gives everything back."""
        for first in list(self.buffers):
            self.free(first)


def _give_back(device: Device, stream: Stream, buffers: dict[int, Buffer]) -> None:
    """Gives back what a storm left alive; a device that is lost has nothing any more."""
    with suppress(DeviceLostError):
        stream.synchronize()
        for buffer in buffers.values():
            device.raw_free(buffer)


def source_of(device: Device, component: Memory, stream: Stream) -> Source:
    """What a component's `allocator` stands for on a device."""
    return Raw(device, stream) if component.allocator == "raw" else Pool(device, component)
