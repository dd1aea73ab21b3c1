"""Streaming on a device: contents of every kind and width at several shapes of the launches, bit
for bit, and each of its checks failing once."""

from __future__ import annotations

import secrets
from typing import Any, cast

import numpy as np
import pytest

import costs
from swarmbench import _native
from swarmbench.components import Streaming, chunks
from swarmbench.components.base import same_arrays
from swarmbench.components.chunks import Bytes
from swarmbench.components.cuda.streaming import DEVICE_CODECS, CudaStreaming
from swarmbench.components.cuda.streaming_lane import Lane
from swarmbench.components.cuda.streaming_remote import RemoteLane
from swarmbench.gpu.device import Device
from swarmbench.gpu.emulated import Build, EmulatedDevice
from swarmbench.gpu.found import open_device

SEED = secrets.randbits(32)
EVERY_KIND = tuple((kind, 1.0) for kind in chunks.KINDS)
PIPELINES = ("auto", "lz4", "zstd", "pack")
GROUP_BYTES = 2048


def shared_of(
    component: Streaming, build: Build = "plain", device: Device | None = None
) -> CudaStreaming:
    native = component.on_host().prepare(seed=SEED).native
    device = device or EmulatedDevice(seed=SEED, build=build, is_random=build == "plain")
    return CudaStreaming(component, native, device, SEED)


def sized(chunk_groups: int, block_groups: int, **others: Any) -> Streaming:
    sizes = {"chunk_bytes": chunk_groups * GROUP_BYTES, "block_bytes": block_groups * GROUP_BYTES}
    return Streaming(**sizes, pool_chunks=1, blend="numeric", **others)


def walk(generator: np.random.Generator, groups: int) -> Bytes:
    """Words whose differences need another number of bits in every group, now and then all 32."""
    steps = [
        generator.integers(0, 1 << bits, 512, dtype=np.uint64).astype(np.uint32)
        for bits in generator.choice([*range(18), 32], groups)
    ]
    differences = np.concatenate(steps)
    signed = np.where(generator.integers(0, 2, len(differences)) == 1, differences, -differences)
    words: Bytes = np.cumsum(signed, dtype=np.uint32).view(np.uint8)
    return words


@pytest.mark.parametrize(
    ("component", "block", "grid", "piece_bytes"),
    [
        (sized(2, 2), 64, 1, None),
        (sized(26, 6), 256, None, 20_000),
        (sized(34, 10), 128, 3, 1),
        (sized(50, 48), 96, 2, None),
        (sized(32, 128), 256, None, None),
        (sized(140, 2), 64, None, None),
    ],
    ids=lambda each: f"{each.chunk_bytes}in{each.block_bytes}" if hasattr(each, "ops") else None,
)
def test_every_width_is_packed_and_restored_alike_at_every_shape(
    component: Streaming, block: int, grid: int | None, piece_bytes: int | None
) -> None:
    """Blocks of an odd number of pages begin at places that are no multiple of a word."""
    generator = np.random.default_rng(SEED)
    shared = shared_of(component)
    lane = Lane(shared, block=block, grid=grid, piece_bytes=piece_bytes)
    groups = component.chunk_bytes // GROUP_BYTES
    random = generator.integers(0, 256, component.chunk_bytes, dtype=np.uint8)
    for chunk in (walk(generator, groups), random, np.zeros_like(random)):
        for op in ("pack", "compress", "auto"):
            inputs = {"chunk": chunk}
            right = component.reference(op, inputs)
            assert same_arrays(lane.evaluate(op, inputs), right), f"{op}, seed {SEED}"
        frame = lane.frame_of(chunk, 7)
        coder = _native.Coder(component.block_bytes, component.zstd_level)
        room = np.zeros(coder.bound(len(chunk)), np.uint8)
        length, codec = coder.encode("auto", 7, chunk, room)
        assert codec not in DEVICE_CODECS or np.array_equal(frame, room[:length]), f"seed {SEED}"


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_frame_of_the_cpu_is_restored_with_blocks_stored_between_packed_ones(
    share: float,
) -> None:
    component = sized(30, 6)
    lane, generator = Lane(shared_of(component)), np.random.default_rng(SEED)
    chunk = walk(generator, 30)
    for first in range(0, len(chunk), component.block_bytes):
        if generator.random() < share:
            part = chunk[first : first + component.block_bytes]
            part[:] = generator.integers(0, 256, len(part), dtype=np.uint8)
    coder = _native.Coder(component.block_bytes, component.zstd_level)
    room, sequence = np.zeros(coder.bound(len(chunk)), np.uint8), secrets.randbits(64)
    length, _ = coder.encode("pack", sequence, chunk, room)
    restored, found = lane.restored_from(room[:length])
    assert np.array_equal(restored, chunk), f"seed {SEED}"
    assert (found.problems, found.sequence) == (0, sequence)
    assert found.restored_sum == int(room[16:24].view(np.uint64)[0])


