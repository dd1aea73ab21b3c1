"""Operations that reach a device without the interpreter: learned, asked again, checked, lost."""

from __future__ import annotations

import ctypes
import secrets
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from swarmbench import _native, submission
from swarmbench.components import COMPONENTS, Memory
from swarmbench.components.cuda import CUDA
from swarmbench.components.cuda.base import CudaComponent, Done
from swarmbench.components.cuda.consensus import CudaConsensus
from swarmbench.gpu.device import Array, Device, DeviceLostError
from swarmbench.gpu.emulated import EmulatedDevice
from swarmbench.gpu.host_memory import HostBuffer
from swarmbench.gpu.noting import NotingDevice, UnrepeatableError
from swarmbench.plan import Process, Submit, WorkloadPlan
from swarmbench.submission import ARMED_STREAMS_MAX, Repeated, learned, rung, submitted
from swarmbench.workloads import native_workload

SEED = secrets.randbits(32)
#: `CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS` and two errors (cuda.h).
STREAM_WORDS, LAUNCH_FAILED, OUT_OF_MEMORY = 122, 719, 2

REPEATABLE = [(name, op) for name in CUDA for op in sorted(CUDA[name].repeatable)]

#: Counts its launches, which is no answer to a key.
COUNTING = """
#include "common.cuh"
extern "C" __global__ void counting(u32* launches, u32* told) {
    *told = atomicAdd(launches, 1u);
}
extern "C" __global__ void doubling(const u32* asked, u32* told) {
    *told = 2 * *asked;
}
"""


