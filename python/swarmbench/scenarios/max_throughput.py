"""The main job: ramp up, sustain the maximum, search the breaking point, watch the recovery."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

from swarmbench.errors import MachineError
from swarmbench.measured import ClosedLoop, Held, OpenLoop
from swarmbench.outcome import Limit, Outcome, Probe
from swarmbench.plan import Phases
from swarmbench.scenarios.driver import Driver
from swarmbench.scenarios.search import Budget, KneeSearch, Trial, take_probe
from swarmbench.scenarios.slo import Slo, traces_over

#: How far above the knee the machine is pushed before its recovery is watched.
OVERLOAD = 1.5
#: Share of operations turned away above which a component lacks room, not speed.
REJECTED_MAX = 0.001
#: How much a machine's own speed drifts between a baseline and the recovery, minutes later.
DRIFT = 0.1


@dataclass(frozen=True, slots=True)
class Settings:
    """Lengths of the phases in seconds, the objective and the search's budget."""

    phases: Phases
    search: Budget
    slo: Slo = field(default_factory=Slo)
    max_multiplier: float = 64.0

    @staticmethod
    def of(phases: Phases, slo: Slo | None = None, max_multiplier: float = 64.0) -> Settings:
        """Settings whose search fits the phases: some 15 probes in half a minute, 40 in ten.

        A probe is a fortieth of the search and a baseline a tenth, but neither shorter than a
        short search can afford; a longer search is asked for a narrower interval.
        """
        total_s = phases.search_s
        budget = Budget(
            total_s=total_s,
            baseline_s=max(total_s / 10.0, min(4.0, total_s / 6.0)),
            probe_s=max(total_s / 40.0, min(1.5, total_s / 15.0)),
            precision=0.05 if total_s < 120.0 else 0.02 if total_s < 480.0 else 0.01,
            tolerance=0.25 if total_s < 120.0 else 0.10,
        )
        return Settings(phases, budget, slo or Slo(), max_multiplier)


def run(driver: Driver, settings: Settings) -> Outcome:
    """Ramp up, sustain, search, recover. Final result: the breaking point's interval."""
    lengths = settings.phases
    ramp = OpenLoop(((0.0, 0.0), (lengths.ramp_up_s, 1.0)))
    ramp_up = driver.hold("ramp_up", ramp, lengths.ramp_up_s)
    sustained = driver.hold("sustained", ClosedLoop(), lengths.sustained_s)

    search = KneeSearch(settings.slo, settings.search, settings.max_multiplier)
    held = sustained
    while (trial := search.next()) is not None:
        held = driver.hold(
            "search", constant(trial.multiplier), trial.duration_s, until=search.watch(trial)
        )
        driver.event("probe", **_event(search.observe(trial, held)))
    knee = search.knee()
    driver.event("knee", **asdict(knee))

    if search.baseline is None:
        raise MachineError(
            f"not even {knee.reference:.3g} of the production mix is carried without a queue",
            hint=remedy(held),
        )
    above = search.limit if knee.high is None else min(search.limit, OVERLOAD * knee.high)
    push = Trial(above, settings.search.probe_s, "overload")
    pushed = driver.hold("search", constant(above), push.duration_s, drain=False)
    calm = Trial(knee.reference, lengths.recovery_s, "recovery")
    returned = driver.hold("recovery", constant(calm.multiplier), calm.duration_s)
    limits = search.limits()
    return Outcome(
        ramp_up,
        sustained,
        limits,
        tuple(search.baselines),
        tuple(search.probes),
        knee,
        take_probe(push, pushed, search.baseline, settings.slo),
        returned,
        take_probe(calm, returned, search.baseline, settings.slo),
        traces_over(returned.intervals, {n: _calm_ns(limit) for n, limit in limits.items()}),
    )


def remedy(held: Held) -> str:
    """What would help a mix that is not carried: more room for who turns operations away although
    none wait for it, else less load."""
    turned = [
        name
        for name, done in held.components.items()
        if done.rejected > REJECTED_MAX * done.scheduled and done.queue_depth_max < done.rejected
    ]
    if not turned:
        return "lower `workloads.<component>.rate`, or name fewer with `--components`"
    (name, *_) = turned
    return (
        f"{name} turns {held.components[name].rejected} of {held.components[name].scheduled} "
        f"operations away: give it room by `--memory-budget`, or lower `workloads.{name}.params`"
    )


def constant(multiplier: float) -> OpenLoop:
    """The production mix times a constant factor."""
    return OpenLoop(((0.0, multiplier),))


def _calm_ns(limit: Limit) -> int | None:
    """What a recovered component stays within: the baseline's interval, `DRIFT` wide at least."""
    if limit.baseline is None:
        return None
    return max(limit.baseline.high_ns, round((1.0 + DRIFT) * limit.baseline.value_ns))


def _event(probe: Probe) -> dict[str, object]:
    """A probe in the run's record: its load, its verdicts and the ratios behind them."""
    return {
        "multiplier": probe.multiplier,
        "reason": probe.reason,
        "believed": probe.believed,
        "cut_short": probe.cut_short,
        "verdicts": {name: j.verdict for name, j in probe.judgements.items()},
        "ratios": {
            name: None if j.log_ratio is None else round(math.exp(j.log_ratio), 4)
            for name, j in probe.judgements.items()
        },
        "resources": {
            name: round(value, 4)
            for name, value in asdict(probe.resources).items()
            if value is not None
        },
    }
