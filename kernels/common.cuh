// What every kernel file begins with: fixed-width types, random words, warp reductions and the
// accesses that need more than a plain load or store.
//
// The host emulator defines HOST_CUDA and supplies the same names for a CPU; nothing else in the
// kernels knows of it.
#pragma once

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i8 = signed char;
using i16 = short;
using i32 = int;
using i64 = long long;
using f32 = float;
using f64 = double;

constexpr u32 WARP = 32;
constexpr u32 FULL = 0xFFFFFFFFu;

#ifdef HOST_CUDA
#include "host_cuda.h"
#else

// The dynamic shared memory of the launch, as an array of `type`.
#define DYNAMIC_SHARED(type, name)                                  \
    extern __shared__ __align__(16) unsigned char dynamic_shared[]; \
    type* const name = reinterpret_cast<type*>(dynamic_shared)

// Memory that the host writes while a kernel runs: the acquire of a word that guards others.
__device__ __forceinline__ u64 load_acquire_sys(const u64* word) {
    u64 value;
    asm volatile("ld.acquire.sys.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
    return value;
}

// Publishes to the host what was written before.
__device__ __forceinline__ void store_release_sys(u64* word, u64 value) {
    asm volatile("st.release.sys.u64 [%0], %1;" ::"l"(word), "l"(value) : "memory");
}

// Nanoseconds of a clock that all blocks share; it moves on in steps of up to a microsecond.
__device__ __forceinline__ u64 clock_ns() {
    u64 now_ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now_ns));
    return now_ns;
}

// A load that may meet a store of another thread: either value is right.
template <class T>
__device__ __forceinline__ T load_relaxed(const T* place) {
    return *const_cast<const volatile T*>(place);
}

// A store that may meet others of the same value.
template <class T>
__device__ __forceinline__ void store_relaxed(T* place, T value) {
    *const_cast<volatile T*>(place) = value;
}

// Read once: evicted first from the caches.
template <class T>
__device__ __forceinline__ T load_streaming(const T* place) {
    return __ldcs(place);
}

template <class T>
__device__ __forceinline__ void store_streaming(T* place, T value) {
    __stcs(place, value);
}

__device__ __forceinline__ f32 half_to_float(u16 bits) {
    f32 value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

// Rounded to the nearest, ties to even.
__device__ __forceinline__ u16 float_to_half(f32 value) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// What the emulator counts of an op's arithmetic (`Cost`), where it happens; on a card nothing.
// Of intrinsics `__dp4a` counts four products, `__fmul_rn`, `__fmaf_rn` and their doubles one.
__device__ __forceinline__ void count_multiply_adds(u32) {}
__device__ __forceinline__ void count_random_draw() {}
__device__ __forceinline__ void count_comparison() {}
#endif

// Products that an op is made of, where no intrinsic says so.
template <class T>
__device__ __forceinline__ T product(T left, T right) {
    count_multiply_adds(1);
    return left * right;
}

template <class T>
__device__ __forceinline__ T multiply_add(T left, T right, T sum) {
    count_multiply_adds(1);
    return left * right + sum;
}

struct Words {
    u32 x, y, z, w;
};

// Philox4x32-10 (Salmon et al., SC 2011): four random words of a counter under a 64-bit key.
__device__ __forceinline__ Words philox(Words counter, u32 key0, u32 key1) {
    count_random_draw();
#pragma unroll
    for (u32 round = 0; round < 10; ++round) {
        const u32 high0 = __umulhi(0xD2511F53u, counter.x), low0 = 0xD2511F53u * counter.x;
        const u32 high1 = __umulhi(0xCD9E8D57u, counter.z), low1 = 0xCD9E8D57u * counter.z;
        counter = {high1 ^ counter.y ^ key0, low1, high0 ^ counter.w ^ key1, low0};
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

// A random word as a number in 0..bound.
__device__ __forceinline__ u32 scaled(u32 word, u32 bound) { return __umulhi(word, bound); }

// lowbias32 (Wellons, hash-prospector, 2018).
__device__ __forceinline__ u32 mixed(u32 word) {
    word = (word ^ (word >> 16)) * 0x7FEB352Du;
    word = (word ^ (word >> 15)) * 0x846CA68Bu;
    return word ^ (word >> 16);
}

__device__ __forceinline__ u32 lane() { return threadIdx.x % WARP; }

// Sums and maxima over a whole warp, in every lane; all 32 lanes take part.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
    for (u32 step = WARP / 2; step > 0; step /= 2) value += __shfl_xor_sync(FULL, value, step);
    return value;
}

template <class T>
__device__ __forceinline__ T warp_max(T value) {
    for (u32 step = WARP / 2; step > 0; step /= 2) {
        const T other = __shfl_xor_sync(FULL, value, step);
        value = other > value ? other : value;
    }
    return value;
}

template <class T>
__device__ __forceinline__ T warp_min(T value) {
    for (u32 step = WARP / 2; step > 0; step /= 2) {
        const T other = __shfl_xor_sync(FULL, value, step);
        value = other < value ? other : value;
    }
    return value;
}

// Sum of `value` over the lanes below this one; `total` is that over all of them.
__device__ __forceinline__ u32 warp_scan_exclusive(u32 value, u32* total) {
    u32 sum = value;
    for (u32 step = 1; step < WARP; step *= 2) {
        const u32 below = __shfl_up_sync(FULL, sum, step);
        if (lane() >= step) sum += below;
    }
    *total = __shfl_sync(FULL, sum, WARP - 1);
    return sum - value;
}
