// Leader election: the candidate with the highest score leads, of equal ones the highest id.
#include "common.cuh"

// The best candidate so far as (score << 32 | id), and by itself the highest score: what the
// leader's check is held against.
struct Best {
    u64 packed;
    u32 highest;

    __device__ __forceinline__ void meet(u32 agent, u32 score) {
        packed = max(packed, u64(score) << 32 | agent);
        highest = max(highest, score);
    }
};

// Where blocks of one election meet: the best of all, the highest score, blocks that have ended.
enum Meeting : u32 { PACKED, HIGHEST, FINISHED };

// Writes the best of all threads of the grid; a maximum depends on no order and no split.
__device__ __forceinline__ void elect_best(Best best, u64* packed, u64* highest, u64* meeting,
                                           u64* answer) {
    if (threadIdx.x == 0) *packed = *highest = 0;
    __syncthreads();
    best.packed = warp_max(best.packed);
    best.highest = warp_max(best.highest);
    if (lane() == 0) {
        atomicMax(packed, best.packed);
        atomicMax(highest, u64(best.highest));
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    if (gridDim.x == 1) {
        answer[PACKED] = *packed;
        answer[HIGHEST] = *highest;
        return;
    }
    atomicMax(&meeting[PACKED], *packed);
    atomicMax(&meeting[HIGHEST], *highest);
    __threadfence();
    if (atomicAdd(&meeting[FINISHED], u64(1)) != gridDim.x - 1) return;
    __threadfence();
    answer[PACKED] = __ldcg(&meeting[PACKED]);
    answer[HIGHEST] = __ldcg(&meeting[HIGHEST]);
    meeting[PACKED] = meeting[HIGHEST] = meeting[FINISHED] = 0;
}

// Draws the scores of a group's agents and elects its leader.
//
//   score[a] = word a % 4 of Philox(a / 4, key);  leader = max over a of (score[a] << 32 | id of a)
//
// Work    per candidate: no memory, about 15 integer operations, most of them Philox. Bound by
//         integer arithmetic; 16 bytes written in all.
// Launch  a thread takes four candidates at a time, every (grid * block)-th four: any grid, block a
//         multiple of 32. A single block touches nothing but its answer.
// Needs   `meeting` zero (three words), which the launch leaves so; agent_first + agents <= 2^32.
// Checked against Consensus.reference: exact, no tolerance.
extern "C" __global__ void __launch_bounds__(1024, 1)
elect_drawn(u64 key, u32 stream_low, u32 stream_high, u32 agent_first, u32 agents,
            u64* __restrict__ meeting, u64* __restrict__ answer) {
    __shared__ u64 packed, highest;
    Best best{0, 0};
    const u32 step = gridDim.x * blockDim.x;
    for (u32 four = blockIdx.x * blockDim.x + threadIdx.x; 4 * four < agents; four += step) {
        const Words scores =
            philox({four, 0, u32(key), u32(key >> 32)}, stream_low, stream_high);
        const u32 drawn[4] = {scores.x, scores.y, scores.z, scores.w};
#pragma unroll
        for (u32 k = 0; k < 4; ++k)
            if (4 * four + k < agents) best.meet(agent_first + 4 * four + k, drawn[k]);
    }
    elect_best(best, &packed, &highest, meeting, answer);
}

// Elects among candidates that lie in memory.
//
//   leader = max over i of (score[i] << 32 | agent[i])
//
// Work    per candidate: 8 bytes read, 3 integer operations. Bound by memory; 16 bytes written.
// Launch  a thread takes every (grid * block)-th candidate: any grid, block a multiple of 32.
// Needs   `meeting` zero (three words), which the launch leaves so.
// Checked against Consensus.reference: exact, no tolerance.
extern "C" __global__ void __launch_bounds__(1024, 1)
elect_stored(const u32* __restrict__ agent, const u32* __restrict__ score, u32 candidates,
             u64* __restrict__ meeting, u64* __restrict__ answer) {
    __shared__ u64 packed, highest;
    Best best{0, 0};
    const u32 step = gridDim.x * blockDim.x;
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < candidates; i += step)
        best.meet(load_streaming(agent + i), load_streaming(score + i));
    elect_best(best, &packed, &highest, meeting, answer);
}
