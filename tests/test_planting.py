"""What broke first, on this machine: the culprit that was planted is the one that is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from planting import COMPONENTS, HOGS, real_run, told

CASES = 10
NEEDED = 9
RECORD = Path(__file__).resolve().parent.parent / "docs" / "soak" / "planting.json"

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


def keep(kind: str, cases: list[Mapping[str, object]]) -> None:
    """Adds the cases to the record of `make soak`."""
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    record[kind] = cases
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


def test_a_slowed_component_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = []
    for seed in range(CASES):
        slowed = COMPONENTS[seed % len(COMPONENTS)]
        with monkeypatch.context() as patch:
            result = real_run(tmp_path, seed, patch, slowed=slowed)
        cases.append({"seed": seed, "planted": slowed, **told(result)})
        keep("slowed", cases)

    assert sum(case["component"] == case["planted"] for case in cases) >= NEEDED, cases


def test_a_resource_taken_by_a_hog_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = []
    for seed in range(CASES):
        hog = sorted(HOGS)[seed % len(HOGS)]
        with monkeypatch.context() as patch:
            result = real_run(tmp_path, seed, patch, hog=hog)
        cases.append({"seed": seed, "planted": hog, **told(result)})
        keep("hogs", cases)

    assert sum(case["resource"] == case["planted"] for case in cases) >= NEEDED, cases
