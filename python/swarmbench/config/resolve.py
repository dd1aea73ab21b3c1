"""From a `Config` and what the machine has to a `Plan`: every choice made, and said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from swarmbench import units
from swarmbench.components import COMPONENTS, Component
from swarmbench.config.backends import EMULATED_LOAD, Chosen, choose, on_devices
from swarmbench.config.endpoints import endpoint_of
from swarmbench.config.fitting import fit_memory
from swarmbench.config.host import Host
from swarmbench.config.load import KeyPath, Override, problem_of
from swarmbench.config.models import Config, Settings, WorkloadConfig, right_name
from swarmbench.config.processes import Source, process_of
from swarmbench.config.types import shown
from swarmbench.errors import MachineError
from swarmbench.plan import (
    CRITERIA,
    PHASES,
    Criterion,
    Health,
    Phases,
    Plan,
    Simulation,
    WorkloadPlan,
    harness_bytes,
)

#: Shorter runs have phases in which nothing can be told.
DURATION_S_MIN = 2.0
#: From this many cores on, the generator has one of its own.
CORES_FOR_GENERATOR_MIN = 4


def resolve(
    config: Config,
    host: Host,
    *,
    name: str | None = None,
    file: Path | None = None,
    overrides: Sequence[Override] = (),
) -> Plan:
    """The plan of a configuration on a machine.

    Raises `ConfigurationError` where values do not fit one another, `MachineError` where the
    machine cannot run it. `file` and `overrides` only name the place in an error.
    """
    source = Source(str(file) if file is not None else "configuration", overrides)
    if not config.workloads:
        raise source.error(("workloads",), f"names none; {right_name('', COMPONENTS)}")
    chosen = choose(config, host)
    cpus, generator_cpu, threads = _cores(config, host, source)
    phases = _phases(config, source)
    memory_budget = _memory_budget(config, host, source)
    disk_budget = min(config.disk_write_budget, host.disk_free_bytes)
    simulation = _simulation(config.settings.simulate, source)
    # What a simulated system does is nobody's figure but its own.
    parts = config.workloads if simulation is None else {"null": WorkloadConfig.model_validate({})}
    workloads = [_workload(each, part, config, source, chosen) for each, part in parts.items()]
    workloads, notes = on_devices(workloads, chosen)
    workloads, memory = fit_memory(workloads, memory_budget, threads)
    notes += [f"{name}: {line}" for name, each in memory.items() for line in each.fitted]
    notes += _unused(config, chosen)
    plan = Plan(
        scenario=config.scenario,
        name=name,
        seed=config.seed,
        backend=chosen.overall,
        backend_reason=chosen.reason,
        device=chosen.devices,
        profile=config.profile,
        threads=threads,
        cpus=cpus,
        generator_cpu=generator_cpu,
        phases=phases,
        max_multiplier=config.settings.max_multiplier,
        slo_degradation=config.settings.slo_degradation,
        sample_interval_s=config.settings.sample_interval,
        memory_budget_bytes=memory_budget,
        memory=memory,
        disk_write_budget_bytes=disk_budget,
        health=_health(config),
        criteria=_criteria(config, source),
        workloads=tuple(workloads),
        simulation=simulation,
        notes=tuple(notes),
    )
    if plan.written_bytes() > disk_budget:
        needed, allowed = units.about_bytes(plan.written_bytes()), units.about_bytes(disk_budget)
        raise MachineError(
            f"the run would write {needed} and only {allowed} of disk are allowed and free",
            hint="raise `--disk-write-budget`, or choose another disk by `--out`",
        )
    return _bound_writes(plan)


def _bound_writes(plan: Plan) -> Plan:
    """Leaves to the components what the run's own files leave of the write budget, in equal parts.

    What a component cannot run with is a `MachineError`.
    """
    writers = [each.name for each in plan.workloads if each.component.written_bytes() > 0]
    left = plan.disk_write_budget_bytes - plan.written_bytes()
    workloads, notes = list(plan.workloads), list(plan.notes)
    for position, each in enumerate(workloads):
        if each.name not in writers:
            continue
        component, lines = each.component.writing(left // len(writers))
        if (unfit := component.unfit(each.backend)) is not None:
            raise MachineError(
                f"component `{each.name}`: {unfit[0]}: {unfit[1]}",
                hint="raise `--disk-write-budget`, or leave components out by `--components`",
            )
        workloads[position] = replace(each, component=component)
        notes += [f"{each.name}: {line}" for line in lines]
    return replace(plan, workloads=tuple(workloads), notes=tuple(notes))


def _unused(config: Config, chosen: Chosen) -> list[str]:
    """What a file for machines with a GPU, or for other components, asks for in vain here."""
    notes = list[str]()
    if chosen.fell_back:
        notes.append(f"on the cpu backend: {chosen.reason}")
    if chosen.is_emulated:
        notes.append(
            f"the device is emulated: sizes are small, rates {EMULATED_LOAD:g} of the production "
            "ones, and no figure says anything of a GPU"
        )
    elif config.device and not chosen.devices:
        notes.append("device is for the cuda backend and has no effect")
    for name, part in config.workloads.items():
        on_cuda = chosen.backends[name] == "cuda"
        asked = {
            f"submit {part.submit}": not on_cuda and part.submit not in ("auto", "native"),
            f"isolation {part.isolation}": part.isolation not in ("none", on_cuda and "priority"),
        }
        where = "is not part of this version" if on_cuda else "is for the cuda backend"
        notes += [
            f"{name}: {key} {where} and has no effect"
            for key, is_asked in asked.items()
            if is_asked
        ]
        if part.endpoint is not None and COMPONENTS[name].endpoint_op is None:
            notes.append(f"{name}: it serves its own requests, the endpoint has no effect")
    if config.settings.simulate is not None:
        system = config.settings.simulate
        notes.append(f"simulated system `{system}`: no component of this machine runs")
    return notes


def _cores(config: Config, host: Host, source: Source) -> tuple[tuple[int, ...], int | None, int]:
    """The workers' cores, the generator's own where there are enough, and the workers' number."""
    chosen = _allowed_cores(config.settings, host, source)
    usable = min(len(chosen), host.threads_max)
    apart = usable >= CORES_FOR_GENERATOR_MIN
    workers = chosen[:-1] if apart else chosen
    threads = config.settings.threads or (usable - 1 if apart else usable)
    return workers, chosen[-1] if apart else None, threads


