// Rules that rewrite trees: what a match captures, and the nodes that take its place.
#pragma once
#include "synthesis_patterns.cuh"

// In the place of a node of the tile: none; and: whoever was replaced by this node writes its link.
constexpr u16 NOWHERE = 0xFFFF, PASSED = 0xFFFE;
// What an item of a replacement is: a new node, a captured subtree, or a node that adopts the
// children of the one replaced.
constexpr u32 NEW = 0, CAPTURE = 1, ADOPT = 2;

// What a rule puts in the place of a match: its items from `first` to `end` in preorder, the nodes
// among them, the places that its pattern captures, the nodes up to the adopting one (0: none) and
// the captures that it uses, a bit each.
struct Replacement {
    u32 first, end, nodes, captures, adopting;
    u64 used;
};

__device__ __forceinline__ Replacement replacement_of(const u32* program, u32 rule) {
    const uint4* rows = reinterpret_cast<const uint4*>(program + program[10]) + 2 * rule;
    const uint4 row = rows[0], more = rows[1];
    return {row.x, row.y, row.z & 0xFFFF, row.z >> 16, row.w, u64(more.y) << 32 | more.x};
}

// An item: x its kind, flags, type and number (of children, or of the capture), y value, z items of
// its own tree.
__device__ __forceinline__ u32 kind_of(uint4 item) { return item.x & 0xFF; }
__device__ __forceinline__ bool keeps_value(uint4 item) { return item.x >> 8 & 1; }
__device__ __forceinline__ bool has_next(uint4 item) { return item.x >> 9 & 1; }
__device__ __forceinline__ u32 type_made(uint4 item) { return item.x >> 16 & 0xFF; }
__device__ __forceinline__ u32 number_of(uint4 item) { return item.x >> 24; }

// The node behind the subtree of a node.
__device__ __forceinline__ u32 end_of(const uint4* nodes, u32 number, uint4 node) {
    if (node.z != NONE) return node.z;
    while (count_of(node) != 0) {
        for (number = node.y; nodes[number].z != NONE;) number = nodes[number].z;
        node = nodes[number];
    }
    return number + 1;
}

// Calls `visit` with every place below the root of a rule's pattern, the node that stands there and
// the one behind its subtree.
template <class Visit>
__device__ __forceinline__ void each_place(const Program& program, u32 rule, const uint4* nodes,
                                           u32 number, uint4 root, Visit visit) {
    const u32 end = program.first[rule + 1];
    u32 at = program.first[rule] + 1;
    if (at == end) return;
    const u32 behind = end_of(nodes, number, root);
    Walk walk(root);
    for (; at < end; ++at) {
        const uint4 place = program.places[at];
        const u32 found = walk.to(place);
        const uint4 node = nodes[found];
        const bool is_last = level_of(place) == 1 || walk.next_child == NONE;
        visit(place, found, node.z != NONE ? node.z : is_last ? behind : walk.next_child);
        walk.pass(place, found, node);
    }
}

// A tile in shared memory. `sizes` has the nodes written for all nodes before one, `moved` by how
// much its place differs from that; `following` its next sibling in the new forest, `ends` (of
// captured nodes) what is behind its subtree; `slots` the captured nodes of all matches, those of
// one from its `bases` on.
struct Forest {
    u32* sizes;
    i32* moved;
    u16 *following, *ends, *slots, *bases;
    u32* slots_taken;
};

__device__ __forceinline__ Forest forest_of(u64* sums, u32 capacity) {
    u32* const sizes = reinterpret_cast<u32*>(sums + SUMS);
    i32* const moved = reinterpret_cast<i32*>(sizes + capacity + 1);
    u16* const following = reinterpret_cast<u16*>(moved + capacity + 1);
    return {sizes,
            moved,
            following,
            following + capacity,
            following + 2 * capacity,
            following + 3 * capacity,
            reinterpret_cast<u32*>(following + 4 * capacity)};
}

