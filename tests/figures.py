"""A whole result whose figures are made up, for tests of what carries and shows results."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from simulated import Sample
from swarmbench.measured import Figures
from swarmbench.schema import Result

_NO_TIMES = Sample(np.empty(0))

#: A thousand operations that all ended ok and were verified, of no recorded times.
DONE = Figures(
    scheduled=1000,
    ok=1000,
    errors=0,
    rejected=0,
    abandoned=0,
    units=1000,
    response=_NO_TIMES,
    service=_NO_TIMES,
    lateness=_NO_TIMES,
    busy_ns=0,
    queue_depth_max=0,
    in_flight_max=0,
    verified=1000,
    violations=0,
    occupancy_mean=0.0,
)


def percentiles(p50_ns: int, count: int) -> dict[str, Any]:
    """A distribution that is the wider the higher its percentile."""
    return {
        "p50": p50_ns,
        "p90": p50_ns * 2,
        "p99": p50_ns * 5,
        "p99_9": None if count < 10_000 else p50_ns * 9,
        "max": p50_ns * 12,
        "mean": p50_ns * 1.3,
        "count": count,
        "interval_95": None
        if count < 5000
        else {
            "p50": [round(p50_ns * 0.98), round(p50_ns * 1.02)],
            "p99": [round(p50_ns * 4.7), round(p50_ns * 5.4)],
        },
    }


def operation(ok: int, p50_ns: int, **changes: Any) -> dict[str, Any]:
    """The figures of an op type of which one in fifty was rejected."""
    rejected = ok // 50
    figures: dict[str, Any] = {
        "scheduled": ok + rejected,
        "ok": ok,
        "errors": 0,
        "rejected": rejected,
        "abandoned": 0,
        "offered_ops_s": None,
        "achieved_ops_s": ok / 14,
        "response_ns": percentiles(p50_ns, ok),
        "service_ns": percentiles(p50_ns // 2, ok),
        "lateness_ns": percentiles(900, ok),
        "queue_depth_max": 12,
        "in_flight_max": 64,
        "verified": ok,
        "violations": 0,
    }
    return figures | changes


def component(ok: int, p50_ns: int, unit: str, percent: float, **changes: Any) -> dict[str, Any]:
    """The figures of a component with one op type."""
    goodput = {
        "unit": unit,
        "value": ok * 100 / 14,
        "ceiling": ok * 100 / 14 / percent * 100,
        "percent_of_ceiling": percent,
    }
    extra: dict[str, Any] = {"operations": {"one": operation(ok, p50_ns)}, "goodput": goodput}
    return operation(ok, p50_ns) | extra | changes


def result_json() -> dict[str, Any]:
    """The content of a `result.json`, fit to be changed by a test."""
    components = {
        "consensus": component(70_000, 73_000, "votes", 12.5, machine_share=0.55)
        | {"verify_share": 0.021, "claim": "73.89 µs per decision"},
        "knowledge_graph": component(
            7_000, 410_000, "queries", 3.21, machine_share=0.2, verify_share=0.0004
        ),
        "streaming": component(
            2_800, 2_050_000, "bytes", 44.0, machine_share=0.24, claim="10 GB/s"
        ),
    }
    phases = [
        {
            "name": name,
            "start_s": start,
            "duration_s": length,
            "multiplier": multiplier,
            "components": components,
        }
        for name, start, length, multiplier in (
            ("ramp_up", 0.0, 8.0, None),
            ("sustained", 8.0, 14.0, None),
            ("search", 22.0, 30.0, 11.2),
            ("recovery", 52.0, 8.0, 1.0),
        )
    ]
    return {
        "schema": "swarmbench.result/1",
        "run_id": "20260102T030405Z_max-throughput_0a1b2c",
        "scenario": "max-throughput",
        "backend": "cpu",
        "device": None,
        "seed": 7,
        "profile": "quick",
        "started": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).isoformat(),
        "duration_s": 63.2,
        "production_scale": 1.0,
        "verdict": "warn",
        "phases": phases,
        "components": components,
        "criteria": criteria(),
        "breaking_point": {
            "multiplier": 4.2,
            "interval": [3.9, 4.6],
            "censored": False,
            "first_component": "streaming",
            "resource": "workers",
            "cascade": [{"component": "consensus", "order": 1, "after_s": 0.84}],
        },
        "recovery_s": 1.7,
        "bottlenecks": [],
        "trust": trust(),
    }


def trust() -> dict[str, Any]:
    """A measurement that nothing disturbed."""
    return {
        "lateness_ns_p99": 21_000,
        "generator_limited": False,
        "throttled_percent": None,
        "converged": True,
        "observer_cost_percent": 0.4,
        "sentinel": {
            "gap_p99_ns": 3_000,
            "gap_max_ns": 190_000,
            "steal_percent": 0.0,
            "run_delay_percent": 0.2,
            "bad": False,
        },
    }


def criteria() -> list[dict[str, Any]]:
    """The three criteria of max-throughput, the first between target and failure."""
    rows = (
        ("breaking_point", 4.2, [3.9, 4.6], "x", 5.0, 2.0, "warn"),
        ("recovery_time", 1.7, [1.5, 2.0], "s", 60.0, 300.0, "pass"),
        ("data_consistency", 100.0, None, "percent", 100.0, 99.9, "pass"),
    )
    names = ("metric", "value", "interval", "unit", "target", "failure_threshold", "verdict")
    return [dict(zip(names, row, strict=True)) for row in rows]


def result() -> Result:
    """That content as a model."""
    return Result.model_validate(result_json())
