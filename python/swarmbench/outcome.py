"""What the max-throughput scenario hands to the analysis: limits, probes, the knee, recovery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from swarmbench.estimates import Quantile
from swarmbench.measured import Figures, Held, Resources, Sentinel

Verdict = Literal["pass", "fail", "unclear"]


@dataclass(frozen=True, slots=True)
class Limit:
    """One component's latency objective: `limit_ns` is the degradation times its baseline.

    `baseline` is None, and so is `limit_ns`, where the baseline had too few samples to judge.
    """

    component: str
    baseline: Quantile | None
    limit_ns: int | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """One component in one probe against its objective.

    `log_ratio` is the natural logarithm of the judged percentile over its baseline value,
    `log_sigma` the probe's own noise of it; both None where no percentile was resolved.
    `independent_beyond` counts the samples beyond the percentile, less those that only follow
    others in the same queue.
    """

    component: str
    percentile: float | None
    log_ratio: float | None
    log_sigma: float | None
    independent_beyond: float
    growing: bool
    failed_share: float
    too_many_errors: bool
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Trace:
    """One component over a stretch, interval by interval; times from the stretch's start.

    `over` counts responses above the threshold that the trace was taken with, `outstanding` is
    queued and in flight at each interval's end.
    """

    component: str
    ends_s: tuple[float, ...]
    scheduled: tuple[int, ...]
    completed: tuple[int, ...]
    over: tuple[int, ...]
    outstanding: tuple[int, ...]
    rejected: tuple[int, ...]
    busy_ns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """One stretch of the search: its load, what came out, and whether it was believed."""

    multiplier: float
    reason: str
    start_s: float
    duration_s: float
    components: Mapping[str, Figures]
    resources: Resources
    sentinel: Sentinel
    judgements: Mapping[str, Judgement]
    traces: Mapping[str, Trace]
    believed: bool
    cut_short: bool

    @property
    def failed(self) -> bool:
        return any(j.verdict == "fail" for j in self.judgements.values())


@dataclass(frozen=True, slots=True)
class Knee:
    """The largest multiplier at which every objective holds, with its interval at `level`.

    With `censored` nothing broke up to `multiplier` and `high` is None. `lowest` gives for each
    component the probability that its own knee is the lowest, `components` its own (median, low,
    high), None where it did not break. `reference` is the multiplier of the baseline: 1, or less
    where 1x itself could not be held.
    """

    multiplier: float
    low: float
    high: float | None
    level: float
    censored: bool
    converged: bool
    reference: float
    lowest: Mapping[str, float]
    components: Mapping[str, tuple[float, float, float] | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The four phases of max-throughput and what the search made of its probes.

    `calm` traces the recovery against the upper end of each baseline's interval, where the
    probes' traces stand against the limits.
    """

    ramp_up: Held
    sustained: Held
    limits: Mapping[str, Limit]
    baselines: tuple[Probe, ...]
    probes: tuple[Probe, ...]
    knee: Knee
    overload: Probe
    recovery_held: Held
    recovery: Probe
    calm: Mapping[str, Trace]
