"""The plan: all that a run needs to know, resolved, checked and frozen before anything starts."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from swarmbench.components import Component
from swarmbench.components.base import Profile
from swarmbench.units import about_bytes, about_count, about_seconds, format_numbers

Backend = Literal["cpu", "cuda"]
Overload = Literal["drop", "queue", "abort"]
ProcessKind = Literal["constant", "poisson", "gamma", "onoff", "trace"]
Submit = Literal["auto", "python", "native", "graph", "armed", "persistent"]
Isolation = Literal["none", "priority", "green"]
Simulated = Literal["mm1", "hard", "none"]

#: Threads that submit the operations of a CUDA workload from Python.
LANES = 1
#: Operations of a CUDA workload under way at once where they are not submitted from Python.
LANES_NATIVE = 4

#: What stands in the place of a secret in everything that is written.
REDACTED = "<redacted>"

#: Bytes that one second of a run appends for each component, and for the machine.
_RECORD_BYTES_PER_COMPONENT_S = 1200
_RECORD_BYTES_PER_S = 400
#: Bytes of the summaries and histograms of each component, over all phases.
_SUMMARY_BYTES_PER_COMPONENT = 200_000
#: What the calibration before a run writes and removes again, at most (`calibrate.measure`).
CALIBRATION_BYTES = 7 * (32 << 20)
#: Resident bytes of swarmbench itself, and of its queues and histograms for each component: the
#: bounds that its own tests hold it to.
HARNESS_BYTES = 100_000_000
HARNESS_BYTES_PER_COMPONENT = 40_000_000


def harness_bytes(components: int) -> int:
    """Resident bytes of swarmbench itself with so many components under load."""
    return HARNESS_BYTES + components * HARNESS_BYTES_PER_COMPONENT


@dataclass(frozen=True, slots=True)
class Process:
    """An arrival process; its rate is the workload's, its shape is here.

    `shape` belongs to gamma (1 is Poisson, below 1 is burstier), `on_s` and `off_s` to onoff
    (mean lengths), `times_ns` to trace (intended starts since the start, ascending).
    """

    kind: ProcessKind = "poisson"
    shape: float | None = None
    on_s: float | None = None
    off_s: float | None = None
    times_ns: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model server in the place of a synthetic one; its key never reaches a file."""

    url: str
    model: str | None = None
    key: str | None = field(default=None, repr=False)
    #: Certificates (PEM) that an https server's must come from; else the system's authorities.
    ca_file: str | None = None
    #: Seconds after which a request that is not answered in full counts as an error.
    timeout_s: float = 30.0
    #: Requests under way at once, at most.
    clients: int = 32


