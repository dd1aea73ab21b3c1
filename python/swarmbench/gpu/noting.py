"""Notes what an operation asks of a device, so that it can be asked again without its host code.

The notes have the form that `_native.Berth.learn` takes. A command is `("launch", function, grid,
block, shared_bytes, [bytes of each argument])`, `("fill", address, byte, bytes)` or `("copy", to,
from, bytes)`; memory is `(address, content)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from swarmbench.gpu.device import Argument, Array, Buffer, Device, Kernel, Stream

Command = tuple[Any, ...]
Content = tuple[int, bytes]

#: What pinned memory holds before host code runs, so that what it writes there shows.
_FILL = 0x5A
#: What the host writes is told by words: bytes of it may be those of the fill.
_WORD = 8
#: Longer copies to the host that only a check asks for are left out: a digest comes with them.
_CHECK_COPY_BYTES = 64 << 10


class UnrepeatableError(Exception):
    """An operation cannot be asked again without its host code; the message says why."""


class Noted(Protocol):
    """An operation as a lane of a component does it: `components.cuda.base.CudaOperation`."""

    def run(self, op: str, key: int) -> Any: ...
    def verify(self) -> tuple[int, int]: ...


@dataclass(frozen=True, slots=True)
class Notes:
    """What one operation asked: `kept` is memory of the host that its commands refer to."""

    inputs: list[Content]
    run: list[Command]
    check: list[Command]
    written: list[Content]
    units: int
    kept: list[Array] = field(repr=False)

    def fields(self) -> tuple[Any, ...]:
        """As `_native.Berth.learn` takes it."""
        return self.inputs, self.run, self.check, self.written, self.units


class NotingDevice:
    """A device that can note what its streams are asked; in all else it is that device."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._page: _Page | None = None
        self._memory: list[Array] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.device, name)

    def pinned(self, count: int, dtype: npt.DTypeLike) -> Array:
        """As the device has it; `lane_memory` gathers what is asked for."""
        array = self.device.pinned(count, dtype)
        self._memory.append(array)
        return array

    def stream(self) -> NotingStream:
        """A stream whose commands can be noted."""
        return NotingStream(self, self.device.stream())

    @contextmanager
    def lane_memory(self) -> Iterator[list[Array]]:
        """Gathers the pinned memory that a lane takes while it is made in the block."""
        self._memory = []
        yield self._memory
        self._memory = []

    def noted(
        self, operation: Noted, op: str, key: int, memory: Sequence[Array], *, with_check: bool
    ) -> Notes:
        """Runs an operation of a lane with that pinned memory, checks it and notes its commands,
        and those of its check where the answer comes to the host by them.

        Raises `UnrepeatableError`.
        """
        for array in memory:
            _bytes(array)[:] = _FILL
        self._page = page = _Page(self.device, memory)
        try:
            done = operation.run(op, key)
            notes = page.notes(done.units)
            page.is_check = True
            self._page = page if with_check else None
            checked, violations = operation.verify()
        finally:
            self._page = None
        if done.status != "ok" or violations or not checked:
            raise UnrepeatableError("it was not found right")
        return page.notes(done.units) if with_check else notes

    @property
    def page(self) -> _Page | None:
        """Where commands are noted; None while they are not."""
        return self._page


