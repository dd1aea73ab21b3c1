"""Runs Numba kernels in Numba's simulator, and follows what they do to device memory.

Each thread of a block is a thread of Python, so a launch is slow and small: at most 4 blocks of 64
threads, one launch at a time in the process. An index outside a buffer stops it; where accesses are
followed, so does a data race, and bytes and arithmetic are counted.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from swarmbench.errors import MachineError
from swarmbench.gpu import source
from swarmbench.gpu.device import POISON, Array
from swarmbench.gpu.numba.declared import ARITHMETIC
from swarmbench.gpu.source import KernelSource

GRID_MAX, BLOCK_MAX = 4, 64
#: How long the interpreter lets one thread run. Those of a block wait for each other at barriers
#: while the simulator polls; with the usual 5 ms every barrier would take as long.
_SWITCH_S = 1e-4
_SWITCH = "NUMBA_ENABLE_CUDASIM"

#: The module whose functions read and write for an atomic.
_ATOMICS = "numba.cuda.simulator.kernelapi"

_one_launch = threading.Lock()


class AccessError(Exception):
    """A kernel did what no kernel may do."""


@dataclass(frozen=True, slots=True)
class SimulatedKernel:
    """A kernel that the simulator runs."""

    source: KernelSource
    function: Callable[..., None]

    @property
    def name(self) -> str:
        return self.source.name


def simulated(file: str, name: str) -> SimulatedKernel:
    """The kernel of that name; raises `MachineError` where the simulator cannot be had."""
    _simulator()
    module = importlib.import_module(f"swarmbench.gpu.numba.{file.removesuffix('.py')}")
    found = next(each for each in source.kernels(file) if each.name == name)
    return SimulatedKernel(found, getattr(module, name))


@cache
def _simulator() -> ModuleType:
    """Numba's `cuda` as the simulator has it, with threads that count their barriers."""
    hint = "install swarmbench[cuda12] or swarmbench[cuda13]"
    if "numba.cuda" not in sys.modules:
        os.environ[_SWITCH] = "1"
        if "numba" in sys.modules:
            # Used for the processor so far: it has read the environment.
            settings: Any = importlib.import_module("numba.core.config")
            settings.ENABLE_CUDASIM = 1
    try:
        cuda = importlib.import_module("numba.cuda")
        simulator = importlib.import_module("numba.cuda.simulator.kernel")
    except ImportError as error:
        raise MachineError(f"Numba's simulator is not here ({error})", hint=hint) from None
    if "simulator" not in cuda.jit.__module__:
        raise MachineError(
            "Numba was loaded to compile, and cannot simulate in the same process",
            hint=f"set {_SWITCH}=1 before Python starts",
        )

    class CountingThread(simulator.BlockThread):  # type: ignore[misc, name-defined]
        """A simulated thread that knows how many barriers it has passed."""

        barriers = 0

        def syncthreads(self) -> None:
            super().syncthreads()
            self.barriers += 1

    class Module(simulator.FakeCUDAModule):  # type: ignore[misc, name-defined]
        """What a kernel finds under `cuda` in one launch."""

        def __init__(self, grid: Any, block: Any, shared_bytes: int) -> None:
            super().__init__(grid, block, shared_bytes)
            self._shared = _of_launch.shared = SharedMemory(shared_bytes, _of_launch.is_followed)

    simulator.BlockThread = CountingThread  # type: ignore[attr-defined]
    simulator.FakeCUDAModule = Module  # type: ignore[attr-defined]
    return cuda


