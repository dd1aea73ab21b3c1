// Genes, fitness and randomness of the `evolution` component, each in the same single-precision
// operations and order as on the CPU, none of them fused: the same bits.
#pragma once
#include "common.cuh"

// Eight threads make one individual: of every 64 genes a thread has the pairs 2j and 2j + 1 of each
// quarter, which are what one Philox block moves.
constexpr u32 TEAM = 8;
constexpr u32 GROUP = 64;
constexpr u32 QUARTER = 16;
constexpr u32 SAMPLES = 32;
constexpr f32 BOUND = 5.12f;
constexpr u32 GOLDEN = 0x9E3779B9u;
constexpr u32 ROOT_HALF = 0x3F3504F3u;
constexpr u32 INDIVIDUAL_WEIGHT = 0x9E3779B1u;
constexpr u32 LINE_WEIGHT = 2u * 0x85EBCA6Bu;

enum Judged : u32 { SPHERE, RASTRIGIN, MLP };

__device__ __forceinline__ f32 times_plus(f32 left, f32 right, f32 sum) {
    return __fadd_rn(__fmul_rn(left, right), sum);
}

// Two independent normal variates of a word (Box and Muller, 1958): the word is the rank of the
// radius, its product with the golden ratio the angle.
__device__ __forceinline__ float2 normal_pair(u32 word, f32 sigma) {
    const f32 rank = __fadd_rn(__uint2float_rn(word >> 1), 0.5f);
    const u32 offset = __float_as_uint(rank) - (ROOT_HALF + (31u << 23));
    const f32 exponent = __int2float_rn(i32(offset) >> 23);
    const f32 z = __fsub_rn(__uint_as_float((offset & 0x007FFFFFu) + ROOT_HALF), 1.0f);
    f32 log = -0.23791915f;
    log = times_plus(log, z, 0.37335598f);
    log = times_plus(log, z, -0.40992698f);
    log = times_plus(log, z, 0.49819502f);
    log = times_plus(log, z, -0.66629016f);
    log = times_plus(log, z, 1.0000223f);
    log = times_plus(log, z, -2.000002f);
    const f32 square = __fadd_rn(__fmul_rn(z, log), __fmul_rn(exponent, -1.3862944f));
    const f32 radius = __fmul_rn(__fsqrt_rn(square), sigma);
    const f32 turn = __fmul_rn(__int2float_rn(i32(word * GOLDEN)), 0x1p-32f);
    const f32 cosine = __fsub_rn(0.25f, fabsf(turn));
    const f32 sine = __fsub_rn(0.25f, fabsf(cosine));
    f32 waves[2] = {cosine, sine};
    for (f32& wave : waves) {
        const f32 x = __fmul_rn(wave, wave);
        f32 sum = -71.47469f;
        sum = times_plus(sum, x, 81.395355f);
        sum = times_plus(sum, x, -41.338943f);
        sum = times_plus(sum, x, 6.2831793f);
        wave = __fmul_rn(wave, sum);
    }
    const f32 second = copysignf(1.0f, turn) * waves[1];
    return make_float2(__fmul_rn(waves[0], radius), __fmul_rn(second, radius));
}

// What a gene adds to the sphere's or to Rastrigin's function.
__device__ __forceinline__ f32 term(f32 gene, u32 judged) {
    const f32 square = __fmul_rn(gene, gene);
    if (judged == SPHERE) return square;
    const f32 rest = __fsub_rn(gene, __fsub_rn(__fadd_rn(gene, 12582912.0f), 12582912.0f));
    const f32 x = __fmul_rn(rest, rest);
    f32 sum = 0.07756039f;
    sum = times_plus(sum, x, -0.5982421f);
    sum = times_plus(sum, x, 2.5500698f);
    sum = times_plus(sum, x, -5.16771f);
    sum = times_plus(sum, x, 3.1415927f);
    const f32 sine = __fmul_rn(rest, sum);
    return __fadd_rn(square, __fmul_rn(__fmul_rn(sine, sine), 20.0f));
}

