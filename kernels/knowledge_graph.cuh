// What the kernel files of the knowledge graph share: the nodes that a request asks for, rows of
// the graph in pieces, queues, and the end of a launch.
#pragma once

#include "common.cuh"

// What stands for "no such node", "no path" and "no vector".
constexpr u32 NONE = 0xFFFFFFFFu;

// Arcs of one entry of a queue; the longest rows are in 256 pieces of more.
constexpr u32 PIECE_ARCS = 128;
constexpr u32 PIECES_MAX = 256;

// An entry is 24 bits of a node and 8 of a piece of its row (no graph has 2^24 nodes).
constexpr u32 NODE_BITS = 24;
constexpr u32 NODE_MASK = (1u << NODE_BITS) - 1;

// Draws made for an end that has an edge before the biggest hub, inner node 0, is taken instead.
constexpr u32 ATTEMPTS_MAX = 64;

// How a level of a traversal is visited: the rows of a queue, one parent for each node not visited,
// or (between the two) the nodes of a bitmap entered into the queue.
enum : u32 { ABOVE, BELOW, LISTING, OVER };

struct Pair {
    u32 from, to;
};

// The inner nodes that pair `number` of a request asks for; all lanes of a warp take part.
__device__ __forceinline__ Pair drawn_pair(u64 request, u32 number, u32 key0, u32 key1, u32 nodes,
                                           u32 connected, const u32* inner) {
    Pair pair = {0, 0};
    bool has_from = false, has_to = false;
    for (u32 first = 0; first < ATTEMPTS_MAX && !(has_from && has_to); first += WARP) {
        const Words words =
            philox({u32(request), u32(request >> 32), number, first + lane()}, key0, key1);
        const u32 from = inner[scaled(words.x, nodes)], to = inner[scaled(words.y, nodes)];
        const u32 froms = __ballot_sync(FULL, from < connected);
        const u32 tos = __ballot_sync(FULL, to < connected);
        const u32 drawn_from = __shfl_sync(FULL, from, froms ? __ffs(froms) - 1 : 0);
        const u32 drawn_to = __shfl_sync(FULL, to, tos ? __ffs(tos) - 1 : 0);
        if (!has_from && froms) pair.from = drawn_from;
        if (!has_to && tos) pair.to = drawn_to;
        has_from |= froms != 0;
        has_to |= tos != 0;
    }
    return pair;
}

// Arcs of a piece of a row; only the last piece may have fewer.
__device__ __forceinline__ u32 piece_arcs(u32 degree) {
    return max(PIECE_ARCS, (degree + PIECES_MAX - 1) / PIECES_MAX);
}

// Pieces that a row is in.
__device__ __forceinline__ u32 piece_count(u32 degree) {
    return (degree + piece_arcs(degree) - 1) / piece_arcs(degree);
}

struct Arcs {
    u32 node, first, count;
};

// The arcs of a queue's entry.
__device__ __forceinline__ Arcs arcs_of(u32 entry, const u32* offsets) {
    const u32 node = entry & NODE_MASK;
    const u32 begin = offsets[node], degree = offsets[node + 1] - begin;
    const u32 length = piece_arcs(degree), skipped = (entry >> NODE_BITS) * length;
    return {node, begin + skipped, min(length, degree - skipped)};
}

// Deals the arcs of all lanes evenly to the lanes: `visit(is_arc, owner, arc)` is called by the
// whole warp, with the lane whose arc it is.
template <class Visit>
__device__ __forceinline__ void each_arc(u32 first, u32 count, Visit visit) {
    u32 total;
    const u32 before = warp_scan_exclusive(count, &total);
    for (u32 base = 0; base < total; base += WARP) {
        const u32 number = base + lane();
        u32 owner = 0;  // lanes whose arcs all come before this one
        for (u32 step = WARP / 2; step > 0; step /= 2)
            if (__shfl_sync(FULL, before + count, owner + step - 1) <= number) owner += step;
        const u32 arc = __shfl_sync(FULL, first - before, owner) + number;
        visit(number < total, owner, arc);
    }
}

// A queue that grows from the front of its room, or (is_backward) from the end.
struct Queue {
    u32* room;
    u32 last;
    bool is_backward;

    __device__ __forceinline__ u32* at(u32 place) const {
        return room + (is_backward ? last - place : place);
    }

    // Enters the pieces of each lane's node (NONE: of none); the whole warp takes part.
    __device__ __forceinline__ void append(u32 node, u32 degree, u64* tail) const {
        if (!__any_sync(FULL, node != NONE)) return;
        u32 total;
        const u32 count = node == NONE ? 0 : piece_count(degree);
        const u32 before = warp_scan_exclusive(count, &total);
        u32 place = 0;
        if (lane() == 0) place = u32(atomicAdd(tail, u64(total)));
        place = __shfl_sync(FULL, place, 0) + before;
        for (u32 piece = 0; piece < count; ++piece) *at(place + piece) = node | piece << NODE_BITS;
    }
};

// Entries that a warp takes at a time: few where there are few, so that all warps have some.
__device__ __forceinline__ u32 entries_at_once(u32 entries, u32 warps) {
    return max(1u, min(WARP, (entries + warps - 1) / warps));
}

__device__ __forceinline__ u32 warp_number() {
    return (blockIdx.x * blockDim.x + threadIdx.x) / WARP;
}

__device__ __forceinline__ u32 warp_count() { return gridDim.x * (blockDim.x / WARP); }

// Adds what the threads of a block counted to the launch's tally; `sums` is shared by the block and
// was zero before its last barrier.
template <u32 COUNT>
__device__ __forceinline__ void add_up(const u32 (&mine)[COUNT], u64* sums,
                                       u64* const (&to)[COUNT]) {
#pragma unroll
    for (u32 place = 0; place < COUNT; ++place) {
        const u64 sum = warp_sum(u64(mine[place]));
        if (lane() == 0 && sum != 0) atomicAdd(sums + place, sum);
    }
    __syncthreads();
#pragma unroll
    for (u32 place = 0; place < COUNT; ++place)
        if (threadIdx.x == place && sums[place] != 0) atomicAdd(to[place], sums[place]);
}

// Whether all other blocks (of `blocks` in all) have come here; what they wrote before may then be
// read. All threads of the block ask; `answer` is a word that they share.
__device__ __forceinline__ bool is_last_block(u64* done, u32 blocks, u32* answer) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        *answer = atomicAdd(done, u64(1)) == blocks - 1;
        __threadfence();
    }
    __syncthreads();
    return *answer != 0;
}
