"""One op type of a component on a device, submitted by one rung of the ladder or another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from swarmbench import _native
from swarmbench.analysis.result import percentiles
from swarmbench.components.base import Component
from swarmbench.components.cuda import CUDA
from swarmbench.errors import MachineError
from swarmbench.experiments.callback import held
from swarmbench.gpu.device import Device
from swarmbench.lanes import laned
from swarmbench.measured import Figures
from swarmbench.monitoring.interpreter import InterpreterMeter
from swarmbench.plan import Process, Submit, WorkloadPlan
from swarmbench.submission import Repeated, Submitters, learned, noting, submitted
from swarmbench.workloads import native_workload

#: How long a rung is under load before it is measured.
WARM_UP_S = 0.5
#: Copies that the hog keeps enqueued: the device is never without one.
HOG_AHEAD = 2


@dataclass(frozen=True, slots=True)
class RungFigures:
    """What one rung did with one op type.

    `submitted` has the times of all operations, those of the warm-up too; none where Python
    submits. `interpreter_share` is what the interpreter's lock was held at most.
    """

    submit: str
    figures: Figures
    submitted: dict[str, _native.Histogram]
    interpreter_share: float | None

    def to_json(self) -> dict[str, Any]:
        """Percentiles in nanoseconds, and counts of operations."""
        counted = ("ok", "errors", "rejected", "verified", "violations")
        shown = {name: getattr(self.figures, name) for name in counted}
        times = {"response": self.figures.response, "service": self.figures.service}
        return shown | {
            "submit": self.submit,
            "interpreter_share": self.interpreter_share,
            **{
                f"{name}_ns": percentiles(each).model_dump(mode="json")
                for name, each in (times | self.submitted).items()
            },
        }


def measure_rung(
    component: Component,
    op: str,
    submit: Submit,
    device: Device,
    *,
    rate_s: float,
    seconds: float,
    seed: int = 1,
    native: _native.Component | None = None,
) -> RungFigures:
    """Puts `op` under load at `rate_s` operations a second, submitted as `submit` says.

    `native` is the component on the CPU with the same seed, where it is there already. Raises
    `MachineError` where the device has no such rung, or the op cannot be submitted by it.
    """
    if submit != "python" and op not in CUDA[component.name].repeatable:
        raise MachineError(
            f"`{op}` cannot be submitted as `{submit}`: the host takes part in each operation"
        )
    native = native or component.prepare(backend="cpu", seed=seed).native
    plan = WorkloadPlan(
        component=component,
        backend="cuda",
        rate_s=rate_s,
        capacity_share=None,
        process=Process(),
        op_weights={op: 1.0},
        in_flight_max=4096,
        queue_max=65_536,
        overload="queue",
        stress_in_flight=1,
        submit=submit,
    )
    cuda = CUDA[component.name](
        component, native, device if submit == "python" else noting(device), seed
    )
    repeated = None if submit == "python" else learned(plan, cuda, plan.lanes)
    if isinstance(repeated, str):
        raise MachineError(f"`{op}` cannot be submitted as `{submit}`: {repeated}")
    engine = _native.Engine([native_workload(plan, native)], seed=seed, workers=0)
    desk = _native.Desk.of(engine)
    assert desk is not None
    desks, name = {component.name: desk}, component.name
    python = laned({name: cuda}, desks, engine) if repeated is None else nullcontext()
    with python, submitted({name: repeated} if repeated else {}, desks, engine) as submitters:
        held(engine, WARM_UP_S, None)
        interpreter = InterpreterMeter()
        figures = held(engine, seconds, None)
        share = interpreter.share()
        return _figures(repeated, figures, submitters, share, name)


def _figures(
    repeated: Repeated | None,
    figures: Figures,
    submitters: Submitters,
    share: float | None,
    name: str,
) -> RungFigures:
    submitters.is_lost()
    timed = submitters.figures().get(name, {})
    return RungFigures("python" if repeated is None else repeated.submit, figures, timed, share)


@contextmanager
def copy_hog(device: Device, nbytes: int) -> Iterator[None]:
    """Keeps the device's memory busy with copies of `nbytes` in streams of its own."""
    buffers = [device.empty(nbytes, np.uint8) for _ in range(2)]
    streams, over = [device.stream() for _ in range(HOG_AHEAD)], threading.Event()

    def copy() -> None:
        device.use()
        while not over.is_set():
            for stream in streams:
                stream.synchronize()
                stream.copy(buffers[1], buffers[0])
        for stream in streams:
            stream.synchronize()

    hog = threading.Thread(target=copy, name="copy-hog", daemon=True)
    hog.start()
    try:
        yield
    finally:
        over.set()
        hog.join()
