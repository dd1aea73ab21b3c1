"""Trial time of the search beside MLRsearch, on simulated systems whose knee is known.

MLRsearch (Cisco's, for RFC 2544 networks) looks for the largest load whose share of lost packets
stays within a goal. Here a packet is a response and lost is one beyond the limit: p99 within twice
its baseline is a share of at most 1 % beyond twice the baseline's p99. Both see the same systems
with the same seeds; the seconds of both hold the baseline, and the figure is their mean over
`SEEDS` knees. A round takes the next seeds.

seconds: MLRsearch as its authors set it (21 trials of 1 s decide a load), its relative width the
half-width of our interval, its limit taken in a first baseline as long as ours. Its bounds hold
no noise: that of the limit and of the trials comes on top.
seconds_at_equal_error: its baseline and its time per load are doubled, twice at most, until its
middle is off the truth, in the root mean square over the round, by no more than ours.
error_percent: that root mean square, for the trials of `seconds`; the longer ones' are in
error_percent_at_equal_error.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from paired import Case, main
from swarmbench.plan import PHASES
from swarmbench.scenarios.max_throughput import Settings, constant
from swarmbench.scenarios.slo import LATENCY_MAX_NS

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from knees import KINDS, LIMIT, Found, case, find

BUDGET = Settings.of(PHASES["standard"]).search
PEER = "MLRsearch"
SEEDS = 10
#: How many times its own trials MLRsearch gets at most, and a baseline under a bad sentinel.
LONGER_MAX, BASELINES_MAX = 4, 5


@dataclass(frozen=True)
class Bounds:
    """What MLRsearch said of a seed: its lower and upper bound, and the seconds under load."""

    low: float
    high: float
    seconds: float

    @property
    def middle(self) -> float:
        return math.sqrt(self.low * self.high)


@cache
def ours(kind: str, seed: int) -> Found:
    return find(kind, seed, BUDGET)


@cache
def theirs(kind: str, seed: int, longer: int) -> Bounds:
    """MLRsearch with `longer` times its own time per load and of our first baseline."""
    from MLRsearch import Config, MeasurementResult, MultipleLossRatioSearch, SearchGoal

    driver = case(kind, seed, BUDGET).driver
    first = driver.hold("baseline", constant(1.0), longer * BUDGET.baseline_s)
    spent = [first.duration_s]
    while first.sentinel.bad and len(spent) < BASELINES_MAX:
        first = driver.hold("baseline", constant(1.0), longer * BUDGET.baseline_s)
        spent.append(first.duration_s)
    limit_ns = 2 * first.components["a"].response.percentile(99.0)

    class Measurer:
        def measure(self, intended_duration: float, intended_load: float) -> Any:
            held = driver.hold("trial", constant(intended_load), intended_duration)
            spent.append(intended_duration)
            response = held.components["a"].response
            return MeasurementResult(
                intended_duration=intended_duration,
                intended_load=intended_load,
                offered_count=response.count,
                loss_count=response.count_between(limit_ns + 1, LATENCY_MAX_NS),
            )

    found = ours(kind, seed)
    width = math.log(found.high / found.low) / 2.0 if found.high else BUDGET.precision
    goal = SearchGoal(
        loss_ratio=0.01, relative_width=width, duration_sum=21.0 * longer, fail_fast=False
    )
    settings = Config()
    settings.goals = [goal]
    settings.min_load, settings.max_load = 1.0, LIMIT
    settings.warmup_duration = None
    searched = MultipleLossRatioSearch(settings).search(Measurer(), debug=lambda text: None)[goal]
    low, high = searched.relevant_lower_bound, searched.relevant_upper_bound
    return Bounds(float(low or 1.0), float(high or LIMIT), sum(spent))


def error_percent(kind: str, seeds: range, middle: Callable[[int], float]) -> float:
    """Root mean square of how far `middle` lies off the truth."""
    off = [middle(seed) / (ours(kind, seed).truth or LIMIT) - 1.0 for seed in seeds]
    return 100.0 * math.sqrt(sum(e * e for e in off) / len(off))


def our_error(kind: str, seeds: range) -> float:
    return error_percent(kind, seeds, lambda seed: ours(kind, seed).multiplier)


def their_error(kind: str, seeds: range, longer: int = 1) -> float:
    return error_percent(kind, seeds, lambda seed: theirs(kind, seed, longer).middle)


def our_seconds(kind: str, seeds: range) -> float:
    return sum(ours(kind, seed).seconds for seed in seeds) / len(seeds)


def their_seconds(kind: str, seeds: range, longer: int = 1) -> float:
    return sum(theirs(kind, seed, longer).seconds for seed in seeds) / len(seeds)


def longer_for(kind: str, seeds: range) -> int:
    """How many times its own trials MLRsearch needs for an error like ours, up to the bound."""
    longer = 1
    while their_error(kind, seeds, longer) > our_error(kind, seeds) and longer < LONGER_MAX:
        longer *= 2
    return longer


def their_seconds_at_equal_error(kind: str, seeds: range) -> float:
    return their_seconds(kind, seeds, longer_for(kind, seeds))


def their_least_error(kind: str, seeds: range) -> float:
    return their_error(kind, seeds, longer_for(kind, seeds))


def by_round(figure: Callable[[str, range], float], kind: str) -> Callable[[], float]:
    """A figure of the next seeds at every call."""
    rounds = count()
    return lambda: figure(kind, range(start := SEEDS * next(rounds), start + SEEDS))


def collect(_large: bool) -> Iterator[Case]:
    """Seconds, seconds at equal error and error for each kind of system."""
    figures = {
        "seconds": ("s", 1.0, our_seconds, their_seconds),
        "seconds_at_equal_error": ("s", 1.0, our_seconds, their_seconds_at_equal_error),
        "error_percent": ("%", None, our_error, their_error),
        "error_percent_at_equal_error": ("%", None, our_error, their_least_error),
    }
    for kind in KINDS:
        for name, (unit, goal, own, peer) in figures.items():
            if kind == "none" and name != "seconds":
                continue
            yield Case(
                "search", f"{kind}_{name}", unit, goal, PEER,
                by_round(own, kind), by_round(peer, kind), better="lower",
            )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(collect, __doc__.splitlines()[0]))
