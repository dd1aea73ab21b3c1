"""CUDA workloads whose operations reach the device without the interpreter.

While a component is prepared its operations are noted for a few keys, each answer checked in full
(`gpu.noting`), and learned (`_native.Berth`); in the run a native thread asks them again in turn
and holds answers against those that were learned. So the inputs of a run are those of these keys.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from swarmbench import _native
from swarmbench.analysis.result import percentiles
from swarmbench.components.cuda.base import CudaComponent, CudaOperation
from swarmbench.errors import MachineError
from swarmbench.gpu.device import Array, Device, DeviceLostError
from swarmbench.gpu.noting import Notes, NotingDevice, UnrepeatableError
from swarmbench.plan import LANES_NATIVE, Submit, WorkloadPlan
from swarmbench.schema import SubmissionFigures

#: Keys of each op type of a lane that are noted, and the seconds after which no more are.
KEYS, LEARNING_S = 32, 1.0
#: Streams of one device that may wait for words at once: more than its work queues would make one
#: wait for another.
ARMED_STREAMS_MAX = 24
#: The rungs that ask again what was learned.
Rung = Literal["native", "graph", "armed"]
#: The words of a berth: four lines of 128 bytes.
_WORDS_BYTES = 512


@dataclass(slots=True)
class Repeated:
    """A workload's operations, learned, by lane and op type."""

    submit: Rung
    lanes: list[list[_native.Berth | None]]
    device: NotingDevice
    context: _native.CudaContext
    keys: dict[str, int]

    def figures(self, timed: Mapping[str, _native.Histogram] | None) -> SubmissionFigures:
        """What the result says of it, with the times that its submitter measured."""
        shown = {f"{name}_ns": percentiles(each) for name, each in (timed or {}).items()}
        return SubmissionFigures(submit=self.submit, lanes=len(self.lanes), keys=self.keys, **shown)

    def describe(self) -> dict[str, Any]:
        """What the manifest says of it; driver calls are of one operation, on average."""
        berths = [berth for lane in self.lanes for berth in lane if berth is not None]
        return {
            "submit": self.submit,
            "lanes": len(self.lanes),
            "keys": self.keys,
            "answer_bytes": sum(berth.answer_bytes for berth in berths),
            "driver_calls": 0.0 if self.submit == "armed" else max(b.calls for b in berths),
        }


def learned(each: WorkloadPlan, cuda: CudaComponent, waiting: int | None) -> Repeated | str:
    """The operations of a workload, learned on its device, which is one of `noting`; else why they
    cannot be.

    `waiting` is how many streams of the device would wait for words, None where none may.
    """
    device = cast(NotingDevice, cuda.device)
    context = _native.CudaContext(device.driver_path, device.number)
    capabilities = context.capabilities()
    mode = rung(each.submit, bool(capabilities["stream_words"]), waiting)
    priority = capabilities["priorities"][1 if each.isolation == "priority" else 0]
    repeated = Repeated(mode, [], device, context, {})
    try:
        for _ in range(LANES_NATIVE):
            repeated.lanes.append(_lane(each, cuda, device, repeated, priority, capabilities))
    except (UnrepeatableError, ValueError) as error:
        return str(error)
    except RuntimeError as error:
        raise MachineError(
            f"component `{each.name}`: the driver refuses: {error}",
            hint="choose `submit: python`",
        ) from None
    return repeated


def rung(wanted: Submit, has_words: bool, waiting: int | None) -> Rung:
    """The rung that a workload takes: the one it wants, or the next that the device has."""
    if wanted == "native" or wanted == "graph":
        return wanted
    may_wait = has_words and waiting is not None and waiting <= ARMED_STREAMS_MAX
    return "armed" if may_wait else "graph"


def _lane(
    each: WorkloadPlan,
    cuda: CudaComponent,
    device: NotingDevice,
    repeated: Repeated,
    priority: int,
    capabilities: Mapping[str, Any],
) -> list[_native.Berth | None]:
    """One lane: a berth for each op type that has a weight."""
    with device.lane_memory() as memory:
        operation = cuda.operation()
    operation.looks_closely = True
    berths: list[_native.Berth | None] = []
    for op in cuda.component.ops:
        if not each.op_weights.get(op.name, 0.0):
            berths.append(None)
            continue
        notes = _noted(device, operation, op.name, memory, op.name in cuda.told_by_check)
        words = device.pinned(_WORDS_BYTES // 8, np.uint64)
        repeated.keys[op.name] = len(notes)
        try:
            berth = _native.Berth.learn(
                repeated.context,
                [note.fields() for note in notes],
                words=words.ctypes.data,
                kept=[operation, words, *memory, *(note.kept for note in notes)],
                mode=repeated.submit,
                has_words=bool(capabilities["stream_words"]),
                priority=priority,
            )
        except ValueError as error:
            raise UnrepeatableError(f"{op.name}: {error}") from None
        berths.append(berth)
    return berths


def _noted(
    device: NotingDevice,
    operation: CudaOperation,
    op: str,
    memory: Sequence[Array],
    with_check: bool,
) -> list[Notes]:
    """The operations of the first keys, as many as there is time for; one at the least."""
    notes, until = list[Notes](), time.monotonic() + LEARNING_S
    for key in range(KEYS):
        try:
            notes.append(device.noted(operation, op, key, memory, with_check=with_check))
        except UnrepeatableError as error:
            raise UnrepeatableError(f"{op}: {error}") from None
        if time.monotonic() > until:
            break
    return notes


class Submitters:
    """The native threads of a run, by component."""

    def __init__(self) -> None:
        self._running: dict[str, _native.Submitter] = {}

    def start(self, name: str, repeated: Repeated, desk: _native.Desk) -> None:
        """Begins to serve a workload."""
        self._running[name] = _native.Submitter(repeated.context, desk, repeated.lanes)

    def is_lost(self) -> bool:
        """Raises `DeviceLostError` where a device stopped answering; False where none did."""
        for name, each in self._running.items():
            if (problem := each.lost) is not None:
                raise DeviceLostError(
                    f"the device was lost by {name}: {problem}",
                    hint="look for Xid messages in the kernel's log (`dmesg`)",
                )
        return False

    def figures(self) -> dict[str, dict[str, _native.Histogram]]:
        """By component the times that its operations took to submit, to begin, to execute."""
        return {name: each.figures() for name, each in self._running.items()}

    def stop(self) -> None:
        """Ends them."""
        for each in self._running.values():
            each.stop()


@contextmanager
def submitted(
    repeated: Mapping[str, Repeated],
    desks: Mapping[str, _native.Desk],
    engine: _native.Engine,
) -> Iterator[Submitters]:
    """Serves workloads of an engine from native threads; the engine is stopped where it ends."""
    submitters = Submitters()
    with ExitStack() as holding:
        try:
            for name, each in repeated.items():
                if each.submit == "armed":
                    holding.enter_context(each.device.guard.held())
                submitters.start(name, each, desks[name])
            yield submitters
        finally:
            engine.stop()
            submitters.stop()


def noting(device: Device) -> Device:
    """A device on which a component can be prepared whose operations are to be learned."""
    return cast(Device, NotingDevice(device))