class _Page:
    """The commands of one operation."""

    def __init__(self, device: Device, memory: Sequence[Array]) -> None:
        self.is_check = False
        self._device, self._memory = device, memory
        self._stream: Stream | None = None
        self._run: list[Command] = []
        self._check: list[Command] = []
        self._inputs: list[Content] | None = None
        self._kept: list[Array] = []
        self._arrived: list[tuple[Array, Array]] = []

    def add(self, stream: Stream, command: Command) -> None:
        if self._stream not in (None, stream):
            raise UnrepeatableError("it uses several streams")
        self._stream = stream
        if self._inputs is None:
            self._inputs = [each for array in self._memory for each in _written(array)]
        (self._check if self.is_check else self._run).append(command)

    def launch(
        self,
        stream: Stream,
        kernel: Kernel,
        shape: tuple[int, int, int],
        arguments: Sequence[Argument],
    ) -> None:
        function = self._device.driver_function(kernel)
        if function is None:
            raise UnrepeatableError("its kernels are no functions of a driver")
        self.add(stream, ("launch", function, *shape, [_packed(each) for each in arguments]))

    def upload(self, stream: Stream, target: Buffer, array: Array) -> None:
        """The content of now is what is uploaded each time."""
        if array.nbytes:
            kept = self._device.pinned(array.nbytes, np.uint8)
            kept[:] = _bytes(array)
            self._kept.append(kept)
            self.add(stream, ("copy", target.address, _place(kept), array.nbytes))

    def download(self, stream: Stream, array: Array, source: Buffer) -> None:
        """To where it goes now if that is the lane's, else to memory of its own."""
        if not array.nbytes:
            return
        place = _place(array)
        spans = ((_place(each), each.nbytes) for each in self._memory)
        if not any(first <= place < first + length for first, length in spans):
            if self.is_check and array.nbytes > _CHECK_COPY_BYTES:
                return
            kept = self._device.pinned(array.nbytes, np.uint8)
            self._arrived.append((kept, array))
            place = _place(kept)
        self.add(stream, ("copy", place, source.address, array.nbytes))

    def notes(self, units: int) -> Notes:
        if not self._run:
            raise UnrepeatableError("it asks nothing of the device")
        written = [(_place(each), each.tobytes()) for each in self._memory]
        written += [(_place(kept), array.tobytes()) for kept, array in self._arrived]
        kept = [*self._kept, *(kept for kept, _ in self._arrived)]
        return Notes(self._inputs or [], self._run, self._check, written, units, kept)


class NotingStream:
    """A stream that does what it is asked and notes it where its device has a page for that."""

    def __init__(self, device: NotingDevice, stream: Stream) -> None:
        self._device, self._stream = device, stream

    def launch(
        self,
        kernel: Kernel,
        grid: int,
        block: int,
        arguments: Sequence[Argument],
        *,
        shared_bytes: int = 0,
    ) -> None:
        if (page := self._device.page) is not None:
            page.launch(self, kernel, (grid, block, shared_bytes), arguments)
        self._stream.launch(kernel, grid, block, arguments, shared_bytes=shared_bytes)

    def fill(self, buffer: Buffer, byte: int) -> None:
        if (page := self._device.page) is not None and buffer.nbytes:
            page.add(self, ("fill", buffer.address, byte, buffer.nbytes))
        self._stream.fill(buffer, byte)

    def copy(self, target: Buffer, source: Buffer) -> None:
        if (page := self._device.page) is not None and source.nbytes:
            page.add(self, ("copy", target.address, source.address, source.nbytes))
        self._stream.copy(target, source)

    def upload(self, target: Buffer, array: Array) -> None:
        if (page := self._device.page) is not None:
            page.upload(self, target, array)
        self._stream.upload(target, array)

    def download(self, array: Array, source: Buffer) -> None:
        if (page := self._device.page) is not None:
            page.download(self, array, source)
        self._stream.download(array, source)

    def follow(self, other: Stream) -> None:
        if self._device.page is not None:
            raise UnrepeatableError("it uses several streams")
        self._stream.follow(other._stream if isinstance(other, NotingStream) else other)

    def matmul(
        self,
        target: Buffer,
        left: Buffer,
        right: Buffer,
        shape: tuple[int, int, int],
        *,
        scale: float,
        adds: bool = False,
    ) -> None:
        if self._device.page is not None:
            raise UnrepeatableError("its products are another library's")
        self._stream.matmul(target, left, right, shape, scale=scale, adds=adds)

    def synchronize(self) -> None:
        self._stream.synchronize()


def _packed(argument: Argument) -> bytes:
    """An argument as a launch takes it: a scalar's bytes, or a buffer's address."""
    if isinstance(argument, np.generic):
        return argument.tobytes()
    return argument.address.to_bytes(8, "little")


def _bytes(array: Array) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _place(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _written(array: Array) -> Iterator[Content]:
    """The runs of words that no longer hold the fill."""
    content = _bytes(array)
    padded = np.full(-(-len(content) // _WORD) * _WORD, _FILL, np.uint8)
    padded[: len(content)] = content
    changed = np.flatnonzero((padded.reshape(-1, _WORD) != _FILL).any(axis=1))
    if not len(changed):
        return
    for run in np.split(changed, np.flatnonzero(np.diff(changed) != 1) + 1):
        first, last = int(run[0]) * _WORD, min((int(run[-1]) + 1) * _WORD, len(content))
        yield _place(array) + first, content[first:last].tobytes()