class _Wrapping:
    """A kernel function whose integers wrap around as a card's do, without a warning."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.__globals__ = function.__globals__
        self.__name__, self.__doc__ = function.__name__, function.__doc__
        self._function = function

    def __call__(self, *arguments: object) -> None:
        with np.errstate(over="ignore"):
            self._function(*arguments)


class Bounded:
    """A buffer that a kernel reads and writes element by element, and not beside it."""

    __slots__ = ("array", "count", "dtype", "name")

    def __init__(self, name: str, array: Array) -> None:
        self.name, self.array, self.count, self.dtype = name, array, len(array), array.dtype

    def checked(self, index: Any) -> int:
        """The index as a number; raises `AccessError` where there is no such element."""
        at = int(index)
        if not 0 <= at < self.count:
            raise AccessError(f"index {at} of `{self.name}`, which has {self.count} elements")
        return at

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            first, end, _ = index.indices(self.count)
            return self._part(first, end)
        return self.array[self.checked(index)]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.array[self.checked(index)] = value

    def _part(self, first: int, end: int) -> Bounded:
        return Bounded(self.name, self.array[first:end])


@dataclass(slots=True)
class _Touch:
    """Who touched an element last: block, thread (None for several) and barriers passed."""

    block: int
    thread: int | None
    barriers: int
    is_atomic: bool


class Accesses:
    """What one launch did to each element: counted, and held against the order of barriers."""

    def __init__(self, atomics: str) -> None:
        self.atomics = atomics
        self._asked = dict.fromkeys(("read_bytes", "written_bytes", "atomics"), 0)
        self._reads: dict[int, dict[int, _Touch]] = {}
        self._writes: dict[int, _Touch] = {}
        self._sizes: dict[int, int] = {}
        self._lock = threading.Lock()

    @property
    def counts(self) -> dict[str, int]:
        """Bytes asked for by threads, different ones among them, and atomics."""
        return self._asked | {
            "distinct_read_bytes": sum(self._sizes[place] for place in self._reads),
            "distinct_written_bytes": sum(self._sizes[place] for place in self._writes),
        }

    def note(self, name: str, place: int, size: int, is_write: bool, is_atomic: bool) -> None:
        """Files one access; raises `AccessError` where another one may come before or after it."""
        thread: Any = threading.current_thread()
        block = int(thread.blockIdx.x)
        now = _Touch(block, int(thread.thread_id), thread.barriers, is_atomic)
        with self._lock:
            self._sizes[place] = size
            self._asked["written_bytes" if is_write else "read_bytes"] += size
            others = [self._writes[place]] if place in self._writes else []
            if is_write:
                self._asked["atomics"] += is_atomic
                others += self._reads.get(place, {}).values()
            if any(_races(now, other) for other in others):
                what = "written" if is_write else "read"
                raise AccessError(f"data race: `{name}` is {what} and written without a barrier")
            self._file(place, now, is_write)

    def _file(self, place: int, now: _Touch, is_write: bool) -> None:
        if is_write:
            self._writes[place] = now
            return
        readers = self._reads.setdefault(place, {})
        before = readers.get(now.block)
        if before is not None and before.barriers == now.barriers and before.thread != now.thread:
            now.thread = None
            now.is_atomic = now.is_atomic and before.is_atomic
        readers[now.block] = now


def _races(now: _Touch, other: _Touch) -> bool:
    if now.is_atomic and other.is_atomic:
        return False
    if now.block != other.block:
        return True
    return now.thread != other.thread and now.barriers == other.barriers


class _Followed(Bounded):
    """A buffer each access to which is noted."""

    __slots__ = ("accesses",)

    def __init__(self, name: str, array: Array, accesses: Accesses) -> None:
        super().__init__(name, array)
        self.accesses = accesses

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            self._note(index, is_write=False)
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._note(index, is_write=True)
        super().__setitem__(index, value)

    def _note(self, index: Any, *, is_write: bool) -> None:
        place = self.array.ctypes.data + self.checked(index) * self.array.itemsize
        # The simulator's own code reads and writes for an atomic, under a lock.
        caller = sys._getframe(2).f_globals["__name__"]
        self.accesses.note(
            self.name, place, self.array.itemsize, is_write, caller == self.accesses.atomics
        )

    def _part(self, first: int, end: int) -> Bounded:
        return _Followed(self.name, self.array[first:end], self.accesses)


class SharedMemory:
    """The shared memory of the block that runs: poisoned before each, followed where asked for.

    The simulator's own is that of the whole launch, and begins with zeros.
    """

    def __init__(self, nbytes: int, is_followed: bool) -> None:
        self._nbytes, self._is_followed = nbytes, is_followed
        self._block: int | None = None
        self._dynamic = _poisoned(0)
        self._static: dict[tuple[object, int], Array] = {}
        self._accesses: list[Accesses] = []
        self._lock = threading.Lock()

    @property
    def counts(self) -> dict[str, int]:
        """Bytes of shared memory that threads asked for."""
        return {
            f"shared_{what}": sum(each.counts[what] for each in self._accesses)
            for what in ("read_bytes", "written_bytes")
        }

    def array(self, shape: int, dtype: Any, alignment: int | None = None) -> Any:
        """An array of the block: of the launch's bytes where its shape is 0, else that of the line
        that asks for it."""
        assert alignment is None
        thread: Any = threading.current_thread()
        frame, kind = sys._getframe(1), np.dtype(dtype.name)
        with self._lock:
            if self._block != thread.blockIdx.x:
                self._block = thread.blockIdx.x
                self._dynamic, self._static = _poisoned(self._nbytes), {}
                self._accesses.append(Accesses(_ATOMICS))
            if shape == 0:
                end = self._nbytes // kind.itemsize * kind.itemsize
                array = self._dynamic[:end].view(kind)
            else:
                place = (frame.f_code, frame.f_lineno)
                fresh = _poisoned(shape * kind.itemsize).view(kind)
                array = self._static.setdefault(place, fresh)
        if self._is_followed:
            return _Followed("shared memory", array, self._accesses[-1])
        return array


def _poisoned(nbytes: int) -> npt.NDArray[np.uint8]:
    return np.full(nbytes, POISON, np.uint8)


@dataclass(slots=True)
class _Launch:
    """What the launch under way was asked for, and its shared memory."""

    is_followed: bool = False
    shared: SharedMemory | None = None


#: One at a time: `_one_launch`.
_of_launch = _Launch()


def launch(
    kernel: SimulatedKernel,
    grid: int,
    block: int,
    arguments: Sequence[Array | np.generic],
    shared_bytes: int,
    *,
    is_followed: bool,
) -> dict[str, int]:
    """Runs a kernel to its end; returns what it moved where that is followed. Raises
    `AccessError` for what no kernel may do."""
    assert grid <= GRID_MAX, f"{kernel.name}: {grid} blocks in the simulator"
    assert block <= BLOCK_MAX, f"{kernel.name}: blocks of {block} threads in the simulator"
    accesses = Accesses(_ATOMICS)
    names = [parameter.name for parameter in kernel.source.parameters]
    given = [
        each if isinstance(each, np.generic)
        else _Followed(name, each, accesses) if is_followed
        else Bounded(name, each)
        for name, each in zip(names, arguments, strict=True)
    ]  # fmt: skip
    with _one_launch:
        made = _simulator().jit(_Wrapping(kernel.function))
        _of_launch.is_followed = ARITHMETIC.is_followed = is_followed
        ARITHMETIC.counts.clear()
        usual = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        try:
            made[grid, block, 0, shared_bytes](*given)
        except (AccessError, IndexError, OverflowError, RuntimeError) as error:
            raise AccessError(str(error)) from error
        finally:
            sys.setswitchinterval(usual)
        shared = _of_launch.shared.counts if _of_launch.shared else {}
        return accesses.counts | shared | ARITHMETIC.counts
