// Search of embeddings by cosine: exact by bounds, with its selection fused into the scan, and
// approximate in the lists nearest to the query.
//
// With a unit query q = s d + r and a unit vector x = t c + u (d, c integer codes) the cosine is
// s t (d c) + r (t c) + q u, so it differs from s t (d c) by at most |r| (1 + |u|) + |u|
// (Cauchy-Schwarz). The best of the list nearest to the query give a floor; a vector whose bound is
// below it is none of the best, and every other one is scored in float64. No score that is not
// needed is ever written.
#include "knowledge_graph_search.cuh"

// Queries that share one pass over the codes.
#ifndef QUERIES
#define QUERIES 16
#endif

constexpr f32 OFFSET = 128.0f, HIGH_OFFSET = 120.5f;
// Room for the rounding of bounds in f32: scores are at most 1.
constexpr f32 SLACK = 1e-6f;
constexpr f32 ROUNDING = 1.0f / (1 << 21);
// A bound that no dot product reaches.
constexpr i32 NEVER = 1 << 29;
// The sum of a value over a block; `parts` are shared words, one per warp.
__device__ __forceinline__ f64 block_sum(f64 value, f64* parts) {
    value = warp_sum(value);
    __syncthreads();
    if (lane() == 0) parts[threadIdx.x / WARP] = value;
    __syncthreads();
    f64 sum = 0;
    for (u32 warp = 0; warp < blockDim.x / WARP; ++warp) sum += parts[warp];
    return sum;
}

__device__ __forceinline__ f64 block_max(f64 value, f64* parts) {
    value = warp_max(value);
    __syncthreads();
    if (lane() == 0) parts[threadIdx.x / WARP] = value;
    __syncthreads();
    f64 most = 0;
    for (u32 warp = 0; warp < blockDim.x / WARP; ++warp) most = max(most, parts[warp]);
    return most;
}

// Four components of a code as bytes of a word, and what they lose.
struct Coded {
    u32 word = 0;
    f64 sum = 0, apart = 0;

    // Enters one component of the unit query, of which a step is `scale`.
    __device__ __forceinline__ void add(u32 byte, f32 value, f64 inverse_norm, f64 scale,
                                        f64 inverse) {
        const f64 unit = value * inverse_norm;
        const f64 code = min(max(rint(unit * inverse), -127.0), 127.0);
        const f64 lost = unit - scale * code;
        apart += lost * lost;
        sum += code;
        word |= (u32(i32(code)) & 0xFF) << (8 * byte);
    }
};