@pytest.mark.parametrize("build", ["plain", "traced"])
def test_no_damage_to_a_frame_passes_and_none_leads_outside_of_it(build: Build) -> None:
    component = sized(12, 6)
    lane, generator = Lane(shared_of(component, build)), np.random.default_rng(SEED)
    chunk = walk(generator, 12)
    frame = lane.frame_of(chunk, 3)
    if not len(frame):
        chunk = np.zeros_like(chunk)
        frame = lane.frame_of(chunk, 3)
    bits = {*range(64), *range(128, 8 * 64), *generator.integers(0, len(frame) * 8, 60).tolist()}
    drawn = sorted(bits - set(range(64, 128)))
    for bit in drawn if build == "plain" else drawn[:: len(drawn) // 20]:
        spoiled = frame.copy()
        spoiled[bit // 8] ^= 1 << bit % 8
        restored, found = lane.restored_from(spoiled)
        assert found.problems or np.array_equal(restored, chunk), f"bit {bit}, seed {SEED}"
        assert found.problems, f"bit {bit}, seed {SEED}"
    for length in (0, 31, 40, len(frame) - 2):
        assert lane.restored_from(np.pad(frame[:length], (0, 64)))[1].problems
    assert lane.restored_from(frame)[1].problems == 0


@pytest.mark.parametrize("kind", ["packed", "stored"])
def test_a_frame_is_exactly_as_long_as_its_blocks_say(kind: str) -> None:
    """Also where what is missing still lies behind it from the frame before."""
    component = sized(12, 6)
    lane, generator = Lane(shared_of(component)), np.random.default_rng(SEED)
    chunk = generator.integers(0, 256, component.chunk_bytes, dtype=np.uint8)
    if kind == "packed":
        chunk = np.cumsum(chunk.view(np.uint32) & 0xFF, dtype=np.uint32).view(np.uint8)
    frame = lane.frame_of(chunk, 1)
    assert len(frame)
    for more, said in ((16, 16), (16, 0), (0, 16), (-2, -2), (-2, 0)):
        damaged = np.pad(frame, (0, 16))[: len(frame) + more]
        assert lane.restored_from(frame)[1].problems == 0
        damaged[36:40].view(np.int32)[0] += said
        assert lane.restored_from(damaged)[1].problems, f"{more} bytes more, {said} said"


def test_the_survey_sees_what_the_reference_sees_up_to_its_bounds() -> None:
    component = sized(18, 6)
    lane, generator = Lane(shared_of(component)), np.random.default_rng(SEED)
    seen = set()
    for turn in range(24):
        if turn % 2:
            bits = 17 + turn // 2 % 7
            steps = generator.integers(0, 1 << bits, component.chunk_bytes // 4, dtype=np.uint32)
            chunk = np.cumsum(steps, dtype=np.uint32).view(np.uint8)
        else:
            chunk = generator.integers(0, 256, component.chunk_bytes, dtype=np.uint8)
            common = generator.random(len(chunk)) < (0.0, 0.004, 0.015, 0.03)[turn // 2 % 4]
            chunk[common] = 32
        right = component.reference("compress", {"chunk": chunk})
        seen.add(int(right["codec"][0]))
        assert same_arrays(lane.evaluate("compress", {"chunk": chunk}), right), f"seed {SEED}"
    assert len(seen) == 3


@pytest.mark.parametrize("placement", ["device", "host_device_host"])
def test_the_pool_is_that_of_the_numpy_generator(placement: str) -> None:
    component = Streaming(
        chunk_bytes=1 << 15, block_bytes=1 << 14, pool_chunks=12, blend=EVERY_KIND
    ).model_copy(update={"placement": placement})
    shared = shared_of(component)
    for index, kind in enumerate(shared.kinds):
        found, stream = np.zeros(component.chunk_bytes, np.uint8), shared.device.stream()
        stream.download(found, shared.chunk(index))
        assert np.array_equal(found, chunks.generate(kind, SEED, index, component.chunk_bytes))
    assert set(shared.kinds) == set(chunks.KINDS)


def remote(device: Device | None = None, piece_bytes: int | None = None) -> RemoteLane:
    small = Streaming.small().model_copy(update={"placement": "host_device_host"})
    return RemoteLane(shared_of(small, device=device), piece_bytes=piece_bytes)


@pytest.mark.parametrize("kind", ["plain", pytest.param("card", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("op", [op.name for op in Streaming.ops])
def test_chunks_of_the_host_go_through_the_device_in_pieces(op: str, kind: str) -> None:
    component = Streaming.small()
    device = open_device(0) if kind == "card" else None
    lane = remote(device, component.block_bytes)
    assert len(lane._on.spans[op]) == component.chunk_bytes // component.block_bytes
    inputs = component.inputs(op, SEED, 5)
    assert same_arrays(lane.evaluate(op, inputs), component.reference(op, inputs))
    for key in range(12):
        assert lane.run(op, key).status == "ok"
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


def test_a_stream_whose_chunks_lie_on_the_host_takes_as_much_memory_as_it_says() -> None:
    lane = remote()
    component = cast(Streaming, lane._shared.component)
    expected = CudaStreaming.device_bytes(component, 1)
    assert lane.device.allocated_bytes == expected
    assert expected < CudaStreaming.device_bytes(Streaming.small(), 1)


@pytest.mark.parametrize("op", [op.name for op in Streaming.ops])
def test_the_declared_cost_is_that_of_every_kind_of_chunk(op: str) -> None:
    component = Streaming(
        chunk_bytes=1 << 15, block_bytes=1 << 13, pool_chunks=12, blend=EVERY_KIND
    )
    lane = Lane(shared_of(component, "traced"))
    codecs = set()
    for key in range(component.pool_chunks):
        with costs.followed(lane) as done:
            lane.run(op, key)
        assert lane._last is not None
        codecs.add(lane._last.codec)
        costs.check(done, lane.cost(op), f"{op}, codec {lane._last.codec}")
        assert lane.verify() == (1, 0)
    assert len(codecs) == {"pack": 1, "lz4": 2, "zstd": 2}.get(op, 3)


def test_numbers_come_one_after_the_other_whatever_the_op() -> None:
    lane = Lane(shared_of(Streaming.small()))
    for key in range(16):
        assert lane.run(PIPELINES[key % 4], key).status == "ok"
    found = lane._on.found()
    assert (found.delivered, found.doubled, found.missing) == (16, 0, 0)
    lane._on.checksum("auto", 15)
    assert lane._on.found().doubled == 1
    lane._on.checksum("auto", 18)
    found = lane._on.found()
    assert (found.delivered, found.missing) == (19, 2)


def test_a_chunk_that_was_changed_on_the_way_is_no_answer() -> None:
    """The kept frame of a chunk is damaged: the operation itself fails, and the next does not."""
    shared = shared_of(Streaming.small())
    lane = Lane(shared)
    numeric = shared.kinds.index("int32")
    frame = shared.frame(numeric).part(60, 1)
    lane.stream.fill(frame, 0xFF)
    assert lane.run("decompress", numeric).status == "error"
    assert lane.verify() == (0, 0)
    assert lane.run("decompress", numeric + 1).status == "ok"
    assert lane.verify() == (1, 0)


def test_a_placement_of_the_cpu_is_refused_with_what_there_is() -> None:
    problem = Streaming.small().model_copy(update={"placement": "file"}).unfit("cuda")
    assert problem is not None
    assert problem[1].endswith("choose memory, device, host_device_host or file_device_file")
    assert Streaming.small().unfit("cuda") is None


def test_the_hosts_coder_refuses_what_is_not_its_own() -> None:
    chunk = chunks.generate("json", SEED, 0, 1 << 14)
    coder = _native.Coder(1 << 13, 1)
    room = np.zeros(coder.bound(len(chunk)), np.uint8)
    length, _ = coder.encode("zstd", 4, chunk, room)
    restored = np.zeros_like(chunk)
    assert coder.decode(room[:length], restored) == 4
    assert np.array_equal(restored, chunk)
    room[40] ^= 1
    for call in (
        lambda: coder.decode(room[:length], restored),
        lambda: coder.encode("brotli", 4, chunk, room),
        lambda: coder.encode("zstd", 4, chunk, room[:100]),
        lambda: _native.Coder(0, 1),
        lambda: _native.Coder(4096, 20),
    ):
        with pytest.raises(ValueError, match=r"."):
            call()
