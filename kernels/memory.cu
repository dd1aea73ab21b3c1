// The `memory` component: blocks that are summed while they are copied, their content, and what a
// storm of allocations writes into the pool and looks for in it.
#include "common.cuh"

// Sixteen threads sum a piece: of every stripe of 256 bytes a thread has 16, four of its 64 lanes.
constexpr u32 TEAM = 16;
constexpr u32 STRIPE_BYTES = 256;
constexpr u32 PIECE_BYTES = 64 << 10;
// Words of 16 bytes that a thread has asked for and not yet used: as many as registers hold.
constexpr u32 DEPTH = 8;
constexpr u32 PRIME = 0x9E3779B1u;
constexpr u64 FOLD = 0x9E3779B97F4A7C15ull;

// A block, or a part of it, on its way, and where its sums are gathered.
struct Passage {
    const uint4* source;
    uint4* target;
    u64 bytes;
    // The part's first piece and how many the block has.
    u32 first_piece, pieces;
    // The sum of each piece of the block, how many are there, and the block's.
    u64* sums;
    u32* done;
    u64* checksum;
};

__device__ __forceinline__ u32 taken(u32 lane, u32 word) {
    const u32 mixed = lane ^ word;
    return product(__funnelshift_l(mixed, mixed, 13), PRIME);
}

__device__ __forceinline__ uint4 taken(uint4 lanes, uint4 words) {
    return make_uint4(taken(lanes.x, words.x), taken(lanes.y, words.y), taken(lanes.z, words.z),
                      taken(lanes.w, words.w));
}

// The bytes of a word in memory order of which `left` count; zeros for the others.
__device__ __forceinline__ uint4 cut(uint4 words, u32 left) {
    u32 parts[4] = {words.x, words.y, words.z, words.w};
    for (u32 part = 0; part < 4; ++part) {
        const u32 bytes = left > 4 * part ? left - 4 * part : 0;
        parts[part] &= bytes >= 4 ? FULL : (1u << 8 * bytes) - 1;
    }
    return make_uint4(parts[0], parts[1], parts[2], parts[3]);
}

// Sums a piece of `length` bytes, copying it where `COPIES`; the team's threads hold four lanes.
template <bool COPIES>
__device__ __forceinline__ uint4 lanes_of(const uint4* source, uint4* target, u32 length,
                                          u32 member) {
    const u32 first = 4 * member + 1, stripes = length / STRIPE_BYTES;
    const u32 batched = stripes / DEPTH * DEPTH;
    uint4 lanes =
        make_uint4(first * PRIME, (first + 1) * PRIME, (first + 2) * PRIME, (first + 3) * PRIME);
    uint4 held[DEPTH];
#pragma unroll
    for (u32 each = 0; each < DEPTH; ++each) {
        if (each < batched) held[each] = load_streaming(source + each * TEAM + member);
    }
    u32 stripe = 0;
    while (stripe < batched) {
        const u32 following = stripe + DEPTH;
#pragma unroll
        for (u32 each = 0; each < DEPTH; ++each) {
            const uint4 words = held[each];
            if (following < batched) {
                held[each] = load_streaming(source + (following + each) * TEAM + member);
            }
            if (COPIES) store_streaming(target + (stripe + each) * TEAM + member, words);
            lanes = taken(lanes, words);
        }
        stripe = following;
    }
    for (; stripe * STRIPE_BYTES < length; ++stripe) {
        const u32 place = stripe * TEAM + member, begin = 16 * place;
        uint4 words = make_uint4(0, 0, 0, 0);
        if (begin < length) {
            words = cut(load_streaming(source + place), length - begin);
            if (COPIES) store_streaming(target + place, words);
        }
        lanes = taken(lanes, words);
    }
    return lanes;
}

// The checksum of a piece whose lanes the team holds, in all its threads.
__device__ __forceinline__ u64 piece_sum(uint4 lanes, u32 length, u32 team_mask) {
    u64 sum = u64(length) * FOLD;
    for (u32 member = 0; member < TEAM; ++member) {
        const u32 words[4] = {__shfl_sync(team_mask, lanes.x, member, TEAM),
                              __shfl_sync(team_mask, lanes.y, member, TEAM),
                              __shfl_sync(team_mask, lanes.z, member, TEAM),
                              __shfl_sync(team_mask, lanes.w, member, TEAM)};
        for (u32 each = 0; each < 4; ++each) {
            sum = product(sum ^ words[each], FOLD);
            sum ^= sum >> 32;
        }
    }
    return sum;
}

