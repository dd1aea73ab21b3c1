// A forest rewritten by rules: outermost matches from the roots down, into a new forest in
// preorder.
//
// Nothing recurses and no thread waits for what is above its node. The nodes lie in preorder and a
// block has whole trees, so what becomes of a node follows from three sums over its tile:
//
//   consumed   a rule's pattern lists the node's place; the rule applies unless its own root is
//              consumed in turn, so a node is looked at after an even chain of such places
//   dropped    some rule above leaves it out: a sum over the starts and ends of what is left out
//   moved      where it is written: nodes written for those before it, plus a sum over the starts
//              and ends of what is moved by how much
#include "synthesis_rules.cuh"

// What becomes of a node: the number of the rule that replaces it, or one of these.
constexpr u32 KEPT = 0xFFFF, GONE = 0xFFFE;
// Whether a node of a tile is looked at, were nothing left out.
__device__ __forceinline__ bool is_looked_at(const u16* inner, u32 own) {
    bool is_even = true;
    for (; inner[own] != NOWHERE; own = inner[own]) is_even = !is_even;
    return is_even;
}

// Turns numbers in shared memory into the sums of those up to each.
__device__ __forceinline__ void sum_up(i32* values, u32 length, u64* sums) {
    u64 before = 0, total;
    for (u32 first = 0; first < length; first += blockDim.x) {
        const u32 own = first + threadIdx.x;
        const u64 value = own < length ? u64(i64(values[own])) : 0;
        const u64 sum = before + block_prefix(value, sums, &total) + value;
        if (own < length) values[own] = i32(sum);
        before += total;
    }
    __syncthreads();
}