def chosen_cores(
    settings: Settings, host: Host, overrides: Sequence[Override] = ()
) -> tuple[int, ...]:
    """The cores that were chosen, or all that are allowed; `ConfigurationError` for others."""
    return _allowed_cores(settings, host, Source("configuration", overrides))


def _allowed_cores(settings: Settings, host: Host, source: Source) -> tuple[int, ...]:
    chosen = settings.cpus if settings.cpus is not None else host.cpus
    absent = sorted(set(chosen) - set(host.cpus))
    if absent:
        allowed = units.format_numbers(host.cpus)
        problem = f"core {absent[0]} is not allowed here; choose from `{allowed}`"
        raise source.error(("settings", "cpus"), problem)
    return chosen


def _phases(config: Config, source: Source) -> Phases:
    settings, lengths = config.settings, PHASES[config.profile]
    phases = Phases(
        ramp_up_s=settings.ramp_up or lengths.ramp_up_s,
        sustained_s=settings.sustained or lengths.sustained_s,
        search_s=settings.search or lengths.search_s,
        recovery_s=settings.recovery or lengths.recovery_s,
    )
    if settings.duration is None:
        return phases
    if settings.duration < DURATION_S_MIN:
        problem = (
            f"`{units.format_duration(settings.duration)}` is too short for four phases; "
            f"give at least `{units.format_duration(DURATION_S_MIN)}`"
        )
        raise source.error(("settings", "duration"), problem)
    return phases.scaled_to(settings.duration)


def _memory_budget(config: Config, host: Host, source: Source) -> int:
    budget = config.memory_budget
    if isinstance(budget, float):
        budget = int(budget * host.memory_available_bytes)
    harness = harness_bytes(len(config.workloads))
    if budget <= harness:
        least, has = units.about_bytes(harness), units.about_bytes(budget)
        raise source.error(("memory_budget",), f"{has} is too little; give more than {least}")
    if budget > host.memory_available_bytes:
        free, asked = units.about_bytes(host.memory_available_bytes), units.about_bytes(budget)
        raise MachineError(
            f"the memory budget of {asked} is more than the {free} that are free",
            hint="lower it by `--memory-budget 60%`",
        )
    return budget


def _workload(
    name: str, part: WorkloadConfig, config: Config, source: Source, chosen: Chosen
) -> WorkloadPlan:
    at = ("workloads", name)
    backend = chosen.backend_of(name)
    component = _component(COMPONENTS[name], part, config, source, chosen)
    rate_s, share = component.production_rate_s, component.capacity_share
    if chosen.is_small(name) and rate_s is not None:
        rate_s *= EMULATED_LOAD
    if part.rate is not None:
        rate_s, share = part.rate.rate_s, part.rate.share or 0.0
    if not rate_s and not share:
        problem = "the rate is 0; give one such as `100/s`, or leave the workload out"
        raise source.error((*at, "rate"), problem)
    return WorkloadPlan(
        component=component,
        backend=backend,
        rate_s=rate_s,
        capacity_share=None if rate_s is not None else share,
        process=process_of(part.distribution, (*at, "distribution"), source),
        op_weights=_op_weights(component, part, (*at, "ops"), source),
        in_flight_max=part.max_in_flight or component.stress_in_flight,
        queue_max=part.queue,
        overload=part.overload,
        stress_in_flight=part.stress_in_flight or component.stress_in_flight,
        latency_target_ns=None if part.latency_target is None else round(part.latency_target * 1e9),
        throughput_target_s=part.throughput_target,
        submit=part.submit,
        isolation=part.isolation,
        endpoint=endpoint_of(part.endpoint, (*at, "endpoint"), source),
    )


