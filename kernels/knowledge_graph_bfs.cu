// Breadth-first search of the whole component of a root, one launch a level, from above and below.
//
// Direction-optimising: Beamer et al., "Direction-Optimizing Breadth-First Search", SC 2012. The
// last block of a launch decides how the next level is visited, so the host enqueues several
// levels before it looks whether the search is over.
#include "knowledge_graph.cuh"

// Go below once the frontier's arcs exceed 1 / this of the unvisited nodes' (Beamer's alpha).
constexpr u64 ARCS_FACTOR = 15;
// Come back once the frontier holds fewer than 1 / this of the nodes (Beamer's beta).
constexpr u64 NODES_FACTOR = 18;
// Neighbours that each node below looks at by itself; then its warp looks at 32 at once.
constexpr u32 ALONE = 8;

// What one launch leaves for the next; from `nodes` on, sums over the launches so far.
struct Traversal {
    u64 mode, hops, first, entries, bitmap;
    u64 nodes, arcs;                    // reached
    u64 taken, found_above, seen_above;  // entries and nodes found, neighbours read, from above
    u64 opened, found_below, seen_below;  // nodes that looked for a parent, and so on
    u64 passes, listings;               // launches below, and that listed a bitmap
    u64 ways;                           // bit h: the nodes h + 1 steps away were found from below
};

// What the blocks of a launch add up; `tail` is the queue's end and is kept.
struct Tally {
    u64 tail, nodes, arcs, looked_at, opened, done;
};

struct Graph {
    const u32 *offsets, *neighbours, *biggest;
    u32 connected;
};

struct Found {
    u32 nodes = 0, arcs = 0, looked_at = 0, opened = 0;
};

__device__ __forceinline__ bool is_set(const u32* bits, u32 node) {
    return bits[node / WARP] >> (node % WARP) & 1;
}

__device__ __forceinline__ u64 mode_after(u64 mode, u64 nodes, u64 arcs, u64 arcs_left,
                                          u32 connected, u32 is_top_down) {
    if (nodes == 0) return OVER;
    if (mode == BELOW && nodes > connected / NODES_FACTOR) return BELOW;
    if (!is_top_down && arcs > arcs_left / ARCS_FACTOR) return BELOW;
    return mode == BELOW ? LISTING : ABOVE;
}

