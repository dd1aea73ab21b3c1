// The decoder of the assistant where it is small: one block says a whole answer.
#include "assistant_model.cuh"

// Lanes that share a row of HIDDEN weights.
constexpr u32 HIDDEN_LANES = 4 * ROW_LANES;
// Warps that a block has at most.
constexpr u32 WARPS_MAX = 32;

// Draw: the weights of one matrix, sixteen from each block of random words.
//
//   weights[i] = max(byte i of the stream, -127)
//
// Work    per 16 weights: one block of Philox4x32-10, 16 bytes written. Bound by integers.
// Launch  a thread per 16 weights: grid = ceil(pieces / block), any block.
// Needs   whole pieces of 16 weights, row after row of the matrix.
// Checked against decoder.drawn: exact.
extern "C" __global__ void draw(uint4* __restrict__ weights, u32 pieces, u32 key0, u32 key1) {
    const u32 piece = blockIdx.x * blockDim.x + threadIdx.x;
    if (piece >= pieces) return;
    const Words words = philox({piece, 0, 0, 0}, key0, key1);
    const u32 given[4] = {words.x, words.y, words.z, words.w};
    u32 held[4];
    for (u32 at = 0; at < 4; ++at)
        held[at] = given[at] + (__vcmpeq4(given[at], 0x80808080u) & 0x01010101u);
    weights[piece] = make_uint4(held[0], held[1], held[2], held[3]);
}

// What a block keeps of one sequence while it decodes.
struct Sequence {
    uint4 digits[3 * HIDDEN / PIECE];
    f32 stream[WIDTH];
    f32 vector[HIDDEN];
    f32 attended[WIDTH];
    // Of a head's 32 positions: the largest score, the sum of the weights, the values by them.
    f32 tops[HEADS * GROUPS], totals[HEADS * GROUPS], values[HEADS * GROUPS * HEAD_WIDTH];
    u64 ranks[WARPS_MAX];
    u32 hidden_top, token;

    __device__ u8* bytes() { return reinterpret_cast<u8*>(digits); }
};

// Writes the digits of a shared vector; the block has met before and meets behind.
__device__ __forceinline__ void put_vector(Sequence& own, const f32* vector, u32 length, f32 up) {
    for (u32 at = threadIdx.x; at < length; at += blockDim.x)
        put_digits(__float2int_rn(vector[at] * up), own.bytes(), length, at);
    __syncthreads();
}

// The stream as digits; returns what a sum of them is times, to be of the normed stream.
__device__ __forceinline__ f32 put_normal(Sequence& own) {
    f32 squares, top;
    measure(own.stream, WIDTH, &squares, &top);
    const Scale scale = scale_of(top);
    put_vector(own, own.stream, WIDTH, scale.up);
    return scale.down * inverse_root(squares);
}

// Turns queries and keys by their position's angles and keeps keys, by dimension and position, and
// values, by position and dimension.
__device__ __forceinline__ void keep(Sequence& own, const float2* rotations, f32* keys, f32* values,
                                     u32 position) {
    for (u32 at = threadIdx.x; at < WIDTH; at += blockDim.x) {
        const bool is_key = at >= WIDTH / 2;
        const u32 pair = at % (WIDTH / 2), head = pair / PAIRS, place = pair % PAIRS;
        f32* vector = own.vector + (is_key ? WIDTH : 0) + head * HEAD_WIDTH + place;
        const float2 turn = __ldg(rotations + position * PAIRS + place);
        const f32 first = vector[0] * turn.x - vector[PAIRS] * turn.y;
        const f32 second = vector[0] * turn.y + vector[PAIRS] * turn.x;
        if (is_key) {
            f32* kept = keys + (head * HEAD_WIDTH + place) * POSITIONS + position;
            kept[0] = first;
            kept[PAIRS * POSITIONS] = second;
        } else {
            vector[0] = first;
            vector[PAIRS] = second;
        }
    }
    for (u32 at = threadIdx.x; at < WIDTH; at += blockDim.x) {
        const u32 head = at / HEAD_WIDTH, dimension = at % HEAD_WIDTH;
        values[(head * POSITIONS + position) * HEAD_WIDTH + dimension] = own.vector[2 * WIDTH + at];
    }
    __syncthreads();
}

// Attention of every head to every 32 positions, a warp for each of them, then their weighted mean.
__device__ __forceinline__ void attend(Sequence& own, const f32* keys, const f32* values,
                                       u32 position) {
    const u32 groups = position / WARP + 1;
    for (u32 task = threadIdx.x / WARP; task < HEADS * groups; task += blockDim.x / WARP) {
        const u32 head = task / groups, group = task % groups, slot = head * GROUPS + group;
        const u32 kept = head * HEAD_WIDTH * POSITIONS;
        attend_group(own.vector + head * HEAD_WIDTH, keys + kept, values + kept, group * WARP,
                     min(position + 1 - group * WARP, WARP), own.tops + slot, own.totals + slot,
                     own.values + slot * HEAD_WIDTH);
    }
    __syncthreads();
    for (u32 at = threadIdx.x; at < WIDTH; at += blockDim.x) {
        const u32 slot = at / HEAD_WIDTH * GROUPS;
        own.attended[at] = joined(own.tops + slot, own.totals + slot,
                                  own.values + slot * HEAD_WIDTH, groups, at % HEAD_WIDTH);
    }
    __syncthreads();
}

