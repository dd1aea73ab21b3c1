"""What `gpu.card` and `gpu.card_stream` ask of CuPy, held against it where it is installed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from swarmbench.gpu import card, card_stream
from swarmbench.gpu.card import CardDevice
from swarmbench.gpu.device import DeviceMemoryError
from swarmbench.gpu.guard import Guard

cupy: Any = pytest.importorskip("cupy")

#: More errors than CUDA's runtime has numbers for.
ERRORS = 1000
#: Libraries that CuPy loads when they are asked for, and that a machine may lack.
LIBRARIES = {"cublas"}


def names_asked() -> Iterator[tuple[str, ...]]:
    """Each chain of names that begins at CuPy, such as (cuda, runtime, setDevice)."""
    texts = (Path(module.__file__).read_text() for module in (card, card_stream))
    for node in (node for text in texts for node in ast.walk(ast.parse(text))):
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name) and "_cupy" in names:
            yield tuple(names[names.index("_cupy") + 1 :])
        elif isinstance(node, ast.Name) and node.id == "cupy":
            yield tuple(names)
        elif isinstance(node, ast.Name) and node.id == "cuda":
            yield "cuda", *names
        elif isinstance(node, ast.Name) and node.id in ("runtime", "driver", "cublas"):
            yield "cuda", node.id, *names


def test_every_name_that_is_asked_of_cupy_is_there() -> None:
    asked = sorted({names for names in names_asked() if names and not LIBRARIES & {*names}})
    assert ("cuda", "Stream") in asked
    assert ("cuda", "runtime", "memGetInfo") in asked
    assert ("cuda", "PinnedMemory") in asked
    for names in asked:
        found = cupy
        for name in names:
            found = getattr(found, name)


def test_a_mapped_array_and_its_parts_are_where_the_host_has_them() -> None:
    array = np.arange(10, dtype=np.uint32)
    device = device_with(
        UnownedMemory=cupy.cuda.UnownedMemory, MemoryPointer=cupy.cuda.MemoryPointer
    )
    device._cupy.ndarray = cupy.ndarray
    buffer = device.mapped(array)
    assert (buffer.count, buffer.dtype, buffer.nbytes) == (10, np.uint32, 40)
    assert buffer.array.data.ptr == array.ctypes.data
    part = buffer.part(3, 5)
    assert (part.count, part.array.data.ptr) == (5, array.ctypes.data + 12)
    assert buffer.part(10, 0).nbytes == 0


def device_with(**cuda: Any) -> CardDevice:
    """A device that was never opened; beside what is given it has CuPy's own names."""
    device = object.__new__(CardDevice)
    names = {"PinnedMemoryPointer": cupy.cuda.PinnedMemoryPointer, "runtime": cupy.cuda.runtime}
    device._cupy, device.number = SimpleNamespace(cuda=SimpleNamespace(**names | cuda)), 0
    device.host_allocated_bytes = device.raw_bytes = 0
    device._raw = set()
    device.guard = Guard()
    return device


def test_a_pinned_array_is_all_of_what_was_allocated() -> None:
    room = np.full(24, 0xA5, np.uint8)

    def allocated(nbytes: int, flags: int) -> SimpleNamespace:
        assert (nbytes, flags) == (24, cupy.cuda.runtime.hostAllocPortable)
        return SimpleNamespace(ptr=room.ctypes.data, size=nbytes)

    array = device_with(PinnedMemory=allocated).pinned(3, np.uint64)
    assert (array.dtype, array.tolist()) == (np.uint64, [0, 0, 0])
    array[2] = 7
    assert room.tolist() == [0] * 16 + [7] + [0] * 7


@pytest.mark.parametrize(("number", "raised"), [(2, DeviceMemoryError), (999, RuntimeError)])
def test_too_little_memory_of_the_host_is_said_and_nothing_else_is(
    number: int, raised: type[Exception]
) -> None:
    def refused(nbytes: int, flags: int) -> None:
        raise cupy.cuda.runtime.CUDARuntimeError(number)

    with pytest.raises(raised) as error:
        device_with(PinnedMemory=refused).pinned(3, np.uint64)
    assert type(error.value) is not DeviceMemoryError or "no 24 bytes left" in str(error.value)


def test_raw_memory_is_the_drivers_and_is_given_back_once() -> None:
    rooms = [np.zeros(32, np.uint8), np.zeros(8, np.uint8)]
    given, left = [room.ctypes.data for room in rooms], list[int]()

    def malloc(nbytes: int) -> int:
        if not given:
            raise cupy.cuda.runtime.CUDARuntimeError(2)
        assert nbytes == 32 if len(given) == 2 else 8
        return given.pop(0)

    error = cupy.cuda.runtime.CUDARuntimeError
    names = {"memGetInfo": lambda: (5, 9), "malloc": malloc, "free": left.append}
    drivers = SimpleNamespace(CUDADriverError=cupy.cuda.driver.CUDADriverError)
    device = device_with(
        runtime=SimpleNamespace(CUDARuntimeError=error, **names),
        driver=drivers,
        UnownedMemory=cupy.cuda.UnownedMemory,
        MemoryPointer=cupy.cuda.MemoryPointer,
    )
    device._cupy.ndarray = cupy.ndarray
    first, second = device.raw_allocation(4, np.uint64), device.raw_allocation(8, np.uint8)
    assert (first.count, first.dtype, second.nbytes) == (4, np.uint64, 8)
    assert device.raw_bytes == 40
    with pytest.raises(DeviceMemoryError, match="5 bytes free, 3 were asked for"):
        device.raw_allocation(3, np.uint8)
    device.raw_free(first)
    assert (left, device.raw_bytes) == ([rooms[0].ctypes.data], 8)
    with pytest.raises(KeyError):
        device.raw_free(first)


def test_the_errors_that_lose_a_device_have_the_names_that_the_runtime_gives_them() -> None:
    errors = (cupy.cuda.runtime.CUDARuntimeError(number) for number in range(ERRORS))
    named = {str(error).split(":")[0] for error in errors}
    assert {name for name in card_stream._LOST if name.startswith("cuda")} <= named
