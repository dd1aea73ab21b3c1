"""What components keep in memory, measured in processes of their own, against their formulas."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from swarmbench.components import COMPONENTS
from swarmbench.errors import Status

HERE = Path(__file__).resolve().parent
#: How far the formula may be from what the kernel counts, each way.
SHARE = 0.15
#: Stacks of threads and the allocator's arenas, which belong to no component.
ALLOWANCE_BYTES = 2_000_000
#: Too little for the default sizes.
BUDGET_BYTES = 600_000_000

#: Runs a command and says its peak in KiB. The kernel counts what a child was before it became
#: another program, so the parent has to be a small one.
WITH_PEAK = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(status)
"""


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


def test_a_run_of_all_components_stays_within_a_small_budget_and_turns_nothing_wrong(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "swarmbench", "max-throughput", "--json", "--allow-concurrent"]
    command += ["--duration", "4s", "--memory-budget", f"{BUDGET_BYTES}B", "--out", str(tmp_path)]
    ended = subprocess.run(
        [sys.executable, "-c", WITH_PEAK, *command], capture_output=True, text=True, check=False
    )
    accepted = (Status.OK, Status.CRITERION_FAILED, Status.UNTRUSTED)
    assert ended.returncode in accepted, ended.stderr
    assert int(ended.stderr.split()[-1]) * 1024 <= BUDGET_BYTES
    for phase in json.loads(ended.stdout)["phases"]:
        for name, figures in phase["components"].items():
            assert figures["errors"] == figures["violations"] == 0, f"{name} in {phase['name']}"
    (manifest,) = tmp_path.glob("*/manifest.json")
    memory = json.loads(manifest.read_text(encoding="utf-8"))["plan"]["memory"]
    assert memory.keys() == COMPONENTS.keys() - {"null"}
    assert sum(each["resident_bytes"] for each in memory.values()) < BUDGET_BYTES
    assert memory["knowledge_graph"]["fitted"]
