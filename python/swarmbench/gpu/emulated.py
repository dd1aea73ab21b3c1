"""A device that runs the kernel files on the processor, through the emulator beside this file.

It proves answers, accesses and synchronisation, not speed: its times say nothing of a card.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from swarmbench.gpu import source
from swarmbench.gpu.device import (
    Argument,
    Array,
    Buffer,
    DeviceLostError,
    DeviceMemoryError,
    Kernel,
    Stream,
    check_arguments,
)
from swarmbench.gpu.guard import Guard
from swarmbench.gpu.host_compiler import Build, fake_driver_path, library_path
from swarmbench.gpu.host_memory import HostBuffer, poisoned
from swarmbench.gpu.numba import simulated
from swarmbench.gpu.numba.simulated import SimulatedKernel
from swarmbench.gpu.source import KernelSource

_COUNTS = (
    "read_bytes",
    "written_bytes",
    "distinct_read_bytes",
    "distinct_written_bytes",
    "shared_read_bytes",
    "shared_written_bytes",
    "atomics",
    "multiply_adds",
    "random_draws",
    "comparisons",
)


class EmulationError(DeviceLostError):
    """A kernel did in the emulator what no kernel may do."""


@dataclass(slots=True)
class Counts:
    """What kernels did: bytes that threads asked for, different ones in each launch, and the
    arithmetic that `Cost` names. Followed by traced builds alone."""

    read_bytes: int = 0
    written_bytes: int = 0
    distinct_read_bytes: int = 0
    distinct_written_bytes: int = 0
    shared_read_bytes: int = 0
    shared_written_bytes: int = 0
    atomics: int = 0
    multiply_adds: int = 0
    random_draws: int = 0
    comparisons: int = 0
    launches: int = 0

    def add(self, found: ctypes.Array[ctypes.c_uint64]) -> None:
        """Adds what one launch did."""
        self.launches += 1
        for name, value in zip(_COUNTS, found, strict=True):
            setattr(self, name, getattr(self, name) + int(value))


class _Region(ctypes.Structure):
    _fields_ = (("first", ctypes.c_void_p), ("nbytes", ctypes.c_uint64))


@dataclass(frozen=True, slots=True)
class HostKernel:
    """A kernel of the emulator: its library and its number there."""

    source: KernelSource
    library: ctypes.CDLL
    number: int

    @property
    def name(self) -> str:
        return self.source.name


class EmulatedDevice:
    """The emulator as a device; `seed` orders its threads and blocks, `is_random` also lets others
    run between two accesses that others may meet."""

    name = "emulated"
    number = 0
    is_emulated = True
    multiprocessors = 2
    shared_bytes_max = 96 << 10

    def __init__(
        self,
        *,
        seed: int = 0,
        build: Build = "plain",
        is_random: bool = False,
        memory_bytes: int = 2 << 30,
    ) -> None:
        self.counts = Counts()
        self.guard = Guard()
        self.allocated_bytes = self.host_allocated_bytes = self.raw_bytes = 0
        self._seeds, self._build, self._is_random = _seeds(seed), build, is_random
        self._memory_bytes = memory_bytes
        self._raw = set[int]()
        self._kernels: dict[tuple[str, str, tuple[tuple[str, int], ...]], HostKernel] = {}

    def use(self) -> None:
        """Every thread may launch."""

    def empty(self, count: int, dtype: npt.DTypeLike) -> HostBuffer:
        buffer = self._taken(count, dtype)
        self.allocated_bytes += buffer.nbytes
        return buffer

    def uploaded(self, array: Array) -> HostBuffer:
        buffer = self.empty(len(array), array.dtype)
        buffer.array[:] = array
        return buffer

    def pinned(self, count: int, dtype: npt.DTypeLike) -> Array:
        self.guard.pass_by("pinned memory")
        return self.pageable(count, dtype)

    def pageable(self, count: int, dtype: npt.DTypeLike) -> Array:
        array = np.empty(count, dtype)
        array[:] = 0
        self.host_allocated_bytes += array.nbytes
        return array

    def raw_allocation(self, count: int, dtype: npt.DTypeLike) -> HostBuffer:
        buffer = self._taken(count, dtype)
        self._raw.add(buffer.array.ctypes.data)
        self.raw_bytes += buffer.nbytes
        return buffer

    def raw_free(self, buffer: Buffer) -> None:
        self._raw.remove(_array(buffer).ctypes.data)
        self.raw_bytes -= buffer.nbytes

    def mapped(self, array: Array) -> HostBuffer:
        return HostBuffer(array)

    def kernel(self, file: str, name: str, defines: Mapping[str, int] | None = None) -> Kernel:
        key = (file, name, tuple(sorted((defines or {}).items())))
        if source.is_numba(file):
            return simulated.simulated(file, name)
        if key not in self._kernels:
            self.guard.pass_by(f"a module of `{file}`")
            library = _library(file, source.text_of(file), key[2], self._build)
            self._kernels[key] = _kernel(library, source.kernels(file), name)
        return self._kernels[key]

    def kernel_of(self, text: str, name: str) -> HostKernel:
        """The kernel `name` of a file that is given as text."""
        library = _library("given.cu", text, (), self._build)
        return _kernel(library, tuple(source.parsed("given.cu", text)), name)

    @property
    def driver_path(self) -> str:
        return str(fake_driver_path(self._build))

    def driver_function(self, kernel: Kernel) -> int | None:
        # Numba's simulator is Python, and a traced launch has to name its buffers.
        if isinstance(kernel, SimulatedKernel) or self._build == "traced":
            return None
        found = cast(HostKernel, kernel)
        sizes = tuple(
            8 if each.dtype is None else np.dtype(each.dtype).itemsize
            for each in found.source.parameters
        )
        return _driver_function(self.driver_path, found.library, found.number, sizes)

    def stream(self) -> EmulatedStream:
        return EmulatedStream(self)

    def free_bytes(self) -> int:
        return self._memory_bytes - self.allocated_bytes - self.raw_bytes

    def _taken(self, count: int, dtype: npt.DTypeLike) -> HostBuffer:
        self.guard.pass_by("memory")
        nbytes = count * np.dtype(dtype).itemsize
        if nbytes > self.free_bytes():
            raise DeviceMemoryError(
                f"the emulated device has {self.free_bytes()} bytes free, {nbytes} were asked for",
                hint="lower the sizes in `params`",
            )
        return HostBuffer(poisoned(nbytes).view(dtype))

    def run(
        self,
        kernel: HostKernel | SimulatedKernel,
        grid: int,
        block: int,
        arguments: Sequence[Argument],
        shared_bytes: int,
    ) -> None:
        """Runs a kernel to its end; raises `EmulationError` for what no kernel may do."""
        check_arguments(kernel.name, kernel.source.parameters, arguments)
        assert 1 <= block <= 1024, f"{kernel.name}: a block of {block} threads"
        assert 1 <= grid < 1 << 31, f"{kernel.name}: a grid of {grid} blocks"
        assert shared_bytes <= self.shared_bytes_max, f"{kernel.name}: {shared_bytes} bytes shared"
        if isinstance(kernel, SimulatedKernel):
            self._simulate(kernel, grid, block, arguments, shared_bytes)
            return
        buffers = [each for each in arguments if isinstance(each, HostBuffer)]
        values = [_value(each) for each in arguments]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(each) for each in values))
        regions = (_Region * len(buffers))(
            *(_Region(each.array.ctypes.data, each.nbytes) for each in buffers)
        )
        counts = (ctypes.c_uint64 * len(_COUNTS))()
        problem = kernel.library.host_cuda_launch(
            ctypes.c_uint32(kernel.number),
            (ctypes.c_uint32 * 3)(grid, 1, 1),
            (ctypes.c_uint32 * 3)(block, 1, 1),
            ctypes.c_uint64(shared_bytes),
            pointers,
            regions,
            ctypes.c_uint32(len(buffers)),
            ctypes.c_uint64(next(self._seeds)),
            ctypes.c_uint32(self._is_random),
            counts,
        )
        self.counts.add(counts)
        if problem is not None:
            raise EmulationError(f"kernel `{kernel.name}`: {problem.decode()}")

    def _simulate(
        self,
        kernel: SimulatedKernel,
        grid: int,
        block: int,
        arguments: Sequence[Argument],
        shared_bytes: int,
    ) -> None:
        given = [each if isinstance(each, np.generic) else _array(each) for each in arguments]
        is_followed = self._build == "traced"
        try:
            found = simulated.launch(
                kernel, grid, block, given, shared_bytes, is_followed=is_followed
            )
        except simulated.AccessError as error:
            raise EmulationError(f"kernel `{kernel.name}`: {error}") from error
        self.counts.launches += 1
        for name, value in found.items():
            setattr(self.counts, name, getattr(self.counts, name) + value)


class EmulatedStream:
    """A stream of the emulator: what is enqueued has ended when the call comes back."""

    def __init__(self, device: EmulatedDevice) -> None:
        self._device = device

    def launch(
        self,
        kernel: Kernel,
        grid: int,
        block: int,
        arguments: Sequence[Argument],
        *,
        shared_bytes: int = 0,
    ) -> None:
        self._device.run(
            cast("HostKernel | SimulatedKernel", kernel), grid, block, arguments, shared_bytes
        )

    def fill(self, buffer: Buffer, byte: int) -> None:
        _array(buffer).view(np.uint8)[:] = byte

    def copy(self, target: Buffer, source: Buffer) -> None:
        _array(target).view(np.uint8)[:] = _array(source).view(np.uint8)

    def upload(self, target: Buffer, array: Array) -> None:
        assert target.nbytes == array.nbytes
        _array(target).view(np.uint8)[:] = array.view(np.uint8)

    def download(self, array: Array, source: Buffer) -> None:
        assert array.nbytes == source.nbytes
        array.view(np.uint8)[:] = _array(source).view(np.uint8)

    def follow(self, other: Stream) -> None:
        """Nothing is under way in any stream."""

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
        rows, columns, inner = shape
        product = _array(left).reshape(rows, inner) @ _array(right).reshape(columns, inner).T
        found = _array(target).reshape(rows, columns)
        found[:] = np.float32(scale) * product + (found if adds else np.float32(0))

    def synchronize(self) -> None:
        """Nothing is under way."""


def _array(buffer: Buffer) -> Array:
    return cast(HostBuffer, buffer).array


def _value(argument: Argument) -> Any:
    """An argument as the emulator reads it: a pointer, or the scalar's bytes."""
    if isinstance(argument, np.generic):
        return (ctypes.c_uint8 * argument.dtype.itemsize).from_buffer_copy(argument.tobytes())
    return ctypes.c_void_p(_array(argument).ctypes.data)


