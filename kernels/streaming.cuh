// What streaming's kernels share: a chunk's state, the checksum, a group in shared memory, and
// words at any even place of a frame.
#pragma once
#include "common.cuh"

// A group is 512 words: 32 rows of 16 columns, or 128 quads of 16 bytes; each column is packed on
// its own. A checksum has 64 lanes, one word of every 256 bytes each.
constexpr u32 COLUMNS = 16, ROWS = 32, GROUP = 512, QUADS = 128, GROUP_BYTES = 2048, LANES = 64;
constexpr u32 WARPS_MAX = 8;

// A frame as `streaming/frame.rs` describes it.
constexpr u32 STORED = 0, LZ4 = 1, ZSTD = 2, PACK = 3;
constexpr u32 MAGIC = 0x31535753u, HEADER_BYTES = 32, IS_STORED = 1u << 31;

constexpr u32 PRIME = 0x9E3779B1u;
constexpr u64 FOLD = 0x9E3779B97F4A7C15ull;

// What can be wrong with a frame, as bits; FOREIGN is a codec of the host.
constexpr u64 BAD_HEADER = 1, BAD_BLOCK = 2, BAD_CHECKSUM = 4, FOREIGN = 8;

// What is known of the chunk under way, and of the stream that it belongs to.
struct State {
    u64 codec, is_shuffled, done, length, source_sum, restored_sum, problems, sequence;
    u64 delivered, doubled, missing;
};

// The blocks of a chunk that a launch works on: `count` from `first`, each of `block_groups` groups
// but the last; the chunk has `groups`.
struct Span {
    u32 first, count, block_groups, groups;
    __device__ __forceinline__ u32 end() const { return first + count; }
    __device__ __forceinline__ u32 blocks() const {
        return (groups + block_groups - 1) / block_groups;
    }
    __device__ __forceinline__ u32 begin(u32 block) const { return block * block_groups; }
    __device__ __forceinline__ u32 size(u32 block) const {
        return min(block_groups, groups - begin(block));
    }
};

__device__ __forceinline__ u32 zigzag(u32 difference) {
    return difference << 1 ^ u32(i32(difference) >> 31);
}

__device__ __forceinline__ u32 unzigzag(u32 code) { return code >> 1 ^ (0u - (code & 1)); }

// Where a row's quad of four columns stands among a group's in shared memory: exchanged so that
// neither the threads of rows nor those of columns meet in a bank.
__device__ __forceinline__ u32 quad_place(u32 row, u32 quad) {
    return row * 4 + (quad ^ (row >> 1 & 3));
}

__device__ __forceinline__ u32 word_place(u32 row, u32 column) {
    return quad_place(row, column / 4) * 4 + column % 4;
}

// A word at an even place: whole where all words of the block are aligned, else in halves, which
// are volatile lest a compiler joins them again.
__device__ __forceinline__ u32 load_word(const u8* place, bool is_aligned) {
    if (is_aligned) return *reinterpret_cast<const u32*>(place);
    const volatile u16* halves = reinterpret_cast<const volatile u16*>(place);
    return halves[0] | u32(halves[1]) << 16;
}

__device__ __forceinline__ void store_word(u8* place, u32 word, bool is_aligned) {
    if (is_aligned) {
        *reinterpret_cast<u32*>(place) = word;
        return;
    }
    volatile u16* halves = reinterpret_cast<volatile u16*>(place);
    halves[0] = u16(word);
    halves[1] = u16(word >> 16);
}

// A group's quads in the registers of a warp: lane l has quads l, 32 + l, 64 + l, 96 + l.
struct Quads {
    uint4 quad[4];

    __device__ __forceinline__ void load(const uint4* group) {
#pragma unroll
        for (u32 turn = 0; turn < 4; ++turn) quad[turn] = group[turn * WARP + lane()];
    }

    __device__ __forceinline__ void store(uint4* group) const {
#pragma unroll
        for (u32 turn = 0; turn < 4; ++turn) group[turn * WARP + lane()] = quad[turn];
    }

