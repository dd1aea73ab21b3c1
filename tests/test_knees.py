"""A hundred seeds of six kinds of system: how often the knee is found, and its interval true."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from knees import KINDS, Found, find
from swarmbench.plan import PHASES
from swarmbench.scenarios.max_throughput import Settings

SEEDS = 100
#: Of a hundred: within 3 %, within 5 %, and inside the interval, whose level is 95 %.
WITHIN_3_MIN, WITHIN_5_MIN, COVERED_MIN = 90, 95, 90
RECORD = Path(__file__).resolve().parent.parent / "docs" / "soak" / "search.json"

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


def told(found: list[Found]) -> dict[str, Any]:
    """The figures of `docs/soak/search.json`: counts of seeds, percent and seconds under load."""
    widths = [math.log(f.high / f.low) / 2.0 for f in found if f.high is not None]
    return {
        "seeds": len(found),
        "within_3_percent": sum(f.error <= 0.03 for f in found),
        "within_5_percent": sum(f.error <= 0.05 for f in found),
        "covered": sum(f.covered for f in found),
        "converged": sum(f.converged for f in found),
        "error_max_percent": round(100.0 * max(f.error for f in found), 2),
        "half_width_median_percent": round(100.0 * median(widths), 2) if widths else None,
        "seconds_median": round(median(f.seconds for f in found), 1),
        "seconds_max": round(max(f.seconds for f in found), 1),
        "missed": [
            {"seed": f.seed, "truth": f.truth, "found": f.multiplier, "interval": [f.low, f.high]}
            for f in found
            if not f.covered or f.error > 0.03
        ],
    }


def keep(profile: str, kind: str, figures: dict[str, Any]) -> None:
    """Adds the figures to the record of `make soak`."""
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    record.setdefault(profile, {})[kind] = figures
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("profile", ["standard", "full"])
def test_the_knee_of_a_hundred_seeds_is_found_and_lies_in_its_interval(
    profile: str, kind: str
) -> None:
    budget = Settings.of(PHASES[profile]).search
    found = [find(kind, seed, budget) for seed in range(SEEDS)]

    figures = told(found)
    keep(profile, kind, figures)

    assert figures["within_3_percent"] >= WITHIN_3_MIN, figures
    assert figures["within_5_percent"] >= WITHIN_5_MIN, figures
    assert figures["covered"] >= COVERED_MIN, figures
    assert figures["seconds_max"] <= budget.total_s
