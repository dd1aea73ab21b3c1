"""A card's buffers, kernels and streams, through CuPy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from swarmbench.gpu import source
from swarmbench.gpu.device import (
    Argument,
    Array,
    Buffer,
    DeviceLostError,
    Kernel,
    Stream,
    check_arguments,
)
from swarmbench.gpu.source import KernelSource

#: Errors after which a context is of no use any more, as the driver's API has them (cuda.h); the
#: runtime's are the same words (driver_types.h).
_STICKY = (
    "ILLEGAL_ADDRESS",
    "LAUNCH_FAILED",
    "LAUNCH_TIMEOUT",
    "ASSERT",
    "MISALIGNED_ADDRESS",
    "ILLEGAL_INSTRUCTION",
    "INVALID_ADDRESS_SPACE",
    "INVALID_PC",
    "HARDWARE_STACK_ERROR",
    "ECC_UNCORRECTABLE",
    "NVLINK_UNCORRECTABLE",
    "CONTAINED",
    "TENSOR_MEMORY_LEAK",
    # What a card says that has fallen off the bus.
    "UNKNOWN",
)


def _runtime_name(error: str) -> str:
    words = "".join(word.capitalize() for word in error.split("_"))
    return "cudaError" + words.replace("Ecc", "ECC").replace("LaunchFailed", "LaunchFailure")


_LOST = {f"CUDA_ERROR_{error}" for error in _STICKY} | {_runtime_name(error) for error in _STICKY}


@dataclass(frozen=True, slots=True)
class CardBuffer:
    """Memory of a card as a one-dimensional CuPy array."""

    array: Any

    @property
    def count(self) -> int:
        return int(self.array.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        kind: np.dtype[Any] = np.dtype(self.array.dtype)
        return kind

    @property
    def nbytes(self) -> int:
        return int(self.array.nbytes)

    @property
    def address(self) -> int:
        return int(self.array.data.ptr)

    def part(self, first: int, count: int) -> CardBuffer:
        assert 0 <= first <= first + count <= self.count
        return CardBuffer(self.array[first : first + count])


@dataclass(frozen=True, slots=True)
class CardKernel:
    """A kernel loaded on a card."""

    source: KernelSource
    function: Any

    @property
    def name(self) -> str:
        return self.source.name


class CardStream:
    """A non-blocking stream of a card."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self.stream = cupy.cuda.Stream(non_blocking=True)
        #: Recorded anew each time: who waits for it has taken what it then stood for.
        self._reached = cupy.cuda.Event(disable_timing=True)
        #: Ordinary memory whose copies may not have begun: nobody else may be given it.
        self._leaving: list[Array] = []

    def launch(
        self,
        kernel: Kernel,
        grid: int,
        block: int,
        arguments: Sequence[Argument],
        *,
        shared_bytes: int = 0,
    ) -> None:
        loaded = cast(CardKernel, kernel)
        check_arguments(loaded.name, loaded.source.parameters, arguments)
        expand = _as_numba_has_it if source.is_numba(loaded.source.file) else _as_it_is
        values = tuple(value for each in arguments for value in expand(each))
        with lost(self._cupy):
            loaded.function((grid, 1, 1), (block, 1, 1), values, shared_bytes, self.stream)

    def fill(self, buffer: Buffer, byte: int) -> None:
        if buffer.nbytes:
            with lost(self._cupy):
                array_of(buffer).data.memset_async(byte, buffer.nbytes, self.stream)

    def copy(self, target: Buffer, source: Buffer) -> None:
        assert target.nbytes == source.nbytes
        with lost(self._cupy):
            array_of(target).data.copy_from_device_async(
                array_of(source).data, source.nbytes, self.stream
            )

    def upload(self, target: Buffer, array: Array) -> None:
        assert target.nbytes == array.nbytes
        if not is_pinned(self._cupy, array):
            self._leaving.append(array)
        with lost(self._cupy):
            array_of(target).data.copy_from_host_async(array.ctypes.data, array.nbytes, self.stream)

    def download(self, array: Array, source: Buffer) -> None:
        assert array.nbytes == source.nbytes
        with lost(self._cupy):
            array_of(source).data.copy_to_host_async(array.ctypes.data, array.nbytes, self.stream)

    def follow(self, other: Stream) -> None:
        ahead = cast(CardStream, other)
        with lost(self._cupy):
            ahead._reached.record(ahead.stream)
            self.stream.wait_event(ahead._reached)

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
        (rows, columns, inner), cublas = shape, self._cupy.cuda.cublas
        assert (target.count, left.count) == (rows * columns, rows * inner)
        assert right.count == columns * inner
        times = np.array([scale, adds], np.float32)
        places = [array_of(each).data.ptr for each in (right, left, target)]
        # cuBLAS has columns first: what it calls the product is the target transposed.
        with lost(self._cupy), self.stream:
            cublas.sgemm(
                self._cupy.cuda.device.get_cublas_handle(),
                cublas.CUBLAS_OP_T,
                cublas.CUBLAS_OP_N,
                columns,
                rows,
                inner,
                times.ctypes.data,
                places[0],
                inner,
                places[1],
                inner,
                times[1:].ctypes.data,
                places[2],
                columns,
            )

    def synchronize(self) -> None:
        with lost(self._cupy):
            self.stream.synchronize()
        self._leaving.clear()


def is_pinned(cupy: Any, array: Array) -> bool:
    """Whether an array is a part of what `CardDevice.pinned` gave out."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return isinstance(getattr(array.base, "obj", None), cupy.cuda.PinnedMemoryPointer)


def _as_it_is(argument: Argument) -> tuple[Any, ...]:
    return (argument if isinstance(argument, np.generic) else array_of(argument),)


def _as_numba_has_it(argument: Argument) -> tuple[Any, ...]:
    """An array becomes two pointers that are none, count, element size, place, count, stride."""
    if isinstance(argument, np.generic):
        return (argument,)
    nothing, count = np.uint64(0), np.int64(argument.count)
    size = np.int64(argument.dtype.itemsize)
    return (nothing, nothing, count, size, array_of(argument), count, size)


def array_of(buffer: Buffer) -> Any:
    return cast(CardBuffer, buffer).array


@contextmanager
def lost(cupy: Any) -> Iterator[None]:
    """Names what a driver says when the context is gone; every other error is our own mistake."""
    try:
        yield
    except (cupy.cuda.driver.CUDADriverError, cupy.cuda.runtime.CUDARuntimeError) as error:
        text = str(error)
        if text.split(":")[0] in _LOST:
            raise DeviceLostError(
                f"the device was lost: {text}",
                hint="look for Xid messages in the kernel's log (`dmesg`)",
            ) from error
        raise
