// The words of CUDA C++ for a host compiler: what a kernel sees of the emulator.
//
// `common.cuh` includes this in the place of what NVRTC knows by itself. Every thread of a block is
// a fiber; what suspends one, and every access that others may meet, is in host_cuda.cpp.
#pragma once

#include <cmath>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
// What stays a function of its own would take a struct from memory without its being followed.
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __restrict__
#define __constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
// One block runs at a time, so its shared memory is a section, poisoned before each block.
#define __shared__ static __attribute__((section("host_shared")))
#define DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(host_cuda::dynamic_shared())

struct uint3 { u32 x, y, z; };
struct dim3 { u32 x, y, z; };
struct alignas(8) uint2 { u32 x, y; };
struct alignas(16) uint4 { u32 x, y, z, w; };
struct alignas(8) int2 { i32 x, y; };
struct alignas(16) int4 { i32 x, y, z, w; };
struct alignas(8) float2 { f32 x, y; };
struct alignas(16) float4 { f32 x, y, z, w; };
struct alignas(16) ulonglong2 { u64 x, y; };
struct alignas(4) uchar4 { u8 x, y, z, w; };
struct alignas(4) ushort2 { u16 x, y; };
struct alignas(8) ushort4 { u16 x, y, z, w; };
inline uint2 make_uint2(u32 x, u32 y) { return {x, y}; }
inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }
inline int2 make_int2(i32 x, i32 y) { return {x, y}; }
inline int4 make_int4(i32 x, i32 y, i32 z, i32 w) { return {x, y, z, w}; }
inline float2 make_float2(f32 x, f32 y) { return {x, y}; }
inline float4 make_float4(f32 x, f32 y, f32 z, f32 w) { return {x, y, z, w}; }
inline ulonglong2 make_ulonglong2(u64 x, u64 y) { return {x, y}; }
inline uchar4 make_uchar4(u8 x, u8 y, u8 z, u8 w) { return {x, y, z, w}; }
inline ushort2 make_ushort2(u16 x, u16 y) { return {x, y}; }
inline ushort4 make_ushort4(u16 x, u16 y, u16 z, u16 w) { return {x, y, z, w}; }

namespace host_cuda {

// The place of the running thread; changed by the scheduler alone.
struct Place {
    uint3 thread, block;
    dim3 block_size, grid_size;
};
extern Place place;

// What the lanes of a warp gave to an operation that they all took part in.
struct Exchange {
    u64 values[32];
    u32 present;
};

void* dynamic_shared();
u32 barrier(u32 predicate, u32 kind);  // kind: 0 count, 1 and, 2 or
// Brings lanes together; one that orders is a `__syncwarp`.
void exchange(u32 mask, u64 value, Exchange* gathered, bool orders = false);
void fence();
void suspend_sometimes();

template <class T>
u64 bits_of(T value) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "lanes exchange 32 or 64 bits");
    u64 bits = 0;
    __builtin_memcpy(&bits, &value, sizeof(T));
    return bits;
}

template <class T>
T value_of(u64 bits) {
    T value;
    __builtin_memcpy(&value, &bits, sizeof(T));
    return value;
}

[[noreturn]] void wrong(const char* what);

// An op's arithmetic, which a traced build counts.
enum Arithmetic : u32 { MULTIPLY_ADDS, RANDOM_DRAWS, COMPARISONS, ARITHMETIC };
#if defined(HOST_CUDA_TRACED)
void count(Arithmetic kind, u32 times);
#else
inline void count(Arithmetic, u32) {}
#endif

template <class T>
T from_lane(u32 mask, T value, u32 source) {
    Exchange gathered;
    exchange(mask, bits_of(value), &gathered);
    if (source >= 32 || !(gathered.present >> source & 1)) wrong("a shuffle reads an absent lane");
    return value_of<T>(gathered.values[source]);
}

u32 lane_number();

// Uninstrumented, so that a check of races sees one atomic access and nothing beside it.
u32 fetch32(u32* place, u32 operand, u32 compare, int operation);
u64 fetch64(u64* place, u64 operand, u64 compare, int operation);
u64 load_bits(const void* place, u32 bytes);
void store_bits(void* place, u64 bits, u32 bytes);
// Of words that threads of the host access while a launch runs.
u64 load_acquire(const u64* word);
void store_release(u64* word, u64 value);
u64 clock_now_ns();
enum { ADD, MIN, MAX, AND, OR, XOR, EXCHANGE, COMPARE, MIN_SIGNED, MAX_SIGNED, ADD_FLOAT };

// A kernel as the emulator calls it: its parameters' sizes, and a call with pointers to arguments.
struct Entry {
    const char* name;
    u32 count;
    void (*call)(void** arguments);
};

template <auto Kernel>
struct Calling;