// One layer at one position; the stream is as it was left, and left complete.
__device__ void layer_step(Sequence& own, const i8* layer, const float2* rotations, f32* keys,
                           f32* values, u32 position, f32 scale, f32 narrow_scale) {
    const u32 warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    f32 factor = scale * put_normal(own);
    multiply<WIDTH, ROW_LANES>(layer + ATTEND, 3 * WIDTH, own.digits, warp, warps,
                               [&](u32 row, f32 sum) { own.vector[row] = factor * sum; });
    if (threadIdx.x == 0) own.hidden_top = 0;
    __syncthreads();
    keep(own, rotations, keys, values, position);
    attend(own, keys, values, position);

    f32 squares, top;
    measure(own.attended, WIDTH, &squares, &top);
    const Scale merged = scale_of(top);
    put_vector(own, own.attended, WIDTH, merged.up);
    factor = scale * merged.down;
    multiply<WIDTH, ROW_LANES>(layer + MERGE, WIDTH, own.digits, warp, warps,
                               [&](u32 row, f32 sum) { own.stream[row] += factor * sum; });
    __syncthreads();

    factor = scale * put_normal(own);
    f32 largest = 0;
    multiply<WIDTH, ROW_LANES>(layer + WIDEN, HIDDEN, own.digits, warp, warps,
                               [&](u32 row, f32 sum) {
                                   own.vector[row] = fmaxf(factor * sum, 0.0f);
                                   largest = fmaxf(largest, own.vector[row]);
                               });
    largest = warp_max(largest);
    // Floats that are not negative are in the order of their bits.
    if (lane() == 0) atomicMax(&own.hidden_top, __float_as_uint(largest));
    __syncthreads();
    const Scale narrowed = scale_of(__uint_as_float(own.hidden_top));
    put_vector(own, own.vector, HIDDEN, narrowed.up);
    factor = narrow_scale * narrowed.down;
    multiply<HIDDEN, HIDDEN_LANES>(layer + NARROW, WIDTH, own.digits, warp, warps,
                                   [&](u32 row, f32 sum) { own.stream[row] += factor * sum; });
    __syncthreads();
}

// The likeliest token after the stream, the first of equals, in every thread.
__device__ u32 choose_token(Sequence& own, const i8* embedding, f32 logit_scale, f32* logits) {
    const u32 warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    const f32 factor = logit_scale * put_normal(own);
    u64 best = 0;
    multiply<WIDTH, ROW_LANES>(embedding, VOCABULARY, own.digits, warp, warps,
                               [&](u32 row, f32 sum) {
                                   const f32 logit = factor * sum;
                                   const u64 rank = ranked(logit, row);
                                   if (rank > best) best = rank;
                                   if (logits != nullptr) logits[row] = logit;
                               });
    best = warp_max(best);
    if (lane() == 0) own.ranks[warp] = best;
    __syncthreads();
    best = warp_max(lane() < warps ? own.ranks[lane()] : 0ull);
    return row_ranked(best);
}

// Speak: the tokens that a small decoder gives to a prompt, each the likeliest after those before.
//
//   x = E[row(token)]; for each layer: x += M attend(A norm(x)); x += N max(W norm(x), 0)
//   next token = the first largest of E norm(x)
//
// Work    per position: every weight of the layers read once, a byte and three multiply-adds each
//         (a vector has three digits), and the embedding's at the last of the prompt and those
//         behind it; 8 bytes of keys and values and two multiply-adds per position so far, layer
//         and width. Bound by what one multiprocessor reads from the cache: a block per sequence,
//         as many sequences at once as there are multiprocessors.
// Launch  a block of 768 threads (any whole warps) per sequence, all of an answer in one launch.
// Needs   matrices of whole rows behind the embedding; `asked` holds prompts of up to 32 tokens,
//         `cache` room for 2 * LAYERS * 96 * WIDTH floats per sequence. Answers `first` to `until`
//         are chosen, until <= 64; with `first` > 0 the cache holds the positions before, and
//         `said` the tokens. `chosen` has room for 64 tokens per sequence.
// Checked against decoder.Decoder: tokens exact, logits within Assistant.tolerance.
extern "C" __global__ void __launch_bounds__(768)
speak(const i8* __restrict__ weights, const float2* __restrict__ rotations,
      const u32* __restrict__ asked, f32* __restrict__ cache, const u32* said, u32* chosen,
      u64* __restrict__ digests, f32* __restrict__ logits, u32 first, u32 until, f32 scale,
      f32 narrow_scale, f32 embedding_scale, f32 logit_scale) {
    __shared__ Sequence own;
    const u32* prompt = asked + blockIdx.x * ASKED_WORDS;
    const u32 prompted = prompt[0];
    f32* keys = cache + u64(blockIdx.x) * 2 * LAYERS * POSITIONS * WIDTH;
    f32* values = keys + LAYERS * POSITIONS * WIDTH;
    u32 position = first == 0 ? 0 : prompted + first - 1, answers = first;
    u32 token = first == 0 ? prompt[1] : said[blockIdx.x * ANSWER_TOKENS + first - 1];
    u64 digest = 0;
    while (answers < until) {
        for (u32 at = threadIdx.x; at < WIDTH; at += blockDim.x)
            own.stream[at] = weights[row_of(token) * WIDTH + at] * embedding_scale;
        __syncthreads();
        for (u32 layer = 0; layer < LAYERS; ++layer) {
            const u64 kept = u64(layer) * POSITIONS * WIDTH;
            layer_step(own, weights + FIRST_LAYER + layer * LAYER, rotations, keys + kept,
                       values + kept, position, scale, narrow_scale);
        }
        position += 1;
        if (position < prompted) {
            token = prompt[1 + position];
        } else {
            f32* kept = answers + 1 == until ? logits + blockIdx.x * VOCABULARY : nullptr;
            token = choose_token(own, weights, logit_scale, kept);
            digest = digest_with(digest, token);
            if (threadIdx.x == 0) chosen[blockIdx.x * ANSWER_TOKENS + answers] = token;
            answers += 1;
        }
    }
    if (threadIdx.x == 0) digests[blockIdx.x] = digest;
}
