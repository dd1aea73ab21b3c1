// Distances of 64 pairs of nodes at once: 64 breadth-first searches in the bits of one word.
//
// Then et al., "The More the Merrier: Efficient Multi-Source Graph Traversal", VLDB 2014. A level
// is two launches: one spreads the frontier's lanes over the arcs, the other one settles which of
// them are new. Inner nodes fall with the degree, so the rows of more than PIECE_ARCS arcs are the
// first ones; they are dealt to warps in pieces, the others 32 rows to a warp.
#include "knowledge_graph.cuh"

constexpr u32 LANES = 64;
// A level is scanned from below once its frontier's arcs exceed 1 / this of all.
constexpr u64 ARCS_FACTOR = 12;

struct Batch {
    u64 mode, distance, open;
    // Sums over the levels so far: nodes whose rows were pushed and arcs of theirs, nodes that
    // looked and arcs looked at, levels from below; nodes that lanes reached, where some of them
    // were not new, where some were, and those of the last level.
    u64 pushing, pushed, pulling, pulled, passes, reached, mended, fresh, last_fresh;
    u64 pulling_squares, fresh_squares;  // of what one level has
};

struct Tally {
    u64 arcs, reached, mended, fresh, rows, looked_at, done;
};

struct Ends {
    u32 from[LANES], to[LANES];  // inner numbers
    u32 outer_from[LANES], outer_to[LANES];
    u32 distances[LANES];
};

__device__ __forceinline__ u64 mode_of(u64 open, u64 arcs, u64 arcs_all) {
    if (open == 0 || arcs == 0) return OVER;
    return arcs > arcs_all / ARCS_FACTOR ? BELOW : ABOVE;
}

// The bits of all lanes of a warp.
__device__ __forceinline__ u64 warp_or(u64 bits) {
    for (u32 step = WARP / 2; step > 0; step /= 2) bits |= __shfl_xor_sync(FULL, bits, step);
    return bits;
}