def _kernel(library: ctypes.CDLL, found: Sequence[KernelSource], name: str) -> HostKernel:
    kernel = next(each for each in found if each.name == name)
    return HostKernel(kernel, library, library.host_cuda_entry(name.encode()))


def _seeds(seed: int) -> Iterator[int]:
    """A seed for each launch; asked for by several threads at once, each gets its own."""
    return map(_mixed, count(seed << 32))


def _mixed(state: int) -> int:
    return (state * 6364136223846793005 % (1 << 64)) >> 16


@cache
def _driver_function(path: str, library: ctypes.CDLL, number: int, sizes: tuple[int, ...]) -> int:
    driver = ctypes.CDLL(path)
    driver.fake_function.restype = ctypes.c_uint64
    launch = ctypes.cast(library.host_cuda_launch, ctypes.c_void_p)
    given = (ctypes.c_uint64 * len(sizes))(*sizes)
    arguments = (launch, ctypes.c_uint32(number), ctypes.c_uint32(len(sizes)), given)
    return int(driver.fake_function(*arguments))


@cache
def _library(
    file: str, text: str, defines: tuple[tuple[str, int], ...], build: Build
) -> ctypes.CDLL:
    library = ctypes.CDLL(str(library_path(file, text, defines, build)))
    library.host_cuda_launch.restype = ctypes.c_char_p
    library.host_cuda_entry.restype = ctypes.c_uint32
    return library
