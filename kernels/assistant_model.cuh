// What a token of the decoder is made of: exact integer products, norms, positions.
//
// Weights are integers of 8 bits. A vector that meets them is held as 24-bit integers times one
// scale, in three digits of 8 bits, so every sum of products is exact: it depends neither on the
// order nor on how many threads share it. The rounding, of 2^-24 of the largest element, is less
// than what a sum of floats adds.
#pragma once
#include "common.cuh"

#ifndef MODEL_LAYERS
#define MODEL_LAYERS 3
#define MODEL_WIDTH 192
#define MODEL_HEADS 6
#define MODEL_VOCABULARY 896
#endif

constexpr u32 LAYERS = MODEL_LAYERS, WIDTH = MODEL_WIDTH, HEADS = MODEL_HEADS;
constexpr u32 VOCABULARY = MODEL_VOCABULARY, HIDDEN = 4 * WIDTH, HEAD_WIDTH = WIDTH / HEADS;
constexpr u32 PAIRS = HEAD_WIDTH / 2, POSITIONS = 96, GROUPS = POSITIONS / WARP;
// Words of a prompt's record: how many tokens it has, then they.
constexpr u32 ASKED_WORDS = 40, ANSWER_TOKENS = 64;
// 127 * 65536 + 127 * 256 + 127 is the largest integer of three such digits with a sign; less than
// it by more than what scaling rounds.
constexpr f32 DIGITS_MAX = 8355700.0f;
constexpr f32 EPSILON = 1e-6f;
// Sixteen bytes of weights.
constexpr u32 PIECE = 16;
// Lanes that share a row of WIDTH weights: so many that each has three or four pieces.
constexpr u32 ROW_LANES = WIDTH / PIECE % 8 == 0 ? 8 : 4;
// Bytes of a layer's matrices, and where in it each begins.
constexpr u64 SQUARE = u64(WIDTH) * WIDTH, LAYER = 12 * SQUARE;
constexpr u64 ATTEND = 0, MERGE = 3 * SQUARE, WIDEN = 4 * SQUARE, NARROW = 8 * SQUARE;
// Where the first layer begins, behind the embedding.
constexpr u64 FIRST_LAYER = u64(VOCABULARY) * WIDTH;

static_assert(WIDTH % (PIECE * ROW_LANES) == 0 && HEAD_WIDTH % WARP == 0, "whole pieces");

// The three digits of `length` integers, the highest first, as the bytes of sixteen-byte pieces.
__device__ __forceinline__ void put_digits(i32 value, u8* digits, u32 length, u32 at) {
    const i32 low = i8(value & 0xFF), upper = (value - low) >> 8;
    const i32 middle = i8(upper & 0xFF);
    digits[at] = u8((upper - middle) >> 8);
    digits[length + at] = u8(middle);
    digits[2 * length + at] = u8(low);
}

__device__ __forceinline__ i32 dot4(u32 weights, u32 digits, i32 sum) {
    return __dp4a(i32(weights), i32(digits), sum);
}

__device__ __forceinline__ i32 dot16(const uint4& weights, const uint4& digits, i32 sum) {
    sum = dot4(weights.x, digits.x, sum);
    sum = dot4(weights.y, digits.y, sum);
    sum = dot4(weights.z, digits.z, sum);
    return dot4(weights.w, digits.w, sum);
}

// The sum of products of some pieces of weights with the same ones of a vector's digits.
template <u32 PIECES>
__device__ __forceinline__ i64 dot(const uint4 (&weights)[PIECES],
                                   const uint4 (&digits)[3][PIECES]) {
    i32 sums[3] = {0, 0, 0};
#pragma unroll
    for (u32 piece = 0; piece < PIECES; ++piece)
#pragma unroll
        for (u32 digit = 0; digit < 3; ++digit)
            sums[digit] = dot16(weights[piece], digits[digit][piece], sums[digit]);
    return (i64(sums[0]) << 16) + i64(sums[1]) * 256 + sums[2];
}

// A sum over the 2, 4, ... lanes of a group, in all of them.
template <u32 LANES>
__device__ __forceinline__ i64 group_sum(i64 value) {
#pragma unroll
    for (u32 step = LANES / 2; step > 0; step /= 2) value += __shfl_xor_sync(FULL, value, step);
    return value;
}

// This lane's pieces of a row of weights.
template <u32 INPUTS, u32 LANES>
__device__ __forceinline__ void load_row(const uint4* matrix, u32 row,
                                         uint4 (&weights)[INPUTS / PIECE / LANES]) {
    const uint4* place = matrix + u64(row) * (INPUTS / PIECE) + lane() % LANES;
#pragma unroll
    for (u32 piece = 0; piece < INPUTS / PIECE / LANES; ++piece)
        weights[piece] = __ldg(place + piece * LANES);
}

// This lane's pieces of a vector's digits.
template <u32 INPUTS, u32 LANES>
__device__ __forceinline__ void load_digits(const uint4* digits,
                                            uint4 (&own)[3][INPUTS / PIECE / LANES]) {
#pragma unroll
    for (u32 digit = 0; digit < 3; ++digit)
#pragma unroll
        for (u32 piece = 0; piece < INPUTS / PIECE / LANES; ++piece)
            own[digit][piece] = digits[digit * (INPUTS / PIECE) + piece * LANES + lane() % LANES];
}