// Writes a node; where it is not linked, another thread writes its next sibling.
__device__ __forceinline__ void write_node(uint4* made, u32 place, u32 value, u32 token, u32 next,
                                           bool is_linked) {
    const u32 first = token >> 8 != 0 ? place + 1 : NONE;
    if (is_linked) {
        made[place] = make_uint4(value, first, next, token);
        return;
    }
    u32* const words = reinterpret_cast<u32*>(made + place);
    words[0] = value;
    words[1] = first;
    words[3] = token;
}

// One match in a tile, and the nodes that take its place.
struct Match {
    const uint4* items;
    const uint4* nodes;
    const Forest& forest;
    Replacement replacement;
    u32 first, own;  // of the tile; the node that is replaced, in the tile
    uint4 node;

    __device__ __forceinline__ u32 captured(uint4 item) const {
        return forest.slots[forest.bases[own] + number_of(item)];
    }
    __device__ __forceinline__ u32 size_of(u32 node) const {
        return forest.sizes[forest.ends[node]] - forest.sizes[node];
    }
    // Nodes written for the children that are adopted.
    __device__ __forceinline__ u32 adopted() const {
        const u32 end = end_of(nodes, first + own, node) - first;
        return forest.sizes[end] - forest.sizes[own] - replacement.nodes;
    }
    // Nodes written for an item and what is below it.
    __device__ __forceinline__ u32 written(u32 at) const {
        const u32 end = at + items[at].z;
        u32 size = 0;
        for (; at < end; ++at) {
            const uint4 item = items[at];
            size += kind_of(item) == CAPTURE ? size_of(captured(item)) : 1;
            if (kind_of(item) == ADOPT) size += adopted();
        }
        return size;
    }

    __device__ __forceinline__ void move(u32 from, u32 end, i32 by) const {
        if (by == 0) return;
        atomicAdd(forest.moved + from, by);
        atomicAdd(forest.moved + end, -by);
    }

    // Says of what is captured or adopted where it is written and what follows it.
    __device__ __forceinline__ void place_captures() const {
        u32 place = 0;
        const bool is_alone = replacement.end - replacement.first == 1;
        for (u32 at = replacement.first; at < replacement.end; ++at) {
            const uint4 item = items[at];
            if (kind_of(item) == CAPTURE) {
                const u32 there = captured(item), end = forest.ends[there];
                move(there, end, i32(place - (forest.sizes[there] - forest.sizes[own])));
                forest.following[there] = is_alone         ? PASSED
                                          : has_next(item) ? u16(end)
                                                           : NOWHERE;
                place += size_of(there);
                continue;
            }
            ++place;
            if (kind_of(item) == ADOPT && !is_alone) {
                const u32 end = end_of(nodes, first + own, node) - first;
                if (count_of(node) != 0) move(own + 1, end, i32(place - replacement.nodes));
                place += adopted();
            }
        }
    }

    // Writes the new nodes from `place` on; the sibling of the first is `next`, where it is known.
    __device__ __forceinline__ void write(uint4* made, u32 place, u32 next, bool is_linked) const {
        const bool is_alone = replacement.end - replacement.first == 1;
        for (u32 at = replacement.first; at < replacement.end; ++at) {
            const uint4 item = items[at];
            if (kind_of(item) == CAPTURE) {
                place += size_of(captured(item));
                continue;
            }
            const u32 count = kind_of(item) == ADOPT ? count_of(node) : number_of(item);
            const bool is_first = at == replacement.first;
            const u32 sibling = is_first         ? next
                                : has_next(item) ? place + written(at)
                                                 : NONE;
            write_node(made, place, keeps_value(item) ? node.x : item.y,
                       type_made(item) | count << 8, sibling, is_linked || !is_first);
            ++place;
            if (kind_of(item) == ADOPT && !is_alone) place += adopted();
        }
    }
};
