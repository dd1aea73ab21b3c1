"""A component built on a backend, and what its operations did when they ran alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from swarmbench import _native
from swarmbench.errors import ConfigurationError, MachineError
from swarmbench.gpu.alone import run_alone

if TYPE_CHECKING:
    from swarmbench.components.base import Component, Op
    from swarmbench.components.cuda.base import CudaComponent
    from swarmbench.gpu.device import Device

Progress = Callable[[str, float], None]

#: The only list of backends that a component can be prepared on.
BACKENDS = ("cpu", "cuda")
#: Bytes of one load where a roof counts loads; roofs of arithmetic move none that are declared.
_LOAD_BYTES = {"random_64b_s": 64.0, "fma_flop_s": None}


@dataclass(frozen=True, slots=True)
class Tally:
    """What operations of one type that ran alone did; all are sums over the threads.

    `units` is work in the op's `unit`, `bytes` what it must have moved by the op's declared cost,
    None where that is declared in arithmetic. `elapsed_ns` is the wall time of the slowest thread,
    checks included; `verify_ns` is the time that the checks took, `busy_ns` all the other.
    `verified` counts checked answers, `violations` wrong ones.
    """

    op: str
    threads: int
    ok: int
    errors: int
    rejected: int
    units: int
    unit: str
    bytes: int | None
    elapsed_ns: int
    busy_ns: int
    verify_ns: int
    verified: int
    violations: int

    @property
    def ops(self) -> int:
        """Operations that ended, however they did."""
        return self.ok + self.errors + self.rejected

    @property
    def ns_per_op(self) -> float:
        """Mean time of an operation on its thread, without its check."""
        return self.busy_ns / self.ops

    @property
    def units_s(self) -> float:
        """Units of work per second over all threads; checks count as time where there are any."""
        return self.units / self.elapsed_ns * 1e9


@dataclass(frozen=True, slots=True)
class Prepared:
    """A component whose memory is allocated, filled and indexed, so that it can run at once.

    `native` is the CPU's backend: what the engine takes and the tests hold against the reference.
    Where it was prepared for CUDA, `cuda` is what runs and `native` what it is checked against.
    """

    component: Component
    backend: str
    seed: int
    native: _native.Component
    #: It has no native backend: its operations are `Component.perform`, outside the pool.
    is_hosted: bool = False
    cuda: CudaComponent | None = None

    @classmethod
    def build(
        cls,
        component: Component,
        backend: str,
        seed: int,
        threads: int,
        progress: Progress | None,
        device: Device | int | str,
    ) -> Self:
        """Builds `component` on `backend`; see `Component.prepare` for the errors."""
        if backend not in BACKENDS:
            right = f"choose one of {', '.join(BACKENDS)}"
            raise ConfigurationError("backend", f"there is no `{backend}`; {right}")
        if component.name not in _native.component_names():
            native = _native.Component.outside([op.name for op in component.ops])
            return cls(component, backend, seed, native, is_hosted=True)
        held = component if backend == "cpu" else component.on_host()
        native = _native.Component(
            component.name,
            held.model_dump_json(),
            seed=seed,
            threads=threads,
            progress=progress,
        )
        if backend == "cpu":
            return cls(component, backend, seed, native)
        cuda = _on_device(component, native, seed, progress, device)
        return cls(component, backend, seed, native, cuda=cuda)

    def run(
        self,
        *,
        batches: int = 1,
        op: str | None = None,
        first_key: int = 0,
        threads: int = 1,
        verify: bool = True,
    ) -> Tally:
        """Runs `batches` operations back to back on each of `threads` threads.

        The operations have the keys from `first_key` on, so the same call does the same work.
        Without `op` it is the component's main one. Raises `ConfigurationError` for an op that
        there is not and for numbers below 1, `MachineError` for a component that is hosted.
        """
        if self.is_hosted:
            raise MachineError(
                f"`{self.component.name}` has no native backend, so there is nothing to time alone",
                hint="put it under load: swarmbench.run(components=[...])",
            )
        for name, value in (("batches", batches), ("threads", threads)):
            if value < 1:
                raise ConfigurationError(name, f"`{value}` is out of range; give at least 1")
        kind = self._op(self.component.main_op if op is None else op)
        found = self._ran(kind.name, first_key, batches, threads, verify)
        return Tally(
            op=kind.name,
            threads=threads,
            unit=kind.unit,
            bytes=self._bytes(kind, found["units"]),
            **{name: found[name] for name in _COUNTED},
        )

    def _ran(
        self, op: str, first_key: int, batches: int, threads: int, verify: bool
    ) -> dict[str, int]:
        if self.cuda is None:
            return self.native.run(
                op, first_key=first_key, count=batches, threads=threads, verify=verify
            )
        if threads != 1:
            raise ConfigurationError("threads", f"`{threads}` is too many; a device has one lane")
        return run_alone(self.cuda.operation(), op, first_key, batches, verify=verify)

    def _op(self, name: str) -> Op:
        known = {each.name: each for each in self.component.ops}
        if name not in known:
            right = f"choose one of {', '.join(known)}"
            raise ConfigurationError("op", f"`{self.component.name}` has no op `{name}`; {right}")
        return known[name]

    def _bytes(self, op: Op, units: int) -> int | None:
        bytes_each = _LOAD_BYTES.get(op.roof, 1.0)
        return None if bytes_each is None else round(units * self.component.cost(op) * bytes_each)


def _on_device(
    component: Component,
    native: _native.Component,
    seed: int,
    progress: Progress | None,
    device: Device | int | str,
) -> CudaComponent:
    """The CUDA side of a component; `device` is one, a card's number or `emulated`."""
    # The CUDA sides import this module.
    from swarmbench.components.cuda import CUDA
    from swarmbench.gpu.found import open_device

    if component.name not in CUDA:
        raise MachineError(
            f"backend `cuda` cannot run {component.name}: its CUDA kernels are not part of "
            "this version",
            hint="prepare it with backend='cpu'",
        )
    if (unfit := component.unfit("cuda")) is not None:
        raise ConfigurationError(*unfit)
    opened = open_device(device, seed) if isinstance(device, int | str) else device
    return CUDA[component.name](component, native, opened, seed, progress)


_COUNTED = (
    "ok",
    "errors",
    "rejected",
    "units",
    "elapsed_ns",
    "busy_ns",
    "verify_ns",
    "verified",
    "violations",
)
