// The decoder of the assistant where it is large: each layer of a token is two launches over many
// blocks, and the choice of the next one is a third kernel.
//
// The stream is kept in integers of 2^-40, to which blocks add in any order with one result. Three
// such vectors take turns: step k reads number k % 3, adds to the next, and clears the one after.
#include "assistant_model.cuh"

constexpr f32 FIXED = 1099511627776.0f;  // 2^40
// Hidden values of one block, and warps that a block has at most.
constexpr u32 SLICE = 32, WARPS_MAX = 32;

__device__ __forceinline__ u64 fixed(f32 value) { return u64(i64(value * FIXED)); }

__device__ __forceinline__ f32 from_fixed(u64 value) { return f32(i64(value)) * (1.0f / FIXED); }

// The stream of this step in shared memory and as digits; returns what a sum of them is times, to
// be of the normed stream.
__device__ __forceinline__ f32 take_stream(const u64* read, f32* stream, u8* digits) {
    for (u32 at = threadIdx.x; at < WIDTH; at += blockDim.x) stream[at] = from_fixed(read[at]);
    __syncthreads();
    f32 squares, top;
    measure(stream, WIDTH, &squares, &top);
    const Scale scale = scale_of(top);
    for (u32 at = threadIdx.x; at < WIDTH; at += blockDim.x)
        put_digits(__float2int_rn(stream[at] * scale.up), digits, WIDTH, at);
    __syncthreads();
    return scale.down * inverse_root(squares);
}

// The first block hands the stream on and clears what the next step adds to.
__device__ __forceinline__ void pass_on(const u64* read, u64* add, u64* clear) {
    if (blockIdx.x != 0) return;
    for (u32 at = threadIdx.x; at < WIDTH; at += blockDim.x) {
        atomicAdd(add + at, read[at]);
        clear[at] = 0;
    }
}

// Adds to the stream what COUNT of a matrix's inputs, from `first` on, give: a thread for each
// output. `vector` is theirs in shared memory.
template <u32 INPUTS, u32 COUNT>
__device__ __forceinline__ void add_part(const i8* matrix, u32 first, const f32* vector,
                                         u8* digits, f32 scale, u64* add) {
    f32 squares, top;
    measure(vector, COUNT, &squares, &top);
    const Scale taken = scale_of(top);
    for (u32 at = threadIdx.x; at < COUNT; at += blockDim.x)
        put_digits(__float2int_rn(vector[at] * taken.up), digits, COUNT, at);
    __syncthreads();
    uint4 own[3][COUNT / PIECE];
    load_digits<COUNT, 1>(reinterpret_cast<const uint4*>(digits), own);
    const f32 factor = scale * taken.down;
    for (u32 row = threadIdx.x; row < WIDTH; row += blockDim.x) {
        const uint4* place =
            reinterpret_cast<const uint4*>(matrix + u64(row) * INPUTS + first);
        uint4 weights[COUNT / PIECE];
#pragma unroll
        for (u32 piece = 0; piece < COUNT / PIECE; ++piece) weights[piece] = __ldg(place + piece);
        atomicAdd(add + row, fixed(factor * f32(dot<COUNT / PIECE>(weights, own))));
    }
}

// Look up: the stream of a position begins as a row of the embedding.
//
//   x = E[row(token)]
//
// Work    per position: WIDTH bytes read, 16 times as many written. Bound by latency.
// Launch  one block of whole warps.
// Needs   `asked` as `speak` has it; `said` holds the tokens that were chosen before.
// Checked against decoder.Decoder: exact.
extern "C" __global__ void __launch_bounds__(512)
look_up(const i8* __restrict__ embedding, const u32* __restrict__ asked,
        const u32* __restrict__ said, u64* __restrict__ streams, u32 step, u32 position,
        f32 embedding_scale) {
    const u32 prompted = asked[0];
    const u32 token = position < prompted ? asked[1 + position] : said[position - prompted];
    for (u32 at = threadIdx.x; at < WIDTH; at += blockDim.x) {
        streams[step % 3 * WIDTH + at] =
            fixed(embedding[row_of(token) * WIDTH + at] * embedding_scale);
        streams[(step + 1) % 3 * WIDTH + at] = 0;
    }
}

