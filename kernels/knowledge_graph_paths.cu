// Shortest paths between two nodes, from both ends at once, one launch a level.
//
// Pohl, "Bi-directional Search", Machine Intelligence 6, 1971. The side whose frontier has fewer
// arcs is expanded by one whole level; a neighbour that the other side has closes a shortest path,
// because every shorter one would have closed at an earlier level.
#include "knowledge_graph.cuh"

constexpr u64 NOT_MET = ~u64(0);
// Words of an answer before the path: is it over, its nodes, the two ends asked for.
constexpr u32 ANSWER_HEAD = 4;

// One side: its frontier's entries of the queue and their arcs, and the levels that it has gone.
struct Side {
    u64 first, entries, arcs, hops;
};

// What one launch leaves for the next.
struct Meeting {
    u64 mode, side;
    Side there, back;
    u64 met;  // forward node << 32 | backward node
    u64 from, to;
    u64 looked_at, taken, nodes;  // sums over the launches so far
};

struct Tally {
    u64 tails[2];
    u64 nodes, arcs, looked_at, met, done;
};

__device__ __forceinline__ u64 mode_of(const Meeting& state) {
    const bool is_over = state.met != NOT_MET || state.there.arcs == 0 || state.back.arcs == 0;
    return is_over ? OVER : ABOVE;
}

// Start: both ends of a request are marked and entered into the queues.
//
//   from = inner[scaled(w0(a), nodes)], to = inner[scaled(w1(b), nodes)] of the first draws
//          a, b < 64 with an edge, else 0; w(a) = philox(request, 0, a); or as given
//
// Work    64 draws of 4 bytes at most; the pieces of two rows entered into the queues.
//         Bound by latency.
// Launch  one warp: grid = 1, block = 32.
// Needs   marks all zero; inner numbers fall with the degree, connected nodes first.
// Checked against graphs.pairs: exact, no tolerance.
extern "C" __global__ void path_start(const u32* __restrict__ inner,
                                      const u32* __restrict__ offsets, u32 nodes, u32 connected,
                                      u64 request, u32 key0, u32 key1,
                                      const u32* __restrict__ given, u32 is_given, Meeting* next,
                                      Tally* tally, u32* marks, u32* queue, u32 last) {
    Pair pair;
    if (is_given)
        pair = {inner[given[0]], inner[given[1]]};
    else
        pair = drawn_pair(request, 0, key0, key1, nodes, connected, inner);
    const u32 there = offsets[pair.from + 1] - offsets[pair.from];
    const u32 back = offsets[pair.to + 1] - offsets[pair.to];
    if (lane() == 0) {
        *tally = {{0, 0}, 0, 0, 0, NOT_MET, 0};
        Meeting state = {ABOVE, there > back, {0, piece_count(there), there, 0},
                         {0, piece_count(back), back, 0}, NOT_MET, pair.from, pair.to, 0, 0, 0};
        state.mode = pair.from == pair.to ? OVER : mode_of(state);
        *next = state;
        marks[pair.from / 16] |= 1u << (pair.from % 16 * 2);
        marks[pair.to / 16] |= 2u << (pair.to % 16 * 2);
    }
    const Queue forward = {queue, last, false}, backward = {queue, last, true};
    forward.append(lane() == 0 ? pair.from : NONE, there, &tally->tails[0]);
    backward.append(lane() == 0 ? pair.to : NONE, back, &tally->tails[1]);
}

// Takes the tally of a launch that visited `entries` of one side's queue, and says how the next one
// goes on.
__device__ __forceinline__ Meeting decided(Meeting state, Tally* tally, bool is_backward) {
    Side side = is_backward ? state.back : state.there;
    state.met = atomicAdd(&tally->met, u64(0));
    state.nodes += atomicExch(&tally->nodes, u64(0));
    state.looked_at += atomicExch(&tally->looked_at, u64(0));
    state.taken += side.entries;
    side.first += side.entries;
    side.entries = atomicAdd(&tally->tails[is_backward], u64(0)) - side.first;
    side.arcs = atomicExch(&tally->arcs, u64(0));
    side.hops += state.met == NOT_MET;
    if (is_backward)
        state.back = side;
    else
        state.there = side;
    state.side = state.there.arcs > state.back.arcs;
    state.mode = mode_of(state);
    return state;
}

