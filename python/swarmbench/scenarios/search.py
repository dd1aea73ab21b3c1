"""The breaking-point search: a pure state machine, observations in, the next probe out.

It takes the baseline, climbs geometrically to the first load that fails, then goes where the
posterior of the knee says: to its median while the bracket is wide, to its two sides after.
Every probe stays in the fit (a monotone family with a lapse rate, see `knee`), so none is final.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from swarmbench.estimates import NORMAL_95, isotonic
from swarmbench.measured import Held, Interval
from swarmbench.outcome import Judgement, Knee, Limit, Probe
from swarmbench.scenarios.knee import Posterior, Reading, Readings, posterior, steadied
from swarmbench.scenarios.readings import Filed
from swarmbench.scenarios.slo import Baseline, Slo, decided_watch, judge, take_traces

#: A bound on the probes of one search, whatever its budget.
TRIALS_MAX = 500
#: How often one load is measured again because the machine disturbed it.
REPEATS_MAX = 2
#: Halvings of the reference load where 1x itself overloads the machine.
DESCENTS_MAX = 6
LEVEL = 0.95
#: Independent samples beyond a percentile below which its median falls short of its mean, so
#: that probes are made longer, and by how much at most.
BEYOND_WANTED, STRETCH_MAX = 40.0, 3.0
#: Width of the posterior in ln(multiplier), or count of bisections, from which its sides are
#: probed and no longer its median: four halvings of an octave leave 4 %.
SIDES_WIDTH, BISECTIONS_MAX = 0.2, 4


@dataclass(frozen=True, slots=True)
class Budget:
    """What a search may spend, and when it may stop before: seconds, and relative precision.

    It stops once the knee's interval lies within `precision` of the knee on either side; an
    interval wider than `tolerance` when the time is up is called not converged.
    """

    total_s: float
    baseline_s: float
    probe_s: float
    precision: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One stretch to hold: the load, its longest duration, and why."""

    multiplier: float
    duration_s: float
    reason: str


