"""How a Numba kernel is declared: its parameters' types, and functions that kernels share."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

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


@dataclass(slots=True)
class Arithmetic:
    """What kernels did in the simulator of the kinds that `Cost` has, while it is followed."""

    is_followed: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str) -> None:
        """One more, by any thread of the launch."""
        if self.is_followed:
            with self._lock:
                self.counts[kind] += 1


#: That of the launch under way; the simulator has one at a time.
ARITHMETIC = Arithmetic()


def counted(kind: str) -> Callable[[Function], Function]:
    """A device function every call of which is one of `kind`, as `Cost` names them."""

    def marked(function: Function) -> Function:
        made: Any = device_function(function)
        if "simulator" not in type(made).__module__:
            return cast(Function, made)

        def counting(*arguments: Any) -> Any:
            ARITHMETIC.add(kind)
            return made(*arguments)

        return cast(Function, counting)

    return marked


def parameters(function: Callable[..., Any]) -> list[Any]:
    """The types of a kernel's parameters, as they were annotated."""
    kinds = dict(function.__annotations__)
    kinds.pop("return", None)
    return list(kinds.values())
