"""The rungs of the submission ladder side by side, and the GPU suite's part that shows them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from swarmbench import submission
from swarmbench.components import Agents, Consensus
from swarmbench.errors import MachineError
from swarmbench.experiments import rungs
from swarmbench.gpu.emulated import EmulatedDevice

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "LANES_NATIVE", 1)
    monkeypatch.setattr(submission, "LEARNING_S", 0.0)
    monkeypatch.setattr(rungs, "WARM_UP_S", 0.1)


@pytest.fixture
def gpu_parts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with an emulated device and little to do."""
    spec = importlib.util.spec_from_file_location("gpu_parts", SCRIPTS / "gpu_parts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_parts", module)
    spec.loader.exec_module(module)
    device = EmulatedDevice(seed=1)
    for name, value in {
        "open_device": lambda number: device,
        "Consensus": lambda batch: Consensus.small(),
        "RUNG_RATE_S": 20.0,
        "RUNG_S": 0.4,
        "HOG_BYTES": 1 << 16,
    }.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_each_rung_is_measured_alone_and_beside_copies(
    gpu_parts: ModuleType, tmp_path: Path
) -> None:
    out = tmp_path / "rungs.json"

    gpu_parts.rungs(out)

    rows = json.loads(out.read_text())
    assert [(row["submit"], row["beside"]) for row in rows] == [
        (submit, beside) for beside in ("nothing", "copies") for submit in gpu_parts.RUNGS
    ]
    for row in rows:
        assert row["ok"] == row["verified"] > 0
        assert row["errors"] == row["violations"] == 0
        assert ("submit_ns" in row) == (row["submit"] != "python")
        assert row["interpreter_share"] is not None
    table = gpu_parts.rung_lines([*rows, {"asked": "armed", "beside": "copies", "problem": "gone"}])
    assert len(table) == 3 + len(rows) + 1
    assert table[-1].startswith("| armed | copies | gone |")


def test_a_rung_that_an_op_cannot_take_is_refused() -> None:
    with pytest.raises(
        MachineError, match="`tick` cannot be submitted as `armed`: the host takes part"
    ):
        rungs.measure_rung(
            Agents.small(),
            "tick",
            "armed",
            EmulatedDevice(seed=1),
            rate_s=10.0,
            seconds=0.1,
        )