    __device__ __forceinline__ void share(uint4* tile) const {
#pragma unroll
        for (u32 turn = 0; turn < 4; ++turn) {
            const u32 place = turn * WARP + lane();
            tile[quad_place(place / 4, place % 4)] = quad[turn];
        }
    }

    // Bits that the largest code of the group needs; `before` is the word before it.
    __device__ __forceinline__ u32 width(u32 before) const {
        u32 any = 0;
#pragma unroll
        for (u32 turn = 0; turn < 4; ++turn) {
            const uint4 here = quad[turn];
            const u32 beside = __shfl_up_sync(FULL, here.w, 1);
            any |= zigzag(here.x - (lane() == 0 ? before : beside)) | zigzag(here.y - here.x);
            any |= zigzag(here.z - here.y) | zigzag(here.w - here.z);
            before = __shfl_sync(FULL, here.w, WARP - 1);
        }
        for (u32 step = WARP / 2; step > 0; step /= 2) any |= __shfl_xor_sync(FULL, any, step);
        return 32 - u32(__clz(i32(any)));
    }

    __device__ __forceinline__ u32 first_word() const { return __shfl_sync(FULL, quad[0].x, 0); }
};

// The running checksum of a block, lane by lane in the first 64 threads.
struct Checksum {
    u32 value;

    __device__ __forceinline__ void begin() { value = PRIME * (threadIdx.x + 1); }

    // Takes `groups` whole groups that stand in shared memory.
    __device__ __forceinline__ void absorb(const uint4* tile, u32 groups) {
        if (threadIdx.x >= LANES) return;
        const u32* words = reinterpret_cast<const u32*>(tile);
        const u32 row = threadIdx.x / COLUMNS, column = threadIdx.x % COLUMNS;
#pragma unroll 8
        for (u32 stripe = 0; stripe < groups * (GROUP / LANES); ++stripe) {
            const u32 mixed = value ^ words[word_place(4 * stripe + row, column)];
            value = product(mixed << 13 | mixed >> 19, PRIME);
        }
    }

    // The checksum of `bytes` in thread 0, which reads `room`, of 64 words, until all meet again;
    // all threads come.
    __device__ __forceinline__ u64 finish(u32* room, u64 bytes) const {
        if (threadIdx.x < LANES) room[threadIdx.x] = value;
        __syncthreads();
        u64 folded = bytes * FOLD;
        for (u32 number = 0; threadIdx.x == 0 && number < LANES; ++number) {
            const u64 mixed = product(folded ^ room[number], FOLD);
            folded = mixed ^ mixed >> 32;
        }
        return folded;
    }
};

__device__ __forceinline__ u64 folded_with(u64 folded, u64 sum) {
    return product((folded << 29 | folded >> 35) ^ sum, FOLD);
}

// Whether this is the launch's last block to come here: it sees what thread 0 of all wrote before.
__device__ __forceinline__ bool is_last(State* state, u32* room) {
    if (threadIdx.x == 0) {
        __threadfence();
        *room = atomicAdd(&state->done, u64(1)) == gridDim.x - 1;
        __threadfence();
        if (*room) atomicExch(&state->done, u64(0));
    }
    __syncthreads();
    return *room != 0;
}

// Folds the blocks' checksums in order, on from `folded`, in thread 0; all threads come.
__device__ __forceinline__ u64 folded_sums(u64 folded, const u64* sums, u32 count, u64* room) {
    for (u32 first = 0; first < count; first += blockDim.x) {
        const u32 here = min(blockDim.x, count - first);
        __syncthreads();
        if (threadIdx.x < here) room[threadIdx.x] = __ldcg(sums + first + threadIdx.x);
        __syncthreads();
        for (u32 place = 0; threadIdx.x == 0 && place < here; ++place)
            folded = folded_with(folded, room[place]);
    }
    return folded;
}

// Takes the chunk of a number at the stream's end: numbers come one after the other.
__device__ __forceinline__ void deliver(State* state, u64 sequence) {
    const u64 expected = state->delivered;
    if (sequence < expected) {
        state->doubled += 1;
        return;
    }
    state->missing += sequence - expected;
    state->delivered = sequence + 1;
}
