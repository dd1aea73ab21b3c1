"""Where each workload runs: on the CPU, on which cards, or on the emulated device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from swarmbench import units
from swarmbench.components.cuda import CUDA
from swarmbench.config.host import Host
from swarmbench.config.models import Config
from swarmbench.errors import MachineError
from swarmbench.gpu.found import EMULATED, card_memory_bytes
from swarmbench.plan import Backend, Submit, WorkloadPlan

#: Share of a card's memory that the components may take; the rest is the driver's and others'.
CARD_SHARE = 0.8
#: Memory of the emulated device, which is the host's.
EMULATED_BYTES = 2 << 30
#: Share of the production rates that it is given where none are stated; two cores carry that.
EMULATED_LOAD = 0.05
#: Halvings of a component's budget after which nothing smaller is tried.
_HALVINGS_MAX = 40


@dataclass(frozen=True, slots=True)
class Chosen:
    """The backend of each workload, the devices of those on CUDA, and why."""

    backends: Mapping[str, Backend]
    devices: tuple[int | str, ...]
    reason: str
    #: A driver is there, and all the same nothing runs on a GPU that nobody ruled out.
    fell_back: bool = False

    @property
    def overall(self) -> Backend:
        """`cuda` where any workload runs on it."""
        return "cuda" if "cuda" in self.backends.values() else "cpu"

    def backend_of(self, name: str) -> Backend:
        """The backend of a workload; that of a simulated one is the CPU."""
        return self.backends.get(name, "cpu")

    def is_small(self, name: str) -> bool:
        """Whether a workload has the sizes of the tests where none are given."""
        return self.is_emulated and self.backend_of(name) == "cuda"

    @property
    def is_emulated(self) -> bool:
        """Whether the device is the emulator."""
        return self.devices == (EMULATED,)


def choose(config: Config, host: Host) -> Chosen:
    """The backends of a configuration; `MachineError` where one that was demanded cannot be had."""
    emulated = config.device == EMULATED
    problem = None if emulated else host.gpu_problem
    wanted = {name: part.backend or config.backend for name, part in config.workloads.items()}
    demanding = sorted(name for name, backend in wanted.items() if backend == "cuda")
    if demanding and problem is not None:
        raise _refused(demanding, problem)
    lacking = [name for name in demanding if name not in CUDA]
    if lacking:
        raise _refused(lacking, "their CUDA kernels are not part of this version")
    backends: dict[str, Backend] = {
        name: "cuda"
        if backend == "cuda" or (backend == "auto" and problem is None and name in CUDA)
        else "cpu"
        for name, backend in wanted.items()
    }
    if config.settings.simulate is not None:
        backends = dict.fromkeys(backends, "cpu")
    if "cuda" not in backends.values():
        if config.backend == "cpu":
            return Chosen(backends, (), "as asked")
        reason = problem or "no workload has kernels"
        return Chosen(backends, (), reason, fell_back=host.has_driver)
    left = sorted(name for name, backend in backends.items() if backend == "cpu")
    reason = "the emulated device" if emulated else "a usable GPU is there"
    if left:
        reason += f"; {', '.join(left)} on the CPU"
    devices = config.device if isinstance(config.device, tuple) else None
    return Chosen(backends, (EMULATED,) if emulated else devices or (0,), reason)


def _submitted(
    workloads: list[WorkloadPlan], chosen: Chosen
) -> tuple[list[WorkloadPlan], list[str]]:
    """How operations reach what they run on; a line for each that cannot be had as asked for.

    `auto` stays for the device to decide where the host takes no part in them. The emulated device
    is asked from Python, which its kernels outlast by far.
    """
    planned, notes = list[WorkloadPlan](), list[str]()
    for each in workloads:
        submit: Submit = each.submit
        if each.backend == "cpu":
            submit = "native"
        elif submit == "auto" and chosen.is_emulated:
            submit = "python"
        elif submit != "python":
            hosted = [op for op in each.ops if op not in CUDA[each.name].repeatable]
            if hosted and submit != "auto":
                notes.append(
                    f"{each.name}: submitted from Python, for the host takes part in each "
                    f"{' and '.join(hosted)}"
                )
            if hosted:
                submit = "python"
        planned.append(replace(each, submit=submit))
    return planned, notes


def on_devices(
    workloads: list[WorkloadPlan], chosen: Chosen
) -> tuple[list[WorkloadPlan], list[str]]:
    """How operations reach their devices, and sizes that fit these; a line for each thing that is
    not as it was asked for. `MachineError` where something cannot be made to fit."""
    planned, hosted = _submitted(workloads, chosen)
    fitted, notes = _fit_devices(planned, chosen)
    return fitted, hosted + notes


def _refused(names: list[str], reason: str) -> MachineError:
    return MachineError(
        f"backend `cuda` cannot run {', '.join(names)}: {reason}",
        hint="run `swarmbench doctor`, or choose `--backend cpu`",
    )


def _fit_devices(
    workloads: list[WorkloadPlan], chosen: Chosen
) -> tuple[list[WorkloadPlan], list[str]]:
    """Shrinks what runs on CUDA into its device's memory; a line for each size that changed.

    Workloads take turns at the devices. `MachineError` where one cannot be made to fit.
    """
    fitted, notes = list(workloads), list[str]()
    for turn, device in enumerate(chosen.devices):
        budget = EMULATED_BYTES if chosen.is_emulated else _card_budget(device)
        places = [
            position
            for number, position in enumerate(_on_cuda(workloads))
            if number % len(chosen.devices) == turn
        ]
        if budget is None:
            continue
        sizes = {place: _device_bytes(workloads[place]) for place in places}
        for left, place in enumerate(sorted(places, key=lambda place: sizes[place])):
            share = min(sizes[place], budget // (len(places) - left))
            fitted[place], lines = _shrunk(workloads[place], share, sizes[place])
            notes += lines
            budget -= share
    return fitted, notes


def _on_cuda(workloads: list[WorkloadPlan]) -> list[int]:
    return [index for index, each in enumerate(workloads) if each.backend == "cuda"]


def _card_budget(device: int | str) -> int | None:
    memory = card_memory_bytes(int(device))
    return None if memory is None else int(memory * CARD_SHARE)


def _device_bytes(workload: WorkloadPlan) -> int:
    return CUDA[workload.name].device_bytes(workload.component, workload.lanes)


def _shrunk(workload: WorkloadPlan, share: int, wanted: int) -> tuple[WorkloadPlan, list[str]]:
    """The workload with a component whose device memory is within its share."""
    smaller, lines = workload, list[str]()
    budget = workload.component.peak_bytes(1)
    for _ in range(_HALVINGS_MAX):
        if _device_bytes(smaller) <= share:
            prefix = f"{workload.name}: "
            return smaller, [prefix + line.removeprefix(f"{workload.name}.") for line in lines]
        budget //= 2
        component, lines = workload.component.fitted(budget, 1)
        smaller = replace(workload, component=component)
    needed, allowed = units.about_bytes(wanted), units.about_bytes(share)
    raise MachineError(
        f"component `{workload.name}` needs {needed} of device memory and has {allowed}",
        hint="leave components out by `--components`, or lower its sizes in `params`",
    )
