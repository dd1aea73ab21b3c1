"""The storm on a device: what is allocated lies apart, holds its words, is freed and counted."""

from __future__ import annotations

import gc
from typing import Any, cast

import numpy as np
import pytest

import costs
from movers import SEED, SMALL, LateDevice, asked, lane
from swarmbench import _native
from swarmbench.components.base import same_arrays
from swarmbench.components.cuda.memory import CudaMemory
from swarmbench.components.cuda.memory_storm import Outcome, Storm
from swarmbench.components.memory import taken_bytes
from swarmbench.gpu.device import DeviceMemoryError
from swarmbench.gpu.emulated import EmulatedDevice

every_touch = pytest.mark.parametrize("touch", ["none", "page", "fill"])
every_allocator = pytest.mark.parametrize("allocator", ["pool", "pinned", "raw"])


def storm(**changes: Any) -> Storm:
    return lane(**changes).storm


@every_touch
@every_allocator
@pytest.mark.parametrize("pool_bytes", [2 << 20, 16 << 20])
def test_a_storm_is_what_the_reference_says(touch: str, allocator: str, pool_bytes: int) -> None:
    """In two mebibytes much is rejected: of those that fit the bound every one is placed or found
    without a span that is long enough, of which the driver always has one."""
    component = SMALL.model_copy(update={"touch": touch, "pool_bytes": pool_bytes})
    sizes, lifetimes = asked(80, 300_000, 60)
    inputs = {"sizes": np.array(sizes, np.uint64), "lifetimes": np.array(lifetimes, np.uint64)}
    mover = lane(touch=touch, allocator=allocator, pool_bytes=pool_bytes, grid=3)
    found = mover.evaluate("allocate", inputs)
    if allocator != "raw":
        native = component.prepare(seed=SEED).native
        assert same_arrays(found, native.evaluate("allocate", inputs)), f"seed {SEED}"
    if allocator == "raw" or 2 not in found["accepted"]:
        assert same_arrays(found, component.reference("allocate", inputs)), f"seed {SEED}"
    assert pool_bytes > 2 << 20 or 0 in found["accepted"]
    assert mover.storm.allocated == mover.storm.freed
    assert mover.storm.pool.used_granules == mover.storm.broken == mover.device.raw_bytes == 0


