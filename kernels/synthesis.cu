// Patterns of trees against the nodes of a forest: which match where.
#include "synthesis_pairs.cuh"
#include "synthesis_patterns.cuh"

// A node as it is looked at first: type, child count and sixteen bits of the value.
__device__ __forceinline__ u32 type_seen(u32 look) { return look & 0xFF; }
__device__ __forceinline__ u32 count_seen(u32 look) { return look >> 8 & 0xFF; }
__device__ __forceinline__ u32 value_seen(u32 look) { return look >> 16; }

// At most 32 patterns, a bit each: the tables hold those that a type, a count and a byte of the
// value leave, then those that nothing else can decide against.
struct FewPatterns {
    const u32* tables;
    Program program;
    const u32* looks;
    const uint4* nodes;

    static constexpr u32 TABLES = 3 * 256 + 1;

    __device__ __forceinline__ u32 seen(u32 number) const { return load_streaming(looks + number); }
    __device__ __forceinline__ u32 left(u32 look) const {
        count_comparison();
        return tables[type_seen(look)] & tables[256 + count_seen(look)] &
               tables[512 + (value_seen(look) & 0xFF)];
    }
    __device__ __forceinline__ bool passes(u32 look) const { return left(look) != 0; }

    __device__ __forceinline__ u32 matching(u32 number, u32 look) const {
        const u32 all = left(look);
        u32 found = all & tables[768], open = all & ~found;
        if (open == 0) return found;
        const uint4 node = nodes[number];
        for (; open != 0; open &= open - 1) {
            const u32 pattern = __ffs(open) - 1;
            if (fits(program, pattern, nodes, node)) found |= 1u << pattern;
        }
        return found;
    }

    __device__ __forceinline__ u32 count(u32 number, u32 look) const {
        return __popc(matching(number, look));
    }
    __device__ __forceinline__ void write(u32 number, u32 look, uint2* pairs) const {
        for (u32 found = matching(number, look); found != 0; found &= found - 1)
            *pairs++ = make_uint2(number, __ffs(found) - 1);
    }
};

// Any number of patterns, by their index.
struct ManyPatterns {
    const u32* tables;
    Program program;
    const u32* looks;
    const uint4* nodes;

    static constexpr u32 TABLES = 2 * 256;

    __device__ __forceinline__ u32 seen(u32 number) const { return load_streaming(looks + number); }
    __device__ __forceinline__ u32 kinds(u32 look) const {
        return kinds_at(tables, tables + 256, type_seen(look), count_seen(look), value_seen(look));
    }
    __device__ __forceinline__ bool passes(u32 look) const { return kinds(look) != 0; }

    __device__ __forceinline__ u32 count(u32 number, u32 look) const {
        u32 found = 0;
        each_match(program, nodes, nodes[number], kinds(look), [&](u32) { ++found; });
        return found;
    }
    __device__ __forceinline__ void write(u32 number, u32 look, uint2* pairs) const {
        u32 found = 0;
        each_match(program, nodes, nodes[number], kinds(look),
                   [&](u32 pattern) { pairs[found++] = make_uint2(number, pattern); });
        sort_few(pairs, found);
    }
};

// Counts the matches of at most 32 patterns at the nodes of a forest.
//
//   answer[TOTAL] = number of (v, p) with pattern p matching at node v
//   bit v of kept = some pattern matches at v
//
// Work    per node: 4 bytes read, an eighth written, three look-ups in shared memory; 16 bytes of
//         a node's record, and of those below it, where these leave a pattern open. Memory-bound.
// Launch  32 * STEPS nodes a warp and tile; any grid; blocks of whole warps. Shared memory: 8 * 34
//         + 4 * (2 * STEPS * block + STEPS * block / 32 + 770) bytes. `match_few_write` follows
//         with the same grid and block.
// Needs   `looks` type, count and the value's lower half of each node; links in range, as many
//         siblings as counted; answer[DONE] = 0. `length` is at most 2^30.
// Checked against Synthesis.reference: exact, no tolerance.
extern "C" __global__ void match_few_count(const u32* __restrict__ looks,
                                           const uint4* __restrict__ nodes, u32 length,
                                           const u32* __restrict__ program,
                                           const u32* __restrict__ tables, u32* __restrict__ kept,
                                           u64* starts, u64* answer) {
    DYNAMIC_SHARED(u32, shared);
    const Tile tile = tile_of(shared);
    copy_tables(tables, FewPatterns::TABLES, tile.tables);
    const FewPatterns matcher{tile.tables, program_of(program), looks, nodes};
    count_pairs(matcher, length, tile, kept, starts, answer);
}

