"""The published shapes of `result.json` and `bottlenecks.json`, checked whenever one is made.

Times end in `_s` or `_ns`; `response_ns`, `service_ns` and `lateness_ns` hold nanoseconds. A
percentile is null where fewer than ten samples lie beyond it. Nothing is ever NaN or infinite.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from swarmbench.errors import Status

RESULT_SCHEMA: Literal["swarmbench.result/1"] = "swarmbench.result/1"
BOTTLENECKS_SCHEMA: Literal["swarmbench.bottlenecks/1"] = "swarmbench.bottlenecks/1"
PUBLISHED = {RESULT_SCHEMA: "result-1.json", BOTTLENECKS_SCHEMA: "bottlenecks-1.json"}

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]
Verdict = Literal["pass", "warn", "fail", "untrusted"]
CriterionVerdict = Literal["pass", "warn", "fail", "unresolved", "censored"]
#: Low and high end; null is an end that was not reached.
Interval = tuple[float | None, float | None]


class Record(BaseModel):
    """A part of a result: known keys only, numbers finite."""

    model_config = ConfigDict(
        extra="forbid", allow_inf_nan=False, populate_by_name=True, protected_namespaces=()
    )


class PercentileIntervals(Record):
    """The 95 % interval of each percentile, in nanoseconds."""

    p50: tuple[Count, Count] | None = None
    p90: tuple[Count, Count] | None = None
    p99: tuple[Count, Count] | None = None
    p99_9: tuple[Count, Count] | None = None


class Percentiles(Record):
    """A distribution of times in nanoseconds.

    An interval is null where its percentile is, where the load was not held constant, where the
    samples beyond the percentile are a few bursts, or where they depend on each other throughout.
    """

    p50: Count | None = None
    p90: Count | None = None
    p99: Count | None = None
    p99_9: Count | None = None
    max: Count | None = None
    mean: Amount | None = None
    count: Count = 0
    interval_95: PercentileIntervals | None = None
    precise: str | None = Field(
        default=None,
        description="The highest percentile with at least 100 samples beyond it, counted as "
        "independent ones.",
    )

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        given = [each for each in (self.p50, self.p90, self.p99, self.p99_9) if each is not None]
        if given != sorted(given):
            raise ValueError("the percentiles do not ascend")
        return self


class Goodput(Record):
    """Verified work per second in the component's unit, beside what the machine allows."""

    unit: str
    value: Amount
    ceiling: Amount | None = None
    percent_of_ceiling: Amount | None = None
    joules_per_unit: Amount | None = None


class OperationFigures(Record):
    """What was asked and what came of it: scheduled = ok + errors + rejected + abandoned."""

    scheduled: Count
    ok: Count
    errors: Count
    rejected: Count
    abandoned: Count
    offered_ops_s: Amount | None = Field(None, description="Null in a closed loop.")
    achieved_ops_s: Amount
    response_ns: Percentiles
    service_ns: Percentiles
    lateness_ns: Percentiles
    queue_depth_max: Count
    in_flight_max: Count
    verified: Count
    violations: Count
    verify_share: Amount | None = Field(
        None,
        description="Of the worker time of its operations and their checks, that of the checks.",
    )
    latency_target: Amount | None = Field(None, description="Seconds, for the response's p99.")
    throughput_target: Amount | None = Field(None, description="Units per second.")
    goodput: Goodput | None = None
    littles_law_error: float | None = Field(
        None, description="Mean occupancy over throughput times mean response, minus 1."
    )

    @model_validator(mode="after")
    def _conserves(self) -> Self:
        accounted = self.ok + self.errors + self.rejected + self.abandoned
        if accounted != self.scheduled:
            raise ValueError(
                f"{self.scheduled} operations were scheduled but {accounted} are accounted for"
            )
        return self


class ComponentFigures(OperationFigures):
    """The figures of one component, over all of its op types and for each."""

    operations: dict[str, OperationFigures] = Field(default_factory=dict)
    machine_share: Amount | None = Field(
        None, description="Of the worker time inside operations of all components, 0..1."
    )
    claim: str | None = Field(None, description="The original's figure, never measured.")


class PhaseResult(Record):
    """One phase; `multiplier` is null in a closed loop, the highest one in a search."""

    name: str
    start_s: Amount
    duration_s: Amount
    multiplier: Amount | None = None
    stationary: bool | None = Field(
        default=None,
        description="Whether no component's throughput or median response had a trend; null where "
        "the load changes or too little was completed to tell.",
    )
    components: dict[str, ComponentFigures]


class CriterionResult(Record):
    """One published criterion, judged."""

    metric: str
    value: float | None
    interval: Interval | None = None
    unit: str
    target: float
    failure_threshold: float
    verdict: CriterionVerdict
    note: str | None = None


class Follower(Record):
    """A component that broke after the first, and how much later in the same overload."""

    component: str
    order: Count
    after_s: Amount


class LoadProbe(Record):
    """One point of the curve of latency over load."""

    multiplier: Amount
    start_s: Amount
    duration_s: Amount
    failed: bool
    believed: bool = True
    response_p99_ns: dict[str, Count | None] = Field(default_factory=dict)
    achieved_ops_s: dict[str, Amount] = Field(default_factory=dict)


