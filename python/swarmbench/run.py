"""One run from plan to result: prepare, calibrate, hold the scenario's loads, judge, record."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import cast

from swarmbench import _native, calibrate, hlog, machine
from swarmbench.analysis.result import Facts, assemble
from swarmbench.capacities import facts_of
from swarmbench.ceilings import Calibration
from swarmbench.endpoint import Totals, patience_s, reach, served
from swarmbench.engine import EngineDriver, Meter, Track
from swarmbench.errors import ConfigurationError, Interrupted, SafetyStop, Status
from swarmbench.lanes import is_lost, laned
from swarmbench.lock import machine_lock
from swarmbench.monitoring import probes
from swarmbench.monitoring.health import Watch
from swarmbench.monitoring.interpreter import InterpreterMeter
from swarmbench.monitoring.probes import ResourceMeter
from swarmbench.monitoring.sampler import Sampler
from swarmbench.outcome import Outcome
from swarmbench.plan import Plan, harness_bytes
from swarmbench.preparation import Preparation, prepared
from swarmbench.recording import Progress, Recording
from swarmbench.rundir import RunDirectory
from swarmbench.scenarios import max_throughput
from swarmbench.scenarios.slo import Slo
from swarmbench.schema import (
    BOTTLENECKS_SCHEMA,
    Bottlenecks,
    ClockFigures,
    Result,
    SubmissionFigures,
)
from swarmbench.simulated import NoMachine, simulated_engine
from swarmbench.submission import submitted
from swarmbench.workloads import Host, native_workload

#: Seconds for which a component alone shows the throughput that its share is taken of.
CAPACITY_S = 1.5


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run ended; `result` is None where it was cut off before one could be judged."""

    directory: Path
    result: Result | None
    statuses: frozenset[Status]


def execute(
    plan: Plan,
    *,
    out: Path = Path("runs"),
    allow_concurrent: bool = False,
    progress: Progress = lambda label, share: None,
) -> Finished:
    """Runs `plan` and leaves its run directory in `out`.

    Raises `ConfigurationError` and `MachineError` where it cannot start; whatever ends it later
    is in the statuses of what it returns.
    """
    reach(plan)
    started = datetime.now(UTC)
    with machine_lock(plan.scenario, out, allow_concurrent=allow_concurrent) as lock:
        directory = RunDirectory.create(out, plan.scenario, started=started)
        lock.name_run(directory.path)
        with directory, _stopping() as stop_requested:
            run = _Run(plan, directory, started, progress, stop_requested)
            return run.finished()


