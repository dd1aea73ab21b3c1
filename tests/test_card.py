"""What `gpu/card.py` asks of CuPy, held against CuPy itself where that is installed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swarmbench.gpu import card
from swarmbench.gpu.card import CardDevice

cupy: Any = pytest.importorskip("cupy")

#: More errors than CUDA's runtime has numbers for.
ERRORS = 1000
#: Libraries that CuPy loads when they are asked for, and that a machine may lack.
LIBRARIES = {"cublas"}


def names_asked() -> Iterator[tuple[str, ...]]:
    """Each chain of names that begins at CuPy, such as (cuda, runtime, setDevice)."""
    for node in ast.walk(ast.parse(Path(card.__file__).read_text())):
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name) and "_cupy" in names:
            yield tuple(names[names.index("_cupy") + 1 :])
        elif isinstance(node, ast.Name) and node.id == "cupy":
            yield tuple(names)
        elif isinstance(node, ast.Name) and node.id in ("runtime", "driver", "cublas"):
            yield "cuda", node.id, *names


def test_every_name_that_is_asked_of_cupy_is_there() -> None:
    asked = sorted({names for names in names_asked() if names and not LIBRARIES & {*names}})
    assert ("cuda", "Stream") in asked
    assert ("cuda", "runtime", "memGetInfo") in asked
    for names in asked:
        found = cupy
        for name in names:
            found = getattr(found, name)


def test_a_mapped_array_and_its_parts_are_where_the_host_has_them() -> None:
    device = object.__new__(CardDevice)
    device._cupy, device._number = cupy, 0
    array = np.arange(10, dtype=np.uint32)
    buffer = device.mapped(array)
    assert (buffer.count, buffer.dtype, buffer.nbytes) == (10, np.uint32, 40)
    assert buffer.array.data.ptr == array.ctypes.data
    part = buffer.part(3, 5)
    assert (part.count, part.array.data.ptr) == (5, array.ctypes.data + 12)
    assert buffer.part(10, 0).nbytes == 0


def test_the_errors_that_lose_a_device_have_the_names_that_the_runtime_gives_them() -> None:
    errors = (cupy.cuda.runtime.CUDARuntimeError(number) for number in range(ERRORS))
    named = {str(error).split(":")[0] for error in errors}
    assert {name for name in card._LOST if name.startswith("cuda")} <= named