// Ask: the queries of a request, their codes, and empty results.
//
//   q[d] = (noise(request, 2 member)[d] + noise(cluster)[d]) / 65536, or as given
//   code[d] = nearest(q[d] / |q| / s) within ±127, s = largest |q[d]| / |q| / 127
//
// Work    per query: dims / 2 Philox blocks, 5 bytes written per component. Bound by latency.
// Launch  one block per query: grid = queries, block = 128 (any multiple of 32 to 1024); 256 bytes
//         of shared memory.
// Needs   dims a multiple of 8; rows 16-byte aligned, codes padded to 32 dimensions.
// Checked against embeddings.queries: exact, no tolerance.
extern "C" __global__ void ask_queries(u64 request, u32 first_member, u32 dims, u32 clusters,
                                       u32 queries0, u32 queries1, u32 centres0, u32 centres1,
                                       u32 is_given, u32 top, float4* asked,
                                       i32* __restrict__ codes, Head* heads,
                                       u64* __restrict__ best_keys, u32* __restrict__ best_ids) {
    __shared__ f64 parts[WARP];
    const u32 query = blockIdx.x, blocks = dims / 4, member = 2 * (first_member + query);
    const u32 item0 = u32(request), item1 = u32(request >> 32);
    const u32 cluster =
        scaled(philox({0, item0, item1, member + 1}, queries0, queries1).x, clusters);
    float4* row = asked + u64(query) * blocks;
    f64 squares = 0;
    f32 peak = 0;
    for (u32 block = threadIdx.x; block < blocks; block += blockDim.x) {
        if (!is_given) {
            const int4 own = noise(block, item0, item1, member, queries0, queries1);
            const int4 centre = noise(block, cluster, 0, 0, centres0, centres1);
            const f32 unit = 1.0f / 65536.0f;
            row[block] = make_float4(f32(own.x + centre.x) * unit, f32(own.y + centre.y) * unit,
                                     f32(own.z + centre.z) * unit, f32(own.w + centre.w) * unit);
        }
        const float4 value = row[block];
        squares += f64(value.x) * value.x + f64(value.y) * value.y;
        squares += f64(value.z) * value.z + f64(value.w) * value.w;
        peak = max(peak, max(max(fabsf(value.x), fabsf(value.y)),
                             max(fabsf(value.z), fabsf(value.w))));
    }
    const f64 norm = sqrt(block_sum(squares, parts));
    const f64 step = norm > 0 ? block_max(f64(peak), parts) / norm / 127.0 : 0.0;
    const f64 inverse_norm = step > 0 ? 1.0 / norm : 0.0, inverse = step > 0 ? 1.0 / step : 0.0;
    const f64 scale = step > 0 ? step : 1.0;
    const u32 words = (dims + GROUP - 1) / GROUP * GROUP_WORDS;
    f64 apart = 0, sum = 0;
    for (u32 word = threadIdx.x; word < words; word += blockDim.x) {
        const float4 value = word < blocks ? row[word] : make_float4(0, 0, 0, 0);
        Coded coded;
        coded.add(0, value.x, inverse_norm, scale, inverse);
        coded.add(1, value.y, inverse_norm, scale, inverse);
        coded.add(2, value.z, inverse_norm, scale, inverse);
        coded.add(3, value.w, inverse_norm, scale, inverse);
        apart += coded.apart;
        sum += coded.sum;
        codes[u64(query) * words + word] = i32(coded.word);
    }
    apart = sqrt(block_sum(apart, parts));
    sum = block_sum(sum, parts);
    for (u32 place = threadIdx.x; place < top; place += blockDim.x) {
        best_keys[query * top + place] = 0;
        best_ids[query * top + place] = NONE;
    }
    if (threadIdx.x == 0)
        heads[query] = {norm, 0, 0, 0, 0, 0, 0, 0, f32(apart * (1 + 1e-6) + 1e-7), f32(1.0 / scale),
                        i32(sum), 0};
}

// Rank: how near the centroid of every list is to every query.
//
//   nearness[q, l] = sum over d of code(q)[d] centroid[l, d];  nearest(q) = the first of the most
//
// Work    dims bytes read per list and query, 4 written; 1 multiplication per byte.
//         Bound by the cache: the centroids are a few hundred kilobytes.
// Launch  a warp per list, in strides: any grid, block = 256 (any multiple of 32).
// Needs   dims a multiple of 8; heads' `nearest` 0.
// Checked against the native search's lists: exact, no tolerance.
extern "C" __global__ void rank_lists(const i32* __restrict__ centroids, u32 lists, u32 dims,
                                      const i32* __restrict__ codes, u32 queries,
                                      i32* __restrict__ nearness, Head* heads) {
    const u32 words = dims / 4, padded = (dims + GROUP - 1) / GROUP * GROUP_WORDS;
    for (u32 query = 0; query < queries; ++query) {
        u64 nearest = 0;
        for (u32 list = warp_number(); list < lists; list += warp_count()) {
            i32 sum = 0;
            for (u32 word = lane(); word < words; word += WARP)
                sum = __dp4a(centroids[u64(list) * words + word], codes[query * padded + word],
                             sum);
            sum = warp_sum(sum);
            const u64 candidate = u64(u32(sum) ^ 0x80000000u) << 32 | (~list & FULL);
            nearest = max(nearest, candidate);
            if (lane() == 0) nearness[u64(query) * lists + list] = sum;
        }
        if (lane() == 0 && nearest != 0) atomicMax(&heads[query].nearest, nearest);
    }
}