// Writes the pairs that `match_few_count` counted, by node and then by pattern.
//
//   pairs = [(v, p) for v in nodes for p in patterns if p matches at v]
//
// Work    per node an eighth of a byte read; per matching node 4 bytes (and its record, where only
//         that decides) read and 8 bytes written for each pair.
// Launch  grid, block and shared memory of `match_few_count`, after it.
// Needs   `kept`, `starts` and `answer` as that one left them; nothing is written where there are
//         more than `room` pairs.
// Checked against Synthesis.reference: exact, no tolerance.
extern "C" __global__ void match_few_write(const u32* __restrict__ looks,
                                           const uint4* __restrict__ nodes, u32 length,
                                           const u32* __restrict__ program,
                                           const u32* __restrict__ tables,
                                           const u32* __restrict__ kept,
                                           const u64* __restrict__ starts,
                                           const u64* __restrict__ answer, u32 room,
                                           uint2* __restrict__ pairs) {
    DYNAMIC_SHARED(u32, shared);
    const Tile tile = tile_of(shared);
    copy_tables(tables, FewPatterns::TABLES, tile.tables);
    const FewPatterns matcher{tile.tables, program_of(program), looks, nodes};
    write_pairs(matcher, length, tile, kept, starts, answer, room, pairs);
}

// Counts the matches of any number of patterns at the nodes of a forest, by their index.
//
//   answer[TOTAL] = number of (v, p) with pattern p matching at node v
//   bit v of kept = some pattern matches at v
//
// Work    per node: 4 bytes read, an eighth written, two look-ups in shared memory; per node that
//         these let through (few more than match) its record of 16 bytes, a cell of the index by
//         (type, count) and at most four hash tables. Memory-bound at a tenth of nodes matching.
// Launch  as `match_few_count`, with 4 * 512 bytes of tables in shared memory.
// Needs   as `match_few_count`; `program` with the index of the patterns.
// Checked against Synthesis.reference: exact, no tolerance.
extern "C" __global__ void match_many_count(const u32* __restrict__ looks,
                                            const uint4* __restrict__ nodes, u32 length,
                                            const u32* __restrict__ program,
                                            u32* __restrict__ kept, u64* starts, u64* answer) {
    DYNAMIC_SHARED(u32, shared);
    const Tile tile = tile_of(shared);
    const Program patterns = program_of(program);
    copy_tables(patterns.shapes, ManyPatterns::TABLES, tile.tables);
    const ManyPatterns matcher{tile.tables, patterns, looks, nodes};
    count_pairs(matcher, length, tile, kept, starts, answer);
}

// Writes the pairs that `match_many_count` counted, by node and then by pattern.
//
//   pairs = [(v, p) for v in nodes for p in patterns if p matches at v]
//
// Work    per node an eighth of a byte read; per matching node 20 bytes, its cell of the index and
//         the patterns there read, 8 bytes written for each pair.
// Launch  grid, block and shared memory of `match_many_count`, after it.
// Needs   `kept`, `starts` and `answer` as that one left them; nothing is written where there are
//         more than `room` pairs.
// Checked against Synthesis.reference: exact, no tolerance.
extern "C" __global__ void match_many_write(const u32* __restrict__ looks,
                                            const uint4* __restrict__ nodes, u32 length,
                                            const u32* __restrict__ program,
                                            const u32* __restrict__ kept,
                                            const u64* __restrict__ starts,
                                            const u64* __restrict__ answer, u32 room,
                                            uint2* __restrict__ pairs) {
    DYNAMIC_SHARED(u32, shared);
    const Tile tile = tile_of(shared);
    const Program patterns = program_of(program);
    copy_tables(patterns.shapes, ManyPatterns::TABLES, tile.tables);
    const ManyPatterns matcher{tile.tables, patterns, looks, nodes};
    write_pairs(matcher, length, tile, kept, starts, answer, room, pairs);
}