// Folds the sums of a block's pieces, in order, by one team.
__device__ void fold_pieces(const Passage& passage, u32 member, u32 team_mask) {
    u64 whole = 0;
    for (u32 first = 0; first < passage.pieces; first += TEAM) {
        const u32 count = min(TEAM, passage.pieces - first);
        const u64 mine = member < count ? __ldcg(passage.sums + first + member) : 0;
        for (u32 each = 0; each < count; ++each) {
            const u64 sum = __shfl_sync(team_mask, mine, each, TEAM);
            whole = first + each == 0 ? sum : product((whole << 29 | whole >> 35) ^ sum, FOLD);
        }
    }
    if (member == 0) {
        *passage.checksum = whole;
        *passage.done = 0;
    }
}

template <bool COPIES>
__device__ __forceinline__ void pass(const Passage& passage) {
    const u32 member = threadIdx.x % TEAM, teams = blockDim.x / TEAM;
    const u32 team_mask = 0xFFFFu << lane() / TEAM * TEAM;
    const u32 pieces = u32((passage.bytes + PIECE_BYTES - 1) / PIECE_BYTES);
    u32 summed = 0;  // by this block of threads
    for (u32 first = blockIdx.x * teams; first < pieces; first += teams * gridDim.x) {
        summed += min(teams, pieces - first);
        const u32 piece = first + threadIdx.x / TEAM;
        if (piece >= pieces) continue;
        const u64 begin = u64(piece) * PIECE_BYTES;
        const u32 length = u32(min(u64(PIECE_BYTES), passage.bytes - begin));
        const uint4* const source = passage.source + begin / 16;
        uint4* const target = COPIES ? passage.target + begin / 16 : nullptr;
        const uint4 lanes = lanes_of<COPIES>(source, target, length, member);
        const u64 sum = piece_sum(lanes, length, team_mask);
        if (member == 0) passage.sums[passage.first_piece + piece] = sum;
    }
    if (summed == 0) return;
    __syncthreads();
    bool is_last = false;
    if (threadIdx.x == 0) {
        __threadfence();
        is_last = atomicAdd(passage.done, summed) + summed == passage.pieces;
    }
    if (!__syncthreads_or(is_last)) return;
    __threadfence();
    if (threadIdx.x < TEAM) fold_pieces(passage, member, team_mask);
}

// Copies a part of a block and sums it on the way.
//
//   lane[j] = rotate_left(lane[j] ^ word, 13) * PRIME   over the words j, j + 64, ... of a piece
//   checksum = fold over pieces of 64 KiB of (fold over j of lane[j])
//
// Work    per byte: one read, one written; per 4 bytes three instructions. Bound by the bus, or by
//         memory where both ends lie in it. The last to end folds the pieces.
// Launch  sixteen threads per piece: block = 64, any grid; teams go on by strides.
// Needs   both ends aligned to 16 bytes and readable, writable to the next 16 (what is behind the
//         end is written as zeros); parts of whole pieces but the last; `*done` 0 before a block.
// Checked against chunks.pieced_checksum: exact.
extern "C" __global__ void memory_copy(const uint4* source, uint4* target, u64 bytes,
                                       u32 first_piece, u32 pieces, u64* sums, u32* done,
                                       u64* checksum) {
    pass<true>({source, target, bytes, first_piece, pieces, sums, done, checksum});
}

// Sums a part of a block where it lies, on the device or in pinned memory of the host.
//
//   checksum as memory_copy has it
//
// Work    per byte: one read; per 4 bytes three instructions. Bound by the bus or by memory.
// Launch  sixteen threads per piece: block = 64, any grid; teams go on by strides.
// Needs   as memory_copy.
// Checked against chunks.pieced_checksum: exact.
extern "C" __global__ void memory_sum(const uint4* source, u64 bytes, u32 first_piece, u32 pieces,
                                      u64* sums, u32* done, u64* checksum) {
    pass<false>({source, nullptr, bytes, first_piece, pieces, sums, done, checksum});
}

// Makes a part of a block's content: random, so that nothing gains by compressing it.
//
//   block[n] = Philox's block (first + n, 0, index, 0) under the content's key
//
// Work    per 16 bytes: ten rounds of Philox, 16 bytes written. Bound by the multiplications.
// Launch  one thread per 16 bytes: block = 256, any grid; the threads go on by strides.
// Needs   `block` aligned to 16 bytes.
// Checked against Memory.inputs: exact.
extern "C" __global__ void memory_generate(uint4* block, u32 words, u32 first, u32 index, u32 key0,
                                           u32 key1) {
    const u32 stride = gridDim.x * blockDim.x;
    for (u32 word = blockIdx.x * blockDim.x + threadIdx.x; word < words; word += stride) {
        const Words drawn = philox({first + word, 0, index, 0}, key0, key1);
        block[word] = make_uint4(drawn.x, drawn.y, drawn.z, drawn.w);
    }
}

// An allocation: the line in front of its bytes, whose last word is a canary, and the one behind.
constexpr u32 FRONT_WORDS = 8;
constexpr u32 PAGE_WORDS = 512;
constexpr u32 LINE_WORDS = 8;
// Pages whose stamps count up before the stamp changes.
constexpr u64 STAMPED_PAGES = 4096;

