"""The emulator itself: what it computes, and each kind of mistake in a kernel that it must see."""

from __future__ import annotations

import secrets
from typing import Any, cast

import numpy as np
import pytest

from swarmbench.gpu.device import DeviceMemoryError
from swarmbench.gpu.emulated import Build, EmulatedDevice, EmulationError

SEED = secrets.randbits(32)

#: A sum over a grid: a stride loop, a shuffle, shared memory behind a barrier, an atomic.
TOTAL = """
#include "common.cuh"
extern "C" __global__ void total(const u32* values, u32 count, u64* sum) {
    __shared__ u32 parts[8];
    const u32 step = gridDim.x * blockDim.x;
    u32 mine = 0;
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) mine += values[i];
    mine = warp_sum(mine);
    if (lane() == 0) parts[threadIdx.x / WARP] = mine;
    __syncthreads();
    if (threadIdx.x == 0) {
        u64 all = 0;
        for (u32 warp = 0; warp < blockDim.x / WARP; ++warp) all += parts[warp];
        atomicAdd(sum, all);
    }
}
"""
#: Every warp operation and barrier of a value per thread, against what NumPy makes of them.
WARPS = """
#include "common.cuh"
extern "C" __global__ void warps(const u32* in, u32* out) {
    const u32 value = in[threadIdx.x], width = blockDim.x;
    u32* mine = out + threadIdx.x;
    mine[0 * width] = __shfl_sync(FULL, value, 5);
    mine[1 * width] = __shfl_up_sync(FULL, value, 3);
    mine[2 * width] = __shfl_down_sync(FULL, value, 3);
    mine[3 * width] = __shfl_xor_sync(FULL, value, 9);
    mine[4 * width] = __ballot_sync(FULL, value % 3 == 0);
    mine[5 * width] = __match_any_sync(FULL, value % 4);
    mine[6 * width] = __syncthreads_count(value % 5 == 0);
    mine[7 * width] = __syncthreads_or(value == 0) * 2 + __syncthreads_and(value < 1000);
    u32 total;
    mine[8 * width] = warp_scan_exclusive(value, &total);
    mine[9 * width] = total;
    if (lane() < 7) mine[10 * width] = __shfl_sync(0x7Fu, value, 6);
    else mine[10 * width] = __any_sync(~0x7Fu, value == 1) * 2 + __all_sync(~0x7Fu, value > 0);
    mine[11 * width] = warp_max(value) - warp_min(value);
}
"""
#: Of each kind of arithmetic that counts some, and some that does not.
ARITHMETIC = """
#include "common.cuh"
extern "C" __global__ void arithmetic(u32 rounds, f32* out) {
    f32 sum = 0;
    u32 word = threadIdx.x;
    for (u32 round = 0; round < rounds; ++round) {
        word = philox({round, word, 0, 0}, 1, 2).x;
        word = u32(__dp4a(i32(word), i32(round), 7)) * 3;
        sum = __fmaf_rn(f32(word), 0.5f, sum) + __fmul_rn(sum, 0.25f);
        word = multiply_add(product(word, 5u), 7u, word);
        sum += f32(multiply_add(f64(sum), 2.0, 1.0)) * 0.5f;
        count_comparison();
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
"""
LAST_BLOCK = """
#include "common.cuh"
extern "C" __global__ void last_block(u32* parts, u32* done, u32* sum) {
    __shared__ u32 is_last;
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = blockIdx.x + 1;
        __threadfence();
        is_last = atomicAdd(done, 1u) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (!is_last || threadIdx.x != 0) return;
    u32 all = 0;
    for (u32 block = 0; block < gridDim.x; ++block) all += parts[block];
    *sum = all;
}
"""


NEIGHBOURS = """
#include "common.cuh"
extern "C" __global__ void neighbours(u32* found) {
    __shared__ u32 own[WARP];
    own[lane()] = lane();
    __syncwarp();
    found[lane()] = own[(lane() + 1) % WARP];
}
"""


