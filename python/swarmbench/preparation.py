"""Builds what a plan's workloads run on: components, devices, what is learned of operations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from swarmbench import _native
from swarmbench.components.cuda import CUDA
from swarmbench.components.cuda.base import CudaComponent
from swarmbench.components.prepared import Prepared
from swarmbench.errors import ConfigurationError
from swarmbench.gpu.device import Device
from swarmbench.gpu.found import open_device
from swarmbench.plan import LANES, Plan, WorkloadPlan
from swarmbench.schema import SubmissionFigures
from swarmbench.submission import Repeated, learned, noting


@dataclass(slots=True)
class Preparation:
    """The components of a plan, ready to run, and the devices of those on CUDA.

    `repeated` has those whose operations need no interpreter, `notes` say which need it after all.
    """

    components: list[Prepared] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    repeated: dict[str, Repeated] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def device_name(self) -> str | None:
        """The names of the devices; None where there are none."""
        return ", ".join(device.name for device in self.devices) or None

    @property
    def in_python(self) -> dict[str, CudaComponent]:
        """The components on a device whose operations Python submits."""
        return {
            each.component.name: each.cuda
            for each in self.components
            if each.cuda is not None and each.component.name not in self.repeated
        }

    def describe(self) -> dict[str, dict[str, Any]]:
        """What building found out of each component, as JSON values."""
        return {
            each.component.name: json.loads(each.native.describe()) | self._on_device(each)
            for each in self.components
        }

    def submission(
        self, timed: Mapping[str, Mapping[str, _native.Histogram]]
    ) -> dict[str, SubmissionFigures]:
        """How the operations of each component on a device reached it, with what was timed."""
        found = dict.fromkeys(self.in_python, SubmissionFigures(submit="python", lanes=LANES))
        return found | {name: each.figures(timed.get(name)) for name, each in self.repeated.items()}

    def _on_device(self, each: Prepared) -> dict[str, Any]:
        if each.cuda is None:
            return {}
        repeated = self.repeated.get(each.component.name)
        submission = {"submit": "python"} if repeated is None else repeated.describe()
        return {"cuda": each.cuda.describe(), "submission": submission}


def prepared(plan: Plan, step: Callable[[str, float], None]) -> Preparation:
    """Builds the components of a plan one after the other, saying how far it is by `step`.

    Raises `ConfigurationError` for what cannot be had here, `MachineError` for a device that will
    not do.
    """
    done = Preparation(devices=[open_device(device, plan.seed) for device in plan.device])
    turns = cycle(enumerate(done.devices))
    waiting = [0] * len(done.devices)
    on_cuda = [each for each in plan.workloads if each.backend == "cuda"]
    is_hindered = any(CUDA[each.name].hinders_waiting(each.component) for each in on_cuda)
    for each in plan.workloads:
        number, device = next(turns) if each.backend == "cuda" else (0, None)
        is_repeated = device is not None and each.submit != "python"

        def report(stage: str, share: float, name: str = each.name) -> None:
            step(f"preparing {name}: {stage}", share)

        try:
            built = each.component.prepare(
                backend=each.backend,
                seed=plan.seed,
                threads=plan.threads,
                progress=report,
                device=0 if device is None else noting(device) if is_repeated else device,
            )
        except ValueError as error:
            # The backend names the parameter that cannot be had here.
            raise ConfigurationError(f"workloads.{each.name}.params", str(error)) from None
        done.components.append(built)
        if is_repeated:
            report("learning what its operations ask", 0.0)
            waiting[number] += each.lanes * len(each.ops)
            _learn(done, each, built, None if is_hindered else waiting[number])
    return done


def _learn(done: Preparation, each: WorkloadPlan, built: Prepared, waiting: int | None) -> None:
    assert built.cuda is not None
    found = learned(each, built.cuda, waiting)
    if isinstance(found, str):
        done.notes.append(f"{each.name}: submitted from Python ({found})")
        return
    if each.submit not in ("auto", found.submit):
        reason = f"no `{each.submit}` here, or not for so many streams or beside such neighbours"
        done.notes.append(f"{each.name}: submitted as `{found.submit}` ({reason})")
    done.repeated[each.name] = found
