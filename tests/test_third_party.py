"""A component of a third party: found, put under load, and left out with a warning if bad."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = '''
import numpy as np
from swarmbench.components import Component
from swarmbench.components.base import Op


class Adder(Component):
    """Adds up what its key says."""

    name = "adder"
    unit = "sums"
    ops = (Op("add", "sums", "cache_read_bytes_s", 64.0), Op("stumble", "sums", "copy_bytes_s", 1))
    weights = {"add": 1.0}
    production_rate_s = 200.0
    stress_in_flight = 4
    length: int = 8

    def resident_bytes(self, workers):
        return 8 * self.length

    def inputs(self, op, seed, key):
        if op == "stumble":
            raise ValueError("stumbled")
        return {"numbers": np.arange(self.length, dtype=np.uint64) + np.uint64(key & 0xFFFF)}

    def reference(self, op, inputs):
        return {"sum": inputs["numbers"].sum(keepdims=True)}


class Misnamed(Adder):
    name = "somebody_else"
'''
ENTRIES = """[swarmbench.components]
adder = third_module:Adder
misnamed = third_module:Misnamed
broken = third_module:Absent
consensus = third_module:Adder
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a process that finds a third party's package."""
    (tmp_path / "third_module.py").write_text(MODULE, encoding="utf-8")
    metadata = tmp_path / "third-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: third\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(ENTRIES, encoding="utf-8")
    paths = [str(tmp_path), *filter(None, sys.path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def ended(
    environment: dict[str, str], out: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "swarmbench", "max-throughput", "--components", "adder"]
    command += ["--json", "--allow-concurrent", "--out", str(out), "--duration", "3s", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_it_runs_under_load_and_what_is_bad_beside_it_is_left_out(
    environment: dict[str, str], tmp_path: Path
) -> None:
    run = ended(environment, tmp_path / "runs")
    assert run.returncode in (0, 1, 7), run.stderr
    figures = json.loads(run.stdout)["components"]["adder"]
    assert figures["ok"] > 0
    assert figures["errors"] == 0
    assert figures["goodput"]["unit"] == "sums"
    for said in (
        "`misnamed` of `third_module:Misnamed` is left out: it calls itself `somebody_else`",
        "`broken` of `third_module:Absent` is left out: ",
        "`consensus` of `third_module:Adder` is left out: it calls itself `adder`",
    ):
        assert said in run.stderr


def test_what_it_raises_is_an_accounted_error_and_the_record_says_what(
    environment: dict[str, str], tmp_path: Path
) -> None:
    run = ended(environment, tmp_path / "runs", "--set", "workloads.adder.ops={stumble: 1}")
    figures = json.loads(run.stdout)["components"]["adder"]
    assert figures["ok"] == 0
    assert figures["errors"] > 0
    (manifest,) = (tmp_path / "runs").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["hosted_failures"] == {"adder": "ValueError: stumbled"}


def test_alone_it_has_nothing_to_be_timed(environment: dict[str, str]) -> None:
    program = (
        "from swarmbench.components import COMPONENTS\n"
        "from swarmbench.errors import MachineError\n"
        "try:\n    COMPONENTS['adder']().prepare(seed=1).run()\n"
        "except MachineError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == ("`adder` has no native backend, so there is nothing to time alone\n")