@dataclass(slots=True)
class KneeSearch:
    """Finds the largest multiplier, up to `limit`, at which every component's SLO holds."""

    slo: Slo
    budget: Budget
    limit: float
    baseline: Baseline | None = None
    baselines: list[Probe] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    _reference: float = 1.0
    _climbing: bool = True
    _again: Trial | None = None
    _filed: Filed = field(default_factory=Filed)
    _posterior: Posterior | None = None
    _began_s: float | None = None
    _ended_s: float = 0.0
    _planned_s: float = 0.0

    def next(self) -> Trial | None:
        """The next stretch, or None once the knee is known well enough or the time is up."""
        if self.baseline is None:
            return self._again or self._baseline_trial()
        trial = self._again or self._choose()
        spent = self._ended_s - (self._began_s or 0.0)
        cost = 0.0 if trial is None else trial.duration_s * max(1.0, spent / self._planned_s)
        out_of_time = spent + cost + self.budget.probe_s > self.budget.total_s
        if trial is None or out_of_time or len(self.probes) >= TRIALS_MAX:
            return None
        return trial

    def limits(self) -> dict[str, Limit]:
        """Each component's objective by all baseline stretches so far."""
        return {} if self.baseline is None else self.baseline.limits(self.slo)

    def watch(self, trial: Trial) -> Callable[[list[Interval]], bool] | None:
        """The sequential test that may end the stretch early; None for a baseline."""
        if trial.reason == "baseline":
            return None
        return decided_watch(self.limits(), self.slo, trial.duration_s)

    def observe(self, trial: Trial, held: Held) -> Probe:
        """Files what a trial gave and decides what it means for the next one."""
        if self._began_s is None:
            self._began_s = held.start_s
        self._ended_s = held.start_s + held.duration_s
        self._planned_s += trial.duration_s
        if trial.reason == "baseline":
            return self._observe_baseline(trial, held)
        assert self.baseline is not None
        probe = take_probe(trial, held, self.baseline, self.slo)
        disturbed = self._disturbed(probe)
        if disturbed:
            probe = take_probe(trial, held, self.baseline, self.slo, believed=False)
        self.probes.append(probe)
        self._again = Trial(trial.multiplier, trial.duration_s, "repeat") if disturbed else None
        if not disturbed:
            self._filed.add(probe, self.baseline, self._reference, self.slo)
            self._posterior = None
            self._climbing = self._climbing and self._carried(probe)
        return probe

    def _disturbed(self, probe: Probe) -> bool:
        """Whether a probe is repeated and not believed: one that fails, or comes near to it.

        Where that befalls many, disturbance is the machine's usual state and only a failed probe
        is repeated.
        """
        if not probe.sentinel.bad:
            return False
        repeated = sum(not p.believed and p.multiplier == probe.multiplier for p in self.probes)
        near = any(
            j.log_ratio is not None and j.log_ratio > 0.5 * math.log(self.slo.degradation)
            for j in probe.judgements.values()
        )
        return repeated < REPEATS_MAX and (probe.failed or (near and _rare(self.probes)))

    def knee(self) -> Knee:
        """The knee with its interval, from all believed probes."""
        baseline = self.baseline
        if baseline is None or not self._filed.measured:
            low = 0.0 if baseline is None else self._reference
            return Knee(low, low, self._reference, LEVEL, False, False, self._reference, {}, {})
        found = self._fit()
        scale = self._reference
        per_component = {name: self._own_knee(found, name) for name in self._filed.measured}
        if self._none_up_to_limit(found):
            confirmed = len(self._at_limit()) >= 2
            return Knee(
                self.limit, self.limit, None, LEVEL, True, confirmed, scale, {}, per_component
            )
        low, middle, high = (scale * math.exp(found.quantile(q)) for q in (0.025, 0.5, 0.975))
        narrow = math.log(high / low) <= 2.0 * math.log1p(self.budget.tolerance)
        tolerance = self.budget.tolerance
        below, above = isotonic_bracket(self.probes, self.slo.degradation)
        agreed = below <= high * (1.0 + tolerance) and above >= low / (1.0 + tolerance)
        converged = narrow and agreed and self._both_sides(middle, tolerance)
        return Knee(middle, low, high, LEVEL, False, converged, scale, found.lowest, per_component)

    def _baseline_trial(self) -> Trial | None:
        if self._reference < 2.0**-DESCENTS_MAX:
            return None
        return Trial(self._reference, self.budget.baseline_s, "baseline")

    def _observe_baseline(self, trial: Trial, held: Held) -> Probe:
        own = Baseline.of(held, self.slo)
        probe = take_probe(trial, held, own, self.slo)
        first = self.baseline is None
        if held.sentinel.bad and _rare(self.baselines):
            self._again = trial
            probe = take_probe(trial, held, own, self.slo, believed=False)
        elif first and probe.failed:
            self._again = None
            self.limit = self._reference
            self._reference /= 2.0
        else:
            self._again = None
            if not held.sentinel.bad:
                self._disbelieve_disturbed_baselines()
            merged = own if self.baseline is None else self.baseline.extended(held, self.slo)
            self.baseline = merged
            self._posterior = None
        self.baselines.append(probe)
        return probe

    def _disbelieve_disturbed_baselines(self) -> None:
        """A baseline that was only taken for want of a better one goes when there is one."""
        believed = [p for p in self.baselines if p.believed and p.multiplier == self._reference]
        if believed and all(p.sentinel.bad for p in believed):
            self.baseline = None
            self.baselines = [
                replace(p, believed=p.believed and p.multiplier != self._reference)
                for p in self.baselines
            ]

    def _choose(self) -> Trial | None:
        if self._climbing:
            if len(self._at_limit()) >= 2:
                return None
            last = self.probes[-1].multiplier if self.probes else self._reference
            return Trial(min(self.limit, 2.0 * last), self.budget.probe_s, "climb")
        found = self._fit()
        low, high = found.quantile(0.025), found.quantile(0.975)
        if self._known(found, low, high):
            return None
        if self._baseline_is_the_noise(found, high - low):
            return Trial(self._reference, self._again_s(), "baseline")
        return self._refine(found, high - low)

    def _refine(self, found: Posterior, width: float) -> Trial:
        bisected = sum(p.reason == "bisect" for p in self.probes)
        if width > SIDES_WIDTH and bisected < BISECTIONS_MAX:
            return self._trial(found.quantile(0.5), "bisect")
        middle, step = found.quantile(0.5), math.log1p(self.budget.precision)
        if sum(p.reason == "below" for p in self.probes) <= sum(
            p.reason == "above" for p in self.probes
        ):
            return self._trial(min(found.quantile(0.2), middle - step), "below")
        return self._trial(max(found.quantile(0.8), middle + step), "above")

    def _trial(self, x: float, reason: str) -> Trial:
        multiplier = min(self.limit, self._reference * math.exp(x))
        seconds = self.budget.probe_s if reason == "bisect" else self._probe_s()
        return Trial(multiplier, seconds, reason)

    def _again_s(self) -> float:
        """Length of one more baseline: a probe's, or two where that has too few samples."""
        assert self.baseline is not None
        rarest = min(h.count for h in self.baseline.responses.values()) / self.baseline.seconds
        beyond = rarest * self.budget.probe_s * (1.0 - max(self.slo.percentiles) / 100.0)
        return self.budget.probe_s * (1.0 if beyond >= BEYOND_WANTED else 2.0)

    def _probe_s(self) -> float:
        """A probe's length near the knee: longer where its queue makes samples dependent.

        At least four more such probes must fit into the time that is left.
        """
        limit = math.log(self.slo.degradation)
        beyond = [
            j.independent_beyond / p.duration_s
            for p in self.probes
            for j in p.judgements.values()
            if j.log_ratio is not None and 0.5 * limit < j.log_ratio < 2.0 * limit
        ]
        wanted = BEYOND_WANTED / (sum(beyond) / len(beyond)) if beyond else 0.0
        left = self.budget.total_s - (self._ended_s - (self._began_s or 0.0))
        longest = min(STRETCH_MAX * self.budget.probe_s, left / 4.0)
        return max(self.budget.probe_s, min(wanted, longest))

    def _known(self, found: Posterior, low: float, high: float) -> bool:
        if self._none_up_to_limit(found):
            return len(self._at_limit()) >= 2
        middle = self._reference * math.exp(found.quantile(0.5))
        narrow = (high - low) * self._caution(found) <= 2.0 * math.log1p(self.budget.precision)
        return narrow and self._both_sides(middle, max(0.15, self.budget.precision), wanted=2)

    def _caution(self, found: Posterior) -> float:
        """By how much an interval must be narrower before it ends the search.

        Its width rests on the scatter of few stretches, and a search that stops once it is narrow
        stops where they happened to agree. It is Student's quantile over the normal one, to the
        first term of its expansion; knee, steepness and baseline are taken from the stretches.
        """
        measured = self._read()[max(found.lowest, key=lambda n: found.lowest[n])]
        free = sum(r.y is not None for r in measured.readings) + len(measured.baselines)
        return 1.0 + (NORMAL_95**2 + 1.0) / (4.0 * max(1, free - 3))

    def _both_sides(self, middle: float, within: float, wanted: int = 1) -> bool:
        believed = [p.multiplier for p in self.probes if p.believed]
        below = sum(middle / (1.0 + within) <= m <= middle for m in believed)
        above = sum(middle <= m <= middle * (1.0 + within) for m in believed)
        return below >= wanted and above >= wanted

    def _none_up_to_limit(self, found: Posterior) -> bool:
        return found.beyond(math.log(self.limit / self._reference)) >= 0.5

    def _at_limit(self) -> list[Probe]:
        top = [p for p in self.probes if p.multiplier >= self.limit and p.believed]
        return [p for p in top if not p.failed]

    def _baseline_is_the_noise(self, found: Posterior, width: float) -> bool:
        """Whether a second at the baseline would now narrow the knee more than one at it.

        Both variances fall as 1/time, so their sum is least where the times stand to each other
        as the square roots of variance x time (Neyman's allocation).
        """
        assert self.baseline is not None
        if width > SIDES_WIDTH:
            return False
        name = max(found.lowest, key=lambda n: found.lowest[n])
        measured = self._read()[name]
        near = [r for r in measured.readings if r.y is not None and r.y > 0.1]
        if not near or not measured.baselines:
            return False
        there = _variance_seconds(near, found.speed_sigmas[name])
        here = _variance_seconds(measured.baselines, found.speed_sigmas[name])
        return self.baseline.seconds < sum(r.seconds for r in near) * math.sqrt(here / there)

    def _carried(self, probe: Probe) -> bool:
        limit = math.log(self.slo.degradation)
        return not any(_above(j, limit) for j in probe.judgements.values())

    def _read(self) -> dict[str, Readings]:
        assert self.baseline is not None
        stretches = [p for p in self.baselines if p.believed and p.multiplier == self._reference]
        return self._filed.readings(self.baseline, stretches, self.slo)

    def _fit(self) -> Posterior:
        if self._posterior is None:
            x_max = math.log(self.limit / self._reference)
            self._posterior = posterior(self._read(), self.slo.degradation, x_max)
        return self._posterior

    def _own_knee(self, found: Posterior, name: str) -> tuple[float, float, float] | None:
        top = self.limit / self._reference
        low, middle, high = (math.exp(found.quantile(q, name)) for q in (0.025, 0.5, 0.975))
        if middle >= top:
            return None
        return (middle * self._reference, low * self._reference, high * self._reference)


