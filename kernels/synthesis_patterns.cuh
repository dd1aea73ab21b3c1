// Nodes of a forest, patterns of trees, and the index that finds the patterns to compare at a node.
#pragma once
#include "synthesis.cuh"

// "No such node".
constexpr u32 NONE = 0xFFFFFFFFu;
// Classes of child counts in the index: 0 to 6, and 7 or more.
constexpr u32 CLASSES = 8;

// A node: x value, y first child, z next sibling, w type in the lower byte and count in the next.
__device__ __forceinline__ u32 type_of(uint4 node) { return node.w & 0xFF; }
__device__ __forceinline__ u32 count_of(uint4 node) { return node.w >> 8 & 0xFF; }

// A place of a pattern: x value and y its mask; z type and count, their masks in the upper half;
// w how it is found from the places before it, its level and its flags.
constexpr u32 BY_FIRST = 1, BY_NEXT = 2, LISTED = 8;
__device__ __forceinline__ u32 step_of(uint4 place) { return place.w & 0xFF; }
__device__ __forceinline__ u32 level_of(uint4 place) { return place.w >> 8 & 0xFF; }
__device__ __forceinline__ u32 flags_of(uint4 place) { return place.w >> 16; }

__device__ __forceinline__ bool accepts(uint4 place, uint4 node) {
    count_comparison();
    return ((node.w ^ place.z) & place.z >> 16) == 0 && ((node.x ^ place.x) & place.y) == 0;
}

// Walks the places below a pattern's root: the node that stands at each.
struct Walk {
    u32 child, grandchild;  // where it is
    u32 below_root, below_child, next_child, next_grandchild;  // links of the nodes passed

    __device__ __forceinline__ explicit Walk(uint4 root)
        : child(NONE), grandchild(NONE), below_root(root.y), below_child(NONE), next_child(NONE),
          next_grandchild(NONE) {}

    __device__ __forceinline__ u32 to(uint4 place) const {
        if (level_of(place) == 1) return step_of(place) == BY_FIRST ? below_root : next_child;
        return step_of(place) == BY_FIRST ? below_child : next_grandchild;
    }

    __device__ __forceinline__ void pass(uint4 place, u32 number, uint4 node) {
        if (level_of(place) == 1) {
            child = number;
            below_child = node.y;
            next_child = node.z;
        } else {
            grandchild = number;
            next_grandchild = node.z;
        }
    }
};

// Patterns and their index in one array of words: the header gives where each part starts.
struct Program {
    const u32 *first, *rows, *listed;
    const uint4 *places, *cells;
    const u32 *shapes, *values;
    const uint2* slots;
    const uint4* probes;
    u32 kinds;
};

__device__ __forceinline__ Program program_of(const u32* words) {
    return {words + words[0],
            words + words[1],
            words + words[2],
            reinterpret_cast<const uint4*>(words + words[3]),
            reinterpret_cast<const uint4*>(words + words[4]),
            words + words[5],
            words + words[6],
            reinterpret_cast<const uint2*>(words + words[7]),
            reinterpret_cast<const uint4*>(words + words[8]),
            words[9]};
}

// Whether the places of a pattern below its root, `from` to `end`, fit a node that the root fits.
__device__ __forceinline__ bool fits_below(const uint4* places, u32 from, u32 end,
                                           const uint4* nodes, uint4 root) {
    Walk walk(root);
    for (u32 at = from; at < end; ++at) {
        // A place is reached only through counts that were found right, so the link is there.
        const uint4 place = places[at];
        const u32 number = walk.to(place);
        const uint4 node = nodes[number];
        if (!accepts(place, node)) return false;
        walk.pass(place, number, node);
    }
    return true;
}

__device__ __forceinline__ bool fits(const Program& program, u32 pattern, const uint4* nodes,
                                     uint4 root) {
    const u32 first = program.first[pattern];
    return accepts(program.places[first], root) &&
           fits_below(program.places, first + 1, program.first[pattern + 1], nodes, root);
}

__device__ __forceinline__ u32 class_of(u32 count) { return min(count, CLASSES - 1); }

// For each kind of pattern roots (a byte each) whether one may fit: by type and child count, and by
// eleven bits of the value.
__device__ __forceinline__ u32 kinds_at(const u32* shapes, const u32* values, u32 type, u32 count,
                                        u32 value) {
    count_comparison();
    return shapes[type] >> class_of(count) & values[value & 0xFF] >> (value >> 8 & 7) & 0x01010101u;
}

// The tokens that a table of the index tells patterns apart by, as bits of `fields`.
constexpr u32 FIRST_TYPE = 2, SECOND_TYPE = 4, FIRST_VALUE = 8, SECOND_VALUE = 16;

// A hash of those tokens of a node; its upper bits count.
__device__ __forceinline__ u64 key_of(const uint4* nodes, uint4 node, u32 fields) {
    u64 sum = fields & 1 ? node.x * 0x9E3779B97F4A7C15ull : 0;
    // Asked only where all patterns list the children that are looked at.
    if (fields & (FIRST_TYPE | FIRST_VALUE | SECOND_TYPE | SECOND_VALUE)) {
        const uint4 child = nodes[node.y];
        if (fields & FIRST_TYPE) sum += type_of(child) * 0xC2B2AE3D27D4EB4Full;
        if (fields & FIRST_VALUE) sum += child.x * 0xD6E8FEB86659FD93ull;
        if (fields & (SECOND_TYPE | SECOND_VALUE)) {
            const uint4 second = nodes[child.z];
            if (fields & SECOND_TYPE) sum += type_of(second) * 0x165667B19E3779F9ull;
            if (fields & SECOND_VALUE) sum += second.x * 0xA0761D6478BD642Full;
        }
    }
    return (sum ^ sum >> 32) * 0x9E3779B97F4A7C15ull;
}

// Calls `found` with every pattern that matches at a node, in no order; `kinds` as by `kinds_at`.
template <class Found>
__device__ __forceinline__ void each_match(const Program& program, const uint4* nodes, uint4 node,
                                           u32 kinds, Found found) {
    for (u32 kind = 0; kind < program.kinds; ++kind) {
        if (!(kinds >> 8 * kind & 1)) continue;
        const u32 row = program.rows[256 * kind + type_of(node)];
        const uint4* cell = program.cells + 2 * (row * CLASSES + class_of(count_of(node)));
        const uint4 lists = cell[0];  // x, y match whatever else the node is; z, w to be compared
        const uint4 tables = cell[1];
        for (u32 at = lists.x; at < lists.y; ++at) found(program.listed[at]);
        for (u32 at = lists.z; at < lists.w; ++at) {
            const u32 pattern = program.listed[at];
            if (fits(program, pattern, nodes, node)) found(pattern);
        }
        for (u32 table = tables.x; table < tables.y; ++table) {
            const uint4 probe = program.probes[table];
            const u64 key = key_of(nodes, node, probe.x);
            const uint2 slot = program.slots[probe.z + u32(key >> probe.y)];
            for (u32 at = slot.x; at < slot.y; ++at) {
                const u32 pattern = program.listed[at];
                if (fits(program, pattern, nodes, node)) found(pattern);
            }
        }
    }
}
