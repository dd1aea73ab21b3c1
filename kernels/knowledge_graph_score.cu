// Scores in float64 of the vectors that a search names, and the best of them.
#include "knowledge_graph_search.cuh"

// Vectors that a block scores, or results that it takes in, before it keeps the best.
constexpr u32 ROUND = 256;

// Where the vectors of a launch come from: the nearest list of each query, its chosen lists, its
// candidates (or, where they were too many to keep, all but the nearest list), or everywhere.
enum : u32 { NEAREST, CHOSEN, CANDIDATES, ALL };

// Results in shared memory: the best so far, in order, and behind them the new ones.
struct Results {
    u64 *keys, *spare_keys;
    u32 *ids, *spare_ids;
};

// Room for `top` + ROUND results twice over.
__device__ __forceinline__ Results results_in(u64* room, u32 top) {
    const u32 size = top + ROUND;
    u32* ids = reinterpret_cast<u32*>(room + 2 * size);
    return {room, room + size, ids, ids + size};
}

// Keeps the best `top` of themselves and `added` new ones, highest score first, of equal ones the
// lowest id first. Each result counts those before it, which says where it belongs.
__device__ __forceinline__ void keep_best(Results* results, u32 top, u32 added) {
    __syncthreads();
    const u64* keys = results->keys;
    const u32* ids = results->ids;
    const u64 last_key = keys[top - 1];
    const u32 last_id = ids[top - 1];
    for (u32 mine = threadIdx.x; mine < top + added; mine += blockDim.x) {
        const u64 key = keys[mine];
        const u32 id = ids[mine];
        if (mine >= top && (key < last_key || (key == last_key && id >= last_id))) continue;
        u32 before = 0;
        for (u32 other = 0; other < top + added; ++other) {
            const bool is_equal = keys[other] == key;
            const bool is_first = ids[other] < id || (ids[other] == id && other < mine);
            before += keys[other] > key || (is_equal && is_first);
        }
        if (before >= top) continue;
        results->spare_keys[before] = key;
        results->spare_ids[before] = id;
    }
    __syncthreads();
    *results = {results->spare_keys, results->keys, results->spare_ids, results->ids};
}

// One lane's share of a vector's products with itself and with a query.
struct Products {
    f64 with_query, with_itself;

    __device__ __forceinline__ void add(f32 component, f32 asked) {
        with_query = multiply_add(f64(component), f64(asked), with_query);
        with_itself = multiply_add(f64(component), f64(component), with_itself);
    }
};

__device__ __forceinline__ Products products_of(const void* vectors, const u32* low, u32 place,
                                                u32 dims, const f32* asked) {
    Products sums = {0, 0};
#if STORAGE == 2
    const u32 groups = (dims + GROUP - 1) / GROUP;
    const u32* high = static_cast<const u32*>(vectors);
    for (u32 word = lane(); word < dims / 8; word += WARP) {
        const u64 group = u64(place / WARP) * groups + word / 4;
        const u64 at = (group * WARP + place % WARP) * 4 + word % 4;
        const u32 upper = high[at], lower = low[at];
#pragma unroll
        for (u32 byte = 0; byte < 8; ++byte) {
            const u32 shift = 8 * (byte % 4) + byte / 4 * 4;
            const i32 code = i32((upper >> shift & 15) * 16 + (lower >> shift & 15));
            sums.add(f32(code - 128), asked[word * 8 + byte]);
        }
    }
#else
    const float4* row = reinterpret_cast<const float4*>(asked);
    for (u32 block = lane(); block < dims / 4; block += WARP) {
        const u64 at = u64(place) * (dims / 4) + block;
        const float4 query = row[block];
#if STORAGE == 1
        const ushort4 half = static_cast<const ushort4*>(vectors)[at];
        const float4 value = make_float4(half_to_float(half.x), half_to_float(half.y),
                                         half_to_float(half.z), half_to_float(half.w));
#else
        const float4 value = static_cast<const float4*>(vectors)[at];
#endif
        sums.add(value.x, query.x);
        sums.add(value.y, query.y);
        sums.add(value.z, query.z);
        sums.add(value.w, query.w);
    }
#endif
    return sums;
}

// The places that one query's blocks score: `count` numbers in runs of places or in a list.
struct Places {
    const u32* listed;  // null: the places from `first` on
    u32 first, count;
    u32 skip_first, skip_end;

    __device__ __forceinline__ u32 at(u32 number) const {
        const u32 place = listed ? listed[number] : first + number;
        return place >= skip_first && place < skip_end ? NONE : place;
    }
};

// The vectors of one query in one launch, as `score_vectors` was given them.
struct Source {
    u32 kind, places, capacity;
    const u32 *starts, *chosen, *candidates;

    // Run `range` of the places to score: all of a list, of the candidates, or everywhere.
    __device__ __forceinline__ Places at(u32 range, const Head& head) const {
        const u32 nearest = ~u32(head.nearest);
        if (kind == NEAREST || kind == CHOSEN) {
            const u32 list = kind == NEAREST ? nearest : chosen[range];
            return {nullptr, starts[list], starts[list + 1] - starts[list], 0, 0};
        }
        if (kind == ALL) return {nullptr, 0, places, 0, 0};
        if (head.candidates <= capacity) return {candidates, 0, head.candidates, 0, 0};
        return {nullptr, 0, places, starts[nearest], starts[nearest + 1]};
    }
};

