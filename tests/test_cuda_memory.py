"""Memory on a device: blocks of any length at any shape, tiers that add up, a storm that holds."""

from __future__ import annotations

import secrets
from typing import Any, cast

import numpy as np
import pytest

from swarmbench import _native
from swarmbench.components import Memory
from swarmbench.components.base import same_arrays
from swarmbench.components.chunks import PIECE_BYTES, pieced_checksum
from swarmbench.components.cuda.memory import CudaMemory, Mover
from swarmbench.components.cuda.memory_storm import Outcome, Storm
from swarmbench.components.cuda.memory_tiers import Target, Tier
from swarmbench.components.memory import GRANULE_BYTES, taken_bytes
from swarmbench.errors import ConfigurationError
from swarmbench.gpu.emulated import Build, EmulatedDevice, EmulatedStream

SEED = secrets.randbits(32)
SMALL = Memory.small().model_copy(update={"check_every": 1})
#: Around every unit that a kernel works in.
EDGES = [1, 15, 16, 17, 255, 256, 257, 4095, 4096, 4097, PIECE_BYTES - 1, PIECE_BYTES]
EDGES += [PIECE_BYTES + 1, 2 * PIECE_BYTES, 3 * PIECE_BYTES + 4097]


def lane(
    *, grid: int | None = None, block: int | None = None, build: Build = "plain", **changes: Any
) -> Mover:
    component = SMALL.model_copy(update=changes)
    native = component.prepare(seed=SEED).native
    device = EmulatedDevice(seed=SEED, build=build, is_random=build == "plain")
    return Mover(CudaMemory(component, native, device, SEED), grid=grid, block=block)


def lengths(count: int) -> list[int]:
    drawn = np.random.default_rng(SEED).integers(1, max(SMALL.block_sizes()), count)
    return [*EDGES, *drawn.tolist()]


