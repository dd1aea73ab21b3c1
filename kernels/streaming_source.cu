// The `streaming` component's chunks that a device makes by itself: random words, and walks of
// integers and of floats.
#include "common.cuh"

constexpr u32 INT32 = 2, FLOAT32 = 3, RANDOM = 4;
constexpr u32 WARPS_MAX = 32, WORDS_MAX = 16;

// The words that one Philox block gives, as steps of a walk or as they are; returns their number.
__device__ __forceinline__ u32 drawn(u32 kind, const Words& words, u32* values) {
    const u32 halves[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (u32 half = 0; half < 4; ++half) {
        const u32 draw = halves[half];
        if (kind == INT32) {
#pragma unroll
            for (u32 byte = 0; byte < 4; ++byte)
                values[4 * half + byte] = (draw >> 8 * byte & 0xFF) - 128;
        } else if (kind == FLOAT32) {
            values[2 * half] = (draw & 0xFFF) - 2048;
            values[2 * half + 1] = (draw >> 16 & 0xFFF) - 2048;
        } else {
            values[half] = draw;
        }
    }
    return kind == INT32 ? 16 : kind == FLOAT32 ? 8 : 4;
}

// Fills a chunk by seed.
//
//   int32    value += byte - 128, from 0
//   float32  walk += 12 bits - 2048, from 2^22; bits = 137 << 23 | walk mod 2^23
//   random   the draws
//
// Work    per word: 4 bytes written and a quarter to a sixteenth of a Philox block. One block walks
//         a chunk, so it is bound by latency; chunks are made before a run.
// Launch  one block of 32 to 1024 threads.
// Needs   `kind` 2, 3 or 4; words in whole fours; the key of the kind's stream.
// Checked against chunks.generate: exact.
extern "C" __global__ void __launch_bounds__(1024)
    streaming_source(u32 kind, u64 index, u32 key0, u32 key1, u32 words, u32* chunk) {
    __shared__ u32 totals[WARPS_MAX];
    const u32 warps = blockDim.x / WARP, warp = threadIdx.x / WARP;
    const u32 each = kind == INT32 ? 16 : kind == FLOAT32 ? 8 : 4;
    u32 carry = kind == FLOAT32 ? 1u << 22 : 0;
    for (u32 first = 0; first < words; first += blockDim.x * each) {
        const u32 place = first / each + threadIdx.x;
        u32 values[WORDS_MAX];
        drawn(kind, philox({place, 0, u32(index), u32(index >> 32)}, key0, key1), values);
        if (kind != RANDOM) {
            u32 sum = 0;
#pragma unroll
            for (u32 at = 0; at < WORDS_MAX; ++at)
                if (at < each) sum += values[at];
            u32 total;
            u32 before = warp_scan_exclusive(sum, &total);
            __syncthreads();
            if (lane() == 0) totals[warp] = total;
            __syncthreads();
            const u32 theirs = lane() < warps ? totals[lane()] : 0;
            before += carry + warp_sum(lane() < warp ? theirs : 0u);
            carry += warp_sum(theirs);
#pragma unroll
            for (u32 at = 0; at < WORDS_MAX; ++at)
                if (at < each) values[at] = before += values[at];
        }
#pragma unroll
        for (u32 at = 0; at < WORDS_MAX; at += 4) {
            const u32 word = place * each + at;
            if (at >= each || word >= words) continue;
            uint4 quad = make_uint4(values[at], values[at + 1], values[at + 2], values[at + 3]);
            if (kind == FLOAT32) {
                const u32 mask = (1u << 23) - 1, exponent = 137u << 23;
                quad = make_uint4(exponent | (quad.x & mask), exponent | (quad.y & mask),
                                  exponent | (quad.z & mask), exponent | (quad.w & mask));
            }
            reinterpret_cast<uint4*>(chunk)[word / 4] = quad;
        }
    }
}