@dataclass(frozen=True, slots=True)
class WorkloadPlan:
    """One component with its load: exactly one of `rate_s` and `capacity_share` is set.

    `rate_s` is operations per second at load multiplier 1; `capacity_share` is the share (0..1)
    of the closed-loop rate calibrated in the run that stands for it. `latency_target_ns` is for
    the p99 of the response, `throughput_target_s` in the component's units per second.
    """

    component: Component
    backend: Backend
    rate_s: float | None
    capacity_share: float | None
    process: Process
    op_weights: Mapping[str, float]
    in_flight_max: int
    queue_max: int
    overload: Overload
    stress_in_flight: int
    latency_target_ns: int | None = None
    throughput_target_s: float | None = None
    submit: Submit = "auto"
    isolation: Isolation = "none"
    endpoint: Endpoint | None = None

    @property
    def name(self) -> str:
        """The component's name."""
        return self.component.name

    @property
    def admitted_max(self) -> int:
        """Operations at most that wait or are served; the engine turns more of them away."""
        waiting = self.queue_max if self.overload == "queue" else 0
        return max(self.in_flight_max, self.stress_in_flight) + waiting

    @property
    def lanes(self) -> int:
        """Lanes of a CUDA workload, each with memory of its own on the device."""
        return LANES if self.submit == "python" else LANES_NATIVE

    @property
    def ops(self) -> tuple[str, ...]:
        """The op types that are asked for."""
        return tuple(op.name for op in self.component.ops if self.op_weights.get(op.name, 0.0))

    @property
    def hosted(self) -> bool:
        """Whether a model server takes part in its operations."""
        return self.endpoint is not None and self.component.endpoint_op is not None

    @property
    def has_desk(self) -> bool:
        """Whether its operations are opened and closed by clients outside the pool."""
        return self.hosted or self.backend == "cuda"


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one component: wanted at the sizes asked for, kept and at most held at those fitted.

    `for_device_bytes` of each are the host's memory for the lanes of its device, pinned most of it.
    `fitted` has a line for each size that changed.
    """

    wanted_bytes: int
    resident_bytes: int
    peak_bytes: int
    for_device_bytes: int = 0
    fitted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Phases:
    """Lengths of the phases of max-throughput, in seconds."""

    ramp_up_s: float
    sustained_s: float
    search_s: float
    recovery_s: float

    @property
    def total_s(self) -> float:
        """All phases together, without preparation and calibration."""
        return self.ramp_up_s + self.sustained_s + self.search_s + self.recovery_s

    def scaled_to(self, total_s: float) -> Phases:
        """The same shape over another total."""
        factor = total_s / self.total_s
        return Phases(*(getattr(self, part.name) * factor for part in dataclasses.fields(self)))


#: The search needs one probe after another, so it takes the larger share where time is short.
PHASES: dict[Profile, Phases] = {
    "quick": Phases(ramp_up_s=8, sustained_s=14, search_s=30, recovery_s=8),
    "standard": Phases(ramp_up_s=60, sustained_s=210, search_s=240, recovery_s=90),
    "full": Phases(ramp_up_s=300, sustained_s=1200, search_s=600, recovery_s=300),
}


@dataclass(frozen=True, slots=True)
class Health:
    """When the system under load counts as unhealthy, and what is done about it."""

    interval_s: float = 1.0
    unhealthy_checks: int = 10
    healthy_checks: int = 10
    load_factor: float = 0.9
    error_share_max: float = 0.01
    memory_pressure_max: float = 0.2
    memory_available_min: float = 0.05
    disk_free_bytes_min: int = 1_000_000_000
    stall_s_max: float = 10.0


#: The metrics that max-throughput is judged by; `analysis.criteria` has their thresholds.
CRITERIA = ("breaking_point", "recovery_time", "data_consistency")


@dataclass(frozen=True, slots=True)
class Criterion:
    """A criterion whose published thresholds the configuration replaces."""

    metric: str
    target: float
    failure_threshold: float


@dataclass(frozen=True, slots=True)
class Simulation:
    """A simulated system in the place of the machine; its knee is a load multiplier."""

    system: Simulated
    knee: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """One run, resolved: nothing below the command line sees a configuration file.

    `device` are the cards of the CUDA workloads by number, or `emulated` alone. `cpus` are the
    cores of the workers, `generator_cpu` the pacer's own where there are enough to keep one apart.
    Shares are in 0..1. `notes` say what was fitted or chosen, and why.
    """

    scenario: str
    name: str | None
    seed: int
    backend: Backend
    backend_reason: str
    device: tuple[int | str, ...]
    profile: Profile
    threads: int
    cpus: tuple[int, ...]
    generator_cpu: int | None
    phases: Phases
    max_multiplier: float
    slo_degradation: float
    sample_interval_s: float
    memory_budget_bytes: int
    memory: Mapping[str, Memory]
    disk_write_budget_bytes: int
    health: Health
    criteria: tuple[Criterion, ...]
    workloads: tuple[WorkloadPlan, ...]
    simulation: Simulation | None
    notes: tuple[str, ...]

    def workload(self, name: str) -> WorkloadPlan:
        """The workload of a component; `KeyError` where the plan has none."""
        for workload in self.workloads:
            if workload.name == name:
                return workload
        raise KeyError(name)

    def resident_bytes(self) -> int:
        """Bytes that the components and the harness will keep resident."""
        kept = sum(each.resident_bytes for each in self.memory.values())
        return kept + harness_bytes(len(self.workloads))

    def written_bytes(self) -> int:
        """Bytes that calibration and the run directory will write."""
        calibration = 0 if self.simulation is not None else CALIBRATION_BYTES
        per_second = _RECORD_BYTES_PER_S + _RECORD_BYTES_PER_COMPONENT_S * len(self.workloads)
        return calibration + int(
            self.phases.total_s / self.sample_interval_s * per_second
            + _SUMMARY_BYTES_PER_COMPONENT * len(self.workloads)
        )

    def component_written_bytes(self) -> int:
        """Most bytes that the components write, where any of them runs."""
        return sum(each.component.written_bytes() for each in self.workloads)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values, without secrets."""
        fields = {part.name: getattr(self, part.name) for part in dataclasses.fields(self)}
        fields["workloads"] = {each.name: _workload_json(each) for each in self.workloads}
        return {name: _json(value) for name, value in fields.items()}

    def describe(self) -> str:
        """What the run will do and cost, for `--dry-run`: minutes, bytes written, memory."""
        phases = ", ".join(
            f"{part.name.removesuffix('_s')} {about_seconds(getattr(self.phases, part.name))}"
            for part in dataclasses.fields(self.phases)
        )
        lines = [
            f"{self.scenario}, profile {self.profile}, seed {self.seed}",
            f"backend   {self.backend}: {self.backend_reason}",
            f"workers   {self.threads} on cores {format_numbers(self.cpus)}; generator on "
            f"{'any of them' if self.generator_cpu is None else f'core {self.generator_cpu}'}",
            f"phases    {phases}",
            *(f"load      {_load_line(each, self.memory)}" for each in self.workloads),
            f"time      {self.phases.total_s / 60:.1f} minutes, preparation and calibration apart",
            f"writes    {about_bytes(self.written_bytes() + self.component_written_bytes())} "
            f"of {about_bytes(self.disk_write_budget_bytes)} allowed",
            f"memory    {about_bytes(self.resident_bytes())} "
            f"of {about_bytes(self.memory_budget_bytes)} allowed",
            *(f"note      {note}" for note in self.notes),
        ]
        return "\n".join(lines)