def _component(
    kind: type[Component], part: WorkloadConfig, config: Config, source: Source, chosen: Chosen
) -> Component:
    """The component with its parameters; `sizes` and `data_mix` stand for parameters of it."""
    at = ("workloads", kind.name)
    fields = kind.model_fields
    stated: dict[str, tuple[str, Any]] = {}
    if part.data_mix is not None:
        mix = next((name for name in ("mix", "blend") if name in fields), "data_mix")
        stated[mix] = "data_mix", part.data_mix
    if part.sizes is not None:
        stated["size_min_bytes"] = "sizes", part.sizes.low
        stated["size_max_bytes"] = "sizes", part.sizes.high
    for name, (key, _) in stated.items():
        if name not in fields:
            problem = f"`{kind.name}` has no `{key}`; {_right_parameters(kind)}"
            raise source.error((*at, key), problem)
    for name in part.params:
        if name not in fields:
            right = right_name(name, fields) if fields else _right_parameters(kind)
            raise source.error((*at, "params", str(name)), f"there is no {shown(name)}; {right}")

    def key_of(location: KeyPath) -> KeyPath:
        key = stated.get(str(location[0])) if location else None
        return (*at, *(("params", *location) if key is None else (key[0], *location[1:])))

    values = {name: value for name, (_, value) in stated.items()}
    try:
        given = {**part.params, **values}
        if chosen.is_small(kind.name):
            component = kind(**{**kind.small().model_dump(exclude_defaults=True), **given})
        else:
            component = kind.for_profile(config.profile, **given)
    except ValidationError as error:
        raise problem_of(error, source.where, source.overrides, key_of) from None
    if (unfit := component.unfit(chosen.backend_of(kind.name))) is not None:
        key, problem = unfit
        raise source.error((*at, "params", key), problem)
    return component


def _right_parameters(kind: type[Component]) -> str:
    names = ", ".join(sorted(kind.model_fields))
    return f"its params are {names}" if names else "it has no params"


def _op_weights(
    component: Component, part: WorkloadConfig, at: tuple[str, ...], source: Source
) -> dict[str, float]:
    known = [op.name for op in component.ops]
    for name in part.ops:
        if name not in known:
            problem = f"there is no {shown(name)}; {right_name(name, known)}"
            raise source.error((*at, name), problem)
    weights = dict(part.ops) or dict(component.weights)
    if sum(weights.values()) <= 0:
        raise source.error(at, "the weights are all 0; give one above 0")
    try:
        units.check_shares(list(weights.values()))
    except ValueError as error:
        raise source.error(at, str(error)) from None
    return {name: weight for name, weight in weights.items() if weight > 0}


def _criteria(config: Config, source: Source) -> tuple[Criterion, ...]:
    for position, each in enumerate(config.criteria):
        if each.metric not in CRITERIA:
            right = right_name(each.metric, CRITERIA)
            problem = f"there is no {shown(each.metric)}; {right}"
            raise source.error(("criteria", str(position), "metric"), problem)
    return tuple(Criterion(**each.model_dump()) for each in config.criteria)


def _health(config: Config) -> Health:
    health = config.health
    return Health(
        interval_s=health.interval,
        unhealthy_checks=health.unhealthy_checks,
        healthy_checks=health.healthy_checks,
        load_factor=health.load_factor,
        error_share_max=health.error_share_max,
        memory_pressure_max=health.memory_pressure_max,
        memory_available_min=health.memory_available_min,
        disk_free_bytes_min=health.disk_free_min,
        stall_s_max=health.stall_max,
    )


def _simulation(text: str | None, source: Source) -> Simulation | None:
    if text is None:
        return None
    system, _, setting = text.partition(":")
    knee = setting.removeprefix("knee=")
    right = "give `mm1:knee=4.2`, `hard:knee=4.2` or `none`"
    at = ("settings", "simulate")
    if system == "none" and not setting:
        return Simulation("none", None)
    if system not in ("mm1", "hard") or knee == setting:
        raise source.error(at, f"{shown(text)} is no simulated system; {right}")
    try:
        multiplier = float(knee)
    except ValueError:
        raise source.error(at, f"{shown(knee)} is not a number; {right}") from None
    if not 1 < multiplier < math.inf:
        raise source.error(at, f"{shown(knee)} is not above 1; {right}")
    return Simulation("mm1" if system == "mm1" else "hard", multiplier)
