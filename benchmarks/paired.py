"""Runs each case beside its peer in interleaved rounds of one process and prints their ratio.

On a shared machine only ratios taken in one process mean anything: ours and the peer alternate in
random order, each after a warm-up call, and the ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Literal

ROUNDS = 7
ROUNDS_MAX = 1000


class PeerMissing(Exception):
    """The peer cannot be run here; the message says why and what would install it."""


#: What a missing or unusable peer raises: said in its line, never a crash.
PEER_FAILURES = (PeerMissing, ImportError, OSError, MemoryError, subprocess.SubprocessError)


def always_same() -> bool:
    """The check of a case whose answers are compared elsewhere."""
    return True


@dataclass(frozen=True)
class Case:
    """One job that ours and the peer do on the same inputs, with the same answer.

    `ours` and `peer` do one round each and return their figure in `unit`; what they need is made
    on their first call, which is not counted. `check` says whether both gave the same answer.
    `goal` is the ratio to reach, 2.0 for "twice as good as the peer" whichever way is better.
    """

    benchmark: str
    case: str
    unit: str
    goal: float | None
    peer_name: str
    ours: Callable[[], float]
    peer: Callable[[], float]
    check: Callable[[], bool] = always_same
    better: Literal["higher", "lower"] = "higher"
    #: Threads that each of the two uses.
    threads: int = 1

    def ratio(self, ours: float, peer: float) -> float:
        """How many times better ours is than the peer."""
        return ours / peer if self.better == "higher" else peer / ours


def spread(values: list[float]) -> float | None:
    """Interquartile range over the median; None below four values or for a median of 0."""
    if len(values) < 4 or median(values) == 0:
        return None
    low, _, high = quantiles(values, n=4)
    return abs((high - low) / median(values))


def rounds_of(
    case: Case, rounds: int, order: random.Random
) -> tuple[list[float], list[float], str | None]:
    """The figures of ours and the peer, and why the peer has none where it has none."""
    case.ours()
    ours: list[float] = []
    peers: list[float] = []
    reason = None
    try:
        case.peer()
    except PEER_FAILURES as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
    for _ in range(rounds):
        sides = [(case.ours, ours)] if reason else [(case.ours, ours), (case.peer, peers)]
        order.shuffle(sides)
        for run, figures in sides:
            figures.append(run())
    return ours, peers, reason


def measure(case: Case, rounds: int, order: random.Random) -> dict[str, Any]:
    """One result line: figures, spreads, ratio and whether goal and answers hold."""
    ours, peers, reason = rounds_of(case, rounds, order)
    ratios = [case.ratio(own, peer) for own, peer in zip(ours, peers, strict=False)]
    ratio = median(ratios) if ratios else None
    same_answer = case.check() if reason is None else None
    met = None
    if ratio is not None and case.goal is not None:
        met = ratio >= case.goal and bool(same_answer)
    result = {
        "benchmark": case.benchmark,
        "case": case.case,
        "unit": case.unit,
        "better": case.better,
        "threads": case.threads,
        "rounds": rounds,
        "ours": median(ours),
        "ours_spread": spread(ours),
        "peer_name": case.peer_name,
        "peer": median(peers) if peers else None,
        "peer_spread": spread(peers),
        "ratio": ratio,
        "ratio_spread": spread(ratios),
        "goal": case.goal,
        "met": met,
        "same_answer": same_answer,
    }
    return result if reason is None else result | {"reason": reason}


def run(cases: Iterable[Case], rounds: int, only: str | None) -> Iterator[dict[str, Any]]:
    """Measures the cases whose `benchmark/case` contains `only`, one after the other."""
    order = random.Random(7)
    for case in cases:
        if only is None or only in f"{case.benchmark}/{case.case}":
            yield measure(case, rounds, order)


def figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def percent(value: float | None) -> str:
    return "" if value is None else f" ±{value * 100:.0f}%"


def row(result: dict[str, Any]) -> str:
    """One line of the table for people."""
    name = f"{result['benchmark']}/{result['case']}"
    ours = figure(result["ours"]) + percent(result["ours_spread"])
    peer = figure(result["peer"]) + percent(result["peer_spread"])
    verdict = {True: "met", False: "not met", None: ""}[result["met"]]
    if result["same_answer"] is False:
        verdict = "WRONG ANSWER"
    goal = "" if result["goal"] is None else f"goal {result['goal']:g}"
    ratio = figure(result["ratio"]) + percent(result["ratio_spread"])
    tail = result.get("reason", f"{ratio} x  {goal} {verdict}".rstrip())
    return f"{name:<44} {ours:>16} {result['unit']:<12} {peer:>16} {result['peer_name']}: {tail}"


def processor() -> str:
    """The processor's name and how many of its threads this process may use."""
    names = [platform.processor() or platform.machine()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{(names or ['unknown'])[0]}, {len(os.sched_getaffinity(0))} threads"


def rounds_argument(text: str) -> int:
    rounds = int(text)
    if not 1 <= rounds <= ROUNDS_MAX:
        raise argparse.ArgumentTypeError(f"{rounds} is not in 1..{ROUNDS_MAX}")
    return rounds


def main(collect: Callable[[bool], Iterable[Case]], description: str) -> int:
    """The command line of a benchmark; 1 where an answer was wrong or nothing was selected."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="one JSON object per case")
    parser.add_argument("--only", metavar="TEXT", help="cases whose name contains TEXT")
    parser.add_argument("--rounds", type=rounds_argument, default=ROUNDS)
    parser.add_argument("--large", action="store_true", help="the sizes of the published goals")
    arguments = parser.parse_args()
    wrong = []
    selected = 0
    for result in run(collect(arguments.large), arguments.rounds, arguments.only):
        line = json.dumps(result | {"machine": processor()}) if arguments.json else row(result)
        print(line, flush=True)
        selected += 1
        if result["same_answer"] is False:
            wrong.append(f"{result['benchmark']}/{result['case']}")
    if not selected:
        print("error: no case was selected", file=sys.stderr)
    if wrong:
        print(f"error: answers differ from the peer's: {', '.join(wrong)}", file=sys.stderr)
    return 0 if selected and not wrong else 1