// Choose: the lists that an approximate search looks into.
//
//   l is chosen where fewer than `probes` lists come before it (nearer, or as near with a lower
//   number) and 2 nearness(l) >= nearness(the nearest); the nearest one always is
//
// Work    4 bytes read per list, and per list at least half as near once more all of them.
//         Bound by the cache. Chen et al., "SPANN", NeurIPS 2021, prune lists by query likewise.
// Launch  one thread per list: grid = queries × ceil(lists / 256), block = 256.
// Needs   heads' `chosen` 0; 2^31 > 2 × 127 × 127 × dims.
// Checked against the native search's answers: exact, no tolerance.
extern "C" __global__ void choose_lists(const i32* __restrict__ nearness, u32 lists, u32 probes,
                                        Head* heads, u32* __restrict__ chosen) {
    const u32 blocks = (lists + blockDim.x - 1) / blockDim.x;
    const u32 query = blockIdx.x / blocks;
    const u32 list = blockIdx.x % blocks * blockDim.x + threadIdx.x;
    if (list >= lists) return;
    const i32* scores = nearness + u64(query) * lists;
    const i32 own = scores[list];
    const u64 nearest = heads[query].nearest;
    const bool is_nearest = u32(~nearest) == list;
    const i32 most = i32(u32(nearest >> 32) ^ 0x80000000u);
    if (!is_nearest && (2 * own < most || probes == 1)) return;
    u32 before = 0;
    for (u32 other = 0; other < lists; ++other)
        before += scores[other] > own || (scores[other] == own && other < list);
    if (before >= probes) return;
    const u32 place = atomicAdd(&heads[query].chosen, 1u);
    chosen[u64(query) * lists + place] = list;
}

// The largest integer that is surely not above `sought + shift`, where both were computed in f32
// with few roundings.
__device__ __forceinline__ i32 surely_below(f32 sought, f32 shift) {
    const f32 margin = 1.0f + (fabsf(sought) + fabsf(shift)) * ROUNDING;
    return i32(floorf(max(sought + shift - margin, -1e9f)));
}

// Bounds of one query: the dot products of codes below which no vector is among the best.
struct Bounds {
    f32 floor, residual, inverse_scale, sum;

    __device__ __forceinline__ f32 sought(f32 inverse_scale_tile, f32 lost) const {
        const f32 error = lost + residual * (1.0f + lost) + SLACK;
        return (floor - error) * inverse_scale_tile * inverse_scale;
    }
    __device__ __forceinline__ i32 by_high(float4 span) const {
        return surely_below(sought(span.x, span.y), HIGH_OFFSET * sum) >> 4;
    }
    __device__ __forceinline__ i32 by_both(float4 span) const {
        return surely_below(sought(span.x, span.z), OFFSET * sum);
    }
};

__device__ __forceinline__ Bounds bounds_of(const Head& head) {
    // The floor itself rounded to f32, and down.
    const f32 floor = head.floor ? f32(score_of(head.floor)) - SLACK : -1e9f;
    return {floor, head.residual, head.inverse_scale, f32(head.sum)};
}

// Dot product of 32 dimensions of half bytes with those of a coded query.
__device__ __forceinline__ i32 dot(uint4 halves, const int4* words, i32 sum) {
    const u32 mask = 0x0F0F0F0Fu;
    const int4 front = words[0], back = words[1];
    sum = __dp4a(i32(halves.x & mask), front.x, sum);
    sum = __dp4a(i32(halves.x >> 4 & mask), front.y, sum);
    sum = __dp4a(i32(halves.y & mask), front.z, sum);
    sum = __dp4a(i32(halves.y >> 4 & mask), front.w, sum);
    sum = __dp4a(i32(halves.z & mask), back.x, sum);
    sum = __dp4a(i32(halves.z >> 4 & mask), back.y, sum);
    sum = __dp4a(i32(halves.w & mask), back.z, sum);
    return __dp4a(i32(halves.w >> 4 & mask), back.w, sum);
}

// Dot product of the whole codes of a lane's vector with those of a query.
__device__ __forceinline__ i32 whole_dot(const uint4* high, const uint4* low, u32 groups,
                                         const int4* words, u32 stride) {
    i32 sum = 0;
    for (u32 group = 0; group < groups; ++group) {
        const uint4 upper = high[group * WARP], lower = low[group * WARP];
        const int4* coded = words + group * stride;
        sum += 16 * dot(upper, coded, 0) + dot(lower, coded, 0);
    }
    return sum;
}