def take_probe(
    trial: Trial, held: Held, baseline: Baseline, slo: Slo, *, believed: bool = True
) -> Probe:
    """A stretch judged against the baseline, with its traces over the limits."""
    traces = take_traces(held, baseline.limits(slo))
    ends = [trace.ends_s[-1] for trace in traces.values() if trace.ends_s]
    return Probe(
        trial.multiplier,
        trial.reason,
        held.start_s,
        held.duration_s,
        held.components,
        held.resources,
        held.sentinel,
        judge(held, baseline, slo),
        traces,
        believed,
        bool(ends) and max(ends) < 0.9 * trial.duration_s,
    )


def isotonic_bracket(probes: Sequence[Probe], degradation: float) -> tuple[float, float]:
    """The multipliers between which a model-free fit of the probes crosses the limit.

    It is the isotonic regression of the worst component's ln(ratio) over all believed probes,
    failed ones included, so the curve that the posterior assumes is checked against none.
    """
    limit = math.log(degradation)
    believed = [p for p in probes if p.believed]
    worst = [max(_excess(j, limit) for j in p.judgements.values()) for p in believed]
    at, fitted = isotonic([p.multiplier for p in believed], worst, [1.0] * len(worst))
    below = max((m for m, y in zip(at, fitted, strict=True) if y <= limit), default=0.0)
    above = min((m for m, y in zip(at, fitted, strict=True) if y > limit), default=math.inf)
    return below, above


def _above(judgement: Judgement, limit: float) -> bool:
    if judgement.verdict == "fail":
        return True
    return judgement.log_ratio is not None and judgement.log_ratio > limit


def _excess(judgement: Judgement, limit: float) -> float:
    """ln(ratio), or twice the limit where the component was overloaded."""
    if judgement.growing or judgement.too_many_errors:
        return 2.0 * limit
    return 0.0 if judgement.log_ratio is None else min(judgement.log_ratio, 2.0 * limit)


def _rare(stretches: Sequence[Probe]) -> bool:
    """Whether disturbance is not the machine's usual state: two stretches, or fewer than half."""
    bad = sum(p.sentinel.bad for p in stretches)
    return bad < max(REPEATS_MAX, len(stretches) - bad)


def _variance_seconds(readings: Sequence[Reading], speed_sigma: float) -> float:
    """Variance of one second's reading, on average: its own and that of the machine's speed."""
    noise = steadied(readings) ** 2 + speed_sigma**2
    return sum(float(n) * r.seconds for n, r in zip(noise, readings, strict=True)) / len(readings)