@pytest.fixture(autouse=True)
def fake_driver() -> Iterator[ctypes.CDLL]:
    """The fake driver without faults, before and after."""
    library = ctypes.CDLL(EmulatedDevice().driver_path)
    library.fake_reset()
    yield library
    library.fake_reset()


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One lane, and one key of each op type: the emulator takes its time."""
    monkeypatch.setattr(submission, "LANES_NATIVE", 1)
    monkeypatch.setattr(submission, "LEARNING_S", 0.0)


def planned(name: str, submit: Submit, *ops: str) -> WorkloadPlan:
    return WorkloadPlan(
        component=COMPONENTS[name].small(),
        backend="cuda",
        rate_s=50.0,
        capacity_share=None,
        process=Process("constant"),
        op_weights=dict.fromkeys(ops, 1.0),
        in_flight_max=64,
        queue_max=64,
        overload="queue",
        stress_in_flight=2,
        submit=submit,
    )


def built(name: str) -> CudaComponent:
    component = COMPONENTS[name].small()
    native = component.prepare(backend="cpu", seed=SEED, threads=2).native
    device = submission.noting(EmulatedDevice(seed=SEED))
    return CUDA[name](component, native, device, SEED)


def ended(
    plan: WorkloadPlan, cuda: CudaComponent, repeated: Repeated, *, operations: int = 8
) -> dict[str, int]:
    """What the engine counted of some operations in a closed loop."""
    engine = _native.Engine([native_workload(plan, cuda.native)], seed=1, workers=0)
    desk = _native.Desk.of(engine)
    assert desk is not None
    with submitted({plan.name: repeated}, {plan.name: desk}, engine) as submitters:
        phase, _ = engine.begin_closed([plan.stress_in_flight])
        until = time.monotonic() + 20.0
        while time.monotonic() < until and not submitters.is_lost():
            counted = [reading.counters() for reading in engine.reading(phase)[0]]
            if sum(each["ok"] + each["errors"] for each in counted) >= operations:
                break
            engine.wait(0.02)
        engine.cease()
        assert engine.settle(5.0)
        timed = submitters.figures()[plan.name]
        counted = [reading.counters() for reading in engine.reading(phase)[0]]
    total = {name: sum(each[name] for each in counted) for name in counted[0]}
    assert timed["execute"].count == total["ok"]
    assert total["scheduled"] == total["ok"] + total["errors"] + total["abandoned"]
    return total


@pytest.mark.parametrize("submit", ["native", "graph", "armed"])
def test_operations_asked_by_a_native_thread_are_right(submit: Submit) -> None:
    plan, cuda = planned("consensus", submit, "decide", "elect"), built("consensus")

    repeated = learned(plan, cuda, waiting=2)

    assert isinstance(repeated, Repeated), repeated
    assert repeated.submit == submit
    assert repeated.describe()["keys"] == {"decide": 1, "elect": 1}
    total = ended(plan, cuda, repeated)
    assert total["ok"] == total["verified"] >= 8
    assert total["errors"] == total["violations"] == 0


@pytest.mark.parametrize("name", sorted({name for name, _ in REPEATABLE}))
def test_op_types_of_a_lane_leave_nothing_to_one_another(name: str) -> None:
    plan, cuda = planned(name, "graph", *sorted(CUDA[name].repeatable)), built(name)
    repeated = learned(plan, cuda, waiting=1)
    assert isinstance(repeated, Repeated)

    total = ended(plan, cuda, repeated, operations=24)

    assert total["ok"] >= total["verified"] > 0
    assert total["errors"] == total["violations"] == 0, f"seed {SEED}"


@pytest.mark.parametrize(("name", "op"), REPEATABLE)
def test_what_is_said_to_be_repeatable_is_learned(name: str, op: str) -> None:
    repeated = learned(planned(name, "graph", op), built(name), waiting=1)

    assert isinstance(repeated, Repeated), f"seed {SEED}: {repeated}"
    assert repeated.describe()["answer_bytes"] > 0


def test_an_answer_unlike_the_learned_one_is_a_violation() -> None:
    plan, cuda = planned("consensus", "armed", "tally"), built("consensus")
    repeated = learned(plan, cuda, waiting=1)
    assert isinstance(repeated, Repeated)
    votes = cast(HostBuffer, cast(CudaConsensus, cuda).tables.stored).array
    votes[::4] = votes[0]

    total = ended(plan, cuda, repeated)

    assert total["violations"] == total["verified"] >= 8


def test_without_words_the_streams_are_asked_themselves(fake_driver: ctypes.CDLL) -> None:
    fake_driver.fake_attribute(STREAM_WORDS, 0)
    plan, cuda = planned("consensus", "armed", "decide"), built("consensus")

    repeated = learned(plan, cuda, waiting=1)

    assert isinstance(repeated, Repeated)
    assert repeated.submit == "graph"
    total = ended(plan, cuda, repeated)
    assert total["ok"] == total["verified"] >= 8
    assert total["violations"] == 0


@pytest.mark.parametrize(
    ("call", "submit"), [("cuLaunchKernel", "native"), ("cuStreamQuery", "graph")]
)
def test_a_device_lost_in_a_run_is_said_and_what_was_open_has_failed(
    call: str, submit: Submit, fake_driver: ctypes.CDLL
) -> None:
    fake_driver.fake_attribute(STREAM_WORDS, 0)
    plan, cuda = planned("consensus", submit, "decide"), built("consensus")
    repeated = learned(plan, cuda, waiting=1)
    assert isinstance(repeated, Repeated)
    fake_driver.fake_fault(call.encode(), 5, LAUNCH_FAILED)

    with pytest.raises(DeviceLostError, match=f"lost by consensus: {call}: .*{LAUNCH_FAILED}"):
        ended(plan, cuda, repeated)


def test_a_driver_that_refuses_is_no_reason_to_go_on_without_it(fake_driver: ctypes.CDLL) -> None:
    plan, cuda = planned("consensus", "native", "decide"), built("consensus")
    fake_driver.fake_fault(b"cuStreamCreateWithPriority", 1, OUT_OF_MEMORY)

    with pytest.raises(submission.MachineError, match="`consensus`: the driver refuses: cuStream"):
        learned(plan, cuda, waiting=1)


@pytest.mark.parametrize(
    ("wanted", "has_words", "streams", "taken"),
    [
        ("auto", True, 4, "armed"),
        ("auto", False, 4, "graph"),
        ("auto", True, ARMED_STREAMS_MAX + 1, "graph"),
        ("auto", True, None, "graph"),
        ("armed", False, 4, "graph"),
        ("armed", True, ARMED_STREAMS_MAX, "armed"),
        ("graph", True, 4, "graph"),
        ("native", True, 4, "native"),
    ],
)
def test_the_rung_is_the_wanted_one_or_the_next_that_the_device_has(
    wanted: Submit, has_words: bool, streams: int | None, taken: str
) -> None:
    assert rung(wanted, has_words, streams) == taken


class Lane:
    """An operation over two kernels; `ask` is what it does before it says that it was right."""

    def __init__(self, device: Device, name: str) -> None:
        emulated = cast(NotingDevice, device).device
        self.kernel = cast(EmulatedDevice, emulated).kernel_of(COUNTING, name)
        self.stream, self.other = device.stream(), device.stream()
        self.word = device.uploaded(np.zeros(1, np.uint32))
        self.asked, self.told = (device.pinned(1, np.uint32) for _ in range(2))
        self.mapped = [device.mapped(each) for each in (self.asked, self.told)]
        self.right = True

    def run(self, op: str, key: int) -> Done:
        if op == "counting":
            self.stream.launch(self.kernel, 1, 1, [self.word, self.mapped[1]])
        elif op == "doubling":
            self.asked[0] = key
            self.stream.launch(self.kernel, 1, 1, self.mapped)
        elif op == "two streams":
            self.stream.fill(self.word, 1)
            self.other.fill(self.word, 2)
        elif op == "product":
            square = (1, 1, 1)
            self.stream.matmul(self.word, self.word, self.word, square, scale=1.0)
        return Done(3)

    def verify(self) -> tuple[int, int]:
        return 1, int(not self.right)


def noted_lane(name: str) -> tuple[NotingDevice, Lane, list[Array]]:
    device = NotingDevice(EmulatedDevice(seed=SEED))
    with device.lane_memory() as memory:
        lane = Lane(cast(Device, device), name)
    return device, lane, memory


def berth(device: NotingDevice, *notes: Any) -> _native.Berth:
    words = device.pinned(64, np.uint64)
    return _native.Berth.learn(
        _native.CudaContext(device.driver_path, 0),
        [each.fields() for each in notes],
        words=words.ctypes.data,
        kept=[device, words, *notes],
        mode="graph",
        has_words=True,
        priority=0,
    )


def test_what_the_host_wrote_before_is_written_again_each_time() -> None:
    device, lane, memory = noted_lane("doubling")
    notes = [device.noted(lane, "doubling", key, memory, with_check=False) for key in (21, 0x5A5A)]

    assert [dict(each.inputs) for each in notes] == [
        {lane.asked.ctypes.data: each.to_bytes(4, "little")} for each in (21, 0x5A5A)
    ]
    assert [each.units for each in notes] == [3, 3]
    assert berth(device, *notes).answer_bytes == 8


def test_an_answer_that_depends_on_what_ran_before_is_not_learned() -> None:
    device, lane, memory = noted_lane("counting")
    notes = device.noted(lane, "counting", 0, memory, with_check=False)

    with pytest.raises(ValueError, match="not the same each time"):
        berth(device, notes)


def test_a_wrong_answer_is_not_learned() -> None:
    device, lane, memory = noted_lane("doubling")
    notes = device.noted(lane, "doubling", 4, memory, with_check=False)
    places = [(place, bytes(len(content))) for place, content in notes.written]

    with pytest.raises(ValueError, match="asked again it answers something else"):
        berth(device, replace(notes, written=places))
    lane.right = False
    with pytest.raises(UnrepeatableError, match="not found right"):
        device.noted(lane, "doubling", 4, memory, with_check=False)


@pytest.mark.parametrize(
    ("op", "why"),
    [
        ("two streams", "several streams"),
        ("product", "another library's"),
        ("nothing", "asks nothing of the device"),
    ],
)
def test_what_cannot_be_asked_again_is_told_by_why(op: str, why: str) -> None:
    device, lane, memory = noted_lane("doubling")

    with pytest.raises(UnrepeatableError, match=why):
        device.noted(lane, op, 0, memory, with_check=False)


def test_an_answer_that_stays_on_the_device_cannot_be_learned() -> None:
    device, lane, memory = noted_lane("doubling")
    notes = device.noted(lane, "doubling", 4, memory, with_check=False)

    with pytest.raises(ValueError, match="does not come to the host"):
        berth(device, replace(notes, written=[]))


@pytest.mark.parametrize("submit", ["graph", "armed"])
def test_while_streams_wait_for_the_host_nothing_is_asked_that_waits_for_them(
    submit: Submit,
) -> None:
    plan, cuda = planned("consensus", submit, "decide"), built("consensus")
    repeated = learned(plan, cuda, waiting=1)
    assert isinstance(repeated, Repeated)
    engine = _native.Engine([native_workload(plan, cuda.native)], seed=1, workers=0)
    desk = _native.Desk.of(engine)
    assert desk is not None
    device = cuda.device
    is_held = submit == "armed"

    with submitted({plan.name: repeated}, {plan.name: desk}, engine):
        for ask in (
            lambda: device.empty(1, np.uint32),
            lambda: device.pinned(1, np.uint32),
            lambda: device.raw_free(device.raw_allocation(1, np.uint32)),
            lambda: device.kernel("streaming.cu", "streaming_survey"),
        ):
            refused = pytest.raises(RuntimeError, match="whose streams wait for the host")
            with refused if is_held else nullcontext():
                ask()
    device.empty(1, np.uint32)


@pytest.mark.parametrize(
    ("given", "hinders"),
    [({}, False), ({"allocator": "raw"}, True), ({"host_memory": "pageable"}, True)],
)
def test_no_stream_waits_beside_memory_that_is_taken_in_a_run(
    given: dict[str, Any], hinders: bool
) -> None:
    assert CUDA["memory"].hinders_waiting(Memory(**given)) == hinders
