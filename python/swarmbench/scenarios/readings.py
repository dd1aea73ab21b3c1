"""Every probe's percentiles as readings against all of the baseline so far, for the posterior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarmbench.outcome import Judgement, Probe
from swarmbench.scenarios.knee import Reading, Readings
from swarmbench.scenarios.slo import Baseline, Slo

#: Noise given to "not overloaded" of a component too rare for a percentile.
UNRESOLVED_SIGMA = 0.25


@dataclass(frozen=True, slots=True)
class _Measured:
    """One component in one probe; `log_value` is ln(ns) of its percentile, None if overloaded."""

    x: float
    percentile: float | None
    log_value: float | None
    sigma: float
    seconds: float


@dataclass(slots=True)
class Filed:
    """What all believed probes measured, kept in nanoseconds: the baseline still gets better."""

    measured: dict[str, list[_Measured]] = field(default_factory=dict)

    def add(self, probe: Probe, baseline: Baseline, reference: float, slo: Slo) -> None:
        """Files a probe that was judged against `baseline`, taken at the load `reference`."""
        x = math.log(probe.multiplier / reference)
        limit = math.log(slo.degradation)
        for name, judgement in probe.judgements.items():
            kept = _measured(x, judgement, probe, limit, baseline)
            self.measured.setdefault(name, []).append(kept)

    def readings(
        self, baseline: Baseline, stretches: Sequence[Probe], slo: Slo
    ) -> dict[str, Readings]:
        """The readings of each component relative to `baseline`, made of these `stretches`."""
        return {
            name: Readings(
                tuple(_reading(m, name, baseline) for m in measured),
                _baselines(name, baseline, stretches, slo),
            )
            for name, measured in self.measured.items()
        }


def _measured(
    x: float, judgement: Judgement, probe: Probe, limit: float, baseline: Baseline
) -> _Measured:
    ratio, sigma, percentile = judgement.log_ratio, judgement.log_sigma, judgement.percentile
    overloaded = judgement.growing or judgement.too_many_errors
    if ratio is None or sigma is None or percentile is None:
        value = None if overloaded else 0.0
        return _Measured(x, None, value, UNRESOLVED_SIGMA, probe.duration_s)
    if overloaded or (probe.cut_short and ratio > limit):
        return _Measured(x, percentile, None, sigma, probe.duration_s)
    before = baseline.quantile(judgement.component, percentile).value_ns
    return _Measured(x, percentile, ratio + math.log(before), sigma, probe.duration_s)


def _reading(measured: _Measured, name: str, baseline: Baseline) -> Reading:
    y = measured.log_value
    if y is not None and measured.percentile is not None:
        y -= math.log(baseline.quantile(name, measured.percentile).value_ns)
    return Reading(measured.x, y, measured.sigma, measured.seconds)


def _baselines(
    name: str, baseline: Baseline, stretches: Sequence[Probe], slo: Slo
) -> tuple[Reading, ...]:
    """Each stretch at the reference, or all of them as one where one alone is too short."""
    whole = baseline.limits(slo)[name].baseline
    if whole is None:
        return ()
    found = []
    for stretch in stretches:
        judged = stretch.judgements[name]
        if judged.percentile != whole.percentile or judged.log_sigma is None:
            return (Reading(0.0, 0.0, whole.log_sigma, baseline.seconds),)
        value = max(1, stretch.components[name].response.percentile(whole.percentile))
        y = math.log(value / whole.value_ns)
        found.append(Reading(0.0, y, judged.log_sigma, stretch.duration_s))
    return tuple(found)
