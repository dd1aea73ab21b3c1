// The decoder of the assistant for many sequences at once: what lies between the matrix products.
#include "assistant_model.cuh"

// Widen: weights as floats, for products of floats.
//
//   out[i] = weights[i]
//
// Work    per weight: one byte read, four written. Bound by memory.
// Launch  a thread per 16 weights: grid = ceil(pieces / block), any block.
// Needs   whole pieces of 16 weights.
// Checked against decoder.drawn: exact.
extern "C" __global__ void to_floats(const uint4* __restrict__ weights, u32 pieces,
                                     float4* __restrict__ out) {
    const u32 piece = blockIdx.x * blockDim.x + threadIdx.x;
    if (piece >= pieces) return;
    const uint4 own = weights[piece];
    const u32 words[4] = {own.x, own.y, own.z, own.w};
    for (u32 at = 0; at < 4; ++at)
        out[piece * 4 + at] = make_float4(i8(words[at]), i8(words[at] >> 8), i8(words[at] >> 16),
                                          i8(words[at] >> 24));
}

// Embed: the stream of every sequence at a position begins as a row of the embedding.
//
//   x[s] = E[row(token[s])]
//
// Work    per sequence: WIDTH bytes read, four times as many written. Bound by memory.
// Launch  a block of any threads per sequence.
// Needs   `asked` and `said` as `speak` has them, a record for each sequence.
// Checked against decoder.Decoder: exact.
extern "C" __global__ void embed_batch(const i8* __restrict__ embedding,
                                       const u32* __restrict__ asked,
                                       const u32* __restrict__ said, f32* __restrict__ streams,
                                       u32 position, f32 embedding_scale) {
    const u32* prompt = asked + blockIdx.x * ASKED_WORDS;
    const u32 prompted = prompt[0];
    const u32 answer = min(position - prompted, ANSWER_TOKENS - 1);
    const u32 token =
        position < prompted ? prompt[1 + position] : said[blockIdx.x * ANSWER_TOKENS + answer];
    for (u32 at = threadIdx.x; at < WIDTH; at += blockDim.x)
        streams[blockIdx.x * WIDTH + at] =
            embedding[row_of(token) * WIDTH + at] * embedding_scale;
}

