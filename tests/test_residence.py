"""What components keep in memory, measured in processes of their own, against their formulas."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from swarmbench.components import COMPONENTS

HERE = Path(__file__).resolve().parent
#: How far the formula may be from what the kernel counts, each way.
SHARE = 0.15
#: Stacks of threads and the allocator's arenas, which belong to no component.
ALLOWANCE_BYTES = 2_000_000


@pytest.mark.parametrize("sizes", ["small", "quick"])
@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_keeps_what_its_formula_says_and_builds_within_its_peak(
    name: str, sizes: str
) -> None:
    paths = os.pathsep.join([str(HERE.parent / "python"), *filter(None, sys.path)])
    ended = subprocess.run(
        [sys.executable, str(HERE / "residence.py"), name, sizes],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    said = f"{name} at {sizes} sizes: {found}"
    assert abs(found["resident"] - found["formula"]) <= (
        SHARE * found["formula"] + ALLOWANCE_BYTES
    ), said
    assert found["built"] <= found["peak"] * (1 + SHARE) + ALLOWANCE_BYTES, said
    assert found["swapped"] == 0, said