enum Touch : u32 { NOTHING, PAGES, ALL };

// The word of a page that is touched: a line further in each page than in the one before.
__device__ __forceinline__ u64 touched_word(u64 page, u64 words) {
    const u64 within = min(page * LINE_WORDS % PAGE_WORDS, words - page * PAGE_WORDS - 1);
    return page * PAGE_WORDS + within;
}

__device__ __forceinline__ u64 page_stamp(u64 stamp, u64 page) {
    return (stamp ^ page / STAMPED_PAGES * STAMPED_PAGES) + page % STAMPED_PAGES;
}

__device__ __forceinline__ bool is_guarded(const u64* allocation, u64 bytes, u64 stamp) {
    const u64 back = FRONT_WORDS + (bytes + 7) / 8;
    return allocation[FRONT_WORDS - 1] == ~stamp && allocation[back] == ~stamp;
}

// Puts canaries around an allocation and touches it: not at all, a word of each page, or all.
//
//   word before, word behind = ~stamp;   page p: word (8 p mod 512) = stamp + p;   all = stamp
//
// Work    16 bytes written, 8 more a page or all of them. Bound by the launch, or by writing.
// Launch  one thread per page, or per 16 bytes: block = 256, any grid; they go on by strides.
// Needs   `allocation` aligned to 64 bytes, with a line in front and a word behind the bytes.
// Checked against memory_holds and the words themselves: exact.
extern "C" __global__ void memory_touch(u64* allocation, u64 bytes, u64 stamp, u32 touch) {
    const u64 words = (bytes + 7) / 8, stride = u64(gridDim.x) * blockDim.x;
    const u64 thread = u64(blockIdx.x) * blockDim.x + threadIdx.x;
    u64* const inside = allocation + FRONT_WORDS;
    if (thread == 0) {
        inside[-1] = ~stamp;
        inside[words] = ~stamp;
    }
    if (touch == PAGES) {
        const u64 pages = (words + PAGE_WORDS - 1) / PAGE_WORDS;
        for (u64 page = thread; page < pages; page += stride) {
            inside[touched_word(page, words)] = page_stamp(stamp, page);
        }
    } else if (touch == ALL) {
        const ulonglong2 both = make_ulonglong2(stamp, stamp);
        for (u64 pair = thread; pair < words / 2; pair += stride) {
            reinterpret_cast<ulonglong2*>(inside)[pair] = both;
        }
        if (thread == 0 && words % 2 == 1) inside[words - 1] = stamp;
    }
}

// Looks whether an allocation still holds what memory_touch has written.
//
//   *broken = 1 where any word is another
//
// Work    reads what memory_touch writes. Bound by the launch, or by reading.
// Launch  as memory_touch.
// Needs   as memory_touch; `*broken` 0 before.
// Checked against planted changes of each word: seen.
extern "C" __global__ void memory_holds(const u64* allocation, u64 bytes, u64 stamp, u32 touch,
                                        u32* broken) {
    const u64 words = (bytes + 7) / 8, stride = u64(gridDim.x) * blockDim.x;
    const u64 thread = u64(blockIdx.x) * blockDim.x + threadIdx.x;
    const u64* const inside = allocation + FRONT_WORDS;
    bool holds = thread > 0 || is_guarded(allocation, bytes, stamp);
    if (touch == PAGES) {
        const u64 pages = (words + PAGE_WORDS - 1) / PAGE_WORDS;
        for (u64 page = thread; page < pages; page += stride) {
            holds = holds && inside[touched_word(page, words)] == page_stamp(stamp, page);
        }
    } else if (touch == ALL) {
        for (u64 pair = thread; pair < words / 2; pair += stride) {
            const ulonglong2 both = reinterpret_cast<const ulonglong2*>(inside)[pair];
            holds = holds && both.x == stamp && both.y == stamp;
        }
        if (thread == 0 && words % 2 == 1) holds = holds && inside[words - 1] == stamp;
    }
    if (!holds) store_relaxed(broken, 1u);
}

// Looks at the canaries of allocations that are about to be freed.
//
//   *broken = 1 where any is changed
//
// Work    per allocation: 24 bytes of what is known of it and 16 of canaries read. Bound by the
//         launch.
// Launch  one thread per allocation: block = 64, any grid; the threads go on by strides.
// Needs   (first word, bytes, stamp) of each in `freed`, inside the pool; `*broken` 0 before.
// Checked against planted changes of each canary: seen.
extern "C" __global__ void memory_guards(const u64* pool, const u64* freed, u32 count,
                                         u32* broken) {
    const u32 stride = gridDim.x * blockDim.x;
    for (u32 each = blockIdx.x * blockDim.x + threadIdx.x; each < count; each += stride) {
        const u64* const one = freed + 3 * each;
        if (!is_guarded(pool + one[0], one[1], one[2])) store_relaxed(broken, 1u);
    }
}
