// Masked templates against linearised trees of 64 tokens: which agree, by rows of bits.
#include "synthesis.cuh"

// Tokens of a tree.
constexpr u32 TOKENS = 64;

// Numbers of the rows that a warp compares a tree by, a position each: the lanes write two each.
__device__ __forceinline__ void number_rows(const u16* trees, u32 tree, const u32* numbers,
                                            uint2* rows) {
    const u32 tokens = trees[u64(tree) * (TOKENS / 2) + lane()];
    rows[lane()] = make_uint2(numbers[512 * lane() + (tokens & 0xFF)],
                              numbers[512 * lane() + 256 + (tokens >> 8)]);
    __syncwarp();
}

// The templates that a tree agrees with, 32 of them in each lane: `table` has, for each position
// and token, a bit for every template that does not object.
__device__ __forceinline__ u32 agreeing(const u32* table, u32 words, u32 word, const uint2* rows) {
    u32 left = word < words ? FULL : 0;
    for (u32 at = 0; at < TOKENS / 2; at += 2) {
        const u32 row[4] = {rows[at].x, rows[at].y, rows[at + 1].x, rows[at + 1].y};
#pragma unroll
        for (u32 position = 0; position < 4; ++position) {
            if (left == 0) continue;
            count_comparison();
            left &= table[u64(row[position]) * words + word];
        }
        if (!__any_sync(FULL, left != 0)) return 0;
    }
    return left;
}

// Counts the templates that every tree agrees with.
//
//   found[t]      = number of templates whose demanded tokens tree t has
//   answer[TOTAL] = sum of found
//
// Work    per tree 64 bytes and a row number for each token read, 4 bytes written; per 1024
//         templates a row of 128 bytes for each position until none is left (about a third of
//         them), a comparison for each word of it. Bound by the second-level cache's reads.
// Launch  a warp a tree; any grid; blocks of whole warps. Shared memory: 8 * (34 + block) bytes.
//         `templates_write` follows with the same grid and block.
// Needs   a row number for each of 64 positions and 256 tokens; rows of `words` words, zero beyond
//         the last template; answer[DONE] = 0.
// Checked against Synthesis.reference: exact, no tolerance.
extern "C" __global__ void templates_count(const u16* __restrict__ trees, u32 tree_count,
                                           const u32* __restrict__ numbers,
                                           const u32* __restrict__ table, u32 words,
                                           u32* __restrict__ found, u64* starts, u64* answer) {
    DYNAMIC_SHARED(u64, sums);
    const u32 warps = blockDim.x / WARP;
    uint2* const rows = reinterpret_cast<uint2*>(sums + SUMS) + threadIdx.x / WARP * WARP;
    const Run run = run_of((tree_count + blockDim.x - 1) / blockDim.x);
    const u32 last = min(run.end * blockDim.x, tree_count);
    u64 pairs = 0;
    for (u32 tree = run.first * blockDim.x + threadIdx.x / WARP; tree < last; tree += warps) {
        number_rows(trees, tree, numbers, rows);
        u32 agree = 0;
        for (u32 first = 0; first < words; first += WARP)
            agree += __popc(agreeing(table, words, first + lane(), rows));
        agree = warp_sum(agree);
        if (lane() == 0) {
            found[tree] = agree;
            pairs += agree;
        }
    }
    publish(pairs, starts, answer, sums);
}

// Writes the pairs that `templates_count` counted, by tree and then by template.
//
//   pairs = [(t, p) for t in trees for p in templates if tree t agrees with p]
//
// Work    per tree 4 bytes read; per tree that agrees with some template as `templates_count`, and
//         8 bytes written for each pair.
// Launch  grid and block of `templates_count`, after it. Shared memory: 8 * (34 + block) + 4 *
//         block bytes.
// Needs   `found`, `starts` and `answer` as that one left them; nothing is written where there are
//         more than `room` pairs.
// Checked against Synthesis.reference: exact, no tolerance.
extern "C" __global__ void templates_write(const u16* __restrict__ trees, u32 tree_count,
                                           const u32* __restrict__ numbers,
                                           const u32* __restrict__ table, u32 words,
                                           const u32* __restrict__ found,
                                           const u64* __restrict__ starts,
                                           const u64* __restrict__ answer, u32 room,
                                           uint2* __restrict__ pairs) {
    if (answer[TOTAL] > room) return;
    DYNAMIC_SHARED(u64, sums);
    const u32 warps = blockDim.x / WARP;
    uint2* const rows = reinterpret_cast<uint2*>(sums + SUMS) + threadIdx.x / WARP * WARP;
    u32* const places = reinterpret_cast<u32*>(sums + SUMS + blockDim.x);
    const Run run = run_of((tree_count + blockDim.x - 1) / blockDim.x);
    u64 written = starts[blockIdx.x], total;
    for (u32 tile = run.first; tile < run.end; ++tile) {
        const u32 first = tile * blockDim.x, count = min(blockDim.x, tree_count - first);
        const u32 mine = threadIdx.x < count ? found[first + threadIdx.x] : 0;
        // Where a tree's pairs start; all ones where it has none.
        const u32 before = u32(block_prefix(mine, sums, &total));
        places[threadIdx.x] = mine != 0 ? before : FULL;
        __syncthreads();
        for (u32 turn = threadIdx.x / WARP; turn < count; turn += warps) {
            u32 place = places[turn];
            if (place == FULL) continue;  // the whole warp
            const u32 tree = first + turn;
            number_rows(trees, tree, numbers, rows);
            for (u32 word = lane(); word - lane() < words; word += WARP) {
                u32 left = agreeing(table, words, word, rows), all;
                u64 at = written + place + warp_scan_exclusive(__popc(left), &all);
                for (; left != 0; left &= left - 1)
                    pairs[at++] = make_uint2(tree, 32 * word + __ffs(left) - 1);
                place += all;
            }
        }
        written += total;
    }
}