def total_of(text: str, build: Build, *, count: int = 1000, given: int | None = None) -> bool:
    """Whether the kernel finds the sum of random numbers, of which its buffer holds `given`."""
    device = EmulatedDevice(seed=SEED, build=build, is_random=True)
    values = np.random.default_rng(SEED).integers(0, 1 << 16, count, dtype=np.uint32)
    buffer, found = device.uploaded(values[:given]), device.uploaded(np.zeros(1, np.uint64))
    stream, kernel = device.stream(), device.kernel_of(text, "total")
    stream.launch(kernel, 3, 128, [buffer, np.uint32(count), found])
    return int(found.array[0]) == int(values.sum())


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize("build", ["plain", "traced"])
@pytest.mark.parametrize(("grid", "block"), [(1, 32), (2, 64), (7, 256)])
def test_a_sum_over_a_grid_is_right_at_every_shape(grid: int, block: int, build: Build) -> None:
    device = EmulatedDevice(seed=SEED, build=build, is_random=True)
    values = np.random.default_rng(SEED).integers(0, 1 << 16, 5003, dtype=np.uint32)
    buffer, found = device.uploaded(values), device.uploaded(np.zeros(1, np.uint64))
    kernel = device.kernel_of(TOTAL, "total")
    device.stream().launch(kernel, grid, block, [buffer, np.uint32(len(values)), found])
    assert int(found.array[0]) == int(values.sum()), f"seed {SEED}"
    if build == "traced":
        assert device.counts.distinct_read_bytes == 4 * len(values) + 8
        assert device.counts.distinct_written_bytes == 8
        assert device.counts.atomics == grid


@pytest.mark.parametrize("build", ["plain", "traced"])
def test_a_traced_build_alone_counts_arithmetic_by_every_thread(build: Build) -> None:
    device = EmulatedDevice(seed=SEED, build=build)
    out, rounds = device.empty(64, np.float32), 3
    kernel = device.kernel_of(ARITHMETIC, "arithmetic")
    device.stream().launch(kernel, 2, 32, [np.uint32(rounds), out])
    counts = device.counts
    times = 2 * 32 * rounds * (build == "traced")
    assert counts.multiply_adds == (4 + 1 + 1 + 2 + 1) * times
    assert (counts.random_draws, counts.comparisons) == (times, times)


def test_warp_operations_and_barriers_give_what_they_are_defined_to() -> None:
    width = 96
    device = EmulatedDevice(seed=SEED, is_random=True)
    values = np.random.default_rng(SEED).integers(0, 50, width, dtype=np.uint32)
    out = device.uploaded(np.zeros(12 * width, np.uint32))
    kernel = device.kernel_of(WARPS, "warps")
    device.stream().launch(kernel, 1, width, [device.uploaded(values), out])
    found, rows = out.array.reshape(12, width), values.reshape(-1, 32).astype(np.int64)
    lanes = np.arange(32)
    bits = (1 << lanes).astype(np.int64)
    same = rows[:, :, None] % 4 == rows[:, None, :] % 4
    apart = np.where(
        lanes < 7,
        rows[:, 6:7],
        (rows[:, 7:] == 1).any(axis=1)[:, None] * 2 + (rows[:, 7:] > 0).all(axis=1)[:, None],
    )
    expected: list[Any] = [
        np.repeat(rows[:, 5], 32),
        rows[:, np.where(lanes < 3, lanes, lanes - 3)],
        rows[:, np.where(lanes + 3 < 32, lanes + 3, lanes)],
        rows[:, lanes ^ 9],
        np.repeat(((rows % 3 == 0) * bits).sum(axis=1), 32),
        (same * bits).sum(axis=2),
        np.full(width, (values % 5 == 0).sum()),
        np.full(width, (values == 0).any() * 2 + 1),
        rows.cumsum(axis=1) - rows,
        np.repeat(rows.sum(axis=1), 32),
        apart,
        np.repeat(rows.max(axis=1) - rows.min(axis=1), 32),
    ]
    for number, right in enumerate(expected):
        assert np.array_equal(found[number], np.ravel(right)), f"row {number}, seed {SEED}"


@pytest.mark.parametrize("build", ["plain", "traced"])
def test_the_last_block_may_read_what_all_have_published(build: Build) -> None:
    def found_by(text: str) -> int:
        device = EmulatedDevice(seed=SEED, build=build, is_random=True)
        parts, done, found = (device.uploaded(np.zeros(n, np.uint32)) for n in (18, 1, 1))
        kernel = device.kernel_of(text, "last_block")
        device.stream().launch(kernel, 9, 64, [parts, done, found])
        return int(found.array[0])

    assert found_by(LAST_BLOCK) == 45
    if build == "traced":
        before, between, behind = LAST_BLOCK.split("__threadfence();")
        published = f"{before};{between}__threadfence();{behind}"
        with pytest.raises(EmulationError, match="data race"):
            found_by(published)
        with pytest.raises(EmulationError, match="data race"):
            found_by(f"{before}__threadfence();{between};{behind}")
        # Published at one word and met at another.
        elsewhere = published.replace(
            "gridDim.x - 1;",
            "gridDim.x - 1; __threadfence(); atomicAdd(parts + 9 + blockIdx.x, 1u);",
        )
        with pytest.raises(EmulationError, match="data race"):
            found_by(elsewhere)