@every_touch
@every_allocator
def test_what_is_alive_lies_apart_and_keeps_its_words(touch: str, allocator: str) -> None:
    found = storm(touch=touch, allocator=allocator, build="traced")
    places = list[int]()
    alive: dict[int, tuple[int, int]] = {}
    for step, (size, lifetime) in enumerate(zip(*asked(60, 60_000, 30), strict=True)):
        assert found.step(size, lifetime, step, is_guarded=True) is Outcome.PLACED
        alive = {due: span for due, span in alive.items() if due // 1000 > step}
        one = found.last
        assert one is not None
        begin = cast(Any, found.place_of(one)).array.ctypes.data
        end = begin + taken_bytes(size)
        places += [begin, end]
        assert all(end <= first or last <= begin for first, last in alive.values())
        alive[1000 * (step + lifetime) + step] = (begin, end)
        assert np.array_equal(words_of(found, touch), expected(touch, size, step)), f"seed {SEED}"
        assert found.is_right()
    assert allocator == "raw" or max(places) - min(places) <= SMALL.pool_bytes


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
@every_touch
@every_allocator
def test_every_word_that_was_written_is_looked_at(touch: str, nbytes: int, allocator: str) -> None:
    found = storm(touch=touch, allocator=allocator)
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
@every_allocator
def test_a_broken_canary_is_seen_when_its_allocation_is_freed(place: int, allocator: str) -> None:
    mover = lane(touch="none", allocator=allocator)
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


@every_allocator
@pytest.mark.parametrize("victim", range(4))
def test_each_of_those_that_are_due_at_once_is_looked_at(allocator: str, victim: int) -> None:
    found = storm(touch="none", allocator=allocator)
    for step in range(4):
        found.step(3000, 5 - step, step, is_guarded=True)
        one = found.last
        assert one is not None
        if step == victim:
            cast(Any, found.place_of(one)).array[7] ^= np.uint64(1)
    found.step(100, 50, 4, is_guarded=False)
    assert (found.freed, found.broken) == (0, 0)
    found.step(100, 50, 5, is_guarded=False)
    assert (found.freed, found.broken) == (4, 1)


@every_allocator
@pytest.mark.parametrize("fault", _native.fault_names())
def test_what_is_wrong_with_an_allocation_is_seen_and_mended(allocator: str, fault: str) -> None:
    mover = lane(allocator=allocator)
    for key in range(20):
        assert mover.run("allocate", key).status == "ok"
        assert mover.verify() == (1, 0), f"seed {SEED}, key {key}"
    assert mover.run("allocate", 20).status == "ok"
    assert mover.plant(fault)
    assert mover.verify()[1] >= 1
    for key in range(21, 40):
        assert mover.run("allocate", key).status == "ok"
        assert mover.verify() == (1, 0), f"seed {SEED}, key {key}"


@every_allocator
def test_a_storm_moves_what_is_declared(allocator: str) -> None:
    device = EmulatedDevice(seed=SEED, build="traced")
    mover, looked_at = lane(device=device, allocator=allocator), 0
    for key in range(150):
        with costs.followed(mover) as done:
            mover.run("allocate", key)
        cost = mover.cost("allocate")
        looked_at += cost.bytes_read
        costs.check(done, cost, f"seed {SEED}, {key}", tolerance=0.0)
    assert looked_at > 0, "some were freed"


def test_raw_allocations_are_the_drivers_and_within_the_bound() -> None:
    mover = lane(allocator="raw", pool_bytes=2 << 20, allocation_max_bytes=300_000)
    device, storm = mover.device, mover.storm
    component = SMALL.model_copy(update={"allocator": "raw", "pool_bytes": 2 << 20})
    assert device.allocated_bytes + (2 << 20) == CudaMemory.device_bytes(component, 1)
    assert device.host_allocated_bytes == CudaMemory.host_bytes(component, 1)
    rejected = 0
    for step, (size, lifetime) in enumerate(zip(*asked(200, 300_000, 60), strict=True)):
        outcome = storm.step(size, lifetime, step, is_guarded=step % 2 == 0)
        assert device.raw_bytes == storm.alive_bytes <= 2 << 20
        rejected += outcome is Outcome.OVER_BOUND
    assert rejected == storm.over_bound > 0
    assert (storm.unplaced, storm.broken) == (0, 0)
    assert storm.allocated - storm.freed == storm.alive > 0
    del storm, mover
    gc.collect()
    assert device.raw_bytes == 0, "what a lane left alive went with it"


@pytest.mark.parametrize("touch", ["none", "fill"])
def test_a_device_that_runs_full_rejects_and_keeps_its_books(touch: str) -> None:
    """Of what fits the bound about a third finds no room: others have taken the device."""
    component = SMALL.model_copy(update={"allocator": "raw", "pool_bytes": 4 << 20})
    given = CudaMemory.device_bytes(component, 1) - component.pool_bytes
    device = EmulatedDevice(seed=SEED, memory_bytes=given + (1 << 20))
    mover = lane(device=device, allocator="raw", pool_bytes=4 << 20, touch=touch)
    storm, unplaced = mover.storm, 0
    for step, (size, lifetime) in enumerate(zip(*asked(300, 100_000, 60), strict=True)):
        allocated = storm.allocated
        outcome = storm.step(size, lifetime, step, is_guarded=True)
        assert (outcome is Outcome.PLACED) == (storm.allocated > allocated)
        assert storm.is_right(), f"seed {SEED}, step {step}"
        assert device.raw_bytes == storm.alive_bytes <= 1 << 20
        assert storm.pool.used_granules * 1024 == storm.alive_bytes
        unplaced += outcome is Outcome.UNPLACED
    assert unplaced == storm.unplaced > 30, f"seed {SEED}"
    assert (storm.over_bound, storm.broken) == (0, 0)
    storm.drain()
    assert (storm.alive, storm.alive_bytes, device.raw_bytes) == (0, 0, 0)
    assert storm.allocated == storm.freed == 300 - unplaced


def test_an_allocation_that_the_device_refuses_is_rejected_and_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mover, refused = lane(allocator="raw"), 0
    draws = np.random.default_rng(SEED).random(100)
    right = EmulatedDevice.raw_allocation

    def sometimes(device: EmulatedDevice, count: int, dtype: Any) -> Any:
        if draws[key] < 0.3:
            raise DeviceMemoryError("the device is full")
        return right(device, count, dtype)

    monkeypatch.setattr(EmulatedDevice, "raw_allocation", sometimes)
    for key in range(100):
        found = mover.run("allocate", key)
        assert (found.status == "rejected") == (draws[key] < 0.3), f"seed {SEED}, key {key}"
        assert found.units > 0 or found.status == "rejected"
        assert mover.verify()[1] == 0
        refused += found.status == "rejected"
    assert mover.storm.unplaced == refused


@every_allocator
@every_touch
def test_nothing_is_given_back_before_it_was_looked_at(allocator: str, touch: str) -> None:
    """What a device takes back it may give to others: here it is overwritten at once."""
    found = storm(device=LateDevice(SEED), allocator=allocator, touch=touch)
    for step, (size, lifetime) in enumerate(zip(*asked(100, 30_000, 20), strict=True)):
        found.step(size, lifetime, step, is_guarded=step % 3 == 0)
        assert found.is_right()
    found.drain()
    assert (found.broken, found.allocated, found.freed) == (0, 100, 100), f"seed {SEED}"
