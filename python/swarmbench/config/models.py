"""The one shape of every configuration: strict models, each key with default, unit and meaning."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from swarmbench.components import COMPONENTS
from swarmbench.components.base import Profile
from swarmbench.config.types import (
    Budget,
    Devices,
    Duration,
    LoadRate,
    Numbers,
    Share,
    Size,
    SizeRange,
    Throughput,
    shown,
    wrong,
)
from swarmbench.plan import Isolation, Overload, Submit

SCENARIOS = ("max-throughput",)
SEED_MAX = 2**63 - 1


def right_name(name: object, known: Iterable[str]) -> str:
    """What would be right instead of an unknown name: the nearest one, or all there are."""
    names = sorted(known)
    nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    return f"did you mean `{nearest[0]}`?" if nearest else f"choose one of {', '.join(names)}"


class Section(BaseModel):
    """A mapping with known keys; anything else is refused with the nearest right name."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _has_only_known_keys(cls, value: object) -> object:
        if isinstance(value, cls):
            return value
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            keys = ", ".join(sorted(cls.model_fields))
            raise wrong(f"{shown(value)} is not a mapping; give keys of {keys}")
        for key in value:
            if key not in cls.model_fields:
                right = right_name(key, cls.model_fields)
                raise wrong(f"there is no {shown(key)}; {right}", key)
        return value


class Distribution(Section):
    """How the arrivals of a workload are spread over time, at its rate."""

    kind: Literal["constant", "poisson", "gamma", "onoff", "trace"] = Field(
        "poisson", description="The arrival process."
    )
    shape: float = Field(
        0.5, gt=0, le=1000, description="gamma: shape; 1 is Poisson, below 1 burstier. No unit."
    )
    on: Duration = Field(1.0, description="onoff: mean length of a burst. A duration.")
    off: Duration = Field(1.0, description="onoff: mean length of a pause. A duration.")
    file: str | None = Field(
        None,
        description="trace: a file of intended starts in seconds from the start, one a line, "
        "ascending; empty lines and what follows a `#` are skipped.",
    )


def _named_distribution(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


class EndpointConfig(Section):
    """An OpenAI-compatible server that stands in for a synthetic model."""

    url: str = Field("", description="Where it is: an http or https address.")
    model: str | None = Field(None, description="The model to ask for; its own default else.")
    key_variable: str | None = Field(
        None,
        description="The environment variable that holds its key, which is never written to any "
        "file.",
    )
    ca_file: str | None = Field(
        None,
        description="A file of certificates (PEM) to trust, for a server whose own the system's "
        "authorities did not sign. Default: the system's authorities.",
    )
    timeout: Duration = Field(
        30.0, description="A request not answered in full by then is an error, a duration."
    )
    clients: int = Field(32, ge=1, le=1024, description="Requests under way at once, at most.")


Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class WorkloadConfig(Section):
    """One component and the load on it."""

    rate: LoadRate | None = Field(
        None,
        description="Load at multiplier 1: operations per second, or a share of its calibrated "
        "throughput. Default: the component's production rate.",
    )
    distribution: Annotated[Distribution, BeforeValidator(_named_distribution)] = Field(
        Distribution.model_validate({}),
        description="The arrival process, by name or with its parameters.",
    )
    ops: dict[str, Weight] = Field(
        {},
        description="Weights of the op types, no unit; fractions are probabilities and must add up "
        "to 1. Default: the component's production mix.",
    )
    sizes: SizeRange | None = Field(
        None, description="Sizes of the requests, bytes. Default: the component's."
    )
    data_mix: str | None = Field(
        None, description="The mix of contents by name. Default: the component's."
    )
    max_in_flight: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Operations in flight in an open loop at most. Default: its stress setting.",
    )
    stress_in_flight: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Operations kept in flight in the closed loop. Default: the component's.",
    )
    queue: int = Field(
        65_536, ge=0, le=16_777_216, description="Operations that wait at most; more are rejected."
    )
    overload: Overload = Field(
        "queue", description="What happens past max_in_flight: drop, queue or abort the run."
    )
    backend: Literal["auto", "cpu", "cuda"] | None = Field(
        None, description="Where it runs. Default: the run's backend."
    )
    submit: Submit = Field(
        "auto",
        description="How operations reach a GPU. Default: the fastest that can be had.",
    )
    isolation: Isolation = Field("none", description="How its GPU work is kept apart.")
    latency_target: Duration | None = Field(
        None, description="Wanted p99 of the response time, a duration. Default: none."
    )
    throughput_target: Throughput | None = Field(
        None, description="Wanted units of work per second. Default: none."
    )
    endpoint: EndpointConfig | None = Field(None, description="A model server to use instead.")
    params: dict[str, Any] = Field({}, description="The component's own parameters.")


