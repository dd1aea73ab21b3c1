"""The main job: ramp up, sustain the maximum, search the breaking point, watch the recovery."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from swarmbench.errors import MachineError
from swarmbench.measured import ClosedLoop, OpenLoop
from swarmbench.outcome import Limit, Outcome, Probe
from swarmbench.scenarios.driver import Driver
from swarmbench.scenarios.search import Budget, KneeSearch, Trial, take_probe
from swarmbench.scenarios.slo import Slo, traces_over

Profile = Literal["quick", "standard", "full"]
#: How far above the knee the machine is pushed before its recovery is watched.
OVERLOAD = 1.25


@dataclass(frozen=True, slots=True)
class Settings:
    """Lengths of the phases in seconds, the objective and the search's precision."""

    ramp_up_s: float
    sustained_s: float
    recovery_s: float
    search: Budget
    slo: Slo = field(default_factory=Slo)
    max_multiplier: float = 64.0

    @staticmethod
    def for_profile(profile: Profile) -> Settings:
        """`full` has the original's 5, 20, 10 and 5 minutes, the others nearly the same shape.

        The quick search keeps a larger share, because a knee needs probes, not seconds.
        """
        return PROFILES[profile]

    def scaled_to(self, total_s: float) -> Settings:
        """The same shape within another total; probes and baseline scale along."""
        search = self.search
        factor = total_s / (self.ramp_up_s + self.sustained_s + self.recovery_s + search.total_s)
        return replace(
            self,
            ramp_up_s=self.ramp_up_s * factor,
            sustained_s=self.sustained_s * factor,
            recovery_s=self.recovery_s * factor,
            search=replace(
                search,
                total_s=search.total_s * factor,
                baseline_s=search.baseline_s * factor,
                probe_s=search.probe_s * factor,
            ),
        )


PROFILES: dict[Profile, Settings] = {
    "quick": Settings(6.0, 14.0, 8.0, Budget(30.0, 4.0, 1.5, 0.05, 0.25)),
    "standard": Settings(60.0, 240.0, 60.0, Budget(180.0, 24.0, 6.0, 0.02, 0.10)),
    "full": Settings(300.0, 1200.0, 300.0, Budget(600.0, 60.0, 15.0, 0.01, 0.10)),
}


def run(driver: Driver, settings: Settings) -> Outcome:
    """Ramp up, sustain, search, recover. Final result: the breaking point's interval."""
    ramp = OpenLoop(((0.0, 0.0), (settings.ramp_up_s, 1.0)))
    ramp_up = driver.hold("ramp_up", ramp, settings.ramp_up_s)
    sustained = driver.hold("sustained", ClosedLoop(), settings.sustained_s)

    search = KneeSearch(settings.slo, settings.search, settings.max_multiplier)
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
            hint="lower `workloads.<component>.rate`, or name fewer with `--components`",
        )
    above = search.limit if knee.high is None else min(search.limit, OVERLOAD * knee.high)
    push = Trial(above, settings.search.probe_s, "overload")
    pushed = driver.hold("search", constant(above), push.duration_s, drain=False)
    calm = Trial(knee.reference, settings.recovery_s, "recovery")
    returned = driver.hold("recovery", constant(calm.multiplier), calm.duration_s, drain=False)
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


def constant(multiplier: float) -> OpenLoop:
    """The production mix times a constant factor."""
    return OpenLoop(((0.0, multiplier),))


def _calm_ns(limit: Limit) -> int | None:
    """The upper end of the baseline's interval: what a recovered component stays within."""
    return None if limit.baseline is None else limit.baseline.high_ns


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
    }