def test_a_removed_barrier_is_seen() -> None:
    unordered = changed(TOTAL, "__syncthreads();", "")
    assert total_of(TOTAL, "plain")
    assert not all(total_of(unordered, "plain") for _ in range(3))
    with pytest.raises(EmulationError, match=r"race.*nothing orders"):
        total_of(unordered, "traced")


@pytest.mark.parametrize("instead", ["", "__ballot_sync(FULL, 1);"])
def test_a_ballot_orders_no_writes_of_lanes(instead: str) -> None:
    def found_by(text: str) -> list[int]:
        device = EmulatedDevice(seed=SEED, build="traced", is_random=True)
        found = device.uploaded(np.zeros(32, np.uint32))
        device.stream().launch(device.kernel_of(text, "neighbours"), 1, 32, [found])
        return cast("list[int]", found.array.tolist())

    assert found_by(NEIGHBOURS) == [(lane + 1) % 32 for lane in range(32)]
    with pytest.raises(EmulationError, match="data race"):
        found_by(changed(NEIGHBOURS, "__syncwarp();", instead))


def test_an_atomic_that_became_a_plain_addition_is_seen() -> None:
    lost = changed(TOTAL, "atomicAdd(sum, all);", "*sum += all;")
    with pytest.raises(EmulationError, match="data race"):
        total_of(lost, "traced")
    forgotten = changed(TOTAL, "atomicAdd(sum, all);", "*sum = all;")
    assert not total_of(forgotten, "plain")


def test_an_index_one_too_far_is_seen() -> None:
    with pytest.raises(EmulationError, match=r"outside every buffer.*4 past the end"):
        total_of(TOTAL, "traced", count=1000, given=999)
    further = changed(TOTAL, "parts[threadIdx.x / WARP]", "parts[8 + threadIdx.x / WARP]")
    with pytest.raises(EmulationError, match=r"outside every buffer|race"):
        total_of(further, "traced")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("__syncthreads();", "if (lane() > 7) __syncwarp(); __syncthreads();", "never come"),
        ("__syncthreads();", "__syncwarp(1u << (lane() ^ 1));", "without being in its mask"),
        ("__syncthreads();", "__shfl_sync(1u << lane(), mine, lane() ^ 1);", "absent lane"),
        ("values[i]", "*(const u32*)((const u8*)values + 1)", "misaligned"),
    ],
)
def test_what_no_kernel_may_do_is_named(old: str, new: str, said: str) -> None:
    with pytest.raises(EmulationError, match=f"`total`: .*{said}"):
        total_of(changed(TOTAL, old, new), "traced" if old == "values[i]" else "plain")


def test_what_was_never_written_is_not_zero() -> None:
    unset = changed(TOTAL, "if (lane() == 0) parts", "if (lane() == 1) parts").replace(
        "parts[threadIdx.x / WARP] =", "parts[7 - threadIdx.x / WARP] ="
    )
    assert not total_of(unset, "plain")
    device = EmulatedDevice(seed=SEED)
    assert (device.empty(16, np.uint8).array == 0xA5).all()


def test_the_devices_memory_is_bounded() -> None:
    device = EmulatedDevice(memory_bytes=1000)
    device.empty(900, np.uint8)
    with pytest.raises(DeviceMemoryError, match="100 bytes free, 101 were asked for"):
        device.empty(101, np.uint8)


def test_arguments_of_another_type_are_our_own_mistake() -> None:
    device = EmulatedDevice()
    values, kernel = device.empty(4, np.uint32), device.kernel_of(TOTAL, "total")
    for wrong in ([values, np.uint64(4), values], [values, values, values], [values]):
        with pytest.raises(AssertionError, match="total"):
            device.stream().launch(kernel, 1, 32, wrong)