// Level: the side with fewer arcs visits all nodes one step further from its end.
//
//   for each arc (u, v) of a node u in its queue: v marked by the other side -> they have met;
//   v not marked -> mark it, parents[v] = u, enter v into the queue
//
// Work    4 bytes per entry and 8 of its row's ends, 4 per arc and a random 2 bits, and per node
//         found 8 read and 8 written. Bound by random reads of the marks.
// Launch  a warp per 32 or fewer entries, in strides: any grid, block = 256 (any multiple of 32);
//         32 bytes of shared memory.
// Needs   room for nodes + arcs / 128 entries, from whose ends both queues grow.
// Checked against graphs.levels: the length exact, every edge of the path one of the graph.
extern "C" __global__ void __launch_bounds__(256, 3)
    path_level(const u32* __restrict__ offsets, const u32* __restrict__ neighbours,
               const Meeting* now, Meeting* next, Tally* tally, u32* marks, u32* queue, u32 last,
               u32* parents) {
    __shared__ u64 sums[3];
    __shared__ u32 answer;
    const Meeting state = *now;
    if (state.mode == OVER) {
        if (blockIdx.x == 0 && threadIdx.x == 0) *next = state;
        return;
    }
    if (threadIdx.x < 3) sums[threadIdx.x] = 0;
    __syncthreads();
    const bool is_backward = state.side == 1;
    const u32 own = is_backward ? 2 : 1, others = 3 - own;
    const Queue rows = {queue, last, is_backward};
    const Side side = is_backward ? state.back : state.there;
    const u32 first = u32(side.first), entries = u32(side.entries);
    u64* tail = &tally->tails[is_backward];
    const u32 warps = warp_count(), share = entries_at_once(entries, warps);
    u32 found[3] = {0, 0, 0};  // nodes, arcs of theirs, arcs looked at
    for (u32 at = warp_number() * share; at < entries; at += warps * share) {
        Arcs mine = {0, 0, 0};
        if (lane() < min(share, entries - at))
            mine = arcs_of(*rows.at(first + at + lane()), offsets);
        each_arc(mine.first, mine.count, [&](bool is_arc, u32 owner, u32 arc) {
            const u32 node = __shfl_sync(FULL, mine.node, owner);
            u32 reached = NONE, degree = 0;
            if (is_arc) {
                const u32 to = neighbours[arc], shift = to % 16 * 2;
                u32 marked = load_relaxed(marks + to / 16) >> shift & 3;
                if (marked == 0) marked = atomicOr(marks + to / 16, own << shift) >> shift & 3;
                if (marked == 0) reached = to;
                const u32 there = is_backward ? to : node, back = is_backward ? node : to;
                if (marked & others) atomicMin(&tally->met, u64(there) << 32 | back);
                found[2] += 1;
            }
            if (reached != NONE) {
                degree = offsets[reached + 1] - offsets[reached];
                parents[reached] = node;
                found[0] += 1;
                found[1] += degree;
            }
            rows.append(reached, degree, tail);
        });
    }
    u64* const to[3] = {&tally->nodes, &tally->arcs, &tally->looked_at};
    add_up(found, sums, to);
    if (!is_last_block(&tally->done, gridDim.x, &answer) || threadIdx.x != 0) return;
    tally->done = 0;
    *next = decided(state, tally, is_backward);
}

// Walk: writes the path of a search that is over, from the meeting back to both ends.
//
//   path = from, ..., parents[parents[u]], parents[u], u, v, parents[v], ..., to
//   answer = is it over, nodes of the path (0: there is none), from, to, then the path,
//            in the nodes' own numbers
//
// Work    8 bytes read and 4 written per node of the path, one after the other on each side.
//         Bound by latency.
// Launch  one lane per side: grid = 1, block = 32.
// Needs   room for nodes + 4 words.
// Checked against graphs.levels: the length exact, every edge of the path one of the graph.
extern "C" __global__ void path_walk(const u32* __restrict__ outer, const Meeting* now,
                                     const u32* __restrict__ parents, u32* __restrict__ answer) {
    const bool is_over = now->mode == OVER;
    const bool is_same = now->from == now->to, has_path = is_same || now->met != NOT_MET;
    const u32 there = u32(now->there.hops), back = u32(now->back.hops);
    if (lane() == 0) {
        answer[0] = is_over;
        answer[1] = !has_path ? 0 : is_same ? 1 : there + back + 2;
        answer[2] = outer[now->from];
        answer[3] = outer[now->to];
    }
    if (!is_over || !has_path || lane() > 1) return;
    u32* path = answer + ANSWER_HEAD;
    if (is_same) {
        if (lane() == 0) path[0] = outer[now->from];
        return;
    }
    u32 node = lane() == 0 ? u32(now->met >> 32) : u32(now->met);
    u32 at = lane() == 0 ? there : there + 1;
    for (u32 left = lane() == 0 ? there : back;; --left) {
        path[at] = outer[node];
        if (left == 0) return;
        node = parents[node];
        at += lane() == 0 ? -1 : 1;
    }
}