class BreakingPoint(Record):
    """The largest multiplier at which the objective holds; censored where nothing broke."""

    multiplier: Amount
    interval: Interval
    censored: bool
    first_component: str | None = None
    resource: str | None = None
    cascade: list[Follower] = Field(default_factory=list)
    probes: list[LoadProbe] = Field(default_factory=list)


class Bottleneck(Record):
    """A finding: which resource limited whom, when, by what measurement against what limit."""

    resource: str
    component: str | None
    phase: str
    start_s: Amount
    duration_s: Amount
    measured: float
    threshold: float
    unit: str
    evidence: str


class SentinelFigures(Record):
    """Whether the machine let swarmbench measure: gaps in its own spinning, stolen time."""

    gap_p99_ns: Count
    gap_max_ns: Count
    steal_percent: Amount
    run_delay_percent: Amount
    bad: bool


class ClockFigures(Record):
    """The clock of all latencies, its largest correction at an anchor, a second after the last.

    `changed` says that the kernel gave up its own clock source during the run.
    """

    source: str
    drift_ns: Count
    changed: bool


class Trust(Record):
    """Whether the figures can be believed; `reasons` say why not."""

    lateness_ns_p99: Count | None
    generator_limited: bool
    throttled_percent: Amount | None
    converged: bool
    observer_cost_percent: float | None
    sentinel: SentinelFigures
    clock: ClockFigures | None = None
    reasons: list[str] = Field(default_factory=list)


class SubmissionFigures(Record):
    """How a component's operations reached a device; times are of all operations of the run.

    `submit_ns` is from taking an operation until the driver, or the word that it waits for, had it,
    `queue_ns` from then until it was seen to begin, `execute_ns` until its answer was seen to be
    there. Null where Python submits.
    """

    submit: Literal["python", "native", "graph", "armed", "persistent"]
    lanes: Count
    keys: dict[str, Count] = Field(
        default_factory=dict,
        description="By op type, of how many keys the operations were that were asked in turn.",
    )
    submit_ns: Percentiles | None = None
    queue_ns: Percentiles | None = None
    execute_ns: Percentiles | None = None


class Result(Record):
    """What one run found; the content of `result.json`."""

    schema_: Literal["swarmbench.result/1"] = Field(RESULT_SCHEMA, alias="schema")
    run_id: str
    name: str | None = None
    scenario: str
    backend: Literal["cpu", "cuda"]
    backend_reason: str | None = None
    device: str | None
    seed: Count
    profile: Literal["quick", "standard", "full"]
    started: AwareDatetime
    duration_s: Amount
    production_scale: Annotated[float, Field(gt=0)]
    verdict: Verdict
    phases: list[PhaseResult]
    components: dict[str, ComponentFigures]
    criteria: list[CriterionResult]
    breaking_point: BreakingPoint | None = None
    recovery_s: Amount | None = None
    bottlenecks: list[Bottleneck] = Field(default_factory=list)
    submission: dict[str, SubmissionFigures] = Field(
        default_factory=dict, description="By component, of those on a device."
    )
    interpreter_share: Amount | None = Field(
        None,
        description="Processor time of Python's threads over the time of the phases: how much of "
        "it the interpreter's lock was held at most.",
    )
    trust: Trust
    notes: list[str] = Field(default_factory=list)

    def statuses(self) -> set[Status]:
        """Every exit status that the result itself calls for; `final_status` chooses among them."""
        held = {Status.OK}
        if any(each.violations for each in self.components.values()) or any(
            each.violations for phase in self.phases for each in phase.components.values()
        ):
            held.add(Status.WRONG_RESULT)
        if self.verdict == "untrusted":
            held.add(Status.UNTRUSTED)
        if self.verdict == "fail" or any(each.verdict == "fail" for each in self.criteria):
            held.add(Status.CRITERION_FAILED)
        return held

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values, in the published shape."""
        return self.model_dump(mode="json", by_alias=True)


class Bottlenecks(Record):
    """The content of `bottlenecks.json`."""

    schema_: Literal["swarmbench.bottlenecks/1"] = Field(BOTTLENECKS_SCHEMA, alias="schema")
    run_id: str
    bottlenecks: list[Bottleneck]

    def to_json(self) -> dict[str, Any]:
        """The findings as JSON values, in the published shape."""
        return self.model_dump(mode="json", by_alias=True)


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of `RESULT_SCHEMA` or `BOTTLENECKS_SCHEMA`, made from the models."""
    models: dict[str, type[Record]] = {RESULT_SCHEMA: Result, BOTTLENECKS_SCHEMA: Bottlenecks}
    model = models[name]
    schema = model.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": name, **schema}


def published_path(name: str) -> Path:
    """Where the package carries the JSON Schema of that name."""
    return Path(__file__).parent / "schemas" / PUBLISHED[name]


def published_text(name: str) -> str:
    """What that file must hold; `python -m swarmbench.schema` writes it."""
    return json.dumps(json_schema(name), indent=2) + "\n"


if __name__ == "__main__":
    for _name in PUBLISHED:
        published_path(_name).parent.mkdir(exist_ok=True)
        published_path(_name).write_text(published_text(_name), encoding="utf-8")
