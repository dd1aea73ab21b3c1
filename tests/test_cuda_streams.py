"""Every op on streams that lag behind: what a card may do, and the plain emulator never does."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
import pytest

from lagging import LaggingDevice
from swarmbench.components import COMPONENTS, Streaming
from swarmbench.components.base import Component, agree
from swarmbench.components.cuda import CUDA, streaming_remote
from swarmbench.components.cuda.base import CudaOperation
from swarmbench.components.cuda.streaming import CudaStreaming

SEED = secrets.randbits(32)
KEY = 12_345
RUN_OPS = 8
DOUBLE = """#include "common.cuh"
extern "C" __global__ void twice(u32* values) { values[threadIdx.x] += values[threadIdx.x]; }
"""

every_op = pytest.mark.parametrize(
    ("name", "op"), [(name, op.name) for name in CUDA for op in COMPONENTS[name].ops]
)


def built(component: Component) -> CudaOperation:
    native = component.prepare(backend="cpu", seed=SEED, threads=2).native
    return CUDA[component.name](component, native, LaggingDevice(SEED), SEED).operation()


def hold(lane: CudaOperation, op: str) -> None:
    """Asserts that operations of one type are right, each by its own check."""
    checked = 0
    for key in range(RUN_OPS):
        assert lane.run(op, key).status == "ok", f"{op}, seed {SEED}, key {key}"
        verified, violations = lane.verify()
        assert violations == 0, f"{op}, seed {SEED}, key {key}"
        checked += verified
    assert checked > 0


@every_op
def test_answers_are_right_whatever_runs_when(name: str, op: str) -> None:
    component = COMPONENTS[name].small()
    lane = built(component)
    hold(lane, op)
    if op == "process":
        return  # the host's
    inputs = component.inputs(op, SEED, KEY)
    found = lane.evaluate(op, dict(inputs))
    right = component.reference(op, inputs)
    assert agree(found, right, component.tolerance), f"{name} {op}, seed {SEED}"


@pytest.mark.parametrize("placement", ["host_device_host", "file_device_file"])
@pytest.mark.parametrize("op", [op.name for op in Streaming.ops])
def test_pieces_of_a_chunk_wait_for_each_other_on_their_way(
    op: str, placement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"placement": placement, "directory": str(tmp_path)}
    component = Streaming.small().model_copy(update=changes)
    monkeypatch.setattr(streaming_remote, "TRAVEL_BYTES", component.chunk_bytes // 4)
    native = component.on_host().prepare(seed=SEED).native
    hold(CudaStreaming(component, native, LaggingDevice(SEED), SEED).operation(), op)


def test_a_lagging_stream_shows_what_was_not_waited_for() -> None:
    device = LaggingDevice(SEED)
    stream, twice = device.stream(), device.kernel_of(DOUBLE, "twice")
    values, host = device.empty(32, np.uint32), device.pinned(32, np.uint32)
    host[:] = 1
    stream.upload(values, host)
    host[:] = 5
    stream.launch(twice, 1, 32, [values])
    stream.download(host, values)
    assert host.tolist() == [5] * 32
    stream.synchronize()
    assert host.tolist() == [10] * 32, "what was changed before its copy had ended went up"
    pageable, seen = np.zeros(32, np.uint32), set()
    for _ in range(64):
        pageable[:] = 3
        stream.upload(values, pageable)
        pageable[:] = 4
        stream.download(host, values)
        stream.synchronize()
        seen |= set(host.tolist())
    assert seen == {3, 4}, f"seed {SEED}"


@pytest.mark.parametrize("follows", [False, True])
def test_streams_that_do_not_follow_each_other_run_in_any_order(follows: bool) -> None:
    device = LaggingDevice(SEED)
    first, second = device.stream(), device.stream()
    values, host = device.empty(1, np.uint8), device.pinned(1, np.uint8)
    seen = set()
    for _ in range(64):
        second.fill(values, 0)
        second.synchronize()
        first.fill(values, 1)
        if follows:
            second.follow(first)
        second.download(host, values)
        second.synchronize()
        seen.add(int(host[0]))
        first.synchronize()
    assert seen == ({1} if follows else {0, 1}), f"seed {SEED}"
