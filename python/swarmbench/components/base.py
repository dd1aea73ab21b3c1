"""What a component is: parameters, inputs, cost and a plain NumPy reference, each given once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from swarmbench import _native
from swarmbench.components.prepared import Prepared, Progress
from swarmbench.gpu.device import Device

Arrays = dict[str, npt.NDArray[Any]]
Profile = Literal["quick", "standard", "full"]
Roof = Literal[
    "copy_bytes_s",
    "read_bytes_s",
    "write_bytes_s",
    "random_64b_s",
    "cache_read_bytes_s",
    "fma_flop_s",
    "disk_read_direct_bytes_s",
]

#: Resident bytes that a component is fitted to where only its answers are of interest.
SMALL_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Op:
    """One op type of a component: what it is counted in and what it must move per unit.

    `cost` is in the roof's own unit (bytes, 64-byte loads or floating-point operations) per unit
    of work at the default sizes, so the physical ceiling in units per second is the measured roof
    divided by it; `Component.cost` has it at other sizes.
    """

    name: str
    unit: str
    roof: Roof
    cost: float


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, the most tokens to answer it with, and what native parsing must find in it."""

    text: str
    tokens_max: int
    label: int


class Component(BaseModel, ABC):
    """One part under test. Subclasses add their parameters as fields, with bounds.

    Every array is one-dimensional; `inputs` are a pure function of (seed, op, key), identical to
    what the native backends generate for the request of that key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    #: What the goodput of the component is given in ("votes", "bytes", "queries"): that of the op
    #: types which are counted in it; op types of another unit have theirs alone.
    unit: ClassVar[str]
    #: The order is that of the native table.
    ops: ClassVar[tuple[Op, ...]]
    #: Ops of the production mix and their weights.
    weights: ClassVar[Mapping[str, float]]
    #: Operations per second at load multiplier 1; None where it is a share of the capacity
    #: calibrated in the run (`capacity_share`).
    production_rate_s: ClassVar[float | None]
    capacity_share: ClassVar[float] = 0.0
    #: Operations kept in flight where the loop is closed (the seed's stress settings).
    stress_in_flight: ClassVar[int]
    #: Ops whose very job is fresh memory or a new process; all others allocate nothing and touch no
    #: fresh page once they are prepared.
    allocating_ops: ClassVar[frozenset[str]] = frozenset()
    #: How far a float answer may be from the reference's, as a share of the larger of it and 1;
    #: with 0 it has its bits.
    tolerance: ClassVar[float] = 0.0
    #: The op in whose place a model server can be asked; None where there is none.
    endpoint_op: ClassVar[str | None] = None
    #: The original's figures, which nobody measured; printed beside the measured ones.
    claim: ClassVar[str] = ""

    @classmethod
    def for_profile(cls, profile: Profile, **parameters: Any) -> Self:
        """The component at the sizes of a profile; given parameters win."""
        return cls(**parameters)

    @abstractmethod
    def resident_bytes(self, workers: int) -> int:
        """Bytes that it will keep resident, by the formula that fits it to a budget."""

    def build_bytes(self) -> int:
        """Most bytes that it holds at once while it is built, where building takes more."""
        return 0

    def peak_bytes(self, workers: int) -> int:
        """Most bytes that it ever holds: what has to fit into a budget."""
        return max(self.resident_bytes(workers), self.build_bytes())

    def written_bytes(self) -> int:
        """Most bytes that it writes to a disk in a run."""
        return 0

    def writing(self, budget_bytes: int) -> tuple[Self, list[str]]:
        """Itself, writing no more than the budget, and a line about what follows from its end."""
        return self, []

    def disk_directory(self) -> Path | None:
        """Where the op types lie whose roof is that of a disk; None where there are none."""
        return None

    def cost(self, op: Op) -> float:
        """What one unit of `op` must move at this component's own sizes, in the roof's unit."""
        return op.cost

    def fitted(self, budget_bytes: int, workers: int) -> tuple[Self, list[str]]:
        """The largest version of itself whose peak is within the budget, and a line for each size
        that changed."""
        return self, []

    @abstractmethod
    def inputs(self, op: str, seed: int, key: int) -> Arrays:
        """The inputs of the operation `key`, as named arrays for `reference` and `evaluate`."""

    @abstractmethod
    def reference(self, op: str, inputs: Arrays) -> Arrays:
        """The right answers, by the plainest NumPy that can be trusted."""

    def perform(self, op: str, seed: int, key: int) -> bool:
        """One operation in Python, of a component without a native backend; False is a failure.

        It holds the interpreter, so such a component has one consumer beside the pool and its
        figures are those of Python. Without a version of its own it computes the reference.
        """
        self.reference(op, self.inputs(op, seed, key))
        return True

    @classmethod
    def small(cls) -> Self:
        """A version for tests: `reference` answers each op of it within about a second."""
        return cls().fitted(SMALL_BYTES, workers=2)[0]

    def unfit(self, backend: str) -> tuple[str, str] | None:
        """The parameter that a backend cannot run and why; None where it can run them all."""
        return None

    def on_host(self) -> Self:
        """Itself as the CPU's backend can hold it: what a device's answers are checked against."""
        return self

    def question(self, seed: int, key: int) -> Question:
        """What a model server is asked in the place of the operation `key` of `endpoint_op`."""
        raise LookupError(f"{self.name} asks no model server")

    def is_understood(self, native: _native.Component, question: Question) -> bool:
        """Whether the native backend finds in a question what was put into it."""
        raise LookupError(f"{self.name} asks no model server")

    @property
    def main_op(self) -> str:
        """The op that weighs most in the production mix, of equal ones the first."""
        return max(self.weights, key=lambda name: self.weights[name])

    def prepare(
        self,
        *,
        seed: int,
        backend: str = "cpu",
        threads: int = 1,
        progress: Progress | None = None,
        device: Device | int | str = 0,
    ) -> Prepared:
        """Builds it on a backend: allocates, generates, indexes, touches every page.

        For `cuda`, `device` is a card's number, `emulated`, or a device that is open already.
        Raises `ConfigurationError` for a backend that there is not, `MachineError` for one that
        cannot run here, `ValueError` where the backend refuses a parameter.
        """
        return Prepared.build(self, backend, seed, threads, progress, device)


def same_arrays(left: Arrays, right: Arrays) -> bool:
    """Whether two sets of answers agree in names, types, lengths and every bit."""
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and np.array_equal(left[name], right[name])
        for name in left
    )


def agree(found: Arrays, right: Arrays, tolerance: float) -> bool:
    """Whether answers are right: floats within `tolerance`, all else in every bit.

    A float may differ by `tolerance` times the larger of 1 and the right value's size.
    """
    if found.keys() != right.keys():
        return False
    for name, expected in right.items():
        answer = found[name]
        if answer.dtype != expected.dtype or answer.shape != expected.shape:
            return False
        if tolerance and answer.dtype.kind == "f":
            allowed = tolerance * np.maximum(1.0, np.abs(expected.astype(np.float64)))
            # A signalling NaN is no answer and no reason to stop.
            with np.errstate(invalid="ignore"):
                error = np.abs(answer.astype(np.float64) - expected)
            if not (error <= allowed).all():
                return False
        elif not np.array_equal(answer, expected):
            return False
    return True