// What becomes of every node, and how many nodes and rewrites that makes.
//
//   fates[v]         = first rule that matches at v where one does, KEPT where none does; GONE
//   where v
//                      is consumed or left out by a match further up
//   answer[TOTAL]    = number of nodes of the rewritten forest
//   answer[REWRITES] = number of v whose fate is a rule
//
// Work    per node 16 bytes read, 2 written, two look-ups in shared memory; where these let it
//         through, its cell of the rules' index and the nodes below it, a second time for a match.
//         Memory-bound.
// Launch  a thread for each node of a tile in turn; any grid; blocks of whole warps. Shared
//         memory: 8 * 34 + 4 * 512 + 4 * (capacity + 1) + 4 * capacity bytes. `transform_write`
//         follows with the same grid.
// Needs   nodes in preorder; tiles of whole trees, at most `capacity` (even, below 65534) nodes
//         each; fewer than 65534 rules, their index and replacements in `program`; answer[DONE] =
//         0 and answer[REWRITES] = 0.
// Checked against Synthesis.reference: exact, no tolerance.
extern "C" __global__ void transform_measure(const uint4* __restrict__ nodes,
                                             const uint2* __restrict__ tiles, u32 tile_count,
                                             u32 capacity, const u32* __restrict__ program,
                                             u16* __restrict__ fates, u64* starts, u64* answer) {
    DYNAMIC_SHARED(u64, sums);
    u32* const tables = reinterpret_cast<u32*>(sums + SUMS);
    i32* const dropped = reinterpret_cast<i32*>(tables + 512);
    u16* const inner = reinterpret_cast<u16*>(dropped + capacity + 1);
    u16* const rules = inner + capacity;
    const Program patterns = program_of(program);
    for (u32 at = threadIdx.x; at < 512; at += blockDim.x) tables[at] = patterns.shapes[at];

    const Run run = run_of(tile_count);
    u64 made = 0, rewrites = 0;
    for (u32 tile = run.first; tile < run.end; ++tile) {
        const u32 first = tiles[tile].x, length = tiles[tile + 1].x - first;
        __syncthreads();
        for (u32 own = threadIdx.x; own <= length; own += blockDim.x) {
            dropped[own] = 0;
            if (own < length) inner[own] = NOWHERE;
        }
        __syncthreads();
        for (u32 own = threadIdx.x; own < length; own += blockDim.x) {
            const uint4 node = nodes[first + own];
            u32 rule = KEPT;
            const u32 kinds =
                kinds_at(tables, tables + 256, type_of(node), count_of(node), node.x);
            each_match(patterns, nodes, node, kinds, [&](u32 found) { rule = min(rule, found); });
            rules[own] = u16(rule);
            if (rule == KEPT) continue;
            each_place(patterns, rule, nodes, first + own, node, [&](uint4 place, u32 found, u32) {
                if (level_of(place) == 1 && flags_of(place) & LISTED)
                    inner[found - first] = u16(own);
            });
        }
        __syncthreads();
        for (u32 own = threadIdx.x; own < length; own += blockDim.x) {
            const u32 rule = rules[own];
            if (rule == KEPT || !is_looked_at(inner, own)) continue;
            const Replacement replacement = replacement_of(program, rule);
            const uint4 node = nodes[first + own];
            const auto drop = [&](u32 from, u32 end) {
                atomicAdd(dropped + (from - first), 1);
                atomicAdd(dropped + (end - first), -1);
            };
            u32 captures = 0;
            each_place(patterns, rule, nodes, first + own, node,
                       [&](uint4 place, u32 found, u32 end) {
                           const bool is_listed = flags_of(place) & LISTED;
                           // What is listed on the last level has nothing below it.
                           if (is_listed ? level_of(place) == 2
                                         : !(replacement.used >> captures & 1))
                               drop(found, end);
                           captures += !is_listed;
                       });
            if (patterns.first[rule + 1] - patterns.first[rule] == 1 && count_of(node) != 0 &&
                replacement.adopting == 0)
                drop(first + own + 1, end_of(nodes, first + own, node));
        }
        __syncthreads();
        sum_up(dropped, length, sums);
        for (u32 own = threadIdx.x; own < length; own += blockDim.x) {
            const u32 rule = rules[own];
            const bool is_there = dropped[own] == 0 && is_looked_at(inner, own);
            fates[first + own] = u16(is_there ? rule : GONE);
            if (!is_there) continue;
            made += rule == KEPT ? 1 : replacement_of(program, rule).nodes;
            rewrites += rule != KEPT;
        }
    }
    u64 all;
    block_prefix(rewrites, sums, &all);
    if (threadIdx.x == 0 && all != 0) atomicAdd(answer + REWRITES, all);
    publish(made, starts, answer, sums);
}

// How many nodes are written for those before each node of a tile, and where nothing moves it what
// follows it; returns the number for all.
__device__ __forceinline__ u32 size_up(const Forest& forest, const uint4* nodes, const u16* fates,
                                       const u32* program, u32 first, u32 length, u64* sums) {
    u64 total;
    u32 before = 0;
    if (threadIdx.x == 0) *forest.slots_taken = 0;
    for (u32 round = 0; round < length; round += blockDim.x) {
        const u32 own = round + threadIdx.x;
        const u32 fate = own < length ? fates[first + own] : GONE;
        const u32 size = fate == GONE   ? 0
                         : fate == KEPT ? 1
                                        : replacement_of(program, fate).nodes;
        const u32 place = before + u32(block_prefix(size, sums, &total));
        if (own < length) {
            const u32 next = nodes[first + own].z;
            forest.sizes[own] = place;
            forest.moved[own] = 0;
            forest.following[own] = next == NONE ? NOWHERE : u16(next - first);
        }
        before += u32(total);
    }
    if (threadIdx.x == 0) {
        forest.sizes[length] = before;
        forest.moved[length] = 0;
    }
    __syncthreads();
    return before;
}

// Lists the nodes that a match captures, with what is behind them.
__device__ __forceinline__ void capture(const Match& match, const Program& patterns, u32 rule) {
    const Forest& forest = match.forest;
    u32 slot = atomicAdd(forest.slots_taken, match.replacement.captures);
    forest.bases[match.own] = u16(slot);
    each_place(patterns, rule, match.nodes, match.first + match.own, match.node,
               [&](uint4 place, u32 found, u32 end) {
                   if (flags_of(place) & LISTED) return;
                   forest.slots[slot++] = u16(found - match.first);
                   forest.ends[found - match.first] = u16(end - match.first);
               });
}

