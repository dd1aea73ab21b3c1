"""What a component's CUDA side may ask of a device, whatever stands behind it.

A device is a card through CuPy (`gpu.card`) or the host emulator (`gpu.emulated`), which runs the
same kernel files on the processor so that every line on the way has run without a card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from swarmbench.errors import MachineError, SafetyStop
from swarmbench.gpu.guard import Guard
from swarmbench.gpu.source import Parameter

Array = npt.NDArray[Any]

#: What fresh device memory is filled with, so that an answer that was never written shows.
POISON = 0xA5


class DeviceMemoryError(MachineError):
    """A card has too little free memory for what was asked of it."""


class DeviceLostError(SafetyStop):
    """The device stopped answering in the middle of a run."""


class Buffer(Protocol):
    """Memory of a device: `count` elements of `dtype`; `part` is a view of some of them."""

    @property
    def count(self) -> int: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def address(self) -> int: ...
    def part(self, first: int, count: int) -> Buffer: ...


class Kernel(Protocol):
    """A compiled kernel of one device."""

    @property
    def name(self) -> str: ...


Argument = Buffer | np.generic


class Stream(Protocol):
    """Work in order; nothing but `synchronize`, and streams that `follow` it, wait for it.

    Raises `DeviceLostError` where the device stops answering.
    """

    def launch(
        self,
        kernel: Kernel,
        grid: int,
        block: int,
        arguments: Sequence[Argument],
        *,
        shared_bytes: int = 0,
    ) -> None:
        """Enqueues a kernel over `grid` blocks of `block` threads; scalars have the exact type."""
        ...

    def fill(self, buffer: Buffer, byte: int) -> None:
        """Enqueues setting every byte of a buffer."""
        ...

    def copy(self, target: Buffer, source: Buffer) -> None:
        """Enqueues a copy on the device; both have the same number of bytes."""
        ...

    def upload(self, target: Buffer, array: Array) -> None:
        """Enqueues a copy to the device; `array` stays untouched until it has ended.

        Of memory that is not pinned the driver may have taken all when this comes back, or nothing
        yet (CUDA driver API, "API synchronization behavior").
        """
        ...

    def download(self, array: Array, source: Buffer) -> None:
        """Enqueues a copy from the device; `array` holds it after `synchronize`."""
        ...

    def follow(self, other: Stream) -> None:
        """Lets what is enqueued from now on wait for all that is in another stream by now."""
        ...

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
        """Enqueues target = scale * left times right transposed, added to it where `adds`.

        All are rows of f32: with shape (m, n, k) the target is m by n, left m by k, right n by k.
        """
        ...

    def synchronize(self) -> None:
        """Waits until all that was enqueued has ended."""
        ...


class Device(Protocol):
    """One device; buffers and kernels are of it alone.

    Memory is taken before a run, not in it, but by `raw_allocation`, which is to be measured.
    """

    @property
    def name(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def guard(self) -> Guard:
        """Held while streams wait for words: memory and kernels are then refused."""
        ...

    @property
    def is_emulated(self) -> bool: ...
    @property
    def multiprocessors(self) -> int: ...
    @property
    def shared_bytes_max(self) -> int:
        """Shared memory that a block may ask for, in bytes."""
        ...

    @property
    def allocated_bytes(self) -> int:
        """What `empty` and `uploaded` gave out so far, in bytes."""
        ...

    @property
    def driver_path(self) -> str:
        """The library of the CUDA driver that has this device, as the system loads it."""
        ...

    @property
    def host_allocated_bytes(self) -> int:
        """What `pinned` and `pageable` gave out so far, in bytes."""
        ...

    @property
    def raw_bytes(self) -> int:
        """What `raw_allocation` gave out and `raw_free` did not take back, in bytes."""
        ...

    def use(self) -> None:
        """Makes it the device of the calling thread; each thread that launches calls it once."""
        ...

    def empty(self, count: int, dtype: npt.DTypeLike) -> Buffer:
        """Poisoned memory; raises `DeviceMemoryError` where there is too little."""
        ...

    def uploaded(self, array: Array) -> Buffer:
        """A copy of a one-dimensional array on the device."""
        ...

    def pinned(self, count: int, dtype: npt.DTypeLike) -> Array:
        """Page-locked memory of the host; raises `DeviceMemoryError` where there is too little."""
        ...

    def pageable(self, count: int, dtype: npt.DTypeLike) -> Array:
        """Ordinary memory of the host, touched: the driver stages its copies, no kernel sees it."""
        ...

    def raw_allocation(self, count: int, dtype: npt.DTypeLike) -> Buffer:
        """Memory straight from the driver, in the middle of a run; its bytes are anything.

        Raises `DeviceMemoryError` where there is too little.
        """
        ...

    def raw_free(self, buffer: Buffer) -> None:
        """Gives back the whole of a `raw_allocation`, which nothing enqueued uses any more."""
        ...

    def mapped(self, array: Array) -> Buffer:
        """A pinned array as the device's kernels see it."""
        ...

    def kernel(self, file: str, name: str, defines: Mapping[str, int] | None = None) -> Kernel:
        """The kernel `name` of a file, compiled with `defines`; the same one when asked again.

        A file that ends in `.py` is one of `gpu.numba`, and takes no `defines`.
        """
        ...

    def driver_function(self, kernel: Kernel) -> int | None:
        """A kernel as the driver's `CUfunction`; None where the driver cannot launch it."""
        ...

    def stream(self) -> Stream:
        """A new stream that waits for no other."""
        ...

    def free_bytes(self) -> int:
        """Device memory that is free now, in bytes."""
        ...


def check_arguments(
    kernel: str, parameters: Sequence[Parameter], arguments: Sequence[Argument]
) -> None:
    """Asserts that arguments fit the parameters: nothing on a card would say so."""
    assert len(arguments) == len(parameters), f"{kernel} takes {len(parameters)} arguments"
    for parameter, argument in zip(parameters, arguments, strict=True):
        if parameter.dtype is None:
            assert not isinstance(argument, np.generic), f"{kernel}: {parameter.name} is a pointer"
        else:
            given = argument.dtype if isinstance(argument, np.generic) else None
            assert given == parameter.dtype, (
                f"{kernel}: {parameter.name} is {parameter.dtype}, not {given}"
            )
