// Consensus where the cells of a ballot box fit into a block's shared memory, and what draws votes.
//
// A batch goes through the whole path in one launch: generate, validate, keep each agent's first
// vote, tally, decide. Where the cells do not fit, consensus_cells.cu has them in device memory.
#include "consensus_box.cuh"

// Where the blocks of a split batch meet: the totals of all of them, and how many have ended.
constexpr u32 FINISHED = TOTALS;

// Adds a block's box to that of its batch; true in the block that ends last.
__device__ bool join_boxes(const Box& box, u32* totals, u32* joined, u64* scratch, u32 blocks,
                           bool* is_last) {
    u32 repeated = 0;
    for (u32 i = threadIdx.x; i < box.cells; i += blockDim.x) {
        const u32 word = box.cell[i];
        if (word != EMPTY) repeated += !dense().look_and_join(&joined[i], word);
    }
    add_filed(0u - repeated, repeated, totals);
    __syncthreads();
    if (threadIdx.x < TOTALS) atomicAdd(&scratch[threadIdx.x], u64(totals[threadIdx.x]));
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) *is_last = atomicAdd(&scratch[FINISHED], u64(1)) == blocks - 1;
    __syncthreads();
    __threadfence();
    return *is_last;
}

// Takes what was joined into this block, and leaves `joined` and `scratch` as they were before.
__device__ void take_joined(const Box& box, u32* totals, u32* joined, u64* scratch) {
    for (u32 i = threadIdx.x; i < box.cells; i += blockDim.x) {
        box.cell[i] = __ldcg(&joined[i]);
        joined[i] = EMPTY;
    }
    if (threadIdx.x < TOTALS) totals[threadIdx.x] = u32(__ldcg(&scratch[threadIdx.x]));
    if (threadIdx.x <= FINISHED) scratch[threadIdx.x] = 0;
    __syncthreads();
}

// One block's part of one batch, from votes to the answer.
template <class Votes>
__device__ __forceinline__ void decide_box(const Box& box, const Votes& vote, u32 votes, u32 slices,
                                           u32* totals, bool* is_last, u32* joined, u64* scratch,
                                           u32* answer) {
    const u32 slice = blockIdx.x % slices;
    fill_box(box, vote, votes, slice * blockDim.x + threadIdx.x, slices * blockDim.x, totals);
    if (slices > 1) {
        if (!join_boxes(box, totals, joined, scratch, slices, is_last)) return;
        take_joined(box, totals, joined, scratch);
    }
    close_box(box, totals, answer);
}

// Draws, validates, tallies and decides the batches of consecutive keys in one launch.
//
//   first[p, a]  = the lowest rank among the valid votes of agent a on proposal p
//   counts[p, v] = agents a whose first[p, a] names value v
//   decided[p]   = the value v with counts[p, v] >= quorum, unless more than f agents voted for two
//
// Work    per vote: no memory but 8 bytes of a table that stays in the cache (Zipf's law only),
//         about 100 integer operations, half of them Philox, and one load or minimum in shared
//         memory. Bound by integer arithmetic. Per answer: 64 + 4 proposals (values + 2) bytes
//         written. A split batch adds 4 bytes per cell and block, which stay in the second-level
//         cache.
// Launch  `slices` blocks per key, grid = keys * slices, block a multiple of 32 up to 1024;
//         4 (agents proposals + proposals (values + 2)) bytes of shared memory. With one slice a
//         batch is one block's and nothing else is touched; with more there is one key.
// Needs   answers begin at multiples of 8 bytes, `answer_words` (even) apart; with slices > 1
//         `joined` all ones (a word per cell) and `scratch` zero, which the launch leaves so.
// Checked against Consensus.reference: exact, no tolerance.
extern "C" __global__ void __launch_bounds__(1024, 1)
decide_shared(u64 key, u32 stream_low, u32 stream_high, u32 mix, u32 agreement, u32 faulty,
              u32 first_sent, const u64* __restrict__ zipf, u32 group, u32 groups, u32 round,
              u32 proposal_first, u32 agents, u32 proposals, u32 values, u32 votes, u32 slices,
              u32* __restrict__ joined, u64* __restrict__ scratch, u32* __restrict__ answers,
              u32 answer_words) {
    DYNAMIC_SHARED(u32, shared);
    __shared__ u32 totals[TOTALS];
    __shared__ bool is_last;
    const u32 ordinal = blockIdx.x / slices;
    const Ballot ballot = ballot_after(ordinal, group, groups, round, proposal_first, agents,
                                       proposals, values);
    const Source source{stream_low, stream_high, mix, agreement, faulty, first_sent, zipf};
    decide_box(Box(ballot, shared), Drawn(source, ballot, key + ordinal), votes, slices, totals,
               &is_last, joined, scratch, answers + u64(ordinal) * answer_words);
}

