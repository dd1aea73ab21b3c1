"""Chunks from a file through the device to a file: answers, what a disk does wrong, its budget."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import costs
from swarmbench import _native
from swarmbench.components import Streaming
from swarmbench.components.base import same_arrays
from swarmbench.components.chunks import Bytes
from swarmbench.components.cuda.streaming import CudaStreaming
from swarmbench.components.cuda.streaming_disk import DamagedError
from swarmbench.components.cuda.streaming_file import FileLane
from swarmbench.errors import Status
from swarmbench.gpu.device import Device
from swarmbench.gpu.emulated import Build, EmulatedDevice
from swarmbench.gpu.found import open_device

SEED = secrets.randbits(32)
REFUSING = str(Path(__file__).with_name("refusing.py"))
OPS = tuple(op.name for op in Streaming.ops)
#: Those whose frame goes through the file.
PIPELINES = ("auto", "lz4", "zstd", "pack")


def small(directory: Path, **others: Any) -> Streaming:
    given = {"placement": "file_device_file", "directory": str(directory)}
    return Streaming.small().model_copy(update=given | others)


def shared_of(
    component: Streaming, device: Device | None = None, build: Build = "plain"
) -> CudaStreaming:
    native = component.on_host().prepare(seed=SEED).native
    device = device or EmulatedDevice(seed=SEED, build=build, is_random=build == "plain")
    return CudaStreaming(component, native, device, SEED)


def lane_of(component: Streaming, **others: Any) -> FileLane:
    shared = shared_of(component, **others)
    lane = shared.operation()
    assert isinstance(lane, FileLane)
    return lane


class Disk:
    """The lane's disk with something wrong: `fault` says what, once it is set."""

    def __init__(self, file: _native.BlockFile, chunks_end: int) -> None:
        self._chunks_end = chunks_end
        self._file, self.fault, self._written = file, "", 0

    def write(self, block: Bytes, offset: int, mask: int, /) -> int | None:
        if self.fault == "write fails":
            raise OSError(28, "No space left on device")
        if self.fault == "write is lost":
            # The checksum of what should have been written, by a place that nobody reads.
            return self._file.write(block, offset + (1 << 30), mask)
        self._written = self._file.write(block, offset, mask) or 0
        return self._written

    def read(self, room: Bytes, offset: int, mask: int, /) -> int:
        if self.fault == "read fails":
            raise OSError(5, "Input/output error")
        if self.fault == "read does nothing" and offset >= self._chunks_end:
            return self._written
        if self.fault == "a bit flips":
            mask = 1 << 7
        return self._file.read(room, offset, mask)


def disturbed(lane: FileLane) -> Disk:
    disk = Disk(lane._file._file, lane._place)
    lane._file._file = cast(_native.BlockFile, disk)
    return disk