def _workload_json(workload: WorkloadPlan) -> dict[str, Any]:
    fields = {part.name: getattr(workload, part.name) for part in dataclasses.fields(workload)}
    fields["params"] = fields.pop("component").model_dump(mode="json")
    return {name: _json(value) for name, value in fields.items()}


def _process_json(process: Process) -> dict[str, Any]:
    """A process with the parameters of its kind; a trace, which can be long, by its digest."""
    fields: dict[str, Any] = {"kind": process.kind}
    if process.kind == "gamma":
        fields["shape"] = process.shape
    if process.kind == "onoff":
        fields |= {"on_s": process.on_s, "off_s": process.off_s}
    if process.kind == "trace":
        text = "\n".join(map(str, process.times_ns))
        fields |= {
            "arrivals": len(process.times_ns),
            "last_ns": process.times_ns[-1],
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
    return fields


def _json(value: Any) -> Any:
    """Frozen dataclasses, tuples and mappings as JSON values."""
    if isinstance(value, Endpoint) and value.key is not None:
        value = dataclasses.replace(value, key=REDACTED)
    if isinstance(value, Process):
        return _process_json(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _json(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _json(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_json(each) for each in value]
    return value


def _load_line(workload: WorkloadPlan, memory: Mapping[str, Memory]) -> str:
    load = (
        f"{about_count(workload.rate_s)}/s"
        if workload.rate_s is not None
        else f"{(workload.capacity_share or 0) * 100:g}% of its calibrated throughput"
    )
    return (
        f"{workload.name}: {load} {workload.process.kind}, {workload.stress_in_flight} in flight "
        f"when sustained, {about_bytes(memory[workload.name].resident_bytes)}"
    )