// The sum of sixteen lanes, two to each thread of a team, each half added to the other.
__device__ __forceinline__ f32 team_sum(f32 first, f32 second) {
    for (u32 step = TEAM / 2; step > 0; step /= 2) {
        first = __fadd_rn(first, __shfl_xor_sync(FULL, first, step));
        second = __fadd_rn(second, __shfl_xor_sync(FULL, second, step));
    }
    return __fadd_rn(first, second);
}

// The mean squared error of the network that a row's genes are the weights of; `samples` holds both
// inputs and what is wanted, 32 of each. A thread has the samples that its two lanes add up. A team
// that is not active reads nothing and takes part in the sums.
__device__ __forceinline__ f32 network_error(const f32* row, u32 genome, const f32* samples,
                                             u32 member, bool active) {
    f32 outputs[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (u32 unit = 0; active && unit < genome; unit += 4) {
        const float4 weights = *reinterpret_cast<const float4*>(row + unit);
#pragma unroll
        for (u32 turn = 0; turn < 4; ++turn) {
            const u32 sample = 2 * member + turn % 2 + turn / 2 * QUARTER;
            const f32 left = __fmul_rn(weights.x, samples[sample]);
            const f32 right = __fmul_rn(weights.y, samples[SAMPLES + sample]);
            const f32 reached = fmaxf(__fadd_rn(__fadd_rn(left, right), weights.z), 0.0f);
            outputs[turn] = __fadd_rn(outputs[turn], __fmul_rn(reached, weights.w));
        }
    }
    f32 lanes[2] = {0.0f, 0.0f};
#pragma unroll
    for (u32 turn = 0; turn < 4; ++turn) {
        const u32 sample = 2 * member + turn % 2 + turn / 2 * QUARTER;
        const f32 error = __fsub_rn(outputs[turn], samples[2 * SAMPLES + sample]);
        lanes[turn % 2] = __fadd_rn(lanes[turn % 2], __fmul_rn(error, error));
    }
    return __fmul_rn(team_sum(lanes[0], lanes[1]), 1.0f / SAMPLES);
}

// Fitness and place as one word: less is better, of equal individuals the first.
__device__ __forceinline__ u32 ordered(f32 fitness) {
    const u32 bits = __float_as_uint(fitness);
    return bits ^ (bits >> 31 ? 0xFFFFFFFFu : 0x80000000u);
}

// What an individual adds to the digest of its population: sixteen sums of weighted words, two to
// each thread of a team, and one of ranks.
struct Digest {
    u32 lanes[2] = {0, 0};
    u32 ranks = 0;

    __device__ __forceinline__ void add(u32 individual, u32 line, f32 first, f32 second) {
        const u32 weight = (2 * individual + 1) * INDIVIDUAL_WEIGHT + line * LINE_WEIGHT;
        lanes[0] = multiply_add(__float_as_uint(first), weight, lanes[0]);
        lanes[1] = multiply_add(__float_as_uint(second), weight, lanes[1]);
    }

    // By one thread of a team.
    __device__ __forceinline__ void add_rank(u32 individual, u32 lines, u32 word) {
        ranks += word * ((2 * individual + 1) * INDIVIDUAL_WEIGHT + lines * LINE_WEIGHT);
    }

    // Adds what all threads of the block have to `sums`, seventeen words; `shared` is as many.
    __device__ __forceinline__ void publish(u32* shared, u32* sums) const {
        if (threadIdx.x < 17) shared[threadIdx.x] = 0;
        __syncthreads();
        const u32 member = threadIdx.x % TEAM;
        u32 own[2] = {lanes[0], lanes[1]};
        for (u32 step = TEAM; step < WARP; step *= 2) {
            own[0] += __shfl_xor_sync(FULL, own[0], step);
            own[1] += __shfl_xor_sync(FULL, own[1], step);
        }
        const u32 ranked = warp_sum(ranks);
        if (lane() < TEAM) {
            atomicAdd(&shared[2 * member], own[0]);
            atomicAdd(&shared[2 * member + 1], own[1]);
        }
        if (lane() == 0) atomicAdd(&shared[16], ranked);
        __syncthreads();
        if (threadIdx.x < 17) atomicAdd(&sums[threadIdx.x], shared[threadIdx.x]);
    }
};
