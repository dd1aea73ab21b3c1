// Places (nodes of a forest, positions of a text) against many patterns: the two launches that find
// all pairs, for whatever looks at a place first, counts its matches and writes them.
#pragma once
#include "synthesis.cuh"

// Words of 32 places that a warp looks at in a tile: so many loads of a thread are under way at
// once.
constexpr u32 STEPS = 8;

// Shared memory of a block, as words: the sums of `block_prefix`, a tile's places that passed the
// first look and what was seen there, a bit for every place that matches, and the number of those
// that passed; behind them the tables of the first look.
struct Tile {
    u64* sums;
    u32 *places, *seen, *kept, *passed, *tables;
};

__device__ __forceinline__ Tile tile_of(u32* shared) {
    const u32 size = blockDim.x * STEPS;
    u32* const places = shared + 2 * SUMS;
    return {reinterpret_cast<u64*>(shared), places,
            places + size,                  places + 2 * size,
            places + 2 * size + size / 32,  places + 2 * size + size / 32 + 1};
}

// A barrier has to follow before they are read.
__device__ __forceinline__ void copy_tables(const u32* tables, u32 length, u32* shared) {
    for (u32 at = threadIdx.x; at < length; at += blockDim.x) shared[at] = tables[at];
}

// Sorts the pairs of one place by pattern (Shell, with Knuth's gaps): most often one or two.
__device__ __forceinline__ void sort_few(uint2* pairs, u32 length) {
    u32 gap = 1;
    while (gap < length / 3) gap = 3 * gap + 1;
    for (; gap > 0; gap /= 3) {
        for (u32 end = gap; end < length; ++end) {
            const uint2 pair = pairs[end];
            u32 at = end;
            for (; at >= gap && pairs[at - gap].y > pair.y; at -= gap) pairs[at] = pairs[at - gap];
            pairs[at] = pair;
        }
    }
}

// The first launch: a first look at every place, then, densely, at those that passed.
template <class Matcher>
__device__ __forceinline__ void count_pairs(const Matcher& matcher, u32 length, const Tile& tile,
                                            u32* kept, u64* starts, u64* answer) {
    const u32 own = lane(), warp = threadIdx.x / WARP, size = blockDim.x * STEPS;
    const Run run = run_of((length + size - 1) / size);
    u64 pairs = 0;
    for (u32 number = run.first; number < run.end; ++number) {
        const u32 first = number * size;  // below 2^32 - size: lengths are at most 2^30
        for (u32 word = threadIdx.x; word < size / 32; word += blockDim.x) tile.kept[word] = 0;
        if (threadIdx.x == 0) *tile.passed = 0;
        __syncthreads();
        u32 seen[STEPS];
#pragma unroll
        for (u32 step = 0; step < STEPS; ++step) {
            const u32 place = first + (warp * STEPS + step) * WARP + own;
            seen[step] = place < length ? matcher.seen(place) : 0;
        }
#pragma unroll
        for (u32 step = 0; step < STEPS; ++step) {
            const u32 place = (warp * STEPS + step) * WARP + own;
            const bool passes = first + place < length && matcher.passes(seen[step]);
            const u32 passing = __ballot_sync(FULL, passes);
            if (passing == 0) continue;
            u32 at = 0;
            if (own == 0) at = atomicAdd(tile.passed, u32(__popc(passing)));
            at = __shfl_sync(FULL, at, 0) + __popc(passing & ((1u << own) - 1));
            if (passes) {
                tile.places[at] = place;
                tile.seen[at] = seen[step];
            }
        }
        __syncthreads();
        for (u32 at = threadIdx.x; at < *tile.passed; at += blockDim.x) {
            const u32 place = tile.places[at];
            const u32 found = matcher.count(first + place, tile.seen[at]);
            pairs += found;
            if (found != 0) atomicOr(tile.kept + place / 32, 1u << place % 32);
        }
        __syncthreads();
        for (u32 word = threadIdx.x; word < size / 32; word += blockDim.x)
            if (first + 32 * word < length) kept[first / 32 + word] = tile.kept[word];
    }
    publish(pairs, starts, answer, tile.sums);
}

// The second launch: the pairs of the places that were kept, where the scan says.
template <class Matcher>
__device__ __forceinline__ void write_pairs(const Matcher& matcher, u32 length, const Tile& tile,
                                            const u32* kept, const u64* starts, const u64* answer,
                                            u32 room, uint2* pairs) {
    if (answer[TOTAL] > room) return;
    const u32 size = blockDim.x * STEPS;
    const Run run = run_of((length + size - 1) / size);
    u64 total, written = starts[blockIdx.x];
    for (u32 number = run.first; number < run.end; ++number) {
        const u32 first = number * size, word = first / 32 + threadIdx.x;
        u32 bits = threadIdx.x < size / 32 && 32 * word < length ? kept[word] : 0;
        u32 at = u32(block_prefix(__popc(bits), tile.sums, &total));
        for (; bits != 0; bits &= bits - 1)
            tile.places[at++] = 32 * threadIdx.x + __ffs(bits) - 1;
        const u32 matching = u32(total);
        __syncthreads();
        for (u32 round = 0; round < matching; round += blockDim.x) {
            const u32 mine = round + threadIdx.x;
            u32 place = 0, seen = 0, found = 0;
            if (mine < matching) {
                place = first + tile.places[mine];
                seen = matcher.seen(place);
                found = matcher.count(place, seen);
            }
            const u64 before = block_prefix(found, tile.sums, &total);
            if (found != 0) matcher.write(place, seen, pairs + written + before);
            written += total;
        }
    }
}
