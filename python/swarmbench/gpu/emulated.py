"""A device that runs the kernel files on the processor, through the emulator beside this file.

It proves answers, accesses and synchronisation, not speed: its times say nothing of a card.
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from swarmbench.errors import MachineError
from swarmbench.gpu import source
from swarmbench.gpu.cache import cached_file
from swarmbench.gpu.device import (
    POISON,
    Argument,
    Array,
    Buffer,
    DeviceLostError,
    DeviceMemoryError,
    Kernel,
    check_arguments,
)
from swarmbench.gpu.source import KernelSource

#: How the kernels are compiled: fast, with AddressSanitizer, or with every access followed.
Build = Literal["plain", "address", "traced"]

_EMULATOR = Path(__file__).parent / "emulator"
_FLAGS = ("-std=c++20", "-O2", "-g1", "-fPIC", "-DHOST_CUDA", "-ffp-contract=off", "-w")
_BUILD_FLAGS: dict[Build, tuple[str, ...]] = {
    "plain": (),
    "address": ("-fsanitize=address",),
    "traced": ("-DHOST_CUDA_TRACED",),
}
_TRACED_KERNEL = "-fsanitize=thread"
_COUNTS = (
    "read_bytes",
    "written_bytes",
    "distinct_read_bytes",
    "distinct_written_bytes",
    "shared_read_bytes",
    "shared_written_bytes",
    "atomics",
)


class EmulationError(DeviceLostError):
    """A kernel did in the emulator what no kernel may do."""


@dataclass(slots=True)
class Counts:
    """What kernels moved, in bytes: asked for by threads, and different ones in each launch."""

    read_bytes: int = 0
    written_bytes: int = 0
    distinct_read_bytes: int = 0
    distinct_written_bytes: int = 0
    shared_read_bytes: int = 0
    shared_written_bytes: int = 0
    atomics: int = 0
    launches: int = 0

    def add(self, found: ctypes.Array[ctypes.c_uint64]) -> None:
        """Adds what one launch did."""
        self.launches += 1
        for name, value in zip(_COUNTS, found, strict=True):
            setattr(self, name, getattr(self, name) + int(value))


@dataclass(frozen=True, slots=True)
class HostBuffer:
    """Device memory of the emulator: an array of the host."""

    array: Array

    @property
    def count(self) -> int:
        return len(self.array)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    def part(self, first: int, count: int) -> HostBuffer:
        assert 0 <= first <= first + count <= len(self.array)
        return HostBuffer(self.array[first : first + count])


class _Region(ctypes.Structure):
    _fields_ = (("first", ctypes.c_void_p), ("nbytes", ctypes.c_uint64))


@dataclass(frozen=True, slots=True)
class _Library:
    """One kernel file as a shared library; one launch of it at a time."""

    loaded: ctypes.CDLL
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class HostKernel:
    """A kernel of the emulator: its library and its number there."""

    source: KernelSource
    library: _Library
    number: int

    @property
    def name(self) -> str:
        return self.source.name


class EmulatedDevice:
    """The emulator as a device; `seed` orders its threads and blocks, `is_random` also lets others
    run between two accesses that others may meet."""

    name = "emulated"
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
        self.allocated_bytes = 0
        self._seed, self._build, self._is_random = seed, build, is_random
        self._memory_bytes = memory_bytes
        self._kernels: dict[tuple[str, str, tuple[tuple[str, int], ...]], HostKernel] = {}

    def use(self) -> None:
        """Every thread may launch."""

    def empty(self, count: int, dtype: npt.DTypeLike) -> HostBuffer:
        nbytes = count * np.dtype(dtype).itemsize
        if self.allocated_bytes + nbytes > self._memory_bytes:
            raise DeviceMemoryError(
                f"the emulated device has {self.free_bytes()} bytes free, {nbytes} were asked for",
                hint="lower the sizes in `params`",
            )
        self.allocated_bytes += nbytes
        return HostBuffer(_poisoned(nbytes).view(dtype))

    def uploaded(self, array: Array) -> HostBuffer:
        buffer = self.empty(len(array), array.dtype)
        buffer.array[:] = array
        return buffer

    def pinned(self, count: int, dtype: npt.DTypeLike) -> Array:
        return np.zeros(count, dtype)

    def mapped(self, array: Array) -> HostBuffer:
        return HostBuffer(array)

    def kernel(self, file: str, name: str, defines: Mapping[str, int] | None = None) -> HostKernel:
        key = (file, name, tuple(sorted((defines or {}).items())))
        if key not in self._kernels:
            library = _library(file, source.text_of(file), key[2], self._build)
            self._kernels[key] = _kernel(library, source.kernels(file), name)
        return self._kernels[key]

    def kernel_of(self, text: str, name: str) -> HostKernel:
        """The kernel `name` of a file that is given as text."""
        library = _library("given.cu", text, (), self._build)
        return _kernel(library, tuple(source.parsed("given.cu", text)), name)

    def stream(self) -> EmulatedStream:
        return EmulatedStream(self)

    def free_bytes(self) -> int:
        return self._memory_bytes - self.allocated_bytes

    def run(
        self,
        kernel: HostKernel,
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
        buffers = [each for each in arguments if isinstance(each, HostBuffer)]
        values = [_value(each) for each in arguments]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(each) for each in values))
        regions = (_Region * len(buffers))(
            *(_Region(each.array.ctypes.data, each.nbytes) for each in buffers)
        )
        counts = (ctypes.c_uint64 * len(_COUNTS))()
        with kernel.library.lock:
            self._seed = (self._seed * 6364136223846793005 + 1442695040888963407) % (1 << 64)
            problem = kernel.library.loaded.host_cuda_launch(
                ctypes.c_uint32(kernel.number),
                (ctypes.c_uint32 * 3)(grid, 1, 1),
                (ctypes.c_uint32 * 3)(block, 1, 1),
                ctypes.c_uint64(shared_bytes),
                pointers,
                regions,
                ctypes.c_uint32(len(buffers)),
                ctypes.c_uint64(self._seed >> 16),
                ctypes.c_uint32(self._is_random),
                counts,
            )
        self.counts.add(counts)
        if problem is not None:
            raise EmulationError(f"kernel `{kernel.name}`: {problem.decode()}")


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
        self._device.run(cast(HostKernel, kernel), grid, block, arguments, shared_bytes)

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

    def synchronize(self) -> None:
        """Nothing is under way."""


def _poisoned(nbytes: int) -> npt.NDArray[np.uint8]:
    """Memory that begins at a multiple of 256 bytes, as on a card, and ends where it ends.

    An allocation of its own, so that AddressSanitizer sees the byte after it.
    """
    if nbytes == 0:
        return np.empty(0, np.uint8)
    libc, place = ctypes.CDLL(None), ctypes.c_void_p()
    failed = libc.posix_memalign(ctypes.byref(place), ctypes.c_size_t(256), ctypes.c_size_t(nbytes))
    if failed:
        raise DeviceMemoryError(f"the host has no {nbytes} bytes left", hint="lower the sizes")
    raw = (ctypes.c_uint8 * nbytes).from_address(place.value or 0)
    weakref.finalize(raw, libc.free, place)
    array: npt.NDArray[np.uint8] = np.ctypeslib.as_array(raw)
    array[:] = POISON
    return array


def _array(buffer: Buffer) -> Array:
    return cast(HostBuffer, buffer).array


def _value(argument: Argument) -> Any:
    """An argument as the emulator reads it: a pointer, or the scalar's bytes."""
    if isinstance(argument, np.generic):
        return (ctypes.c_uint8 * argument.dtype.itemsize).from_buffer_copy(argument.tobytes())
    return ctypes.c_void_p(_array(argument).ctypes.data)


