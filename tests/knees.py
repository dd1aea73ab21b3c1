"""Searches of simulated knees: six kinds of system, each with a knee that differs by seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from simulated import SimulatedDriver, drifted, drifting, hard, mm1, noisy, soft, unbreakable
from swarmbench.outcome import Knee
from swarmbench.scenarios.max_throughput import constant
from swarmbench.scenarios.search import Budget, KneeSearch
from swarmbench.scenarios.slo import Slo

#: Operations per second at 1x, as in `--simulate`.
RATE = 2000.0
#: The knees are spread evenly over this range on a logarithmic scale.
KNEE_MIN, KNEE_MAX = 1.3, 30.0
LIMIT = 64.0
#: `noisy`: the machine's speed from stretch to stretch, one sigma, and the share of stretches in
#: which a neighbour takes a third of the machine and the sentinel says so.
SPEED_SIGMA, DISTURBED_SHARE, TAKEN_SHARE = 0.03, 0.1, 1.0 / 3.0
#: `drifting`: how much the capacity changes over the search's budget, up in every other seed.
DRIFT = 0.03


@dataclass(frozen=True)
class Case:
    """A simulated machine and the knee that it has, None where there is none up to the limit."""

    driver: SimulatedDriver
    truth: Callable[[], float | None]


@dataclass(frozen=True)
class Found:
    """What one search gave: the truth and the knee, and the seconds under load that it took."""

    seed: int
    truth: float | None
    multiplier: float
    low: float
    high: float | None
    converged: bool
    seconds: float
    probes: int

    @property
    def error(self) -> float:
        """How far off the knee is, as a share of the truth; all of it where none was seen."""
        if self.truth is None or self.high is None:
            return 0.0 if self.truth is None and self.high is None else 1.0
        return abs(self.multiplier / self.truth - 1.0)

    @property
    def covered(self) -> bool:
        """Whether the interval holds the truth."""
        if self.truth is None:
            return self.high is None
        return self.low <= self.truth <= (self.high or math.inf)


def knee_of(seed: int) -> float:
    """The knee of a seed, log-uniform in `KNEE_MIN` .. `KNEE_MAX`."""
    share = random.Random(f"knee {seed}").random()
    return KNEE_MIN * (KNEE_MAX / KNEE_MIN) ** share


def case(kind: str, seed: int, budget: Budget) -> Case:
    """A machine of one of the `KINDS`; what each means is said where it is made."""
    knee = knee_of(seed)
    rates = {"a": RATE}
    if kind == "drifting":
        per_second = (1.0 if seed % 2 else -1.0) * DRIFT / budget.total_s
        middle_s = budget.total_s / 2.0
        moving = SimulatedDriver(drifting(knee, RATE, per_second, middle_s), rates, seed)
        return Case(moving, lambda: drifted(knee, per_second, moving.clock_s / 2.0 - middle_s))
    if kind == "noisy":
        driver = SimulatedDriver(
            noisy(mm1(knee, RATE), SPEED_SIGMA),
            rates,
            seed,
            bad=lambda number: random.Random(f"bad {seed} {number}").random() < DISTURBED_SHARE,
            disturbed=mm1(knee * (1.0 - TAKEN_SHARE) + TAKEN_SHARE, RATE),
        )
        return Case(driver, lambda: knee)
    systems = {"mm1": mm1(knee, RATE), "hard": hard(knee, RATE), "soft": soft(knee)}
    if kind == "none":
        return Case(SimulatedDriver(unbreakable, rates, seed), lambda: None)
    return Case(SimulatedDriver(systems[kind], rates, seed), lambda: knee)


KINDS = ("mm1", "hard", "soft", "noisy", "drifting", "none")


def searched(driver: SimulatedDriver, budget: Budget, limit: float = LIMIT) -> KneeSearch:
    """A search run to its end."""
    search = KneeSearch(Slo(), budget, limit)
    while (trial := search.next()) is not None:
        load = constant(trial.multiplier)
        held = driver.hold("search", load, trial.duration_s, until=search.watch(trial))
        search.observe(trial, held)
    return search


def find(kind: str, seed: int, budget: Budget) -> Found:
    """Searches the knee of a machine of this kind and seed."""
    machine = case(kind, seed, budget)
    search = searched(machine.driver, budget)
    knee: Knee = search.knee()
    seconds = sum(held.duration_s for held in machine.driver.held)
    return Found(
        seed,
        machine.truth(),
        knee.multiplier,
        knee.low,
        knee.high,
        knee.converged,
        seconds,
        len(search.probes),
    )