class _Run:
    """The steps of one run, in order; `finished` walks through them."""

    def __init__(
        self,
        plan: Plan,
        directory: RunDirectory,
        started: datetime,
        progress: Progress,
        stop_requested: Callable[[], bool],
    ) -> None:
        self._plan = plan
        self._directory = directory
        self._started = started
        self._progress = progress
        self._stop_requested = stop_requested
        self._ready = Preparation()
        self._interpreter_share: float | None = None
        self._submission: dict[str, SubmissionFigures] = {}
        self._manifest: dict[str, object] = {
            "run_id": directory.run_id,
            "plan": plan.to_json(),
            "started": started.isoformat(),
            "machine": machine.fingerprint(directory.path),
        }

    def finished(self) -> Finished:
        statuses: set[Status] = set()
        result = None
        try:
            self._directory.write_manifest(self._manifest)
            self._directory.append_histograms(hlog.header(self._started.timestamp()))
            result = self._result()
            statuses |= result.statuses()
        except (Interrupted, SafetyStop) as error:
            statuses.add(Status(error.exit_code))
            self._end(str(error))
            if isinstance(error, SafetyStop):
                return self._stopped(error)
        except ConfigurationError as error:
            self._end(str(error))
            raise
        except KeyboardInterrupt:
            statuses.add(Status.INTERRUPTED)
            self._end("interrupted while the run was being prepared")
        else:
            self._end("finished")
        return Finished(self._directory.path, result, frozenset(statuses))

    def _stopped(self, error: SafetyStop) -> Finished:
        raise SafetyStop(str(error), hint=error.hint or f"the record is `{self._directory.path}`")

    def _end(self, state: str) -> None:
        """Completes the manifest; a record that cannot be written any more keeps what it has."""
        self._manifest |= {"ended": datetime.now(UTC).isoformat(), "state": state}
        try:
            self._directory.write_manifest(self._manifest)
            self._directory.sync()
        except SafetyStop:
            if state == "finished":
                raise

    def _result(self) -> Result:
        plan = self._plan
        ceilings = None if plan.simulation else self._calibrated()
        self._ready = self._prepared()
        components = [each.native for each in self._ready.components]
        self._directory.write_manifest(self._manifest)
        kernel_clock = machine.clock_source()
        engine, tracks, rates = self._engine(components)
        hosted = () if plan.simulation else plan.workloads
        host = Host(engine, hosted, plan.seed)
        recording = self._recording()
        try:
            natives = {each.name: each for each in components}
            with (
                served(plan, natives, host.desks, engine) as totals,
                laned(self._ready.in_python, host.desks, engine) as lanes,
                submitted(self._ready.repeated, host.desks, engine) as submitters,
                self._watched(engine) as (meter, sampler),
            ):
                driver = EngineDriver(
                    engine,
                    tracks,
                    workers=plan.threads,
                    meter=meter,
                    listener=recording,
                    stop_requested=lambda: (
                        is_lost(lanes) or submitters.is_lost() or self._stop_requested()
                    ),
                    patience_s=patience_s(plan),
                )
                self._rate(driver, engine, rates)
                interpreter = InterpreterMeter()
                settings = max_throughput.Settings.of(
                    plan.phases, Slo(degradation=plan.slo_degradation), plan.max_multiplier
                )
                outcome = max_throughput.run(driver, settings)
                driver.finish()
                self._interpreter_share = interpreter.share()
                self._submission = self._ready.submission(submitters.figures())
            cost = None if sampler is None else sampler.cost_percent
            clock = ClockFigures(
                source=engine.clock_source(),
                drift_ns=driver.clock_drift_ns,
                changed=machine.clock_source() != kernel_clock,
            )
            self._manifest["schedule_hash"] = f"{engine.stop():016x}"
            self._manifest["rates_s"] = dict(zip([t.name for t in tracks], rates, strict=True))
            self._count(totals, components)
            result = assemble(
                self._facts(outcome, ceilings, cost, clock), outcome, driver.stretches
            )
        finally:
            engine.stop()
        host.join()
        if host.failures:
            self._manifest["hosted_failures"] = host.failures
        self._write(result)
        return result

    def _write(self, result: Result) -> None:
        found = Bottlenecks(
            schema=BOTTLENECKS_SCHEMA, run_id=result.run_id, bottlenecks=result.bottlenecks
        )
        self._directory.write_bottlenecks(found)
        self._directory.write_result(result)

    def _count(self, totals: Mapping[str, Totals], components: Sequence[_native.Component]) -> None:
        """What servers and components counted beside the engine, into the manifest."""
        if totals:
            self._manifest["endpoints"] = {n: each.to_json() for n, each in totals.items()}
        if components:
            self._manifest["counters"] = {c.name: dict(c.counters()) for c in components}

    def _recording(self) -> Recording:
        return Recording(
            self._directory,
            progress=self._progress,
            total_s=self._plan.phases.total_s,
            interval_s=self._plan.sample_interval_s,
            health=Watch(self._plan.health),
            limits_ns={
                each.name: each.latency_target_ns
                for each in self._plan.workloads
                if each.latency_target_ns is not None
            },
        )

    def _calibrated(self) -> Calibration:
        """The ceilings that results refer to, before anything else takes a share of them."""
        asks_memory = any(
            op.roof in calibrate.MEMORY_ROOFS and op.cost > 0
            for each in self._plan.workloads
            for op in each.component.ops
        )
        budget = self._plan.memory_budget_bytes - harness_bytes(len(self._plan.workloads))
        components = [each.component for each in self._plan.workloads]
        directory = calibrate.disk_directory(components, self._directory.path)
        found = calibrate.measure(
            self._plan.threads,
            directory,
            seconds=calibrate.SECONDS_QUICK,
            cpus=self._plan.cpus,
            memory_max_bytes=budget if asks_memory else 0,
            progress=lambda stage, share: self._step(f"calibrating: {stage}", share),
        )
        self._manifest["calibration"] = found.to_json() | {"disk": machine.disk(directory)}
        return found

    def _prepared(self) -> Preparation:
        done = Preparation() if self._plan.simulation else prepared(self._plan, self._step)
        self._manifest["components"] = done.describe()
        return done

    def _step(self, label: str, share: float) -> None:
        self._progress(label, share)
        if self._stop_requested():
            raise KeyboardInterrupt

    def _engine(
        self, components: Sequence[_native.Component]
    ) -> tuple[_native.Engine, list[Track], list[float]]:
        plan = self._plan
        if plan.simulation is not None:
            return simulated_engine(plan)
        workloads = [
            native_workload(each, component)
            for each, component in zip(plan.workloads, components, strict=True)
        ]
        engine = _native.Engine(
            workloads,
            seed=plan.seed,
            workers=plan.threads,
            worker_cpus=list(plan.cpus),
            pacer_cpu=plan.generator_cpu,
        )
        tracks = [
            Track(each.name, tuple(component.ops()), each.stress_in_flight)
            for each, component in zip(plan.workloads, components, strict=True)
        ]
        return engine, tracks, [each.rate_s or 0.0 for each in plan.workloads]

    @contextmanager
    def _watched(self, engine: _native.Engine) -> Iterator[tuple[Meter, Sampler | None]]:
        """A meter of the machine's resources and, on a real machine, a sampler beside it."""
        plan = self._plan
        if plan.simulation is not None:
            yield NoMachine(), None
            return
        canary = _native.Canary()
        sampler = Sampler(
            self._directory.append_system,
            directory=self._directory.path,
            interval_s=plan.sample_interval_s,
            clock=lambda: engine.now() / 1e9,
        )
        sampler.start()
        try:
            yield ResourceMeter(plan.cpus, canary=cast(probes.Canary, canary)), sampler
        finally:
            canary.stop()
            sampler.stop()

    def _rate(self, driver: EngineDriver, engine: _native.Engine, rates: list[float]) -> None:
        """Turns shares of a capacity into operations per second, measured here and now."""
        for index, each in enumerate(self._plan.workloads):
            if each.capacity_share is not None:
                capacity_s = driver.capacity(each.name, CAPACITY_S)
                rates[index] = each.capacity_share * capacity_s
                driver.event("capacity", component=each.name, ops_s=capacity_s)
        engine.set_rates(rates)

    def _facts(
        self,
        outcome: Outcome,
        ceilings: Calibration | None,
        cost: float | None,
        clock: ClockFigures,
    ) -> Facts:
        plan = self._plan
        return Facts(
            run_id=self._directory.run_id,
            name=plan.name,
            scenario=plan.scenario,
            backend=plan.backend,
            backend_reason=plan.backend_reason,
            device=self._ready.device_name,
            seed=plan.seed,
            profile=plan.profile,
            started=self._started,
            duration_s=(datetime.now(UTC) - self._started).total_seconds(),
            production_scale=outcome.knee.reference,
            components={
                each.name: facts_of(each, outcome.sustained.components[each.name], ceilings)
                for each in plan.workloads
            },
            thresholds={
                each.metric: (each.target, each.failure_threshold) for each in plan.criteria
            },
            notes=(*plan.notes, *self._ready.notes),
            observer_cost_percent=cost,
            clock=clock,
            submission=self._submission,
            interpreter_share=self._interpreter_share,
            timer_floor_ns=(ceilings and ceilings.value("sleep_overshoot_ns")) or 0.0,
        )


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Turns SIGINT and SIGTERM into a request to drain; a second SIGINT ends at once."""
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return

    def ask(number: int, _: FrameType | None) -> None:
        if requested.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        requested.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested.is_set
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
