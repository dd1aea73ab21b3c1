"""The published success criteria, judged; what is missing fails."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from swarmbench.analysis.recovery import Recovery
from swarmbench.measured import Figures
from swarmbench.outcome import Knee
from swarmbench.schema import CriterionResult, CriterionVerdict, Interval


@dataclass(frozen=True, slots=True)
class Rule:
    """One metric: better than `target` passes, worse than `failure_threshold` fails.

    Between the two is a warning. `inclusive` lets the target itself pass.
    """

    metric: str
    unit: str
    target: float
    failure_threshold: float
    inclusive: bool = False

    @property
    def rising(self) -> bool:
        """Whether more is better."""
        return self.target > self.failure_threshold


BREAKING_POINT = Rule("breaking_point", "x", target=5.0, failure_threshold=2.0)
RECOVERY_TIME = Rule("recovery_time", "s", target=60.0, failure_threshold=300.0)
DATA_CONSISTENCY = Rule(
    "data_consistency", "percent", target=100.0, failure_threshold=99.9, inclusive=True
)
MAX_THROUGHPUT = (BREAKING_POINT, RECOVERY_TIME, DATA_CONSISTENCY)


def verdict_of(rule: Rule, value: float) -> CriterionVerdict:
    """What one value means under a rule."""
    sign = 1.0 if rule.rising else -1.0
    margin = sign * (value - rule.target)
    if margin > 0.0 or (rule.inclusive and margin == 0.0):
        return "pass"
    return "fail" if sign * (value - rule.failure_threshold) < 0.0 else "warn"


def judge(rule: Rule, value: float | None, interval: Interval | None = None) -> CriterionResult:
    """The criterion's result; `unresolved` where the interval's ends are judged differently."""
    if value is None:
        return _result(rule, None, None, "fail", "nothing was measured, which is a failure")
    verdict = verdict_of(rule, value)
    ends = {verdict_of(rule, end) for end in interval or () if end is not None}
    if ends - {verdict}:
        return _result(rule, value, interval, "unresolved", "the interval spans a threshold")
    return _result(rule, value, interval, verdict, None)


def breaking_point(knee: Knee | None, rule: Rule = BREAKING_POINT) -> CriterionResult:
    """The largest carried multiplier; nothing broken up to the limit is censored and passes."""
    if knee is None:
        return judge(rule, None)
    if knee.censored:
        note = f"nothing broke up to the limit of {knee.multiplier:g}x"
        return _result(rule, knee.multiplier, (knee.low, None), "censored", note)
    return judge(rule, knee.multiplier, (knee.low, knee.high))


def recovery_time(found: Recovery | None, rule: Rule = RECOVERY_TIME) -> CriterionResult:
    """Seconds back to the baseline; not yet back is censored and fails only past the limit."""
    if found is None or not found.components:
        return judge(rule, None)
    if found.seconds is not None:
        return judge(rule, found.seconds)
    late = [name for name, seconds in found.components.items() if seconds is None]
    note = f"{', '.join(late)} not back after {found.phase_s:g} s"
    failed = found.phase_s >= rule.failure_threshold
    return _result(rule, None, (found.phase_s, None), "fail" if failed else "censored", note)


def data_consistency(
    phases: Iterable[Mapping[str, Figures]], rule: Rule = DATA_CONSISTENCY
) -> CriterionResult:
    """Percent of all verified operations that were right; it is a count, so it has no interval."""
    every = [figures for components in phases for figures in components.values()]
    verified = sum(f.verified for f in every)
    wrong = sum(f.violations for f in every)
    if not verified:
        return judge(rule, None)
    return judge(rule, 100.0 * (verified - wrong) / verified)


def with_thresholds(rule: Rule, thresholds: Mapping[str, tuple[float, float]]) -> Rule:
    """The rule with the user's own (target, failure threshold), where given for its metric."""
    if rule.metric not in thresholds:
        return rule
    target, failure_threshold = thresholds[rule.metric]
    return replace(rule, target=target, failure_threshold=failure_threshold)


def _result(
    rule: Rule,
    value: float | None,
    interval: Interval | None,
    verdict: CriterionVerdict,
    note: str | None,
) -> CriterionResult:
    return CriterionResult(
        metric=rule.metric,
        value=value,
        interval=interval,
        unit=rule.unit,
        target=rule.target,
        failure_threshold=rule.failure_threshold,
        verdict=verdict,
        note=note,
    )
