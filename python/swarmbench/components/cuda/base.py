"""What a component's CUDA side is: tables on a device, and one lane's operations over them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
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
    """What the kernels of one operation must move: different bytes of device memory that each
    launch reads and writes, summed over the launches."""

    bytes_read: int
    bytes_written: int


class CudaComponent(ABC):
    """A component on a device: its tables, which all lanes read. Built once, before a run.

    `native` is the same component on the CPU with the same seed: where its tables come from and
    what sampled answers are held against.
    """

    name: ClassVar[str]

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

    @abstractmethod
    def operation(self) -> CudaOperation:
        """One lane: a stream of its own, its scratch allocated and touched."""

    @classmethod
    @abstractmethod
    def device_bytes(cls, component: Component, lanes: int) -> int:
        """Device memory that the tables and so many lanes take, in bytes."""

    def describe(self) -> dict[str, Any]:
        """Facts established while building, as JSON values."""
        return {}


class CudaOperation(ABC):
    """One lane's operations; used by one thread at a time.

    Its device memory is taken when it is made: no operation and no check takes more.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.stream = device.stream()

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
        """What the kernels of the last `run` of `op` had to move."""