// Validates, tallies and decides one batch of votes that lie in memory, as `decide_shared` does.
//
//   counts, decided as above, of stored[0..votes)
//
// Work    per vote: 16 bytes read, about 20 integer operations and one load or minimum in shared
//         memory. Bound by memory. Answer and split as in `decide_shared`.
// Launch  grid = slices, block a multiple of 32 up to 1024; shared memory as in `decide_shared`.
// Needs   `stored` aligned to 16 bytes; the rest as in `decide_shared`.
// Checked against Consensus.reference: exact, no tolerance.
extern "C" __global__ void __launch_bounds__(1024, 1)
tally_shared(const uint4* __restrict__ stored, u32 agent_first, u32 round, u32 proposal_first,
             u32 agents, u32 proposals, u32 values, u32 votes, u32 slices,
             u32* __restrict__ joined, u64* __restrict__ scratch, u32* __restrict__ answer) {
    DYNAMIC_SHARED(u32, shared);
    __shared__ u32 totals[TOTALS];
    __shared__ bool is_last;
    const Ballot ballot{agent_first, agents, proposal_first, proposals, values, round};
    decide_box(Box(ballot, shared), Stored{stored}, votes, slices, totals, &is_last, joined,
               scratch, answer);
}

// Adds the threads' sums of votes to a digest: votes, lower halves, upper halves.
__device__ __forceinline__ void add_digest(u32 votes, u64 lower, u64 upper, u64* block_sums,
                                           u64* digest) {
    if (threadIdx.x < 3) block_sums[threadIdx.x] = 0;
    __syncthreads();
    const u64 sums[3] = {warp_sum(u64(votes)), warp_sum(lower), warp_sum(upper)};
    if (lane() == 0)
        for (u32 part = 0; part < 3; ++part) atomicAdd(&block_sums[part], sums[part]);
    __syncthreads();
    if (threadIdx.x < 3) atomicAdd(&digest[threadIdx.x], block_sums[threadIdx.x]);
}

__device__ __forceinline__ u64 lower_half(const uint4& vote) { return vote.x | u64(vote.y) << 32; }
__device__ __forceinline__ u64 upper_half(const uint4& vote) { return vote.z | u64(vote.w) << 32; }

// Draws the votes of one key into memory.
//
//   votes[i] = the draw of (stream, key, i); digest = their number and the sums of their halves
//
// Work    per vote: 16 bytes written, about 90 integer operations. Bound by memory or arithmetic,
//         whichever the card has less of.
// Launch  a thread takes every (grid * block)-th vote: any grid, block a multiple of 32.
// Needs   `votes` aligned to 16 bytes; `digest` zero.
// Checked against Consensus.reference: exact, no tolerance.
extern "C" __global__ void __launch_bounds__(1024, 1)
generate(u64 key, u32 stream_low, u32 stream_high, u32 mix, u32 agreement, u32 faulty,
         u32 first_sent, const u64* __restrict__ zipf, u32 agent_first, u32 round,
         u32 proposal_first, u32 agents, u32 proposals, u32 values, u32 count,
         uint4* __restrict__ votes, u64* __restrict__ digest) {
    __shared__ u64 block_sums[3];
    const Ballot ballot{agent_first, agents, proposal_first, proposals, values, round};
    const Source source{stream_low, stream_high, mix, agreement, faulty, first_sent, zipf};
    const Drawn vote(source, ballot, key);
    u32 sent = 0;
    u64 lower = 0, upper = 0;
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        const uint4 drawn = vote(i);
        store_streaming(votes + i, drawn);
        ++sent;
        lower += lower_half(drawn);
        upper += upper_half(drawn);
    }
    add_digest(sent, lower, upper, block_sums, digest);
}

// Digests votes that lie in memory: any that was lost, doubled or altered changes it.
//
//   digest = number of votes, sum of their lower halves, sum of their upper halves (mod 2^64)
//
// Work    per vote: 16 bytes read, 5 additions. Bound by memory.
// Launch  a thread takes every (grid * block)-th vote: any grid, block a multiple of 32.
// Needs   `votes` aligned to 16 bytes; `digest` zero.
// Checked against the digest of `generate` and NumPy's sums: exact, no tolerance.
extern "C" __global__ void __launch_bounds__(1024, 1)
digest_votes(const uint4* __restrict__ votes, u32 count, u64* __restrict__ digest) {
    __shared__ u64 block_sums[3];
    u32 seen = 0;
    u64 lower = 0, upper = 0;
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        const uint4 vote = load_streaming(votes + i);
        ++seen;
        lower += lower_half(vote);
        upper += upper_half(vote);
    }
    add_digest(seen, lower, upper, block_sums, digest);
}