// Attend: one head's queries, keys and values of the normed stream, its attention to the positions
// so far, and what its part of the merging matrix adds to the stream.
//
//   q, k, v = A[head] norm(x); x += M[:, head] softmax(q K / root(width)) V
//
// Work    per head and position: its share of 4 WIDTH^2 bytes of weights, 8 bytes of keys and
//         values per position so far and dimension read; three multiply-adds a weight, one a key
//         and a value. Bound by latency: a launch of so few bytes is shorter than the way to
//         memory.
// Launch  a block of 512 threads (any whole warps) per head.
// Needs   `step` counts the launches of an answer but for `look_up` and `choose`; the vector that
//         it adds to was cleared.
// Checked against decoder.Decoder: within Assistant.tolerance.
extern "C" __global__ void __launch_bounds__(512)
attend_head(const i8* __restrict__ layer, const float2* __restrict__ rotations,
            f32* __restrict__ keys, f32* __restrict__ values, u64* __restrict__ streams, u32 step,
            u32 position, f32 scale) {
    __shared__ uint4 digits[3 * WIDTH / PIECE];
    __shared__ uint4 head_digits[3 * HEAD_WIDTH / PIECE];
    __shared__ f32 stream[WIDTH], vector[3 * HEAD_WIDTH], attended[HEAD_WIDTH];
    __shared__ f32 tops[GROUPS], totals[GROUPS], sums[GROUPS * HEAD_WIDTH];
    const u32 head = blockIdx.x, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    const u64* read = streams + step % 3 * WIDTH;
    u64* add = streams + (step + 1) % 3 * WIDTH;
    keys += head * HEAD_WIDTH * POSITIONS;
    values += head * HEAD_WIDTH * POSITIONS;
    pass_on(read, add, streams + (step + 2) % 3 * WIDTH);

    const f32 factor = scale * take_stream(read, stream, reinterpret_cast<u8*>(digits));
    for (u32 part = 0; part < 3; ++part)
        multiply<WIDTH, ROW_LANES>(layer + ATTEND + (part * WIDTH + head * HEAD_WIDTH) * WIDTH,
                                   HEAD_WIDTH, digits, warp, warps, [&](u32 row, f32 sum) {
                                       vector[part * HEAD_WIDTH + row] = factor * sum;
                                   });
    __syncthreads();
    for (u32 at = threadIdx.x; at < 2 * PAIRS; at += blockDim.x) {
        const u32 place = at % PAIRS;
        f32* own = vector + at / PAIRS * HEAD_WIDTH + place;
        const float2 turn = __ldg(rotations + position * PAIRS + place);
        const f32 first = own[0] * turn.x - own[PAIRS] * turn.y;
        own[PAIRS] = own[0] * turn.y + own[PAIRS] * turn.x;
        own[0] = first;
    }
    __syncthreads();
    for (u32 at = threadIdx.x; at < HEAD_WIDTH; at += blockDim.x) {
        keys[at * POSITIONS + position] = vector[HEAD_WIDTH + at];
        values[position * HEAD_WIDTH + at] = vector[2 * HEAD_WIDTH + at];
    }
    __syncthreads();
    const u32 groups = position / WARP + 1;
    for (u32 group = warp; group < groups; group += warps)
        attend_group(vector, keys, values, group * WARP, min(position + 1 - group * WARP, WARP),
                     tops + group, totals + group, sums + group * HEAD_WIDTH);
    __syncthreads();
    for (u32 at = threadIdx.x; at < HEAD_WIDTH; at += blockDim.x)
        attended[at] = joined(tops, totals, sums, groups, at);
    __syncthreads();
    add_part<WIDTH, HEAD_WIDTH>(layer + MERGE, head * HEAD_WIDTH, attended,
                                reinterpret_cast<u8*>(head_digits), scale, add);
}

