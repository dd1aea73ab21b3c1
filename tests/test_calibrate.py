"""Ceilings: every one named, bounded, kept and read back; the observer of a run beside them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from swarmbench import _native, calibrate, machine
from swarmbench.ceilings import MEANINGS, Calibration


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    return calibrate.measure(1, tmp_path_factory.mktemp("scratch"), seconds=1.0)


def test_every_ceiling_is_measured_or_its_absence_explained(calibration: Calibration) -> None:
    named = set(calibration.ceilings) | set(calibration.absent)
    assert named == set(MEANINGS)
    assert all(calibration.absent.values())
    for name, ceiling in calibration.ceilings.items():
        assert ceiling.value > 0, name
        assert ceiling.spread >= 0, name
        assert ceiling.samples > 0, name
        rate = name.endswith("_s")
        assert ceiling.unit == ("ns" if not rate else ceiling.unit), name
        assert rate or name.endswith("_ns"), name


def test_no_thread_alone_beats_all_together(calibration: Calibration) -> None:
    for name in MEANINGS:
        alone = name.replace("_bytes_s", "_one_thread_bytes_s")
        if alone != name and alone in calibration.ceilings:
            assert calibration.ceilings[name].value >= calibration.ceilings[alone].value


def test_nothing_is_left_on_the_disk_and_the_bounds_hold(tmp_path: Path) -> None:
    found = calibrate.measure(1, tmp_path, seconds=1.0)
    assert list(tmp_path.iterdir()) == []
    assert found.disk_written_bytes <= 512 << 20
    assert found.memory_bytes <= machine.memory_available_bytes()


def test_a_calibration_survives_json(calibration: Calibration) -> None:
    record = json.loads(json.dumps(calibration.to_json()))
    assert Calibration.from_json(record) == calibration
    assert record["ceilings"]["timer_ns"]["meaning"] == MEANINGS["timer_ns"]
    del record["threads"]
    with pytest.raises(KeyError):
        Calibration.from_json(record)


def test_the_progress_rises_and_its_error_ends_the_measurement(tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []

    def tell(stage: str, fraction: float) -> None:
        seen.append((stage, fraction))
        if stage == "read_bytes_s":
            raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        calibrate.measure(1, tmp_path, seconds=1.0, progress=tell)
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert seen[-1][0] == "read_bytes_s"


def test_a_folder_that_cannot_be_written_costs_the_disk_ceilings_alone() -> None:
    found = calibrate.measure(1, Path("/proc/no/such/folder"), seconds=1.0)
    assert "disk_fsync_ns" in found.absent
    assert found.value("disk_fsync_ns") is None
    assert found.value("copy_bytes_s") is not None


def test_the_observer_beats_names_its_cost_and_stops() -> None:
    canary = _native.Canary()
    idle = canary.idle
    assert idle.memory_ns_p50 > 0
    assert idle.compute_ns_p50 > 0
    canary.reset()
    time.sleep(0.5)
    reading = canary.read()
    assert 1 <= reading.samples <= 10
    assert 0 < reading.cost_ns < reading.wall_ns
    slowdown = reading.memory_slowdown(idle)
    assert slowdown is not None
    assert slowdown >= 1
    canary.stop()
    canary.stop()
    assert canary.read().samples == 0
    assert canary.read().memory_slowdown(idle) is None
    with pytest.raises(OSError, match="core 100000"):
        _native.Canary([100_000])