class Settings(Section):
    """How long, how hard, on which cores."""

    duration: Duration | None = Field(
        None, description="All phases together, a duration. Default: the profile's."
    )
    ramp_up: Duration | None = Field(None, description="Phase 1, a duration.")
    sustained: Duration | None = Field(None, description="Phase 2, a duration.")
    search: Duration | None = Field(None, description="Phase 3, a duration.")
    recovery: Duration | None = Field(None, description="Phase 4, a duration.")
    max_multiplier: float = Field(
        64.0,
        gt=1,
        le=1_000_000,
        description="The search climbs to this multiple of the production mix at most.",
    )
    slo_degradation: float = Field(
        2.0,
        gt=1,
        le=1_000_000,
        description="Broken: p99 response above this multiple of its value at multiplier 1.",
    )
    sample_interval: Duration = Field(1.0, description="Between two samples, a duration.")
    threads: int | None = Field(
        None, ge=1, le=4096, description="Workers. Default: one per core, the generator's apart."
    )
    cpus: Numbers | None = Field(None, description="Cores to use. Default: all that are allowed.")
    simulate: str | None = Field(
        None,
        description="A simulated system in virtual time: `mm1:knee=4.2`, `hard:knee=4.2`, `none`.",
    )


class HealthConfig(Section):
    """When the system counts as unhealthy and what is done about it."""

    interval: Duration = Field(1.0, description="Between two checks, a duration.")
    unhealthy_checks: int = Field(10, ge=1, description="In a row before the load is lowered.")
    healthy_checks: int = Field(10, ge=1, description="In a row before the load is restored.")
    load_factor: float = Field(0.9, gt=0, lt=1, description="What the load is multiplied by.")
    error_share_max: Share = Field(0.01, description="Errors of all operations, a share.")
    memory_pressure_max: Share = Field(0.2, description="PSI `some` of memory, a share.")
    memory_available_min: Share = Field(0.05, description="Memory left of all, a share.")
    disk_free_min: Size = Field(10**9, description="Disk space left, bytes.")
    stall_max: Duration = Field(10.0, description="A component without progress, a duration.")


class CriterionConfig(Section):
    """A criterion with thresholds of the user's own."""

    metric: str = Field(description="The metric's name, as in the table of criteria.")
    target: float = Field(description="Met: passes. In the metric's unit.")
    failure_threshold: float = Field(description="Past it: fails. In the metric's unit.")


class Config(Section):
    """A run as it was asked for."""

    scenario: str = Field("max-throughput", description=f"One of {', '.join(SCENARIOS)}.")
    seed: int = Field(
        20_240_607, ge=0, le=SEED_MAX, description="The same seed gives the same load. No unit."
    )
    backend: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: cuda where a usable GPU is found, else cpu."
    )
    device: Devices | None = Field(
        None,
        description="GPUs by number, or `emulated`: the kernels on the processor, which proves "
        "answers and says nothing of a GPU's speed. Default: the first.",
    )
    profile: Profile = Field("quick", description="Lengths of the phases: quick is about 60 s.")
    settings: Settings = Field(
        Settings.model_validate({}), description="How long, how hard, where."
    )
    memory_budget: Budget = Field(
        0.6, description="Memory that the components may keep: bytes, or a share of what is free."
    )
    disk_write_budget: Size = Field(
        100 * 10**9, description="Bytes that the run may write to disk."
    )
    health: HealthConfig = Field(HealthConfig.model_validate({}), description="Health thresholds.")
    criteria: tuple[CriterionConfig, ...] = Field(
        (), strict=False, description="Criteria with other thresholds than the published ones."
    )
    workloads: dict[str, WorkloadConfig] = Field(
        {}, description="The components under test and the load on each."
    )

    @model_validator(mode="before")
    @classmethod
    def _names_are_known(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        scenario = value.get("scenario", SCENARIOS[0])
        if scenario not in SCENARIOS:
            right = right_name(scenario, SCENARIOS)
            raise wrong(f"there is no scenario {shown(scenario)}; {right}", "scenario")
        workloads = value.get("workloads")
        if not isinstance(workloads, Mapping):
            return value
        # YAML reads the bare word of the `null` component as nothing at all.
        named = {"null" if name is None else name: each for name, each in workloads.items()}
        for name in named:
            if name not in COMPONENTS:
                right = right_name(name, COMPONENTS)
                raise wrong(f"there is no {shown(name)}; {right}", "workloads", name)
        return {**value, "workloads": named}