// Gives `take` each of the rows times the vector: (row, sum), in the first lane of its group. Rows
// are dealt to all warps of `warps`, this being number `warp` of them.
template <u32 INPUTS, u32 LANES, class Take>
__device__ __forceinline__ void multiply(const i8* matrix, u32 rows, const uint4* digits, u32 warp,
                                         u32 warps, Take take) {
    constexpr u32 EACH = WARP / LANES, PIECES = INPUTS / PIECE / LANES;
    uint4 own[3][PIECES];
    load_digits<INPUTS, LANES>(digits, own);
    for (u32 first = warp * EACH; first < rows; first += warps * EACH) {
        const u32 row = first + lane() / LANES;
        uint4 weights[PIECES];
        load_row<INPUTS, LANES>(reinterpret_cast<const uint4*>(matrix), row, weights);
        const i64 sum = group_sum<LANES>(dot<PIECES>(weights, own));
        if (lane() % LANES == 0) take(row, f32(sum));
    }
}

// What turns a vector into digits, and a sum of them back: 24-bit integers of `up` times it.
struct Scale {
    f32 up, down;
};

__device__ __forceinline__ Scale scale_of(f32 top) {
    return top > 0 ? Scale{DIGITS_MAX / top, top / DIGITS_MAX} : Scale{0, 0};
}

// 1 / root of the mean square, of the sum of squares of WIDTH values.
__device__ __forceinline__ f32 inverse_root(f32 squares) {
    return 1.0f / sqrtf(squares / WIDTH + EPSILON);
}

// e^x for x <= 0, to 2 units in the last place: Cody and Waite's reduction and a polynomial.
__device__ __forceinline__ f32 exponential(f32 x) {
    constexpr f32 ROUND = 12582912.0f;
    x = x > -87.0f ? x : -87.0f;
    const f32 whole = __fadd_rn(__fmaf_rn(x, 1.44269504f, ROUND), -ROUND);
    const f32 rest = __fmaf_rn(whole, -1.4286068e-6f, __fmaf_rn(whole, -0.69314575f, x));
    f32 power = 1.0f / 5040;
    power = __fmaf_rn(rest, power, 1.0f / 720);
    power = __fmaf_rn(rest, power, 1.0f / 120);
    power = __fmaf_rn(rest, power, 1.0f / 24);
    power = __fmaf_rn(rest, power, 1.0f / 6);
    power = __fmaf_rn(rest, power, 0.5f);
    power = __fmaf_rn(rest, power, 1.0f);
    power = __fmaf_rn(rest, power, 1.0f);
    return power * __uint_as_float(u32(i32(whole) + 127) << 23);
}

// The sum of squares and the largest size of a shared vector, found by every warp for itself.
__device__ __forceinline__ void measure(const f32* vector, u32 length, f32* squares, f32* top) {
    f32 sum = 0, largest = 0;
    for (u32 at = lane(); at < length; at += WARP) {
        const f32 value = vector[at];
        sum = __fmaf_rn(value, value, sum);
        largest = fmaxf(largest, fabsf(value));
    }
    *squares = warp_sum(sum);
    *top = warp_max(largest);
}

// The row of the embedding that a token is looked up in: another one than that which gives its
// logit, or each token would be followed by itself.
__device__ __forceinline__ u32 row_of(u32 token) { return (5 * token + 17) % VOCABULARY; }

// Logits in an order of integers, the lower row first of equal ones.
__device__ __forceinline__ u64 ranked(f32 logit, u32 row) {
    const u32 bits = __float_as_uint(logit + 0.0f);
    const u32 ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
    return u64(ordered) << 32 | u32(~row);
}

__device__ __forceinline__ u32 row_ranked(u64 rank) { return ~u32(rank); }

// A digest of the tokens as they are chosen.
__device__ __forceinline__ u64 digest_with(u64 digest, u32 token) {
    return ((digest << 7 | digest >> 57) ^ token) * 0x9E3779B97F4A7C15ull;
}

// One head's attention to `count` positions from `first` on, by one warp (Dao et al.,
// "Flash-Decoding", 2023): the largest score, the sum of the weights, the values by their weights.
// Keys stand by dimension and position, values by position and dimension.
__device__ __forceinline__ void attend_group(const f32* query, const f32* keys, const f32* values,
                                             u32 first, u32 count, f32* top, f32* total,
                                             f32* sums) {
    f32 score = 0;
    if (lane() < count) {
#pragma unroll 16
        for (u32 dimension = 0; dimension < HEAD_WIDTH; ++dimension) {
            const f32 key = keys[dimension * POSITIONS + first + lane()];
            score = __fmaf_rn(query[dimension], key, score);
        }
        score *= 1.0f / sqrtf(f32(HEAD_WIDTH));
    }
    const f32 highest = warp_max(lane() < count ? score : -3e38f);
    const f32 weight = lane() < count ? exponential(score - highest) : 0.0f;
    const f32 weights = warp_sum(weight);
    for (u32 dimension = lane(); dimension < HEAD_WIDTH; dimension += WARP) {
        const f32* value = values + first * HEAD_WIDTH + dimension;
        f32 sum = 0;
#pragma unroll 8
        for (u32 at = 0; at < count; ++at)
            sum = __fmaf_rn(__shfl_sync(FULL, weight, at), value[at * HEAD_WIDTH], sum);
        sums[dimension] = sum;
    }
    if (lane() == 0) {
        *top = highest;
        *total = weights;
    }
}

// One dimension of a head's weighted mean over all groups of positions.
__device__ __forceinline__ f32 joined(const f32* tops, const f32* totals, const f32* sums,
                                      u32 groups, u32 dimension) {
    f32 top = tops[0], total = 0, sum = 0;
    for (u32 group = 1; group < groups; ++group) top = fmaxf(top, tops[group]);
    for (u32 group = 0; group < groups; ++group) {
        const f32 share = exponential(tops[group] - top);
        total = __fmaf_rn(share, totals[group], total);
        sum = __fmaf_rn(share, sums[group * HEAD_WIDTH + dimension], sum);
    }
    return sum / total;
}
