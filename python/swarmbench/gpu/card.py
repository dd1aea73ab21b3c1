"""A card as a device: CuPy for memory, streams and launches, cubins compiled here or kept before.

No managed memory, no default stream, and nothing that changes the card's clocks or modes.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from swarmbench.errors import MachineError
from swarmbench.gpu import compiler, source
from swarmbench.gpu.card_stream import CardBuffer, CardKernel, CardStream, array_of, lost
from swarmbench.gpu.device import (
    POISON,
    Array,
    Buffer,
    DeviceMemoryError,
    Kernel,
)
from swarmbench.gpu.guard import Guard
from swarmbench.gpu.numba import compiling

#: Dynamic shared memory above this is granted to a kernel only where it asks for it.
_SHARED_GRANTED = 48 << 10
#: What the driver says where a device, or the host, has too little memory.
_NO_MEMORY = "cudaErrorMemoryAllocation"


class CardDevice:
    """One card, by its number. Raises `MachineError` where CuPy or the driver will not do."""

    is_emulated = False
    driver_path = "libcuda.so.1"

    def __init__(self, number: int = 0) -> None:
        self._cupy = _cupy()
        self.number = number
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
        self.allocated_bytes = self.host_allocated_bytes = self.raw_bytes = 0
        self._raw = set[int]()
        self.guard = Guard()
        self._kernels: dict[tuple[str, str, tuple[tuple[str, int], ...]], CardKernel] = {}
        self._modules: dict[tuple[str, tuple[tuple[str, int], ...]], Any] = {}
        self._staging = self._cupy.cuda.Stream(non_blocking=True)

    def use(self) -> None:
        """Makes the card that of the calling thread; each thread that launches calls it once."""
        self._cupy.cuda.runtime.setDevice(self.number)

    def empty(self, count: int, dtype: npt.DTypeLike) -> CardBuffer:
        nbytes = count * np.dtype(dtype).itemsize
        self.guard.pass_by("memory")
        with self._room(nbytes):
            # Straight from the driver: a pool would keep what is given back, and round up.
            memory = self._cupy.cuda.MemoryPointer(self._cupy.cuda.Memory(max(1, nbytes)), 0)
        self.allocated_bytes += nbytes
        array = self._cupy.ndarray((count,), dtype=np.dtype(dtype), memptr=memory)
        if nbytes:
            memory.memset_async(POISON, nbytes, self._staging)
            self._staging.synchronize()
        return CardBuffer(array)

    def uploaded(self, array: Array) -> CardBuffer:
        buffer = self.empty(len(array), array.dtype)
        with self._staging, lost(self._cupy):
            buffer.array.set(np.ascontiguousarray(array), stream=self._staging)
            self._staging.synchronize()
        return buffer

    def pinned(self, count: int, dtype: npt.DTypeLike) -> Array:
        kind, cuda = np.dtype(dtype), self._cupy.cuda
        nbytes = count * kind.itemsize
        self.guard.pass_by("pinned memory")
        try:
            # No pool here either: CuPy's rounds up to powers of two.
            locked = cuda.PinnedMemory(max(1, nbytes), cuda.runtime.hostAllocPortable)
        except cuda.runtime.CUDARuntimeError as error:
            if _NO_MEMORY not in str(error):
                raise
            raise DeviceMemoryError(
                f"the host has no {nbytes} bytes left that can be page-locked",
                hint="lower the sizes in `params`, or end what else runs",
            ) from None
        array = np.frombuffer(cuda.PinnedMemoryPointer(locked, 0), kind, count)
        array[:] = 0
        self.host_allocated_bytes += nbytes
        return array

    def pageable(self, count: int, dtype: npt.DTypeLike) -> Array:
        array = np.empty(count, dtype)
        array[:] = 0
        self.host_allocated_bytes += array.nbytes
        return array

    def raw_allocation(self, count: int, dtype: npt.DTypeLike) -> CardBuffer:
        nbytes = count * np.dtype(dtype).itemsize
        self.guard.pass_by("memory")
        with self._room(nbytes), lost(self._cupy):
            place = self._cupy.cuda.runtime.malloc(nbytes)
        self._raw.add(place)
        self.raw_bytes += nbytes
        return self._buffer_at(place, count, dtype, self)

    def raw_free(self, buffer: Buffer) -> None:
        place = int(array_of(buffer).data.ptr)
        self._raw.remove(place)
        self.raw_bytes -= buffer.nbytes
        with lost(self._cupy):
            self._cupy.cuda.runtime.free(place)

    def mapped(self, array: Array) -> CardBuffer:
        # Under unified addressing the host's pointer is the device's.
        return self._buffer_at(array.ctypes.data, len(array), array.dtype, array)

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

    def driver_function(self, kernel: Kernel) -> int | None:
        loaded = cast(CardKernel, kernel)
        # Numba's take an array as seven words.
        return None if source.is_numba(loaded.source.file) else int(loaded.function.ptr)

    def stream(self) -> CardStream:
        return CardStream(self._cupy)

    def free_bytes(self) -> int:
        return int(self._cupy.cuda.runtime.memGetInfo()[0])

    @contextmanager
    def _room(self, nbytes: int) -> Iterator[None]:
        """Names what the driver says where the card has too little memory."""
        try:
            yield
        except self._cupy.cuda.runtime.CUDARuntimeError as error:
            if _NO_MEMORY not in str(error):
                raise
            raise DeviceMemoryError(
                f"the card has {self.free_bytes()} bytes free, {nbytes} were asked for",
                hint="lower the sizes in `params`, or end what else runs on the card",
            ) from None

    def _buffer_at(self, place: int, count: int, dtype: npt.DTypeLike, owner: object) -> CardBuffer:
        cuda, kind = self._cupy.cuda, np.dtype(dtype)
        memory = cuda.UnownedMemory(place, count * kind.itemsize, owner, self.number)
        pointer = cuda.MemoryPointer(memory, 0)
        return CardBuffer(self._cupy.ndarray((count,), dtype=kind, memptr=pointer))

    def _load_numba(self, file: str) -> None:
        """Loads all kernels of a file that is written in Python."""
        self.guard.pass_by(f"modules of `{file}`")
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
            self.guard.pass_by(f"a module of `{file}`")
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


def _cupy() -> Any:
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise MachineError(
            f"CuPy is not here ({error})",
            hint="install swarmbench[cuda12] or swarmbench[cuda13], whichever fits the driver",
        ) from None
