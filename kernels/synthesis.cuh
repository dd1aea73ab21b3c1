// What the kernels of the synthesis component share: how the parts of an answer are put in order.
//
// Every operation is two launches over the same grid. Each block owns a run of consecutive tiles.
// The first launch finds how much every block has to write; the last block done turns this into
// where each block's part starts. The second launch writes. Nothing waits for another block.
#pragma once
#include "common.cuh"

// Numbers in shared memory that `block_prefix` needs (the sum of each warp and that of all), and
// one for `publish`.
constexpr u32 SUMS = WARP + 2;
// The words of an answer: how much there is, blocks that are done, what went wrong (all ones:
// nothing), rewrites.
constexpr u32 TOTAL = 0, DONE = 1, PROBLEM = 2, REWRITES = 3;

// Sum of `value` over the threads of the block below this one; `total` is that over all of them.
__device__ __forceinline__ u64 block_prefix(u64 value, u64* sums, u64* total) {
    const u32 own = lane(), warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    u64 sum = value;
    for (u32 step = 1; step < WARP; step *= 2) {
        const u64 below = __shfl_up_sync(FULL, sum, step);
        if (own >= step) sum += below;
    }
    // Of the last call, only this warp still reads this sum: before the shuffles.
    if (own == WARP - 1) sums[warp] = sum;
    __syncthreads();
    if (warp == 0) {
        u64 part = own < warps ? sums[own] : 0;
        const u64 mine = part;
        for (u32 step = 1; step < WARP; step *= 2) {
            const u64 below = __shfl_up_sync(FULL, part, step);
            if (own >= step) part += below;
        }
        sums[own] = part - mine;
        if (own == WARP - 1) sums[WARP] = part;
    }
    __syncthreads();
    *total = sums[WARP];
    return sums[warp] + sum - value;
}

// Ends the first launch: `own` is how much of this thread's will be written. The last block done
// leaves in `starts` where each block's part starts, and in `answer` how much there is in all.
__device__ __forceinline__ void publish(u64 own, u64* starts, u64* answer, u64* sums) {
    u64 part;
    block_prefix(own, sums, &part);
    if (threadIdx.x == 0) {
        starts[blockIdx.x] = part;
        __threadfence();
        sums[WARP + 1] = atomicAdd(answer + DONE, u64(1));
        __threadfence();
    }
    __syncthreads();
    if (sums[WARP + 1] != gridDim.x - 1) return;
    u64 before = 0;
    for (u32 first = 0; first < gridDim.x; first += blockDim.x) {
        const u32 block = first + threadIdx.x;
        const u64 size = block < gridDim.x ? load_relaxed(starts + block) : 0;
        const u64 start = before + block_prefix(size, sums, &part);
        if (block < gridDim.x) starts[block] = start;
        before += part;
    }
    if (threadIdx.x == 0) {
        answer[TOTAL] = before;
        store_relaxed(answer + DONE, u64(0));
    }
}

// The run of tiles that this block owns.
struct Run {
    u32 first, end;
};

__device__ __forceinline__ Run run_of(u32 tiles) {
    const u32 each = (tiles + gridDim.x - 1) / gridDim.x;
    const u32 first = min(blockIdx.x * each, tiles);
    return {first, min(first + each, tiles)};
}