// Normal: every stream over the root of its mean square.
//
//   out[s] = x[s] / root(mean(x[s]^2) + 1e-6)
//
// Work    per sequence: 4 WIDTH bytes read and written, 3 WIDTH operations. Bound by memory.
// Launch  a warp per sequence: grid = ceil(count / (block / 32)).
// Needs   whole warps.
// Checked against decoder.Decoder: within Assistant.tolerance.
extern "C" __global__ void normal_batch(const f32* __restrict__ streams, u32 count,
                                        f32* __restrict__ out) {
    const u32 sequence = (blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    if (sequence >= count) return;  // a whole warp leaves together
    f32 squares, top;
    measure(streams + sequence * WIDTH, WIDTH, &squares, &top);
    const f32 factor = inverse_root(squares);
    for (u32 at = lane(); at < WIDTH; at += WARP)
        out[sequence * WIDTH + at] = factor * streams[sequence * WIDTH + at];
}

// Attend: every head of every sequence turns its query and key, keeps key and value, and takes the
// weighted mean of the values so far.
//
//   out[s, head] = softmax(q K / root(width)) V
//
// Work    per head and position: 8 bytes of keys and values per position so far and dimension.
//         Bound by memory.
// Launch  a block of 96 threads (any whole warps) per head and sequence: grid = count * HEADS.
// Needs   `projected` holds queries, keys and values of each sequence; `cache` a sequence's keys,
//         then its values, by layer.
// Checked against decoder.Decoder: within Assistant.tolerance.
extern "C" __global__ void __launch_bounds__(256)
attend_batch(f32* __restrict__ projected, const float2* __restrict__ rotations,
             f32* __restrict__ cache, f32* __restrict__ out, u32 layer, u32 position) {
    __shared__ f32 tops[GROUPS], totals[GROUPS], sums[GROUPS * HEAD_WIDTH], query[HEAD_WIDTH];
    const u32 head = blockIdx.x % HEADS, sequence = blockIdx.x / HEADS;
    const f32* own = projected + u64(sequence) * 3 * WIDTH + head * HEAD_WIDTH;
    const u64 kept = (u64(layer) * HEADS + head) * HEAD_WIDTH * POSITIONS;
    f32* keys = cache + u64(sequence) * 2 * LAYERS * POSITIONS * WIDTH + kept;
    f32* values = keys + LAYERS * POSITIONS * WIDTH;
    for (u32 at = threadIdx.x; at < HEAD_WIDTH; at += blockDim.x) {
        const u32 pair = at % PAIRS;
        const f32* vector = own + (at < PAIRS ? 0 : WIDTH) + pair;
        const float2 turn = __ldg(rotations + position * PAIRS + pair);
        const f32 first = vector[0] * turn.x - vector[PAIRS] * turn.y;
        const f32 second = vector[0] * turn.y + vector[PAIRS] * turn.x;
        if (at < PAIRS) {
            query[pair] = first;
            query[pair + PAIRS] = second;
        } else {
            keys[pair * POSITIONS + position] = first;
            keys[(pair + PAIRS) * POSITIONS + position] = second;
        }
        values[position * HEAD_WIDTH + at] = own[2 * WIDTH + at];
    }
    __syncthreads();
    const u32 groups = position / WARP + 1;
    for (u32 group = threadIdx.x / WARP; group < groups; group += blockDim.x / WARP)
        attend_group(query, keys, values, group * WARP, min(position + 1 - group * WARP, WARP),
                     tops + group, totals + group, sums + group * HEAD_WIDTH);
    __syncthreads();
    for (u32 at = threadIdx.x; at < HEAD_WIDTH; at += blockDim.x)
        out[sequence * WIDTH + head * HEAD_WIDTH + at] = joined(tops, totals, sums, groups, at);
}

// Rectify: what is below zero becomes zero.
//
//   x[i] = max(x[i], 0)
//
// Work    per value: 4 bytes read and written. Bound by memory.
// Launch  a thread per four values: grid = ceil(count / block), any block.
// Needs   a multiple of four values; `count` is their quarter.
// Checked against decoder.Decoder: exact.
extern "C" __global__ void rectify(float4* __restrict__ values, u32 count) {
    const u32 at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    const float4 own = values[at];
    values[at] = make_float4(fmaxf(own.x, 0.0f), fmaxf(own.y, 0.0f), fmaxf(own.z, 0.0f),
                             fmaxf(own.w, 0.0f));
}

// Choose: every sequence's likeliest token, the first of equals, where its prompt is over, and the
// digest of all its tokens.
//
//   token[s] = the first v of the largest logits[s, v]
//
// Work    per sequence: 4 VOCABULARY bytes read. Bound by memory.
// Launch  a block of 256 threads (any whole warps) per sequence.
// Needs   `said` has room for 64 tokens per sequence; the tokens are chosen one after the other.
// Checked against decoder.Decoder: exact for given logits.
extern "C" __global__ void __launch_bounds__(1024)
choose_batch(const f32* __restrict__ logits, const u32* __restrict__ asked,
             u32* __restrict__ said, u64* __restrict__ digests, u32 position, u32 tokens) {
    __shared__ u64 ranks[WARP];
    const u32 answer = position + 1 - asked[blockIdx.x * ASKED_WORDS], warp = threadIdx.x / WARP;
    u64 best = 0;
    for (u32 row = threadIdx.x; row < VOCABULARY; row += blockDim.x) {
        const u64 rank = ranked(logits[u64(blockIdx.x) * VOCABULARY + row], row);
        if (rank > best) best = rank;
    }
    best = warp_max(best);
    if (lane() == 0) ranks[warp] = best;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (u32 other = 1; other < blockDim.x / WARP; ++other)
        best = ranks[other] > best ? ranks[other] : best;
    // Before the end of the prompt the number has wrapped around.
    if (answer >= tokens) return;
    const u32 token = row_ranked(best);
    said[blockIdx.x * ANSWER_TOKENS + answer] = token;
    digests[blockIdx.x] = digest_with(answer == 0 ? 0 : digests[blockIdx.x], token);
}
