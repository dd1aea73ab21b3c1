"""What handing an operation to a device costs the host: through the ring, from store to visible.

A second thread stands for the device. The goal is that of half of the samples of a round; a round
whose threads share a processor says nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness.native import program
from paired import ROUNDS, figure, processor, rounds_argument, spread


@dataclass(frozen=True)
class Row:
    """One figure of `benches/submission.rs`; `goal` is met at it or on its better side."""

    case: str
    mode: str
    field: str
    unit: str
    better: str
    goal: float | None = None


ROWS = (
    Row("ring_visible_p50", "visible", "p50_ns", "ns", "lower", 200.0),
    Row("ring_visible_p99", "visible", "p99_ns", "ns", "lower"),
    Row("ring_push_p50", "push", "p50_ns", "ns", "lower", 200.0),
    Row("ring_push_p99", "push", "p99_ns", "ns", "lower"),
    Row("ring_messages", "messages", "per_s", "messages/s", "higher"),
)


def figures(mode: str) -> dict[str, float]:
    """What one run of the program prints."""
    ended = subprocess.run(
        [program("submission"), mode], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(ended.stdout)
    return found


def results(rounds: int, only: str | None) -> Iterator[dict[str, Any]]:
    """A line for each row whose name contains `only`; each mode is measured once a round."""
    rows = [row for row in ROWS if only is None or only in f"submission/{row.case}"]
    modes = dict.fromkeys(row.mode for row in rows)
    found = {mode: [figures(mode) for _ in range(rounds)] for mode in modes}
    for row in rows:
        values = [one[row.field] for one in found[row.mode]]
        ours, met = median(values), None
        if row.goal is not None:
            met = ours <= row.goal if row.better == "lower" else ours >= row.goal
        yield {
            "benchmark": "submission",
            "case": row.case,
            "unit": row.unit,
            "better": row.better,
            "rounds": rounds,
            "ours": ours,
            "ours_spread": spread(values),
            "goal": row.goal,
            "met": met,
        }


def line(result: dict[str, Any]) -> str:
    """One line of the table for people."""
    verdict = {True: "met", False: "not met", None: ""}[result["met"]]
    goal = "" if result["goal"] is None else f"goal {result['goal']:g}"
    name = f"{result['benchmark']}/{result['case']}"
    return f"{name:<32} {figure(result['ours']):>10} {result['unit']:<12} {goal} {verdict}".rstrip()


def main() -> int:
    """The command line; 1 where nothing was selected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object per case")
    parser.add_argument("--only", metavar="TEXT", help="cases whose name contains TEXT")
    parser.add_argument("--rounds", type=rounds_argument, default=ROUNDS)
    arguments = parser.parse_args()
    selected = 0
    for result in results(arguments.rounds, arguments.only):
        shown = json.dumps(result | {"machine": processor()}) if arguments.json else line(result)
        print(shown, flush=True)
        selected += 1
    if not selected:
        print("error: no case was selected", file=sys.stderr)
    return 0 if selected else 1


if __name__ == "__main__":
    sys.exit(main())
