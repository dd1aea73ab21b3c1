"""Blocks on a device: of any length, at any shape, by any memory of the host; tiers that add up."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
import pytest

import costs
from movers import SEED, SMALL, LateDevice, content, lane
from swarmbench import _native
from swarmbench.components.base import same_arrays
from swarmbench.components.chunks import PIECE_BYTES, pieced_checksum
from swarmbench.components.cuda.memory import Mover
from swarmbench.components.cuda.memory_tiers import Block, Target, Tier
from swarmbench.errors import ConfigurationError
from swarmbench.gpu.emulated import EmulatedDevice, EmulatedStream

#: Around every unit that a kernel works in.
EDGES = [1, 15, 16, 17, 255, 256, 257, 4095, 4096, 4097, PIECE_BYTES - 1, PIECE_BYTES]
EDGES += [PIECE_BYTES + 1, 2 * PIECE_BYTES, 3 * PIECE_BYTES + 4097]


every_host_memory = pytest.mark.parametrize("host_memory", ["pinned", "pageable"])


def lengths(count: int) -> list[int]:
    drawn = np.random.default_rng(SEED).integers(1, max(SMALL.block_sizes()), count)
    return [*EDGES, *drawn.tolist()]


@pytest.mark.parametrize(
    ("grid", "block", "streams", "chunk_bytes", "host_memory"),
    [
        (1, 32, 1, 1 << 20, "pinned"),
        (3, 32, 2, 128 << 10, "pageable"),
        (40, 64, 4, 4096, "pinned"),
        (2, 128, 3, 64 << 10, "pageable"),
    ],
)
def test_a_block_of_any_length_is_the_same_at_every_shape(
    grid: int, block: int, streams: int, chunk_bytes: int, host_memory: str
) -> None:
    shape = {"streams": streams, "chunk_bytes": chunk_bytes, "host_memory": host_memory}
    mover = lane(grid=grid, block=block, **shape)
    for nbytes in lengths(6):
        inputs = {"block": content(nbytes)}
        for op in ("migrate", "round_trip"):
            found = mover.evaluate(op, inputs)
            assert same_arrays(found, SMALL.reference(op, inputs)), f"seed {SEED}, {nbytes} bytes"
    assert mover.tiers.adds_up()


@pytest.mark.parametrize(("streams", "chunk_bytes"), [(1, 1 << 20), (3, 64 << 10)])
def test_tails_are_read_in_bounds_and_pieces_folded_in_order(
    streams: int, chunk_bytes: int
) -> None:
    """The traced build stops at an access outside the buffers and at a data race: in a chunk of a
    mebibyte two blocks of threads sum the pieces."""
    mover = lane(build="traced", streams=streams, chunk_bytes=chunk_bytes, block=32)
    for nbytes in EDGES:
        inputs = {"block": content(nbytes)}
        found = mover.evaluate("migrate", inputs)
        assert same_arrays(found, SMALL.reference("migrate", inputs)), f"seed {SEED}, {nbytes}"


@every_host_memory
def test_what_is_behind_the_end_of_a_block_has_no_part_in_its_checksum(host_memory: str) -> None:
    mover = lane(host_memory=host_memory)
    for nbytes in EDGES:
        room = mover.tiers.transit.part(0, -(-nbytes // 16) * 16)
        for behind in (0, 0xFF):
            room.array[:] = behind
            room.array[:nbytes] = content(nbytes)
            assert mover.link.sum_host(room, nbytes) == pieced_checksum(content(nbytes)), nbytes


def test_blocks_begin_as_the_inputs_have_them_a_third_in_each_tier() -> None:
    mover = lane()
    by_size = {block.nbytes: block for block in mover.tiers.blocks}
    assert [block.tier for block in mover.tiers.blocks] == [Tier(each % 3) for each in range(12)]
    for key in range(12):
        block = SMALL.inputs("migrate", SEED, key)["block"]
        assert by_size[len(block)].checksum == pieced_checksum(block), f"seed {SEED}, key {key}"


@every_host_memory
def test_every_block_is_in_one_tier_and_what_it_was_after_every_journey(host_memory: str) -> None:
    mover, hops = lane(host_memory=host_memory), set()
    tiers, keys = mover.tiers, np.random.default_rng(SEED).integers(0, 2**63, 120)
    for key in keys.tolist():
        before = [block.tier for block in tiers.blocks]
        op = "migrate" if key % 3 else "round_trip"
        done = mover.run(op, key)
        assert (done.status, mover.verify()) == ("ok", (1, 0)), f"seed {SEED}, key {key}"
        assert tiers.adds_up()
        assert sum(tiers.bytes_held) == sum(SMALL.block_sizes())
        after = [block.tier for block in tiers.blocks]
        moved = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
        assert len(moved) == (op == "migrate")
        hops.update(moved)
    assert len(hops) == 6, f"seed {SEED}: {hops}"
    assert all(tiers.is_right(block, block.tier) for block in tiers.blocks)


def test_the_same_key_moves_the_block_that_it_moves_on_the_cpu() -> None:
    native = SMALL.prepare(seed=SEED).native
    for key in range(8):
        found = lane().run("migrate", key).units
        assert found == len(SMALL.inputs("migrate", SEED, key)["block"])
        assert native.run("round_trip", first_key=key)["units"] == 2 * found


@every_host_memory
@pytest.mark.parametrize("tier", list(Tier))
def test_a_block_that_is_not_what_it_was_fails_its_hop_and_stays(
    tier: Tier, host_memory: str
) -> None:
    mover = lane(host_memory=host_memory)
    block = next(each for each in mover.tiers.blocks if each.tier == tier)
    for other in set(Tier) - {tier}:
        assert mover.tiers.plant(block, "flipped_bit")
        target = mover.tiers.taken(block, other)
        assert target is not None
        assert mover.tiers.move(block, target).value == "corrupt"
        assert block.tier == tier
        assert mover.tiers.adds_up(), "the room that it had no use for is free again"
        assert not mover.tiers.is_right(block, tier)
        mover.tiers.repair(block)
        assert mover.tiers.is_right(block, tier)


def test_a_migration_that_meets_damage_is_an_error_and_a_violation() -> None:
    mover = lane()
    key = next(key for key in range(100) if drawn(mover, key).tier == Tier.GPU)
    block = drawn(mover, key)
    mover.tiers.plant(block, "flipped_bit")
    assert mover.run("migrate", key).status == "error"
    assert mover.verify() == (1, 1)
    assert mover.run("migrate", key).status == "ok"
    assert mover.verify() == (1, 0)


def drawn(mover: Mover, key: int) -> Any:
    nbytes = len(SMALL.inputs("migrate", SEED, key)["block"])
    return next(block for block in mover.tiers.blocks if block.nbytes == nbytes)


def test_a_spent_write_budget_leaves_journeys_that_write_nothing() -> None:
    sizes = SMALL.block_sizes()
    pages = [-(-size // 4096) * 4096 for size in sizes]
    mover = lane(write_budget_bytes=sum(pages) + sum(pages[2::3]) + 100_000)
    for key in range(200):
        assert mover.run("round_trip" if key % 4 == 0 else "migrate", key).status == "ok"
        assert mover.verify() == (1, 0), f"seed {SEED}, key {key}"
    left = mover.tiers.file.write_budget_left_bytes
    assert 0 <= left < 100_000
    with pytest.raises(ValueError, match="write_budget_bytes: is less"):
        lane(write_budget_bytes=sum(pages) + 4096)


def test_fragmentation_is_what_the_largest_span_lacks() -> None:
    pool = _native.SpanPool(300)
    places = [pool.allocate(100) for _ in range(3)]
    assert (pool.fragmentation, pool.allocate(1), pool.used_granules) == (0.0, None, 300)
    assert pool.free(places[0] or 0)
    assert pool.free(places[2] or 0)
    assert (pool.fragmentation, pool.length_of(100), pool.length_of(0)) == (0.5, 100, None)
    assert not pool.free(0)
    pool.clear()
    assert pool.used_granules == 0
    with pytest.raises(ValueError, match="a pool of 0 granules"):
        _native.SpanPool(0)


def test_the_file_of_blocks_gives_back_what_was_written_under_its_mask() -> None:
    native = SMALL.prepare(seed=SEED).native
    file = native.block_file()
    before = file.write_budget_left_bytes
    block, room = content(100_001), np.zeros(100_001, np.uint8)
    assert file.write(block, 8192, 77) == pieced_checksum(block)
    assert before - file.write_budget_left_bytes == 102_400
    assert file.read(room, 8192, 77) == pieced_checksum(block)
    assert np.array_equal(room, block)
    assert file.read(room, 8192, 78) != pieced_checksum(block)
    written = {name: count for name, count in native.counters() if name.endswith("written_bytes")}
    assert written[f"{'direct' if file.is_direct else 'buffered'}_written_bytes"] == 102_400
    with pytest.raises(OSError, match="no whole pages"):
        file.read(room, 100, 77)
    with pytest.raises(ValueError, match="keeps no blocks"):
        _native.Component("null", "{}", seed=1).block_file()


def test_the_last_block_leaves_too_where_a_device_is_full() -> None:
    mover = lane()
    tiers, last = mover.tiers, mover.tiers.blocks[-1]
    for block in tiers.blocks:
        wanted = Tier.GPU if block is last else Tier.NVME
        if block.tier != wanted and Tier.GPU in (block.tier, wanted):
            target = tiers.taken(block, wanted)
            assert target is not None
            tiers.move(block, target)
    page = Block(len(tiers.blocks), 1, 0)
    while tiers.taken(page, Tier.GPU) is not None:
        pass
    inputs = {"block": content(last.nbytes)}
    assert same_arrays(mover.evaluate("migrate", inputs), SMALL.reference("migrate", inputs))
    assert last.tier == Tier.NVME


def test_a_room_that_is_kept_waits_for_its_block() -> None:
    mover = lane()
    block = mover.tiers.blocks[0]
    home = Target(block.tier, block.room)
    away = mover.tiers.taken(block, Tier.CPU)
    assert away is not None
    mover.tiers.hop(block, away)
    assert mover.tiers.move(block, home).value == "moved"
    assert (block.tier, block.room) == (home.tier, home.room)
    assert mover.tiers.is_right(block, Tier.GPU)


@every_host_memory
@pytest.mark.parametrize(
    ("way", "begin", "end"),
    [
        ("upload", Tier.CPU, Tier.GPU),
        ("upload", Tier.NVME, Tier.GPU),
        ("download", Tier.GPU, Tier.CPU),
        ("download", Tier.GPU, Tier.NVME),
    ],
)
def test_a_bit_that_flips_on_its_way_is_seen_where_it_arrives(
    monkeypatch: pytest.MonkeyPatch, way: str, begin: Tier, end: Tier, host_memory: str
) -> None:
    mover = lane(host_memory=host_memory)
    block = next(each for each in reversed(mover.tiers.blocks) if each.tier == begin)
    target = mover.tiers.taken(block, end)
    assert target is not None
    right = getattr(EmulatedStream, way)

    def flipping(stream: EmulatedStream, arriving: Any, leaving: Any) -> None:
        right(stream, arriving, leaving)
        array = arriving.array if way == "upload" else arriving
        array[secrets.randbelow(block.nbytes % PIECE_BYTES)] ^= 1

    monkeypatch.setattr(EmulatedStream, way, flipping)
    assert mover.tiers.hop(block, target).value == "corrupt"
    monkeypatch.undo()
    assert mover.tiers.is_right(block, begin), f"seed {SEED}: its source is as it was"


@every_host_memory
@pytest.mark.parametrize("streams", [1, 4])
def test_a_copy_may_take_place_as_late_as_it_is_waited_for(host_memory: str, streams: int) -> None:
    """Of memory that is not pinned nothing says when the driver reads it."""
    mover = lane(device=LateDevice(SEED), host_memory=host_memory, streams=streams)
    for nbytes in lengths(2):
        inputs = {"block": content(nbytes)}
        found = mover.evaluate("round_trip", inputs)
        assert same_arrays(found, SMALL.reference("round_trip", inputs)), f"{SEED}, {nbytes}"
    for key in range(30):
        assert mover.run("round_trip" if key % 3 == 0 else "migrate", key).status == "ok"
        assert mover.verify() == (1, 0), f"seed {SEED}, key {key}"


@every_host_memory
def test_kernels_see_pinned_memory_alone_and_do_what_is_declared(host_memory: str) -> None:
    device = EmulatedDevice(seed=SEED, build="traced")
    mover = lane(device=device, host_memory=host_memory)
    for room in (mover.tiers.transit, mover.tiers.transit.part(16, 32)):
        assert (room.mapped is None) == (host_memory == "pageable")
    for key in range(12):
        with costs.followed(mover) as done:
            mover.run("migrate", key)
        costs.check(done, mover.cost("migrate"), f"seed {SEED}, key {key}")
        mover.verify()


@pytest.mark.parametrize("length", EDGES)
def test_the_processor_sums_a_block_as_the_device_does(length: int) -> None:
    assert _native.block_checksum(content(length)) == pieced_checksum(content(length))


@every_host_memory
@pytest.mark.parametrize(
    ("way", "begin", "end"), [("up", Tier.CPU, Tier.GPU), ("down", Tier.GPU, Tier.CPU)]
)
def test_migrations_in_one_direction_copy_in_no_other(
    monkeypatch: pytest.MonkeyPatch, way: str, begin: Tier, end: Tier, host_memory: str
) -> None:
    mover = lane(way=way, host_memory=host_memory)
    tiers, left = mover.tiers, mover.tiers.file.write_budget_left_bytes
    against = "download" if way == "up" else "upload"
    homes = [block.tier for block in tiers.blocks]
    keys = np.random.default_rng(SEED).integers(0, 2**63, 40)
    for key in keys.tolist():
        with monkeypatch.context() as patch:
            patch.delattr(EmulatedStream, against)
            assert mover.run("migrate", key).status == "ok"
        (moved,) = [
            each for each, home in zip(tiers.blocks, homes, strict=True) if each.tier != home
        ]
        assert (homes[moved.index], moved.tier) == (begin, end)
        assert mover.verify() == (1, 0), f"seed {SEED}, key {key}"
        assert tiers.adds_up()
    assert tiers.file.write_budget_left_bytes == left
    assert mover.run("round_trip", 1).status == "ok"
    assert mover.verify() == (1, 0)
    assert [block.tier for block in tiers.blocks] == homes
    assert all(tiers.is_right(block, block.tier) for block in tiers.blocks)


@pytest.mark.parametrize("fault", _native.fault_names())
@pytest.mark.parametrize("way", ["up", "down"])
def test_what_is_wrong_with_a_block_that_went_one_way_is_seen(way: str, fault: str) -> None:
    mover = lane(way=way)
    for key in range(12):
        assert mover.run("migrate", key).status == "ok"
        assert mover.plant(fault)
        assert mover.verify() == (1, 1), f"seed {SEED}, key {key}"
    assert mover.run("round_trip", 0).status == "ok"
    assert mover.verify() == (1, 0)
    assert mover.tiers.adds_up()
    assert all(mover.tiers.is_right(block, block.tier) for block in mover.tiers.blocks)


def test_what_a_backend_does_not_have_is_refused_and_named() -> None:
    for backend, changes, problem in (
        ("cuda", {"allocator": "heap"}, "backend `cuda` has no `heap`; choose one of `pool`, "),
        ("cpu", {"allocator": "raw"}, "backend `cpu` has no `raw`; choose one of `pool`, `heap`"),
        ("cpu", {"way": "up"}, "`up` is of copies to a device, and backend `cpu` has none"),
        ("cpu", {"host_memory": "pageable"}, "`pageable` is of copies to a device"),
    ):
        component = SMALL.model_copy(update=changes)
        found = component.unfit(backend)
        assert found is not None
        assert found[0] in changes
        assert found[1].startswith(problem)
        assert component.unfit("cpu" if backend == "cuda" else "cuda") is None
    heap = SMALL.model_copy(update={"allocator": "heap"})
    with pytest.raises(ConfigurationError, match="allocator: backend `cuda` has no `heap`"):
        heap.prepare(seed=SEED, backend="cuda", device="emulated")