// Writes a node of a tile, or what replaces it, from `place` on.
__device__ __forceinline__ void write_fate(const Match& match, u32 fate, u32 place, uint4* made) {
    const Forest& forest = match.forest;
    const u32 following = forest.following[match.own];
    const bool is_linked = following != PASSED;
    const u32 next = !is_linked || following == NOWHERE
                         ? NONE
                         : place + forest.sizes[following] - forest.sizes[match.own];
    if (fate == KEPT)
        write_node(made, place, match.node.x, match.node.w & 0xFFFF, next, is_linked);
    else if (match.replacement.nodes != 0)
        match.write(made, place, next, is_linked);
    else if (is_linked)
        reinterpret_cast<u32*>(made + place)[2] = next;
}

// Writes the rewritten forest in preorder, and where its roots are.
//
//   place(v) = nodes written for the nodes before v + how far v is moved by the matches above it
//   made[place(v) ..] = v itself, or what replaces it; next sibling: behind all written below v
//
// Work    per node 18 bytes read; per node of the new forest 16 bytes written. A match's captures
//         are looked at three times, in the caches. Memory-bound.
// Launch  a thread for each node of a tile in turn; grid of `transform_measure`, after it; blocks
//         of whole warps. Shared memory: 8 * 34 + 8 * (capacity + 1) + 8 * capacity + 4 bytes.
// Needs   as `transform_measure`, whose fates, starts and answer these are; `roots` ascending,
//         those of a tile from its second number on; nothing is written where there are more than
//         `room` nodes.
// Checked against Synthesis.reference: exact, no tolerance.
extern "C" __global__ void transform_write(
    const uint4* __restrict__ nodes, const uint2* __restrict__ tiles, u32 tile_count,
    u32 capacity, const u32* __restrict__ roots, const u32* __restrict__ program,
    const u16* __restrict__ fates, const u64* __restrict__ starts,
    const u64* __restrict__ answer, u32 room, uint4* __restrict__ made,
    u32* __restrict__ made_roots) {
    if (answer[TOTAL] > room) return;
    DYNAMIC_SHARED(u64, sums);
    const Forest forest = forest_of(sums, capacity);
    const Program patterns = program_of(program);
    const uint4* items = reinterpret_cast<const uint4*>(program + program[11]);
    const Run run = run_of(tile_count);
    u64 written = starts[blockIdx.x];
    for (u32 tile = run.first; tile < run.end; ++tile) {
        const u32 first = tiles[tile].x, length = tiles[tile + 1].x - first;
        const auto match_at = [&](u32 own, u32 fate) {
            const Replacement of = fate == KEPT ? Replacement{} : replacement_of(program, fate);
            return Match{items, nodes, forest, of, first, own, nodes[first + own]};
        };
        const u32 size = size_up(forest, nodes, fates, program, first, length, sums);
        for (u32 own = threadIdx.x; own < length; own += blockDim.x) {
            const u32 fate = fates[first + own];
            if (fate == KEPT || fate == GONE) continue;
            const Match match = match_at(own, fate);
            capture(match, patterns, fate);
            match.place_captures();
        }
        __syncthreads();
        sum_up(forest.moved, length, sums);
        const auto place_of = [&](u32 own) {
            return u32(written) + forest.sizes[own] + u32(forest.moved[own]);
        };
        for (u32 own = threadIdx.x; own < length; own += blockDim.x) {
            const u32 fate = fates[first + own];
            if (fate != GONE) write_fate(match_at(own, fate), fate, place_of(own), made);
        }
        for (u32 root = tiles[tile].y + threadIdx.x; root < tiles[tile + 1].y; root += blockDim.x)
            made_roots[root] = place_of(roots[root] - first);
        written += size;
    }
}