// Start: the root of a request becomes the first level.
//
//   root = inner[scaled(w0(a), nodes)] of the first draw a < 64 with an edge, else 0;
//          w(a) = philox(request, 0, a); or inner[given] where it is given
//
// Work    64 draws of 4 bytes at most; the pieces of one row entered into the queue.
//         Bound by latency.
// Launch  one warp: grid = 1, block = 32.
// Needs   visited all zero; inner numbers fall with the degree, connected nodes first.
// Checked against graphs.pairs: exact, no tolerance.
extern "C" __global__ void bfs_start(const u32* __restrict__ inner, const u32* __restrict__ offsets,
                                     u32 nodes, u32 connected, u64 request, u32 key0, u32 key1,
                                     const u32* __restrict__ given, u32 is_given, u32 is_top_down,
                                     u32* root_out, Traversal* next, Tally* tally, u32* visited,
                                     u32* queue, u32* parents) {
    const u32 root = is_given ? inner[*given]
                              : drawn_pair(request, 0, key0, key1, nodes, connected, inner).from;
    const u32 degree = offsets[root + 1] - offsets[root];
    if (lane() == 0) {
        tally->tail = tally->nodes = tally->arcs = 0;
        tally->looked_at = tally->opened = tally->done = 0;
        *root_out = root;
        visited[root / WARP] = 1u << (root % WARP);
        parents[root] = root;
        const u64 left = offsets[nodes] - degree;
        const u64 mode = mode_after(ABOVE, 1, degree, left, connected, is_top_down);
        const u64 pieces = piece_count(degree), first = mode == BELOW ? pieces : 0;
        *next = {mode, 0, first, pieces - first, 0, 1, degree, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    }
    const Queue rows = {queue, 0, false};
    rows.append(lane() == 0 ? root : NONE, degree, &tally->tail);
}

// Visits the neighbours of the queue's nodes; the new ones are entered behind them.
__device__ __forceinline__ Found from_above(const Graph& graph, const Traversal& now, u32* visited,
                                            u32* queue, u64* tail, u32* parents) {
    Found found;
    const Queue rows = {queue, 0, false};
    const u32 entries = u32(now.entries), warps = warp_count();
    const u32 share = entries_at_once(entries, warps);
    for (u32 at = warp_number() * share; at < entries; at += warps * share) {
        Arcs mine = {0, 0, 0};
        if (lane() < min(share, entries - at))
            mine = arcs_of(queue[now.first + at + lane()], graph.offsets);
        each_arc(mine.first, mine.count, [&](bool is_arc, u32 owner, u32 arc) {
            const u32 node = __shfl_sync(FULL, mine.node, owner);
            u32 reached = NONE, degree = 0;
            if (is_arc) {
                const u32 next = graph.neighbours[arc], bit = 1u << (next % WARP);
                u32* word = visited + next / WARP;
                if (!(load_relaxed(word) & bit) && !(atomicOr(word, bit) & bit)) reached = next;
                found.looked_at += 1;
            }
            if (reached != NONE) {
                degree = graph.offsets[reached + 1] - graph.offsets[reached];
                parents[reached] = node;
                found.nodes += 1;
                found.arcs += degree;
            }
            rows.append(reached, degree, tail);
        });
    }
    return found;
}

// The first of a row's neighbours from `first` on that is visited, sought by the whole warp.
__device__ __forceinline__ u32 parent_of(const Graph& graph, u32 first, u32 end, const u32* visited,
                                         u32* looked_at) {
    for (u32 base = first; base < end; base += WARP) {
        const u32 at = base + lane();
        const u32 next = at < end ? graph.neighbours[at] : 0;
        *looked_at += at < end;
        const u32 hits = __ballot_sync(FULL, at < end && is_set(visited, next));
        if (hits != 0) return __shfl_sync(FULL, next, __ffs(hits) - 1);
    }
    return NONE;
}

// Gives each node not yet visited a visited neighbour as its parent. Such a neighbour was visited
// in the last level, or the node would have been visited in the level after its.
__device__ __forceinline__ Found from_below(const Graph& graph, const u32* before, u32* after,
                                            u32* fresh, u32* parents) {
    Found found;
    const u32 words = (graph.connected + WARP - 1) / WARP;
    for (u32 word = warp_number(); word < words; word += warp_count()) {
        const u32 visited = before[word], node = word * WARP + lane();
        const bool is_open = node < graph.connected && !(visited >> lane() & 1);
        u32 parent = NONE, begin = 0, end = 0;
        if (is_open) {
            begin = graph.offsets[node];
            end = graph.offsets[node + 1];
            const u32 biggest = graph.biggest[node];
            if (is_set(before, biggest)) parent = biggest;
            const u32 last = min(end, begin + ALONE);
            for (u32 at = begin + 1; at < last && parent == NONE; ++at) {
                const u32 next = graph.neighbours[at];
                if (is_set(before, next)) parent = next;
                found.looked_at += 1;
            }
            found.opened += 1;
        }
        u32 left = __ballot_sync(FULL, is_open && parent == NONE && begin + ALONE < end);
        for (; left != 0; left &= left - 1) {
            const u32 owner = __ffs(left) - 1;
            const u32 first = __shfl_sync(FULL, begin, owner) + ALONE;
            const u32 past = __shfl_sync(FULL, end, owner);
            const u32 sought = parent_of(graph, first, past, before, &found.looked_at);
            if (lane() == owner) parent = sought;
        }
        if (parent != NONE) {
            parents[node] = parent;
            found.nodes += 1;
            found.arcs += end - begin;
        }
        const u32 reached = __ballot_sync(FULL, parent != NONE);
        if (lane() == 0) {
            after[word] = visited | reached;
            fresh[word] = reached;
        }
    }
    return found;
}

// Enters the nodes of a bitmap into the queue.
__device__ __forceinline__ void list(const Graph& graph, const u32* fresh, u32* queue, u64* tail) {
    const Queue rows = {queue, 0, false};
    const u32 words = (graph.connected + WARP - 1) / WARP;
    for (u32 word = warp_number(); word < words; word += warp_count()) {
        const u32 node = word * WARP + lane();
        const bool is_fresh = fresh[word] >> lane() & 1;
        const u32 degree = is_fresh ? graph.offsets[node + 1] - graph.offsets[node] : 0;
        rows.append(is_fresh ? node : NONE, degree, tail);
    }
}

// Takes the tally of a launch and says how the next one goes on.
__device__ __forceinline__ Traversal decided(Traversal state, Tally* tally, u32 connected,
                                             u64 arcs_all, u32 is_top_down) {
    const u64 tail = atomicAdd(&tally->tail, u64(0)), nodes = atomicExch(&tally->nodes, u64(0));
    const u64 arcs = atomicExch(&tally->arcs, u64(0)), mode = state.mode;
    const u64 looked_at = atomicExch(&tally->looked_at, u64(0));
    state.nodes += nodes;
    state.arcs += arcs;
    if (mode == ABOVE) {
        state.taken += state.entries;
        state.first += state.entries;
        state.found_above += nodes;
        state.seen_above += looked_at;
    } else if (mode == BELOW) {
        state.bitmap ^= 1;
        state.passes += 1;
        if (state.hops < 64) state.ways |= u64(1) << state.hops;
        state.opened += atomicExch(&tally->opened, u64(0));
        state.found_below += nodes;
        state.seen_below += looked_at;
    }
    state.entries = tail - state.first;
    if (mode == LISTING) {
        state.mode = ABOVE;
        state.listings += 1;
        return state;
    }
    state.mode = mode_after(mode, nodes, arcs, arcs_all - state.arcs, connected, is_top_down);
    state.hops += 1;
    // Whose neighbours find them from below is not visited from above any more.
    if (state.mode == BELOW) state.first = tail, state.entries = 0;
    return state;
}

// Level: visits all nodes one step further from the root and decides how the next level goes.
//
//   above   for each arc (u, v) of a node u in the queue: parents[v] = u where v was not visited
//   below   for each v not visited: parents[v] = one of its neighbours that is visited
//   listing the queue takes the nodes that the last level found from below
//
// Work    above: 4 bytes per entry and 8 of its row's ends, 4 per arc, and per node found 8 read
//         and 8 written. Below: 12 bytes read per node not visited, 4 per neighbour looked at, and
//         4 written per node found; 4 read and 8 written per 32 nodes.
//         Bound by memory: the bitmap is in the cache, so sequential rows are what is left.
// Launch  a warp per 32 nodes or fewer entries, in strides: any grid, block = 256 (any multiple of
//         32); 40 bytes of shared memory.
// Needs   rows rising, so that `biggest` is the first; room for nodes + arcs / 128 entries.
// Checked against graphs.levels: depths exact, every parent a neighbour one level up.
extern "C" __global__ void __launch_bounds__(256, 3)
    bfs_level(const u32* __restrict__ offsets, const u32* __restrict__ neighbours,
              const u32* __restrict__ biggest, u32 nodes, u32 connected, u32 is_top_down,
              const Traversal* now, Traversal* next, Tally* tally, u32* visited, u32* fresh,
              u32* queue, u32* parents) {
    __shared__ u64 sums[4];
    __shared__ u32 answer;
    const Traversal state = *now;
    if (state.mode == OVER) {
        if (blockIdx.x == 0 && threadIdx.x == 0) *next = state;
        return;
    }
    if (threadIdx.x < 4) sums[threadIdx.x] = 0;
    __syncthreads();
    const Graph graph = {offsets, neighbours, biggest, connected};
    const u32 words = (nodes + WARP - 1) / WARP;
    u32 *current = visited + state.bitmap * words, *other = visited + (state.bitmap ^ 1) * words;
    Found found;
    if (state.mode == ABOVE)
        found = from_above(graph, state, current, queue, &tally->tail, parents);
    else if (state.mode == BELOW)
        found = from_below(graph, current, other, fresh, parents);
    else
        list(graph, fresh, queue, &tally->tail);
    const u32 mine[4] = {found.nodes, found.arcs, found.looked_at, found.opened};
    u64* const to[4] = {&tally->nodes, &tally->arcs, &tally->looked_at, &tally->opened};
    add_up(mine, sums, to);
    if (!is_last_block(&tally->done, gridDim.x, &answer) || threadIdx.x != 0) return;
    tally->done = 0;
    *next = decided(state, tally, connected, offsets[nodes], is_top_down);
}