// Start: the sources of up to 64 pairs are set in the frontier, each in a bit of its own.
//
//   pair l = inner[scaled(w(a), nodes)] of the first draws a < 64 with an edge, else 0;
//            w(a) = philox(request, l, a); or as given
//
// Work    64 × 64 draws of 4 bytes at most. Bound by latency.
// Launch  a warp per pair, in strides: grid = 1, block = 1024.
// Needs   seen and frontier all zero; count <= 64.
// Checked against graphs.pairs: exact, no tolerance.
extern "C" __global__ void __launch_bounds__(1024)
    batch_start(const u32* __restrict__ inner, const u32* __restrict__ outer,
                const u32* __restrict__ offsets, u32 nodes, u32 connected, u64 request, u32 key0,
                u32 key1, const u32* __restrict__ given, u32 is_given, u32 count, Batch* next,
                Tally* tally, Ends* ends, u64* seen, u64* frontier) {
    __shared__ u64 open, arcs;
    if (threadIdx.x == 0) open = arcs = 0;
    __syncthreads();
    for (u32 number = threadIdx.x / WARP; number < LANES; number += blockDim.x / WARP) {
        Pair pair = {0, 0};
        if (!is_given)
            pair = drawn_pair(request, number, key0, key1, nodes, connected, inner);
        else if (number < count)
            pair = {inner[given[number]], inner[given[LANES + number]]};
        if (lane() != 0) continue;
        const u64 bit = u64(1) << number;
        const u32 degree = offsets[pair.from + 1] - offsets[pair.from];
        const bool is_asked = number < count, is_same = pair.from == pair.to;
        ends->from[number] = pair.from;
        ends->to[number] = pair.to;
        ends->outer_from[number] = outer[pair.from];
        ends->outer_to[number] = outer[pair.to];
        ends->distances[number] = is_asked && is_same ? 0 : NONE;
        if (!is_asked || is_same || pair.from >= connected || pair.to >= connected) continue;
        atomicOr(&open, bit);
        atomicAdd(&arcs, u64(degree));
        atomicOr(seen + pair.from, bit);
        atomicOr(frontier + pair.from, bit);
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    *tally = {0, 0, 0, 0, 0, 0, 0};
    *next = {mode_of(open, arcs, offsets[nodes]), 0, open, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
}

struct Level {
    const u32 *offsets, *neighbours;
    const u64 *seen, *frontier;
    u64* next;
    u64 open;
    bool is_below;

    // The lanes that a node has to give to its neighbours, or lacks and looks for.
    __device__ __forceinline__ u64 wanted(u32 node) const {
        return open & (is_below ? ~seen[node] : frontier[node]);
    }

    __device__ __forceinline__ void give(u32 to, u64 lanes) const {
        if (lanes & ~load_relaxed(next + to)) atomicOr(next + to, lanes);
    }
};

// Rows and arcs of theirs that a thread looked at.
struct Looked {
    u32 rows = 0, arcs = 0;
};

// A piece of a long row, by a whole warp.
__device__ __forceinline__ void spread_piece(const Level& level, u32 entry, Looked* looked) {
    const Arcs row = arcs_of(entry, level.offsets);
    const u64 wanted = level.wanted(row.node);
    if (wanted == 0) return;
    looked->rows += lane() == 0;
    u64 gathered = 0;
    for (u32 arc = row.first + lane(); arc < row.first + row.count; arc += WARP) {
        const u32 to = level.neighbours[arc];
        if (level.is_below)
            gathered |= level.frontier[to];
        else
            level.give(to, wanted);
        looked->arcs += 1;
    }
    gathered = warp_or(gathered) & wanted;
    if (lane() == 0 && gathered != 0) atomicOr(level.next + row.node, gathered);
}

// Each lane's short row.
__device__ __forceinline__ void spread_rows(const Level& level, u32 node, u32 end_node,
                                            Looked* looked) {
    const u64 wanted = node < end_node ? level.wanted(node) : 0;
    u32 arc = 0, end = 0;
    if (wanted != 0) {
        arc = level.offsets[node];
        end = level.offsets[node + 1];
        looked->rows += 1;
    }
    if (!level.is_below) {
        each_arc(arc, end - arc, [&](bool is_arc, u32 owner, u32 place) {
            const u64 lanes = __shfl_sync(FULL, wanted, owner);
            if (!is_arc) return;
            level.give(level.neighbours[place], lanes);
            looked->arcs += 1;
        });
        return;
    }
    u64 gathered = 0;
    for (; arc < end && (wanted & ~gathered) != 0; ++arc) {
        gathered |= level.frontier[level.neighbours[arc]];
        looked->arcs += 1;
    }
    if (gathered & wanted) level.next[node] = gathered & wanted;
}

// Spread: enters the lanes of every frontier node at its neighbours, or looks for them from there.
//
//   above   next[v] |= frontier[u] & open               for each arc (u, v)
//   below   next[v] = lacking & (| over u of frontier[u]), lacking = open & ~seen[v]
//
// Work    above: 8 bytes read per node, and per frontier node 8 of its row's ends; 4 per arc and an
//         atomic on a random 8 bytes. Below: 16 bytes read per node, 4 per arc looked at and a
//         random 8. Bound by random 8-byte accesses.
// Launch  a warp per piece of a long row or 32 short ones, in strides: any grid, block = 256 (any
//         multiple of 32); 16 bytes of shared memory.
// Needs   next all zero; `pieces` the entries of all rows of more than 128 arcs, of nodes below
//         `hubs`; no other row is longer.
// Checked against graphs.levels: exact, no tolerance.
extern "C" __global__ void __launch_bounds__(256, 3)
    batch_spread(const u32* __restrict__ offsets, const u32* __restrict__ neighbours,
                 const u32* __restrict__ pieces, u32 piece_total, u32 hubs, u32 connected,
                 const Batch* now, Tally* tally, const u64* __restrict__ seen,
                 const u64* __restrict__ frontier, u64* next) {
    __shared__ u64 sums[2];
    if (now->mode == OVER) return;
    if (threadIdx.x < 2) sums[threadIdx.x] = 0;
    __syncthreads();
    const Level level = {offsets, neighbours, seen,     frontier,
                         next,    now->open,  now->mode == BELOW};
    Looked looked;
    for (u32 number = warp_number(); number < piece_total; number += warp_count())
        spread_piece(level, pieces[number], &looked);
    const u32 groups = (connected - hubs + WARP - 1) / WARP;
    for (u32 group = warp_number(); group < groups; group += warp_count())
        spread_rows(level, hubs + group * WARP + lane(), connected, &looked);
    const u32 mine[2] = {looked.rows, looked.arcs};
    u64* const to[2] = {&tally->rows, &tally->looked_at};
    add_up(mine, sums, to);
}

// Takes the tally of a level and says how the next one goes.
__device__ __forceinline__ Batch decided(Batch state, Tally* tally, u64 met, u64 arcs_all) {
    const u64 frontier_arcs = atomicExch(&tally->arcs, u64(0));
    const u64 rows = atomicExch(&tally->rows, u64(0));
    const u64 looked_at = atomicExch(&tally->looked_at, u64(0));
    if (state.mode == BELOW) {
        state.passes += 1;
        state.pulling += rows;
        state.pulling_squares += rows * rows;
        state.pulled += looked_at;
    } else {
        state.pushing += rows;
        state.pushed += looked_at;
    }
    state.reached += atomicExch(&tally->reached, u64(0));
    state.mended += atomicExch(&tally->mended, u64(0));
    state.last_fresh = atomicExch(&tally->fresh, u64(0));
    state.fresh += state.last_fresh;
    state.fresh_squares += state.last_fresh * state.last_fresh;
    state.distance += 1;
    state.open &= ~met;
    state.mode = mode_of(state.open, frontier_arcs, arcs_all);
    return state;
}

// Settle: keeps the lanes that are new at their node and says which pairs have met.
//
//   new = next[v] & ~seen[v];  seen[v] |= new;  next[v] = new;  frontier[v] = 0
//   distances[l] = distance where seen[to(l)] has lane l for the first time
//
// Work    24 bytes read per node, 8 written for each of the three words that changes, 8 read of the
//         row's ends of a node with new lanes. Bound by memory.
// Launch  one thread per node, in strides: any grid, block = 256 (any multiple of 32); 48
//         bytes of shared memory.
// Needs   the frontier that was spread; it is the room of the next launch.
// Checked against graphs.levels: exact, no tolerance.
extern "C" __global__ void __launch_bounds__(256)
    batch_settle(const u32* __restrict__ offsets, u32 nodes, u32 connected, const Batch* now,
                 Batch* after, Tally* tally, Ends* ends, u64* seen, u64* frontier, u64* next) {
    __shared__ u64 sums[4];
    __shared__ u64 met;
    __shared__ u32 answer;
    const Batch state = *now;
    if (state.mode == OVER) {
        if (blockIdx.x == 0 && threadIdx.x == 0) *after = state;
        return;
    }
    if (threadIdx.x == 0) met = 0;
    if (threadIdx.x < 4) sums[threadIdx.x] = 0;
    __syncthreads();
    u32 reached = 0, mended = 0, found = 0, arcs = 0;
    const u32 threads = gridDim.x * blockDim.x;
    for (u32 node = blockIdx.x * blockDim.x + threadIdx.x; node < connected; node += threads) {
        const u64 given = next[node], old = seen[node], fresh = given & ~old;
        if (fresh != 0) {
            seen[node] = old | fresh;
            found += 1;
            arcs += offsets[node + 1] - offsets[node];
        }
        if (fresh != given) {
            next[node] = fresh;
            mended += 1;
        }
        reached += given != 0;
        if (frontier[node] != 0) frontier[node] = 0;
    }
    const u32 mine[4] = {reached, mended, found, arcs};
    u64* const to[4] = {&tally->reached, &tally->mended, &tally->fresh, &tally->arcs};
    add_up(mine, sums, to);
    if (!is_last_block(&tally->done, gridDim.x, &answer)) return;
    for (u32 number = threadIdx.x; number < LANES; number += blockDim.x) {
        const u64 bit = u64(1) << number;
        if (!(state.open & bit) || !(load_relaxed(seen + ends->to[number]) & bit)) continue;
        ends->distances[number] = u32(state.distance) + 1;
        atomicOr(&met, bit);
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    tally->done = 0;
    *after = decided(state, tally, met, offsets[nodes]);
}