def content(nbytes: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng([SEED, nbytes]).integers(0, 256, nbytes, np.uint8)


@pytest.mark.parametrize(
    ("grid", "block", "streams", "chunk_bytes"),
    [(1, 32, 1, 1 << 20), (3, 32, 2, 128 << 10), (40, 64, 4, 4096), (2, 128, 3, 64 << 10)],
)
def test_a_block_of_any_length_is_the_same_at_every_shape(
    grid: int, block: int, streams: int, chunk_bytes: int
) -> None:
    mover = lane(grid=grid, block=block, streams=streams, chunk_bytes=chunk_bytes)
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


def test_what_is_behind_the_end_of_a_block_has_no_part_in_its_checksum() -> None:
    mover = lane()
    for nbytes in EDGES:
        room = mover.tiers.transit.part(0, -(-nbytes // 16) * 16)
        for behind in (0, 0xFF):
            room.array[:] = behind
            room.array[:nbytes] = content(nbytes)
            assert mover.link.sum(room.mapped, nbytes) == pieced_checksum(content(nbytes)), nbytes


def test_blocks_begin_as_the_inputs_have_them_a_third_in_each_tier() -> None:
    mover = lane()
    by_size = {block.nbytes: block for block in mover.tiers.blocks}
    assert [block.tier for block in mover.tiers.blocks] == [Tier(each % 3) for each in range(12)]
    for key in range(12):
        block = SMALL.inputs("migrate", SEED, key)["block"]
        assert by_size[len(block)].checksum == pieced_checksum(block), f"seed {SEED}, key {key}"


def test_every_block_is_in_one_tier_and_what_it_was_after_every_journey() -> None:
    mover, hops = lane(), set()
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


@pytest.mark.parametrize("tier", list(Tier))
def test_a_block_that_is_not_what_it_was_fails_its_hop_and_stays(tier: Tier) -> None:
    mover = lane()
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


def storm(**changes: Any) -> Storm:
    return lane(**changes).storm


def asked(count: int, most: int, longest: int) -> tuple[list[int], list[int]]:
    random = np.random.default_rng([SEED, count])
    return random.integers(1, most, count).tolist(), random.integers(1, longest, count).tolist()


@pytest.mark.parametrize("touch", ["none", "page", "fill"])
@pytest.mark.parametrize("pool_bytes", [2 << 20, 16 << 20])
def test_a_storm_is_what_the_reference_says(touch: str, pool_bytes: int) -> None:
    """In two mebibytes much is rejected: of those that fit the bound every one is placed or found
    without a span that is long enough."""
    component = SMALL.model_copy(update={"touch": touch, "pool_bytes": pool_bytes})
    sizes, lifetimes = asked(80, 300_000, 60)
    inputs = {"sizes": np.array(sizes, np.uint64), "lifetimes": np.array(lifetimes, np.uint64)}
    mover = lane(touch=touch, pool_bytes=pool_bytes, grid=3)
    found = mover.evaluate("allocate", inputs)
    native = component.prepare(seed=SEED).native
    assert same_arrays(found, native.evaluate("allocate", inputs)), f"seed {SEED}"
    if 2 not in found["accepted"]:
        assert same_arrays(found, component.reference("allocate", inputs)), f"seed {SEED}"
    assert pool_bytes > 2 << 20 or 0 in found["accepted"]
    assert mover.storm.allocated == mover.storm.freed
    assert mover.storm.pool.used_granules == mover.storm.broken == 0


@pytest.mark.parametrize("touch", ["none", "page", "fill"])
def test_what_is_alive_lies_apart_inside_the_pool_and_keeps_its_words(touch: str) -> None:
    found = storm(touch=touch, build="traced")
    alive: dict[int, tuple[int, int]] = {}
    for step, (size, lifetime) in enumerate(zip(*asked(60, 60_000, 30), strict=True)):
        assert found.step(size, lifetime, step, is_guarded=True) is Outcome.PLACED
        alive = {due: span for due, span in alive.items() if due // 1000 > step}
        one = found.last
        assert one is not None
        begin, end = one.first * GRANULE_BYTES, one.first * GRANULE_BYTES + taken_bytes(size)
        assert end <= SMALL.pool_bytes
        assert all(end <= first or last <= begin for first, last in alive.values())
        alive[1000 * (step + lifetime) + step] = (begin, end)
        assert np.array_equal(words_of(found, touch), expected(touch, size, step)), f"seed {SEED}"
        assert found.is_right()


def words_of(found: Storm, touch: str) -> Any:
    """Canary, what the touch has written, canary."""
    one = found.last
    assert one is not None
    words = cast(Any, found.place_of(one)).array
    inside = words[8 : 8 + one.words][written(touch, one.words)]
    return np.concatenate([words[7:8], inside, words[8 + one.words :][:1]])


def written(touch: str, words: int) -> Any:
    """Which of its words a touch writes."""
    if touch == "none":
        return np.arange(0)
    pages = np.arange(-(-words // 512))
    within = np.minimum(8 * pages % 512, words - 512 * pages - 1)
    return 512 * pages + within if touch == "page" else np.arange(words)


def expected(touch: str, size: int, stamp: int) -> Any:
    count = len(written(touch, -(-size // 8)))
    step = int(touch == "page")
    inside = np.uint64(stamp) + step * np.arange(count, dtype=np.uint64)
    canary = ~np.array([stamp], np.uint64)
    return np.concatenate([canary, inside, canary])


@pytest.mark.parametrize("nbytes", [1, 8, 9001, 9009])
@pytest.mark.parametrize("touch", ["none", "page", "fill"])
def test_every_word_that_was_written_is_looked_at(touch: str, nbytes: int) -> None:
    found = storm(touch=touch)
    found.step(nbytes, 5, SEED, is_guarded=True)
    one = found.last
    assert one is not None
    words = cast(Any, found.place_of(one)).array
    looked_at = {7, 8 + one.words, *(8 + written(touch, one.words)).tolist()}
    for place in range(8 + one.words + 1):
        words[place] ^= np.uint64(1)
        assert found.is_right() == (place not in looked_at), f"word {place}, seed {SEED}"
        words[place] ^= np.uint64(1)


@pytest.mark.parametrize("place", [7, -1])
def test_a_broken_canary_is_seen_when_its_allocation_is_freed(place: int) -> None:
    mover = lane(touch="none")
    mover.storm.step(5000, 3, 1, is_guarded=True)
    one = mover.storm.last
    assert one is not None
    words = cast(Any, mover.storm.place_of(one)).array
    words[place if place > 0 else 8 + one.words] ^= np.uint64(1 << 40)
    for key in range(1, 5):
        mover.storm.step(100, 50, key, is_guarded=False)
    assert mover.storm.broken == 1
    assert mover.verify() == (1, 1)
    assert mover.verify() == (0, 0)


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


def test_the_hosts_heap_is_refused() -> None:
    memory = Memory.small().model_copy(update={"allocator": "heap"})
    with pytest.raises(ConfigurationError, match="allocator: `heap` is memory of the host"):
        memory.prepare(seed=SEED, backend="cuda", device="emulated")
    assert memory.unfit("cpu") is None


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
    monkeypatch: pytest.MonkeyPatch, way: str, begin: Tier, end: Tier
) -> None:
    mover = lane()
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
