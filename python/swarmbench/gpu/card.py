"""A card as a device: CuPy for memory, streams and launches, cubins compiled here or kept before.

No managed memory, no default stream, and nothing that changes the card's clocks or modes.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from swarmbench.errors import MachineError
from swarmbench.gpu import compiler, source
from swarmbench.gpu.device import (
    POISON,
    Argument,
    Array,
    Buffer,
    DeviceLostError,
    DeviceMemoryError,
    Kernel,
    Stream,
    check_arguments,
)
from swarmbench.gpu.numba import compiling
from swarmbench.gpu.source import KernelSource

#: Dynamic shared memory above this is granted to a kernel only where it asks for it.
_SHARED_GRANTED = 48 << 10
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


class CardDevice:
    """One card, by its number. Raises `MachineError` where CuPy or the driver will not do."""

    is_emulated = False
    driver_path = "libcuda.so.1"

    def __init__(self, number: int = 0) -> None:
        self._cupy = _cupy()
        self._number = number
        runtime = self._cupy.cuda.runtime
        try:
            count = runtime.getDeviceCount()
            if number >= count:
                raise MachineError(
                    f"there is no device {number}; there are {count}",
                    hint="choose another with `--device`",
                )
            runtime.setDevice(number)
            properties = runtime.getDeviceProperties(number)
        except runtime.CUDARuntimeError as error:
            raise MachineError(
                f"the CUDA driver cannot be used: {error}",
                hint="install swarmbench[cuda12] for drivers from 525, swarmbench[cuda13] from 580",
            ) from None
        self.name = properties["name"].decode()
        self.multiprocessors = int(properties["multiProcessorCount"])
        self.shared_bytes_max = int(properties["sharedMemPerBlockOptin"])
        self.architecture = 10 * int(properties["major"]) + int(properties["minor"])
        self.allocated_bytes = 0
        self._kernels: dict[tuple[str, str, tuple[tuple[str, int], ...]], CardKernel] = {}
        self._modules: dict[tuple[str, tuple[tuple[str, int], ...]], Any] = {}
        self._staging = self._cupy.cuda.Stream(non_blocking=True)

    def use(self) -> None:
        """Makes the card that of the calling thread; each thread that launches calls it once."""
        self._cupy.cuda.runtime.setDevice(self._number)

    def empty(self, count: int, dtype: npt.DTypeLike) -> CardBuffer:
        nbytes, cuda = count * np.dtype(dtype).itemsize, self._cupy.cuda
        try:
            # Straight from the driver: a pool would keep what is given back, and round up.
            memory = cuda.MemoryPointer(cuda.Memory(max(1, nbytes)), 0)
        except cuda.runtime.CUDARuntimeError as error:
            if "cudaErrorMemoryAllocation" not in str(error):
                raise
            raise DeviceMemoryError(
                f"the card has {self.free_bytes()} bytes free, {nbytes} were asked for",
                hint="lower the sizes in `params`, or end what else runs on the card",
            ) from None
        self.allocated_bytes += nbytes
        array = self._cupy.ndarray((count,), dtype=np.dtype(dtype), memptr=memory)
        if nbytes:
            memory.memset_async(POISON, nbytes, self._staging)
            self._staging.synchronize()
        return CardBuffer(array)

    def uploaded(self, array: Array) -> CardBuffer:
        buffer = self.empty(len(array), array.dtype)
        with self._staging, _lost(self._cupy):
            buffer.array.set(np.ascontiguousarray(array), stream=self._staging)
            self._staging.synchronize()
        return buffer

    def pinned(self, count: int, dtype: npt.DTypeLike) -> Array:
        kind, cuda = np.dtype(dtype), self._cupy.cuda
        nbytes = count * kind.itemsize
        try:
            # No pool here either: CuPy's rounds up to powers of two.
            memory = cuda.PinnedMemory(max(1, nbytes), cuda.runtime.hostAllocPortable)
        except cuda.runtime.CUDARuntimeError as error:
            if "cudaErrorMemoryAllocation" not in str(error):
                raise
            raise DeviceMemoryError(
                f"the host has no {nbytes} bytes left that can be page-locked",
                hint="lower the sizes in `params`, or end what else runs",
            ) from None
        array = np.frombuffer(cuda.PinnedMemoryPointer(memory, 0), kind, count)
        array[:] = 0
        return array

    def mapped(self, array: Array) -> CardBuffer:
        # Under unified addressing the host's pointer is the device's.
        memory = self._cupy.cuda.UnownedMemory(array.ctypes.data, array.nbytes, array, self._number)
        pointer = self._cupy.cuda.MemoryPointer(memory, 0)
        return CardBuffer(self._cupy.ndarray(array.shape, dtype=array.dtype, memptr=pointer))

    def kernel(self, file: str, name: str, defines: Mapping[str, int] | None = None) -> CardKernel:
        flags = tuple(sorted((defines or {}).items()))
        key = (file, name, flags)
        if source.is_numba(file) and key not in self._kernels:
            self._load_numba(file)
        if key not in self._kernels:
            found = {each.name: each for each in source.kernels(file)}
            function = self._module(file, flags).get_function(name)
            static = compiler.compiled(file, self.architecture, dict(flags)).usage[name]
            self._grant(function, static.shared_bytes)
            self._kernels[key] = CardKernel(found[name], function)
        return self._kernels[key]

    def driver_function(self, kernel: Kernel) -> int:
        return int(cast(CardKernel, kernel).function.ptr)

    def stream(self) -> CardStream:
        return CardStream(self._cupy)

    def free_bytes(self) -> int:
        return int(self._cupy.cuda.runtime.memGetInfo()[0])

    def _load_numba(self, file: str) -> None:
        """Loads all kernels of a file that is written in Python."""
        built = compiling.compiled(file, self.architecture)
        for found in source.kernels(file):
            module = self._cupy.cuda.function.Module()
            module.load(built[found.name].cubin)
            function = module.get_function(built[found.name].entry)
            self._grant(function, built[found.name].usage.shared_bytes)
            self._modules[f"{file}:{found.name}", ()] = module
            self._kernels[file, found.name, ()] = CardKernel(found, function)

    def _module(self, file: str, flags: tuple[tuple[str, int], ...]) -> Any:
        if (file, flags) not in self._modules:
            module = self._cupy.cuda.function.Module()
            module.load(compiler.compiled(file, self.architecture, dict(flags)).cubin)
            self._modules[file, flags] = module
        return self._modules[file, flags]

    def _grant(self, function: Any, static_bytes: int) -> None:
        """Lets a kernel ask for all the dynamic shared memory that its static one leaves."""
        left = self.shared_bytes_max - static_bytes
        if left > _SHARED_GRANTED:
            driver = self._cupy.cuda.driver
            driver.funcSetAttribute(
                function.ptr, driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, left
            )


class CardStream:
    """A non-blocking stream of a card."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self.stream = cupy.cuda.Stream(non_blocking=True)
        #: Recorded anew each time: who waits for it has taken what it then stood for.
        self._reached = cupy.cuda.Event(disable_timing=True)

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
        with _lost(self._cupy):
            loaded.function((grid, 1, 1), (block, 1, 1), values, shared_bytes, self.stream)

    def fill(self, buffer: Buffer, byte: int) -> None:
        if buffer.nbytes:
            with _lost(self._cupy):
                _array(buffer).data.memset_async(byte, buffer.nbytes, self.stream)

    def copy(self, target: Buffer, source: Buffer) -> None:
        assert target.nbytes == source.nbytes
        with _lost(self._cupy):
            _array(target).data.copy_from_device_async(
                _array(source).data, source.nbytes, self.stream
            )

    def upload(self, target: Buffer, array: Array) -> None:
        assert target.nbytes == array.nbytes
        with _lost(self._cupy):
            _array(target).data.copy_from_host_async(array.ctypes.data, array.nbytes, self.stream)

    def download(self, array: Array, source: Buffer) -> None:
        assert array.nbytes == source.nbytes
        with _lost(self._cupy):
            _array(source).data.copy_to_host_async(array.ctypes.data, array.nbytes, self.stream)

    def follow(self, other: Stream) -> None:
        ahead = cast(CardStream, other)
        with _lost(self._cupy):
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
        places = [_array(each).data.ptr for each in (right, left, target)]
        # cuBLAS has columns first: what it calls the product is the target transposed.
        with _lost(self._cupy), self.stream:
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
        with _lost(self._cupy):
            self.stream.synchronize()


def _as_it_is(argument: Argument) -> tuple[Any, ...]:
    return (argument if isinstance(argument, np.generic) else _array(argument),)


def _as_numba_has_it(argument: Argument) -> tuple[Any, ...]:
    """An array becomes two pointers that are none, count, element size, place, count, stride."""
    if isinstance(argument, np.generic):
        return (argument,)
    nothing, count = np.uint64(0), np.int64(argument.count)
    size = np.int64(argument.dtype.itemsize)
    return (nothing, nothing, count, size, _array(argument), count, size)


def _array(buffer: Buffer) -> Any:
    return cast(CardBuffer, buffer).array


@contextmanager
def _lost(cupy: Any) -> Iterator[None]:
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


def _cupy() -> Any:
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise MachineError(
            f"CuPy is not here ({error})",
            hint="install swarmbench[cuda12] or swarmbench[cuda13], whichever fits the driver",
        ) from None