// What a block keeps of the vectors that it scores: the best `top`. Returns how many vectors there
// are for all blocks.
__device__ __forceinline__ u32 score_places(Results* results, const Source& source,
                                            const Head& head, u32 blocks, u32 top,
                                            const void* vectors, const u32* low, const u32* ids,
                                            u32 dims, const f32* row) {
    const u32 warps = blockDim.x / WARP;
    const u32 own = blockIdx.x % blocks * warps + threadIdx.x / WARP;
    const u32 ranges = source.kind == CHOSEN ? head.chosen : 1;
    u32 added = 0, seen = 0;
    for (u32 range = 0; range < ranges; ++range) {
        const Places given = source.at(range, head);
        seen += given.count;
        for (u32 base = 0; base < given.count; base += blocks * warps) {
            const u32 number = base + own;
            const u32 place = number < given.count ? given.at(number) : NONE;
            Products sums = {0, 0};
            if (place != NONE) sums = products_of(vectors, low, place, dims, row);
            const f64 product = warp_sum(sums.with_query);
            const f64 lengths = head.norm * sqrt(warp_sum(sums.with_itself));
            if (lane() == 0) {
                const u32 slot = top + added + threadIdx.x / WARP;
                const f64 cosine = lengths > 0 ? product / lengths : 0.0;
                results->keys[slot] = place == NONE ? 0 : key_of(cosine);
                results->ids[slot] = place == NONE ? NONE : ids[place];
            }
            added += warps;
            if (added + warps <= ROUND) continue;
            keep_best(results, top, added);
            added = 0;
        }
    }
    keep_best(results, top, added);
    return seen;
}

// Copies results between the room of a block and device memory, the block's threads side by side.
__device__ __forceinline__ void copy_results(u64* to_keys, u32* to_ids, const u64* keys,
                                             const u32* ids, u32 count) {
    for (u32 place = threadIdx.x; place < count; place += blockDim.x) {
        to_keys[place] = keys[place];
        to_ids[place] = ids[place];
    }
}

// Score: the cosine of vectors with each query, and the best of them and of those found before.
//
//   score(x) = (q x) / (|q| |x|) in float64, 0 where one has no length
//   best(q) = the `top` highest of best(q) and the scores of the source, ties by the lower id
//
// Work    per vector: its components read once (4, 2 or 1 bytes each), 4 float64 operations per
//         component; 12 bytes per result of a block written and read once more.
//         Bound by the latency of a few random rows.
// Launch  grid = queries × blocks, a warp per vector in strides, block = 256 (any multiple of 32
//         to 256); 24 (top + 256) bytes of dynamic shared memory. The last block of a query merges.
// Needs   rows 16-byte aligned, dims a multiple of 8; 1 <= top <= 1024; room for blocks × top
//         results per query; heads' `done` 0.
// Checked against embeddings.search: exact, no tolerance.
extern "C" __global__ void __launch_bounds__(256, 2)
    score_vectors(u32 kind, const void* __restrict__ vectors, const u32* __restrict__ low,
                  const u32* __restrict__ ids, u32 places, u32 dims,
                  const float4* __restrict__ asked, const u32* __restrict__ starts, u32 lists,
                  const u32* __restrict__ chosen, const u32* __restrict__ candidates, u32 capacity,
                  u32 blocks, u32 top, Head* heads, u64* found_keys, u32* found_ids,
                  u64* best_keys, u32* best_ids, f64* scores) {
    DYNAMIC_SHARED(u64, room);
    __shared__ u32 answer;
    Results results = results_in(room, top);
    const u32 query = blockIdx.x / blocks, block = blockIdx.x % blocks;
    Head* head = heads + query;
    const Source source = {kind, places, capacity, starts, chosen + u64(query) * lists,
                           candidates + u64(query) * capacity};
    for (u32 place = threadIdx.x; place < top; place += blockDim.x) {
        results.keys[place] = 0;
        results.ids[place] = NONE;
    }
    const f32* row = reinterpret_cast<const f32*>(asked + u64(query) * (dims / 4));
    const u32 seen =
        score_places(&results, source, *head, blocks, top, vectors, low, ids, dims, row);
    const u64 all = u64(query) * blocks * top, own = all + block * top, best = u64(query) * top;
    copy_results(found_keys + own, found_ids + own, results.keys, results.ids, top);
    if (!is_last_block(&head->done, blocks, &answer)) return;
    copy_results(results.keys, results.ids, best_keys + best, best_ids + best, top);
    for (u32 base = 0; base < blocks * top; base += ROUND) {
        const u32 size = min(ROUND, blocks * top - base);
        copy_results(results.keys + top, results.ids + top, found_keys + all + base,
                     found_ids + all + base, size);
        keep_best(&results, top, size);
    }
    copy_results(best_keys + best, best_ids + best, results.keys, results.ids, top);
    for (u32 place = threadIdx.x; place < top; place += blockDim.x)
        scores[best + place] = score_of(results.keys[place]);
    if (threadIdx.x != 0) return;
    head->done = 0;
    head->scanned = seen;
    head->floor = results.ids[top - 1] == NONE ? 0 : results.keys[top - 1];
}
