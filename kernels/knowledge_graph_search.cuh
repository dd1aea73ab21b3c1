// What the kernels of semantic search share: how vectors are kept, a query, and scores as integers.
#pragma once

#include "knowledge_graph.cuh"

// What is searched: 0 vectors of f32, 1 of half precision, 2 of bytes (the codes themselves).
#ifndef STORAGE
#define STORAGE 0
#endif

// Dimensions of 16 bytes of a plane, and words of a coded query for them.
constexpr u32 GROUP = 32;
constexpr u32 GROUP_WORDS = GROUP / 4;

// One query on its way.
struct Head {
    f64 norm;
    u64 floor;         // key of the last result's score so far, 0 where there are fewer
    u64 nearest;       // nearness (biased) << 32 | ~list of the nearest list
    u64 done;
    u32 candidates;    // places within the bound, of which the first `capacity` are kept
    u32 refined;       // vectors that the high halves did not rule out
    u32 chosen;        // lists to look into
    u32 scanned;       // vectors scored by the last launch that scored some
    f32 residual;      // length of what the codes lose of the unit query, rounded up
    f32 inverse_scale;
    i32 sum;           // of the coded query
    u32 unused;
};

// Scores as integers of the same order: 0 is below all of them.
__device__ __forceinline__ u64 key_of(f64 score) {
    const u64 bits = u64(__double_as_longlong(score + 0.0));
    return bits >> 63 ? ~bits : bits | u64(1) << 63;
}

__device__ __forceinline__ f64 score_of(u64 key) {
    return __longlong_as_double(i64(key >> 63 ? key & ~(u64(1) << 63) : ~key));
}

// Four components in units of 2^-16: each the sum of two 16-bit draws minus 65535.
__device__ __forceinline__ int4 noise(u32 block, u32 item0, u32 item1, u32 item2, u32 key0,
                                      u32 key1) {
    const Words words = philox({block, item0, item1, item2}, key0, key1);
    return make_int4(i32(words.x & 0xFFFF) + i32(words.x >> 16) - 65535,
                     i32(words.y & 0xFFFF) + i32(words.y >> 16) - 65535,
                     i32(words.z & 0xFFFF) + i32(words.z >> 16) - 65535,
                     i32(words.w & 0xFFFF) + i32(words.w >> 16) - 65535);
}