template <class... Parameters, void (*Kernel)(Parameters...)>
struct Calling<Kernel> {
    template <std::size_t... Index>
    __attribute__((no_sanitize("thread"))) static void with(void** arguments, std::index_sequence<Index...>) {
        Kernel(*static_cast<std::remove_cv_t<Parameters>*>(arguments[Index])...);
    }
    __attribute__((no_sanitize("thread"))) static void call(void** arguments) {
        with(arguments, std::index_sequence_for<Parameters...>());
    }
    static constexpr u32 count = sizeof...(Parameters);
};

}  // namespace host_cuda

#define HOST_CUDA_ENTRY(kernel) \
    host_cuda::Entry { #kernel, host_cuda::Calling<&kernel>::count, host_cuda::Calling<&kernel>::call }

#define threadIdx (host_cuda::place.thread)
#define blockIdx (host_cuda::place.block)
#define blockDim (host_cuda::place.block_size)
#define gridDim (host_cuda::place.grid_size)

inline void count_multiply_adds(u32 times) { host_cuda::count(host_cuda::MULTIPLY_ADDS, times); }
inline void count_random_draw() { host_cuda::count(host_cuda::RANDOM_DRAWS, 1); }
inline void count_comparison() { host_cuda::count(host_cuda::COMPARISONS, 1); }

inline void __syncthreads() { host_cuda::barrier(0, 0); }
inline int __syncthreads_count(int predicate) { return int(host_cuda::barrier(predicate != 0, 0)); }
inline int __syncthreads_and(int predicate) { return int(host_cuda::barrier(predicate != 0, 1)); }
inline int __syncthreads_or(int predicate) { return int(host_cuda::barrier(predicate != 0, 2)); }
inline void __threadfence() { host_cuda::fence(); }
inline void __threadfence_system() { host_cuda::fence(); }
inline void __threadfence_block() {}
inline void __nanosleep(u32) { host_cuda::suspend_sometimes(); }

inline void __syncwarp(u32 mask = FULL) {
    host_cuda::Exchange gathered;
    host_cuda::exchange(mask, 0, &gathered, true);
}

template <class T>
T __shfl_sync(u32 mask, T value, int source, int width = 32) {
    const u32 first = host_cuda::lane_number() & ~u32(width - 1);
    return host_cuda::from_lane(mask, value, first + (u32(source) & u32(width - 1)));
}

template <class T>
T __shfl_up_sync(u32 mask, T value, u32 delta, int width = 32) {
    const u32 lane = host_cuda::lane_number(), within = lane & u32(width - 1);
    return host_cuda::from_lane(mask, value, within < delta ? lane : lane - delta);
}

template <class T>
T __shfl_down_sync(u32 mask, T value, u32 delta, int width = 32) {
    const u32 lane = host_cuda::lane_number(), within = lane & u32(width - 1);
    return host_cuda::from_lane(mask, value, within + delta < u32(width) ? lane + delta : lane);
}

template <class T>
T __shfl_xor_sync(u32 mask, T value, int toggled, int width = 32) {
    const u32 lane = host_cuda::lane_number(), other = lane ^ u32(toggled);
    const bool inside = (other & ~u32(width - 1)) <= (lane & ~u32(width - 1));
    return host_cuda::from_lane(mask, value, inside ? other : lane);
}

inline u32 __ballot_sync(u32 mask, int predicate) {
    host_cuda::Exchange gathered;
    host_cuda::exchange(mask, predicate != 0, &gathered);
    u32 votes = 0;
    for (u32 lane = 0; lane < 32; ++lane)
        if (gathered.present >> lane & 1) votes |= u32(gathered.values[lane]) << lane;
    return votes;
}

inline int __any_sync(u32 mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(u32 mask, int predicate) { return __ballot_sync(mask, predicate == 0) == 0; }

template <class T>
u32 __match_any_sync(u32 mask, T value) {
    host_cuda::Exchange gathered;
    const u64 bits = host_cuda::bits_of(value);
    host_cuda::exchange(mask, bits, &gathered);
    u32 same = 0;
    for (u32 lane = 0; lane < 32; ++lane)
        if ((gathered.present >> lane & 1) && gathered.values[lane] == bits) same |= 1u << lane;
    return same;
}

inline u32 __activemask() {
    host_cuda::wrong("__activemask says nothing that a kernel may rely on");
}

#define HOST_CUDA_ATOMIC(name, operation, signed_operation)                                      \
    inline u32 name(u32* place, u32 value) {                                                     \
        return host_cuda::fetch32(place, value, 0, host_cuda::operation);                        \
    }                                                                                            \
    inline i32 name(i32* place, i32 value) {                                                     \
        return i32(host_cuda::fetch32(reinterpret_cast<u32*>(place), u32(value), 0,              \
                                      host_cuda::signed_operation));                             \
    }                                                                                            \
    inline u64 name(u64* place, u64 value) {                                                     \
        return host_cuda::fetch64(place, value, 0, host_cuda::operation);                        \
    }
HOST_CUDA_ATOMIC(atomicAdd, ADD, ADD)
HOST_CUDA_ATOMIC(atomicMin, MIN, MIN_SIGNED)
HOST_CUDA_ATOMIC(atomicMax, MAX, MAX_SIGNED)
HOST_CUDA_ATOMIC(atomicAnd, AND, AND)
HOST_CUDA_ATOMIC(atomicOr, OR, OR)
HOST_CUDA_ATOMIC(atomicXor, XOR, XOR)
HOST_CUDA_ATOMIC(atomicExch, EXCHANGE, EXCHANGE)
inline u32 atomicSub(u32* place, u32 value) { return atomicAdd(place, 0u - value); }
inline i32 atomicSub(i32* place, i32 value) { return atomicAdd(place, -value); }
inline u32 atomicCAS(u32* place, u32 compare, u32 value) {
    return host_cuda::fetch32(place, value, compare, host_cuda::COMPARE);
}
inline i32 atomicCAS(i32* place, i32 compare, i32 value) {
    return i32(host_cuda::fetch32(reinterpret_cast<u32*>(place), u32(value), u32(compare),
                                  host_cuda::COMPARE));
}
inline u64 atomicCAS(u64* place, u64 compare, u64 value) {
    return host_cuda::fetch64(place, value, compare, host_cuda::COMPARE);
}
inline f32 atomicAdd(f32* place, f32 value) {
    const u32 bits = host_cuda::fetch32(reinterpret_cast<u32*>(place),
                                        u32(host_cuda::bits_of(value)), 0, host_cuda::ADD_FLOAT);
    return host_cuda::value_of<f32>(bits);
}

template <class T>
T load_relaxed(const T* place) {
    const u64 bits = host_cuda::load_bits(place, sizeof(T));
    T value;
    __builtin_memcpy(&value, &bits, sizeof(T));
    return value;
}
template <class T>
void store_relaxed(T* place, T value) {
    u64 bits = 0;
    __builtin_memcpy(&bits, &value, sizeof(T));
    host_cuda::store_bits(place, bits, sizeof(T));
}
inline u64 load_acquire_sys(const u64* word) { return host_cuda::load_acquire(word); }
inline void store_release_sys(u64* word, u64 value) { host_cuda::store_release(word, value); }
inline u64 clock_ns() { return host_cuda::clock_now_ns(); }
template <class T>
T load_streaming(const T* place) { return *place; }
template <class T>
void store_streaming(T* place, T value) { *place = value; }
template <class T>
T __ldg(const T* place) { return *place; }
template <class T>
T __ldcs(const T* place) { return *place; }
template <class T>
T __ldcg(const T* place) { return *place; }
template <class T>
void __stcs(T* place, T value) { *place = value; }
template <class T>
void __stcg(T* place, T value) { *place = value; }

inline int __popc(u32 word) { return __builtin_popcount(word); }
inline int __popcll(u64 word) { return __builtin_popcountll(word); }
inline int __clz(i32 word) { return word ? __builtin_clz(u32(word)) : 32; }
inline int __clzll(i64 word) { return word ? __builtin_clzll(u64(word)) : 64; }
inline int __ffs(i32 word) { return __builtin_ffs(word); }
inline int __ffsll(i64 word) { return __builtin_ffsll(word); }
inline u32 __umulhi(u32 left, u32 right) { return u32(u64(left) * right >> 32); }
inline u64 __umul64hi(u64 left, u64 right) { return u64((unsigned __int128)left * right >> 64); }
inline i32 __mulhi(i32 left, i32 right) { return i32(i64(left) * right >> 32); }
inline u32 __brev(u32 word) {
    u32 reversed = 0;
    for (u32 bit = 0; bit < 32; ++bit) reversed |= (word >> bit & 1) << (31 - bit);
    return reversed;
}
inline u64 __brevll(u64 word) { return u64(__brev(u32(word))) << 32 | __brev(u32(word >> 32)); }
inline u32 __byte_perm(u32 low, u32 high, u32 selector) {
    const u64 bytes = u64(high) << 32 | low;
    u32 picked = 0;
    for (u32 place = 0; place < 4; ++place) {
        const u32 choice = selector >> (4 * place) & 0xF;
        u32 byte = u32(bytes >> (8 * (choice & 7))) & 0xFF;
        if (choice & 8) byte = byte & 0x80 ? 0xFF : 0;
        picked |= byte << (8 * place);
    }
    return picked;
}
inline u32 __funnelshift_l(u32 low, u32 high, u32 shift) {
    return u32((u64(high) << 32 | low) << (shift & 31) >> 32);
}
inline u32 __funnelshift_r(u32 low, u32 high, u32 shift) {
    return u32((u64(high) << 32 | low) >> (shift & 31));
}
inline i32 __dp4a(i32 left, i32 right, i32 sum) {
    count_multiply_adds(4);
    for (u32 byte = 0; byte < 4; ++byte)
        sum += i32(i8(u32(left) >> (8 * byte))) * i32(i8(u32(right) >> (8 * byte)));
    return sum;
}
inline u32 __dp4a(u32 left, u32 right, u32 sum) {
    count_multiply_adds(4);
    for (u32 byte = 0; byte < 4; ++byte)
        sum += (left >> (8 * byte) & 0xFF) * (right >> (8 * byte) & 0xFF);
    return sum;
}
inline u32 __vsadu4(u32 left, u32 right) {
    u32 sum = 0;
    for (u32 byte = 0; byte < 4; ++byte) {
        const i32 difference = i32(left >> (8 * byte) & 0xFF) - i32(right >> (8 * byte) & 0xFF);
        sum += u32(difference < 0 ? -difference : difference);
    }
    return sum;
}
inline u32 __vcmpeq4(u32 left, u32 right) {
    u32 equal = 0;
    for (u32 shift = 0; shift < 32; shift += 8)
        if ((left >> shift & 0xFF) == (right >> shift & 0xFF)) equal |= 0xFFu << shift;
    return equal;
}
inline u32 __float_as_uint(f32 value) { return u32(host_cuda::bits_of(value)); }
inline i32 __float_as_int(f32 value) { return i32(host_cuda::bits_of(value)); }
inline f32 __uint_as_float(u32 bits) { return host_cuda::value_of<f32>(bits); }
inline f32 __int_as_float(i32 bits) { return host_cuda::value_of<f32>(u32(bits)); }
inline u64 __double_as_longlong(f64 value) { return host_cuda::bits_of(value); }
inline f64 __longlong_as_double(i64 bits) { return host_cuda::value_of<f64>(u64(bits)); }
inline f32 __fadd_rn(f32 left, f32 right) { return left + right; }
inline f32 __fsub_rn(f32 left, f32 right) { return left - right; }
inline f32 __fmul_rn(f32 left, f32 right) {
    count_multiply_adds(1);
    return left * right;
}
inline f32 __fmaf_rn(f32 left, f32 right, f32 sum) {
    count_multiply_adds(1);
    return __builtin_fmaf(left, right, sum);
}
inline f32 __fdiv_rn(f32 left, f32 right) { return left / right; }
inline f32 __frcp_rn(f32 value) { return 1.0f / value; }
inline f32 __fsqrt_rn(f32 value) { return __builtin_sqrtf(value); }
inline f64 __dadd_rn(f64 left, f64 right) { return left + right; }
inline f64 __dmul_rn(f64 left, f64 right) {
    count_multiply_adds(1);
    return left * right;
}
inline f64 __fma_rn(f64 left, f64 right, f64 sum) {
    count_multiply_adds(1);
    return __builtin_fma(left, right, sum);
}
inline i32 __float2int_rn(f32 value) { return i32(__builtin_rintf(value)); }
inline i32 __float2int_rd(f32 value) { return i32(__builtin_floorf(value)); }
inline i32 __float2int_rz(f32 value) { return i32(value); }
inline u32 __float2uint_rn(f32 value) { return u32(__builtin_rintf(value)); }
inline f32 __int2float_rn(i32 value) { return f32(value); }
inline f32 __uint2float_rn(u32 value) { return f32(value); }
inline f32 __expf(f32 value) { return expf(value); }
inline f32 __logf(f32 value) { return logf(value); }
inline f32 __cosf(f32 value) { return cosf(value); }
inline f32 __sinf(f32 value) { return sinf(value); }
inline f32 rsqrtf(f32 value) { return 1.0f / sqrtf(value); }
inline f32 cospif(f32 value) { return f32(cos(3.14159265358979323846 * f64(value))); }
inline f32 sinpif(f32 value) { return f32(sin(3.14159265358979323846 * f64(value))); }
inline f32 __saturatef(f32 value) { return value < 0 ? 0.0f : value > 1 ? 1.0f : value; }

// As in CUDA C++: of two types the common one.
template <class L, class R>
constexpr std::common_type_t<L, R> min(L left, R right) {
    using Common = std::common_type_t<L, R>;
    return Common(right) < Common(left) ? Common(right) : Common(left);
}
template <class L, class R>
constexpr std::common_type_t<L, R> max(L left, R right) {
    using Common = std::common_type_t<L, R>;
    return Common(left) < Common(right) ? Common(right) : Common(left);
}

f32 half_to_float(u16 bits);
u16 float_to_half(f32 value);
