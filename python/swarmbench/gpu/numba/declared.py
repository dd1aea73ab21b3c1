"""How a Numba kernel is declared: its parameters' types, and functions that kernels share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Elements:
    """A parameter that is device memory: elements of one type."""

    dtype: type[np.generic]


if TYPE_CHECKING:
    # What they are is decided by the card or the simulator.
    u32: TypeAlias = Any
    u64: TypeAlias = Any
    i32: TypeAlias = Any
    i64: TypeAlias = Any
    f32: TypeAlias = Any
    u32s: TypeAlias = Any
    u64s: TypeAlias = Any
    i32s: TypeAlias = Any
    i64s: TypeAlias = Any
    f32s: TypeAlias = Any
else:
    u32, u64, i32, i64, f32 = np.uint32, np.uint64, np.int32, np.int64, np.float32
    u32s, u64s = Elements(np.uint32), Elements(np.uint64)
    i32s, i64s = Elements(np.int32), Elements(np.int64)
    f32s = Elements(np.float32)


def kernel(function: Function) -> Function:
    """Marks a kernel, every parameter of which is annotated with one of the types above.

    Its head stands in comments directly above, in the six parts that those of `.cu` files have.
    """
    return function


def device_function(function: Function) -> Function:
    """A function that kernels call on the device."""
    from numba import cuda

    made: Function = cuda.jit(device=True)(function)
    return made


def parameters(function: Callable[..., Any]) -> list[Any]:
    """The types of a kernel's parameters, as they were annotated."""
    kinds = dict(function.__annotations__)
    kinds.pop("return", None)
    return list(kinds.values())
