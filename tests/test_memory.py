"""The memory component against its reference, its tiers, its storm and its budgets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from swarmbench import _native, calibrate, config
from swarmbench.components import chunks
from swarmbench.components.base import same_arrays
from swarmbench.components.memory import Memory, halvings, log_uniform, taken_bytes
from swarmbench.components.streaming import Streaming
from swarmbench.config.options import Override
from swarmbench.errors import MachineError

SEED = 20240607
SMALL = Memory.small()
MIGRATIONS = ("migrate", "round_trip")


def changed(**changes: Any) -> Memory:
    return SMALL.model_copy(update=changes)


def counters(native: _native.Component) -> dict[str, int]:
    return dict(native.counters())


@pytest.fixture(scope="module")
def native() -> _native.Component:
    return SMALL.prepare(seed=SEED).native


@pytest.mark.parametrize("op", [op.name for op in Memory.ops])
def test_native_inputs_are_those_of_numpy(native: _native.Component, op: str) -> None:
    index = np.array([native.ops().index(op)], dtype=np.uint8)
    for key in [0, 1, 7, 12_345, (9 << 48) + 77]:
        made = native.evaluate("source", {"op": index, "key": np.array([key], dtype=np.uint64)})
        assert same_arrays(made, SMALL.inputs(op, SEED, key))


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 40_000), fill=st.integers(0, 255))
def test_a_block_of_any_length_comes_back_with_its_checksum(length: int, fill: int) -> None:
    component = changed(chunk_bytes=4096)
    native = prepared_once(component)
    block = (np.arange(length, dtype=np.uint64) * 2654435761 + fill).astype(np.uint8)
    assert same_arrays(
        native.evaluate("migrate", {"block": block}),
        component.reference("migrate", {"block": block}),
    )


_PREPARED: dict[str, _native.Component] = {}


def prepared_once(component: Memory) -> _native.Component:
    key = component.model_dump_json()
    if key not in _PREPARED:
        _PREPARED[key] = component.prepare(seed=SEED).native
    return _PREPARED[key]


@settings(max_examples=40, deadline=None)
@given(
    asked=st.lists(
        st.tuples(st.integers(1, 1_000_000), st.integers(1, 30)), min_size=1, max_size=60
    ),
    touch=st.sampled_from(["none", "page", "fill"]),
)
def test_what_is_alive_lies_apart_and_inside_the_pool(
    asked: list[tuple[int, int]], touch: str
) -> None:
    component = changed(touch=touch)
    storm = {
        "sizes": np.array([size for size, _ in asked], dtype=np.uint64),
        "lifetimes": np.array([lifetime for _, lifetime in asked], dtype=np.uint64),
    }
    offsets = prepared_once(component).evaluate("places", storm)["offsets"].tolist()
    answers = component.reference("allocate", storm)
    alive: list[tuple[int, int, int]] = []
    for step, ((size, lifetime), offset) in enumerate(zip(asked, offsets, strict=True)):
        alive = [one for one in alive if one[2] > step]
        if offset == 2**64 - 1:
            continue
        assert answers["accepted"][step] == 1
        end = offset + taken_bytes(size)
        assert offset % 64 == 0
        assert end <= component.pool_bytes
        assert all(end <= start or stop <= offset for start, stop, _ in alive)
        alive.append((offset, end, step + lifetime))


def test_the_storm_frees_what_it_allocates_and_says_how_broken_up_its_pool_was() -> None:
    for allocator in ("pool", "heap"):
        native = changed(allocator=allocator).prepare(seed=SEED).native
        tally = native.run("allocate", count=3000, threads=2)
        assert (tally["ok"], tally["errors"], tally["violations"]) == (6000, 0, 0)
        found = counters(native)
        assert found["allocated"] == found["freed"] == 6000
        assert found["broken"] == 0
        assert (found["fragmentation_max_millionths"] > 0) == (allocator == "pool")
        assert found["fragmentation_max_millionths"] < 1_000_000


def test_above_the_bound_allocations_are_rejected_and_counted() -> None:
    native = changed(pool_bytes=2 << 20, live_share=0.9).prepare(seed=SEED).native
    tally = native.run("allocate", count=3000)
    assert tally["rejected"] > 0
    assert tally["ok"] + tally["rejected"] == 3000
    found = counters(native)
    assert found["over_bound"] + found["unplaced"] == tally["rejected"]
    assert found["allocated"] == found["freed"] == tally["ok"]


@pytest.mark.parametrize("io", ["auto", "threads"])
def test_tiers_hold_every_block_once_and_leave_no_file(tmp_path: Path, io: str) -> None:
    component = changed(directory=str(tmp_path), io=io)
    native = component.prepare(seed=SEED).native
    assert list(tmp_path.iterdir()) == []
    for op in MIGRATIONS:
        tally = native.run(op, count=200, threads=2)
        assert (tally["ok"], tally["violations"]) == (400, 0)
        assert tally["verified"] > 0
    found = counters(native)
    assert found["cpu_bytes"] + found["nvme_bytes"] == sum(component.block_sizes())
    assert found["failed_hops"] == found["corrupt"] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_buffered_figure_never_stands_in_the_direct_column() -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir():
        pytest.skip("no memory file system at /dev/shm")
    native = changed(directory=str(shared)).prepare(seed=SEED).native
    native.run("migrate", count=50)
    kind = json.loads(native.describe())["nvme"]
    other = {"O_DIRECT": "buffered", "buffered": "direct"}[kind]
    found = counters(native)
    assert found[f"{other}_written_bytes"] == found[f"{other}_read_bytes"] == 0
    assert sum(found[f"{column}_read_bytes"] for column in ("direct", "buffered")) > 0


def test_what_is_buffered_is_held_against_no_roof_of_the_disk(tmp_path: Path) -> None:
    op = Memory.ops[0]
    for directory in (tmp_path, Path("/dev/shm")):
        if directory.is_dir():
            component = changed(directory=str(directory))
            kind = json.loads(component.prepare(seed=SEED).native.describe())["nvme"]
            assert (component.cost(op) > 0) == (kind == "O_DIRECT")
    assert component.cost(Memory.ops[1]) == pytest.approx(1 / 64)
    assert changed(touch="none").cost(Memory.ops[1]) == 0.0
    assert changed(touch="fill").cost(Memory.ops[1]) == 1.0


def test_the_disks_roof_is_measured_where_the_component_lies_that_is_held_to_it() -> None:
    elsewhere, here = Path("elsewhere"), changed(directory="here")
    assert calibrate.disk_directory([Streaming(), here], elsewhere) == Path("here")
    assert calibrate.disk_directory([Streaming()], elsewhere) == elsewhere


def test_the_disk_alone_is_timed_within_the_write_budget(native: _native.Component) -> None:
    before = counters(native)["write_budget_left_bytes"]
    trips = np.array([8192, 100_000], dtype=np.uint64)
    elapsed_ns = native.evaluate("disk", {"bytes": trips})["elapsed_ns"]
    assert (elapsed_ns > 0).all()
    assert before - counters(native)["write_budget_left_bytes"] == 2 * 102_400 + 8192
    with pytest.raises(ValueError, match="bytes: "):
        native.evaluate("disk", {"bytes": np.array([0], dtype=np.uint64)})


def test_a_run_leaves_components_no_more_than_its_write_budget() -> None:
    for budget in (10**9, 50 * 10**9):
        given = [Override(("disk_write_budget",), budget, "budget")]
        plan = config.make_plan("max-throughput", components=["memory"], overrides=given)
        written = plan.component_written_bytes() + plan.written_bytes()
        assert written <= budget
        assert any("then migrations only read" in note for note in plan.notes)
    given = [Override(("disk_write_budget",), 300_000_000, "budget")]
    with pytest.raises(MachineError, match="component `memory`: write_budget_bytes: "):
        config.make_plan("max-throughput", components=["memory"], overrides=given)


def test_a_spent_write_budget_leaves_migrations_that_only_read() -> None:
    blocks = sum(-(-size // 4096) * 4096 for size in SMALL.block_sizes())
    native = changed(write_budget_bytes=blocks + (1 << 19)).prepare(seed=SEED).native
    tally = native.run("migrate", count=300)
    assert (tally["ok"], tally["violations"]) == (300, 0)
    found = counters(native)
    assert found["direct_written_bytes"] + found["buffered_written_bytes"] <= 1 << 19
    assert found["dropped_clean"] > 0
    with pytest.raises(ValueError, match="write_budget_bytes: is less than"):
        changed(write_budget_bytes=4096).prepare(seed=SEED)


FILE_LIMIT = """
import resource, sys
from swarmbench.components.memory import Memory
component = Memory.small().model_copy(update={"directory": sys.argv[1], "io": sys.argv[2]})
native = component.prepare(seed=1).native
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
tally = native.run("migrate", count=100)
failing = dict(native.counters())
assert tally["errors"] == failing["failed_hops"] > 0, tally
assert tally["violations"] == 0 and failing["corrupt"] == 0, failing
assert failing["cpu_bytes"] + failing["nvme_bytes"] == sum(component.block_sizes())
"""


@pytest.mark.parametrize("io", ["auto", "threads"])
def test_a_failed_write_fails_the_migration_and_leaves_its_source(tmp_path: Path, io: str) -> None:
    """No file may grow or be written past 64 KiB, so that larger blocks cannot leave memory."""
    command = [sys.executable, "-c", FILE_LIMIT, str(tmp_path), io]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="directory: "):
        changed(directory=str(tmp_path / "missing")).prepare(seed=SEED)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"blocks": 3}, "blocks"),
        ({"size_min_bytes": 100}, "size_min_bytes"),
        ({"size_min_bytes": 8192, "size_max_bytes": 4096}, "size_m"),
        ({"chunk_bytes": 5000}, "chunk_bytes"),
        ({"chunks_in_flight": 1}, "chunks_in_flight"),
        ({"io": "dma"}, "io"),
        ({"fsync": "always"}, "fsync"),
        ({"touch": "all"}, "touch"),
        ({"allocator": "arena"}, "allocator"),
        ({"host_memory": "mapped"}, "host_memory"),
        ({"way": "sideways"}, "way"),
        ({"pool_bytes": 1000}, "pool_bytes"),
        ({"allocation_max_bytes": 1 << 30}, "allocation_max_bytes"),
        ({"allocation_min_bytes": 4}, "allocation_min_bytes"),
        ({"live_share": 0.95}, "live_share"),
        ({"lifetime_s": 0.0}, "lifetime_s"),
        ({"check_every": 0}, "check_every"),
    ],
)
def test_bad_parameters_are_refused_on_both_sides(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        Memory(**changes)
    text = json.dumps(SMALL.model_dump(mode="json") | changes)
    chosen = ("io", "fsync", "touch", "allocator", "host_memory", "way")
    known = key if key not in chosen else "unknown variant"
    with pytest.raises(ValueError, match=known):
        _native.Component("memory", text, seed=1)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"host_memory": "pageable"}, "host_memory: there is no device to copy to"),
        ({"way": "down"}, "way: there is no device to copy to"),
        ({"allocator": "raw"}, "unknown variant `raw`"),
    ],
)
def test_what_only_a_device_has_is_refused_without_one(
    changes: dict[str, Any], problem: str
) -> None:
    component = changed(**changes)
    with pytest.raises(ValueError, match=problem):
        component.prepare(seed=SEED)
    assert component.on_host() == SMALL
    assert component.unfit("cpu") is not None
    assert component.unfit("cuda") is None


def test_a_budget_shrinks_pools_and_blocks_and_says_so() -> None:
    for workers in (1, 2, 16):
        for budget in (64 << 20, 300 << 20):
            fitted, lines = Memory().fitted(budget * workers, workers)
            assert fitted.resident_bytes(workers) <= budget * workers
            assert Memory.model_validate(fitted.model_dump()) == fitted
            for line in lines:
                key, _, sizes = line.partition(": ")
                assert sizes == f"{getattr(Memory(), key)} -> {getattr(fitted, key)}"
    assert Memory().fitted(1 << 40, 2) == (Memory(), [])
    quick = Memory.for_profile("quick")
    assert quick.resident_bytes(2) < 700 << 20


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_memory_formula_is_the_native_one(native: _native.Component, workers: int) -> None:
    assert native.resident_bytes(workers) == SMALL.resident_bytes(workers)


def test_sizes_are_log_uniform_and_lifetimes_follow_littles_law() -> None:
    component = Memory(live_share=0.25, allocation_max_bytes=64_000, pool_bytes=16 << 20)
    positions = np.arange(0, 1 << 32, 1 << 20)
    sizes = np.array([log_uniform(1000, 64_000, int(position)) for position in positions])
    shares = np.histogram(np.log2(sizes / 1000), bins=6, range=(0, 5.9658))[0] / len(sizes)
    assert np.allclose(shares, 1 / 6, atol=0.01)
    lives = component.inputs("allocate", SEED, 0)["lifetimes"]
    assert np.all(lives >= 1)
    alive = component.lifetime_mean() * (sizes.mean() + 1024)
    assert alive == pytest.approx(0.25 * component.pool_bytes, rel=0.02)
    assert Memory(lifetime_s=1e-4).lifetime_mean() == 1.0
    draws = np.random.default_rng(1).integers(0, 2**63, 20_000).tolist()
    mean = np.mean([halvings(draw) for draw in draws])
    assert mean / 2**32 == pytest.approx(1 + 1 / np.log(2), rel=0.02)


def test_the_plain_checksum_sees_every_flipped_bit() -> None:
    block = np.arange(600, dtype=np.uint64).astype(np.uint8)
    right = chunks.checksum(block)
    for bit in range(0, len(block) * 8, 7):
        block[bit // 8] ^= 1 << bit % 8
        assert chunks.checksum(block) != right
        block[bit // 8] ^= 1 << bit % 8