@pytest.mark.parametrize("kind", ["plain", pytest.param("card", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("op", OPS)
def test_chunks_of_a_file_come_back_right_and_every_fault_is_seen(
    op: str, kind: str, tmp_path: Path
) -> None:
    component = small(tmp_path)
    lane = lane_of(component, device=open_device(0) if kind == "card" else None)
    inputs = component.inputs(op, SEED, 5)
    assert same_arrays(lane.evaluate(op, inputs), component.reference(op, inputs)), f"seed {SEED}"
    for key in range(12):
        assert lane.run(op, key).status == "ok", f"seed {SEED}, key {key}"
        assert lane.verify() == (1, 0), f"seed {SEED}, key {key}"
    for fault in _native.fault_names():
        planted = 0
        for key in range(12):
            lane.run(op, key)
            planted_here = lane.plant(fault)
            assert lane.verify() == (1, int(planted_here)), f"{fault}, seed {SEED}, key {key}"
            planted += planted_here
        assert planted > 0
    assert lane.run(op, 1).units == component.chunk_bytes
    assert lane.verify() == (1, 0)
    assert list(tmp_path.iterdir()) == [], "a file has a name"


@pytest.mark.parametrize("op", PIPELINES)
@pytest.mark.parametrize("fault", ["a bit flips", "write is lost", "read does nothing"])
def test_what_a_disk_gives_back_wrong_is_a_violation_and_the_stream_goes_on(
    op: str, fault: str, tmp_path: Path
) -> None:
    lane = lane_of(small(tmp_path))
    disk = disturbed(lane)
    for key in range(8):
        assert lane.run(op, key).status == "ok"
        assert lane.verify() == (1, 0)
        disk.fault = fault
        assert lane.run(op, key).status == "error", f"seed {SEED}, key {key}"
        assert lane.verify() == (1, 1)
        disk.fault = ""


@pytest.mark.parametrize("op", PIPELINES)
@pytest.mark.parametrize("fault", ["write fails", "read fails"])
def test_an_operation_fails_where_the_disk_does_and_the_stream_goes_on(
    op: str, fault: str, tmp_path: Path
) -> None:
    lane = lane_of(small(tmp_path))
    disk = disturbed(lane)
    disk.fault = fault
    assert lane.run(op, 3).status == "error"
    assert lane.verify() == (0, 0)
    disk.fault = ""
    assert lane.run(op, 4).status == "ok"
    assert lane.verify() == (1, 0)


def test_what_a_file_gives_back_is_held_against_what_was_written(tmp_path: Path) -> None:
    lane = lane_of(small(tmp_path))
    disk = disturbed(lane)
    frame = np.random.default_rng(SEED).integers(0, 256, 50_000, dtype=np.uint8)
    original = frame.copy()
    lane._file.carry(frame, lane._place)
    assert np.array_equal(frame, original), f"seed {SEED}"
    for fault in ("a bit flips", "write is lost"):
        disk.fault = fault
        with pytest.raises(DamagedError):
            lane._file.carry(frame, lane._place)
        disk.fault = ""
        frame[:] = original[::-1]
        lane._file.carry(frame, lane._place)
        frame[:] = original


def test_a_chunk_that_changed_in_the_file_is_never_streamed(tmp_path: Path) -> None:
    lane = lane_of(small(tmp_path))
    chunk = np.random.default_rng(SEED).integers(0, 256, 1 << 17, dtype=np.uint8)
    lane._file._file.write(chunk, 2 << 17, 0)
    for op in ("auto", "compress"):
        assert lane.run(op, 2).status == "error"
        assert lane.verify() == (1, 1)
        assert lane.run(op, 3).status == "ok"
        assert lane.verify() == (1, 0)


def test_lanes_write_where_no_other_does(tmp_path: Path) -> None:
    shared = shared_of(small(tmp_path))
    lanes = [cast(FileLane, shared.operation()) for _ in range(3)]
    places = [lane._place for lane in lanes]
    longest = lanes[0]._coder.bound(lanes[0]._component.chunk_bytes)
    assert all(place % 4096 == 0 for place in places)
    assert min(np.diff(places)) >= longest
    pool_bytes = lanes[0]._component.pool_chunks * lanes[0]._component.chunk_bytes
    assert places[0] >= pool_bytes
    for key in range(6):
        for lane in lanes:
            assert lane.run("auto", key).status == "ok"
        assert [lane.verify() for lane in lanes] == [(1, 0)] * 3


def test_the_write_budget_holds_and_what_is_beyond_it_is_rejected(tmp_path: Path) -> None:
    component = small(tmp_path)
    pool_bytes = component.pool_chunks * component.chunk_bytes
    lane = lane_of(component.model_copy(update={"write_budget_bytes": pool_bytes + (1 << 19)}))
    left = lane._file._file.write_budget_left_bytes
    assert left < (1 << 19) - component.chunk_bytes, "the first lane's room was not counted"
    statuses = [lane.run("auto", key).status for key in range(40)]
    assert {"ok", "rejected"} == set(statuses)
    assert lane._file._file.write_budget_left_bytes < left
    assert lane.run("compress", 1).status == lane.run("decompress", 1).status == "ok"
    assert lane.verify() == (1, 0)

    scarce = component.model_copy(update={"write_budget_bytes": pool_bytes})
    with pytest.raises(ValueError, match="write_budget_bytes: is less than the source file"):
        shared_of(scarce)


def test_it_takes_as_much_device_memory_as_it_says(tmp_path: Path) -> None:
    component = small(tmp_path)
    shared = shared_of(component)
    for lanes in (1, 2):
        shared.operation()
        assert shared.device.allocated_bytes == CudaStreaming.device_bytes(component, lanes)
    in_memory = component.model_copy(update={"placement": "device"})
    assert CudaStreaming.device_bytes(component, 1) < CudaStreaming.device_bytes(in_memory, 1)


@pytest.mark.parametrize("op", OPS)
def test_the_declared_cost_is_that_of_every_kind_of_chunk(op: str, tmp_path: Path) -> None:
    sizes = {"chunk_bytes": 1 << 15, "block_bytes": 1 << 13, "pool_chunks": 12}
    lane = lane_of(small(tmp_path, **sizes), build="traced")
    for key in range(sizes["pool_chunks"]):
        with costs.followed(lane) as done:
            assert lane.run(op, key).status == "ok"
        costs.check(done, lane.cost(op), f"{op}, key {key}, seed {SEED}")
        assert lane.verify() == (1, 0)


@pytest.mark.parametrize(
    ("python", "parameters", "said"),
    [
        (("-m", "swarmbench"), {"directory": "/proc"}, "directory: `/proc`: "),
        ((REFUSING, "room"), {}, "directory: `{directory}`: File too large"),
        (
            ("-m", "swarmbench"),
            {"write_budget_bytes": 1 << 20},
            "write_budget_bytes: is less than the source file needs",
        ),
    ],
    ids=["a directory that takes no file", "no room", "a budget below the chunks"],
)
def test_what_cannot_be_had_is_one_line_before_the_run(
    tmp_path: Path, python: tuple[str, ...], parameters: dict[str, Any], said: str
) -> None:
    chunks = tmp_path / "chunks"
    chunks.mkdir()
    command = [sys.executable, *python, "max-throughput", "--backend", "cuda"]
    command += ["--device", "emulated", "--components", "streaming", "--allow-concurrent"]
    command += ["--duration", "8s", "--out", str(tmp_path / "out")]
    given = {"placement": "file_device_file", "directory": chunks, **parameters}
    for key, value in given.items():
        command += ["--set", f"workloads.streaming.params.{key}={value}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert run.returncode == Status.WRONG_ARGUMENTS, run.stderr
    (line,) = run.stderr.splitlines()
    expected = said.format(directory=chunks)
    assert line.startswith(f"error: workloads.streaming.params: {expected}"), line
    assert run.stdout == ""
    assert list(chunks.iterdir()) == []