// Scan: the vectors of all lists whose bound reaches the floor of a query.
//
//   candidates(q) = { x : s t (d c) + |r| (1 + |u|) + |u| >= floor(q) }, by the high halves of the
//   codes first and by both where that did not rule the vector out
//
// Work    per vector: dims / 2 bytes read, and 16 per tile of 32; per vector not ruled out dims / 2
//         more. dims multiply-adds for each of QUERIES, and 2 dims for a query that did not rule it
//         out. Bound by memory for one query, by integer dot products for 16.
// Launch  a warp per tile, in strides: any grid, block = 256 (any multiple of 32); QUERIES × 32
//         bytes of dynamic shared memory per 32 dimensions.
// Needs   planes and spans as `encode_vectors` writes them; queries <= QUERIES; heads' counts 0.
// Checked against embeddings.search: exact, no tolerance.
extern "C" __global__ void __launch_bounds__(256, 2)
    scan_codes(const uint4* __restrict__ high, const uint4* __restrict__ low,
         const float4* __restrict__ spans, u32 places, u32 groups, const int4* __restrict__ codes,
         u32 queries, const u32* __restrict__ starts, Head* heads, u32* __restrict__ candidates,
         u32 capacity) {
    DYNAMIC_SHARED(int4, words);  // [group][query][2]
    __shared__ Bounds bounds[QUERIES];
    __shared__ u32 skipped[QUERIES][2];  // the places that were scored already
    for (u32 place = threadIdx.x; place < groups * QUERIES * 2; place += blockDim.x) {
        const u32 query = place / 2 % QUERIES, group = place / (2 * QUERIES);
        words[place] = query < queries ? codes[(query * groups + group) * 2 + place % 2]
                                       : make_int4(0, 0, 0, 0);
    }
    if (threadIdx.x < queries) {
        bounds[threadIdx.x] = bounds_of(heads[threadIdx.x]);
        const u32 list = ~u32(heads[threadIdx.x].nearest);
        skipped[threadIdx.x][0] = starts[list];
        skipped[threadIdx.x][1] = starts[list + 1];
    }
    __syncthreads();
    u32 refined = 0;
    const u32 tiles = (places + WARP - 1) / WARP;
    for (u32 tile = warp_number(); tile < tiles; tile += warp_count()) {
        const uint4* plane = high + u64(tile) * groups * WARP + lane();
        i32 sums[QUERIES] = {};
#pragma unroll 4
        for (u32 group = 0; group < groups; ++group) {
            const uint4 halves = plane[group * WARP];
#pragma unroll
            for (u32 query = 0; query < QUERIES; ++query)
                sums[query] = dot(halves, words + (group * QUERIES + query) * 2, sums[query]);
        }
        const float4 span = spans[tile];
        const i32 least = lane() < queries ? bounds[lane()].by_high(span) : NEVER;
        u32 hits = 0;  // by sign bits: sums and bounds are far within 2^30
#pragma unroll
        for (u32 query = 0; query < QUERIES; ++query)
            hits |= (u32(__shfl_sync(FULL, least, query) - 1 - sums[query]) >> 31) << query;
        const u32 place = tile * WARP + lane();
        if (place >= places) hits = 0;
        bool is_refined = false;
        for (; hits != 0; hits &= hits - 1) {
            const u32 query = __ffs(hits) - 1;
            if (place >= skipped[query][0] && place < skipped[query][1]) continue;
            is_refined = true;
            const uint4* lower = low + u64(tile) * groups * WARP + lane();
            const i32 sum = whole_dot(plane, lower, groups, words + 2 * query, 2 * QUERIES);
            if (sum < bounds[query].by_both(span)) continue;
            const u32 number = atomicAdd(&heads[query].candidates, 1u);
            if (number < capacity) candidates[u64(query) * capacity + number] = place;
        }
        refined += is_refined;
    }
    refined = warp_sum(refined);
    if (lane() == 0 && refined != 0) atomicAdd(&heads[0].refined, refined);
}
