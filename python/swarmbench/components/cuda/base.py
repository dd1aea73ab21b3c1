"""What a component's CUDA side is: tables on a device, and one lane's operations over them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import astuple, dataclass
from typing import Any, ClassVar, Literal

from swarmbench import _native
from swarmbench.components.base import Arrays, Component
from swarmbench.components.prepared import Progress
from swarmbench.gpu.device import Device


@dataclass(frozen=True, slots=True)
class Done:
    """How one operation ended, and the units of work that it did."""

    units: int
    status: Literal["ok", "error", "rejected"] = "ok"


@dataclass(frozen=True, slots=True)
class Cost:
    """What the kernels of one operation must do, summed over their launches and threads.

    `bytes_read` and `bytes_written` are different bytes of device memory that a launch reads and
    writes. The arithmetic is what decides an op's bound where memory does not:

    - `multiply_adds`: products of the op's own formula, each with the addition that takes it in:
      `__dp4a` is four, `__fmul_rn` and `__fmaf_rn`, `product` and `multiply_add` of `common.cuh`
      are one. Products of addresses, of hashes and inside a generator are none.
    - `random_draws`: blocks of Philox4x32-10, words of xoshiro128++.
    - `comparisons`: places that are held against what a pattern demands there, or a word of bits
      against that of many patterns; pairs of agents held against how far they see.

    Where the kernels of an op do none of one kind, it is 0, and that is compared too.
    """

    bytes_read: int
    bytes_written: int
    multiply_adds: int = 0
    random_draws: int = 0
    comparisons: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(own + more for own, more in zip(astuple(self), astuple(other), strict=True)))


class CudaComponent(ABC):
    """A component on a device: its tables, which all lanes read. Built once, before a run.

    `native` is the same component on the CPU with the same seed: where its tables come from and
    what sampled answers are held against.
    """

    name: ClassVar[str]
    #: Op types whose host code the device can do without: launches that follow from the key alone,
    #: an answer that comes to the host, no state that another operation finds.
    repeatable: ClassVar[frozenset[str]] = frozenset()
    #: Those of them whose answer comes to the host, or its digest, by the commands of the check.
    told_by_check: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        component: Component,
        native: _native.Component,
        device: Device,
        seed: int,
        progress: Progress | None = None,
    ) -> None:
        self.component = component
        self.native = native
        self.device = device
        self.seed = seed
        self.progress = progress or (lambda stage, share: None)
        self.build()

    def build(self) -> None:
        """Makes the tables that all lanes read; here there are none."""
        return

    @classmethod
    def hinders_waiting(cls, component: Component) -> bool:
        """Whether operations ask what waits for all streams, so that none may wait for the host:
        memory, or copies of pageable memory."""
        return False

    @abstractmethod
    def operation(self) -> CudaOperation:
        """One lane: a stream of its own, its scratch allocated and touched."""

    @classmethod
    @abstractmethod
    def device_bytes(cls, component: Component, lanes: int) -> int:
        """Device memory that the tables and so many lanes take, in bytes."""

    @classmethod
    @abstractmethod
    def host_bytes(cls, component: Component, lanes: int) -> int:
        """The host's memory that they take for the device's sake, pinned most of it, in bytes:
        beside what the component keeps on the CPU, and part of the same budget."""

    def describe(self) -> dict[str, Any]:
        """Facts established while building, as JSON values."""
        return {}


class CudaOperation(ABC):
    """One lane's operations; used by one thread at a time.

    Its memory is taken when it is made: no operation and no check takes more.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.stream = device.stream()
        #: Every answer is checked as closely as some are: set while answers are learned.
        self.looks_closely = False

    @abstractmethod
    def run(self, op: str, key: int) -> Done:
        """Runs the operation `key` to its end: its answer has come back."""

    @abstractmethod
    def verify(self) -> tuple[int, int]:
        """Answers of the last `run` that were checked, and wrong ones among them."""

    @abstractmethod
    def plant(self, fault: str) -> bool:
        """Damages the answer of the last `run`; False where there was nothing to damage.

        `fault` is one of `_native.fault_names()`.
        """

    @abstractmethod
    def evaluate(self, op: str, inputs: Arrays) -> Arrays:
        """The answers for given inputs, as `Component.reference` has them, by the same kernels."""

    @abstractmethod
    def cost(self, op: str) -> Cost:
        """What the kernels of the last `run` of `op` had to move and to work out."""
