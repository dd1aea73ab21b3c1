// Byte patterns with wildcards against a text: which occur where.
#include "synthesis_pairs.cuh"

// Patterns that demand the same of their first four bytes are a family: there are sixteen.
constexpr u32 FAMILIES_MAX = 16;

// Byte patterns by their first four bytes. Those that demand the same of them are a family; a
// window's hash, of the bytes that a family demands, leads to its patterns.
struct BytePatterns {
    const u32 *masks, *filter;  // of the families; a bit for every hash that some pattern has
    const u32 *slots, *numbers, *first;
    const u16* demands;
    const u32* text;
    u32 length, families, filter_shift, slot_shift;

    // The header of `program` has families and shifts, then where its parts start; `shared` has its
    // masks and its filter.
    __device__ __forceinline__ BytePatterns(const u32* program, const u32* shared, const u32* text,
                                            u32 length)
        : masks(shared), filter(shared + FAMILIES_MAX), slots(program + program[4]),
          numbers(program + program[5]), first(program + program[6]),
          demands(reinterpret_cast<const u16*>(program + program[7])), text(text), length(length),
          families(program[0]), filter_shift(program[1]), slot_shift(program[2]) {}

    __device__ __forceinline__ u32 seen(u32 position) const {
        const u32 at = position / 4;
        return __funnelshift_r(text[at], text[at + 1], 8 * (position % 4));
    }
    __device__ __forceinline__ u32 hash(u32 window, u32 family) const {
        return ((window & masks[family]) ^ family * 0x7F4A7C15u) * 0x9E3779B1u;
    }
    __device__ __forceinline__ bool is_let_through(u32 hash) const {
        count_comparison();
        const u32 bit = hash >> filter_shift;
        return filter[bit / 32] >> bit % 32 & 1;
    }
    __device__ __forceinline__ bool passes(u32 window) const {
        bool any = false;
        for (u32 family = 0; family < families; ++family)
            any |= is_let_through(hash(window, family));
        return any;
    }

    // A demand is a byte, and above it whether it is one.
    __device__ __forceinline__ bool occurs(u32 pattern, u32 position) const {
        count_comparison();
        const u32 start = first[pattern], size = first[pattern + 1] - start;
        if (size > length - position) return false;
        const u8* here = reinterpret_cast<const u8*>(text) + position;
        for (u32 at = 0; at < size; ++at) {
            const u32 demand = demands[start + at];
            if (demand >> 8 != 0 && (demand & 0xFF) != here[at]) return false;
        }
        return true;
    }

    template <class Found>
    __device__ __forceinline__ void each(u32 position, u32 window, Found found) const {
        for (u32 family = 0; family < families; ++family) {
            const u32 key = hash(window, family);
            if (!is_let_through(key)) continue;
            const u32 slot = key >> slot_shift;
            for (u32 at = slots[slot]; at < slots[slot + 1]; ++at) {
                const u32 number = numbers[at], pattern = number & 0x0FFFFFFFu;
                if (number >> 28 == family && occurs(pattern, position)) found(pattern);
            }
        }
    }

    __device__ __forceinline__ u32 count(u32 position, u32 window) const {
        u32 found = 0;
        each(position, window, [&](u32) { ++found; });
        return found;
    }
    __device__ __forceinline__ void write(u32 position, u32 window, uint2* pairs) const {
        u32 found = 0;
        each(position, window,
             [&](u32 pattern) { pairs[found++] = make_uint2(position, pattern); });
        sort_few(pairs, found);
    }
};

// Counts the occurrences of byte patterns at every position of a text.
//
//   answer[TOTAL] = number of (i, p) with pattern p occurring from position i of the text on
//   bit i of kept = some pattern occurs at i
//
// Work    per position: a byte read, an eighth written, a look-up in shared memory for each family
//         (four of the generated patterns); where a bit is set, a slot of the hash table and the
//         patterns there, byte by byte. Bound by the look-ups.
// Launch  32 * STEPS positions a warp and tile; any grid; blocks of whole warps. Shared memory: 8 *
//         34 + 4 * (2 * STEPS * block + STEPS * block / 32 + 1 + `tables`) bytes. `bytes_write`
//         follows with the same grid and block.
// Needs   the text as words, zero up to a word behind the one with its last byte; `tables` words of
//         masks and filter from `program[3]` on; answer[DONE] = 0. `length` is at most 2^30.
// Checked against Synthesis.reference: exact, no tolerance.
extern "C" __global__ void bytes_count(const u32* __restrict__ text, u32 length,
                                       const u32* __restrict__ program, u32 tables,
                                       u32* __restrict__ kept, u64* starts, u64* answer) {
    DYNAMIC_SHARED(u32, shared);
    const Tile tile = tile_of(shared);
    copy_tables(program + program[3], tables, tile.tables);
    const BytePatterns matcher(program, tile.tables, text, length);
    count_pairs(matcher, length, tile, kept, starts, answer);
}

// Writes the pairs that `bytes_count` counted, by position and then by pattern.
//
//   pairs = [(i, p) for i in positions for p in patterns if p occurs at i]
//
// Work    per position an eighth of a byte read; per matching position what its slots lead to read
//         and 8 bytes written for each pair.
// Launch  grid, block and shared memory of `bytes_count`, after it.
// Needs   `kept`, `starts` and `answer` as that one left them; nothing is written where there are
//         more than `room` pairs.
// Checked against Synthesis.reference: exact, no tolerance.
extern "C" __global__ void bytes_write(const u32* __restrict__ text, u32 length,
                                       const u32* __restrict__ program, u32 tables,
                                       const u32* __restrict__ kept,
                                       const u64* __restrict__ starts,
                                       const u64* __restrict__ answer, u32 room,
                                       uint2* __restrict__ pairs) {
    DYNAMIC_SHARED(u32, shared);
    const Tile tile = tile_of(shared);
    copy_tables(program + program[3], tables, tile.tables);
    const BytePatterns matcher(program, tile.tables, text, length);
    write_pairs(matcher, length, tile, kept, starts, answer, room, pairs);
}