// Think: some hidden values of a layer, and what they add to the stream.
//
//   h = max(W[slice] norm(x), 0); x += N[:, slice] h
//
// Work    per 32 hidden values: 64 WIDTH bytes of weights read, three multiply-adds each. Bound by
//         latency, as `attend_head`.
// Launch  a block of 256 threads (any whole warps) per 32 hidden values: grid = WIDTH / 8.
// Needs   as `attend_head`.
// Checked against decoder.Decoder: within Assistant.tolerance.
extern "C" __global__ void __launch_bounds__(512)
think(const i8* __restrict__ layer, u64* __restrict__ streams, u32 step, f32 scale,
      f32 narrow_scale) {
    __shared__ uint4 digits[3 * WIDTH / PIECE];
    __shared__ uint4 slice_digits[3 * SLICE / PIECE];
    __shared__ f32 stream[WIDTH], vector[SLICE];
    const u32 first = blockIdx.x * SLICE;
    const u64* read = streams + step % 3 * WIDTH;
    u64* add = streams + (step + 1) % 3 * WIDTH;
    pass_on(read, add, streams + (step + 2) % 3 * WIDTH);

    const f32 factor = scale * take_stream(read, stream, reinterpret_cast<u8*>(digits));
    multiply<WIDTH, ROW_LANES>(layer + WIDEN + first * WIDTH, SLICE, digits, threadIdx.x / WARP,
                               blockDim.x / WARP, [&](u32 row, f32 sum) {
                                   vector[row] = fmaxf(factor * sum, 0.0f);
                               });
    __syncthreads();
    add_part<HIDDEN, SLICE>(layer + NARROW, first, vector, reinterpret_cast<u8*>(slice_digits),
                            narrow_scale, add);
}

// Choose: the likeliest token after the stream, the first of equals.
//
//   logits[v] = E[v] norm(x); token = the first v of the largest
//
// Work    per token: every weight of the embedding read once, three multiply-adds each; bound by
//         memory or the cache. `logits` is written where `keeps` is not 0.
// Launch  two blocks of 256 threads (any whole warps) per multiprocessor; any grid. The last block
//         that ends writes the token.
// Needs   `best`, of two words, 0 before the first launch and left so; `step` as `attend_head`.
// Checked against decoder.Decoder: tokens exact, logits within Assistant.tolerance.
extern "C" __global__ void __launch_bounds__(512)
choose(const i8* __restrict__ embedding, const u64* __restrict__ streams, u64* __restrict__ best,
       u32* __restrict__ said, u32* __restrict__ chosen, u64* __restrict__ digest,
       f32* __restrict__ logits, u32 step, u32 answer, u32 keeps, f32 logit_scale) {
    __shared__ uint4 digits[3 * WIDTH / PIECE];
    __shared__ f32 stream[WIDTH];
    __shared__ u64 ranks[WARPS_MAX];
    const u32 warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    const f32 factor = logit_scale * take_stream(streams + step % 3 * WIDTH, stream,
                                                 reinterpret_cast<u8*>(digits));
    u64 own = 0;
    multiply<WIDTH, ROW_LANES>(embedding, VOCABULARY, digits, blockIdx.x * warps + warp,
                               gridDim.x * warps, [&](u32 row, f32 sum) {
                                   const f32 logit = factor * sum;
                                   const u64 rank = ranked(logit, row);
                                   if (rank > own) own = rank;
                                   if (keeps != 0) logits[row] = logit;
                               });
    own = warp_max(own);
    if (lane() == 0) ranks[warp] = own;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (u32 other = 1; other < warps; ++other) own = ranks[other] > own ? ranks[other] : own;
    atomicMax(best, own);
    __threadfence();
    if (atomicAdd(best + 1, 1ull) + 1 != gridDim.x) return;
    __threadfence();
    const u32 token = row_ranked(atomicExch(best, 0ull));
    atomicExch(best + 1, 0ull);
    said[answer] = token;
    chosen[answer] = token;
    *digest = digest_with(answer == 0 ? 0 : *digest, token);
}