@cache
def compiler() -> str:
    """The host's C++ compiler; raises `MachineError` where there is none."""
    found = shutil.which("g++")
    if found is None:
        raise MachineError(
            "the emulated device compiles the kernels with `g++`, which is not installed",
            hint="install a C++ toolchain, or leave `--device emulated` out",
        )
    return found


def _kernel(library: _Library, found: Sequence[KernelSource], name: str) -> HostKernel:
    kernel = next(each for each in found if each.name == name)
    return HostKernel(kernel, library, library.loaded.host_cuda_entry(name.encode()))


@cache
def _library(file: str, text: str, defines: tuple[tuple[str, int], ...], build: Build) -> _Library:
    return _Library(_loaded(_built(file, text, defines, build)))


def _loaded(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.host_cuda_launch.restype = ctypes.c_char_p
    library.host_cuda_entry.restype = ctypes.c_uint32
    return library


def _built(file: str, text: str, defines: tuple[tuple[str, int], ...], build: Build) -> Path:
    """The library of a kernel file, compiled once for each text, emulator and set of flags."""
    names = [each.name for each in source.parsed(file, text)]
    entries = ", ".join(f"HOST_CUDA_ENTRY({name})" for name in names)
    wrapper = (
        f'#line 1 "{file}"\n{text}\n'
        f'extern "C" const host_cuda::Entry host_cuda_entries[] = {{{entries}, {{}}}};\n'
    )
    flags = (*_FLAGS, *_BUILD_FLAGS[build], *(f"-D{name}={value}" for name, value in defines))
    parts = sorted(path for path in _EMULATOR.iterdir() if path.suffix in (".h", ".cpp"))
    headers = sorted(source.DIRECTORY.glob("*.cuh"))
    digest = hashlib.sha256("\0".join((wrapper, *flags, compiler())).encode())
    for path in (*parts, *headers):
        digest.update(path.read_bytes())
    return cached_file(
        f"emulated/{Path(file).stem}-{digest.hexdigest()[:24]}.so",
        lambda target: _compile(file, wrapper, flags, build, target),
    )


def _compile(file: str, wrapper: str, flags: tuple[str, ...], build: Build, target: Path) -> None:
    common = [compiler(), *flags, f"-I{source.DIRECTORY}", f"-I{_EMULATOR}"]
    objects = [target.with_suffix(f".{part}.o") for part in ("kernels", "host_cuda", "tracing")]
    kernel_flags = [_TRACED_KERNEL] if build == "traced" else []
    _call([*common, *kernel_flags, "-x", "c++", "-c", "-", "-o", str(objects[0])], file, wrapper)
    for part in objects[1 : 3 if build == "traced" else 2]:
        name = part.suffixes[-2].removeprefix(".")
        _call([*common, "-c", str(_EMULATOR / f"{name}.cpp"), "-o", str(part)], file)
    linked = [part for part in objects if part.exists()]
    _call([*common, "-shared", "-o", str(target), *map(str, linked)], file)
    for part in linked:
        part.unlink()


def _call(command: list[str], file: str, text: str = "") -> None:
    ended = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        first = next((line for line in ended.stderr.splitlines() if "error" in line), "")
        raise MachineError(f"kernel file `{file}` does not compile for the host: {first}")
