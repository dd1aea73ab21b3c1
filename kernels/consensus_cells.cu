// Consensus where the cells of a ballot box are too many for shared memory: they lie in device
// memory, one word each, or where they outnumber the votes by far, in a table by open addressing.
#include "consensus.cuh"

// What shared counters are told for a threshold: no count reaches it.
constexpr u32 NEVER = ~0u;
// Words of one load of cells.
constexpr u32 QUAD = 4;

// A table of slots for the cells of few votes. A slot's word has the number of its cell, proposal
// above agent, over a rank; they fit into 62 bits, as proposals * values <= 2^24, agents <= 2^20.
struct Table {
    u64* slots;
    u32 slot_mask;
    u32 agent_bits, value_bits;

    __device__ __forceinline__ u32 rank_bits() const { return 15 + value_bits; }
    __device__ __forceinline__ u32 cell_shift() const { return rank_bits() + 1; }
    __device__ __forceinline__ Cell<u64> cell() const {
        return {u64(1) << rank_bits(), (u64(1) << value_bits) - 1};
    }

    __device__ __forceinline__ u64 word_of(u32 proposal, u32 agent, u32 rank) const {
        const u64 number = u64(proposal) << agent_bits | agent;
        const u64 packed = u64(rank >> 16) << value_bits | (rank & VALUE_MASK);
        return number << cell_shift() | u64(1) << rank_bits() | packed;
    }

    // Files a vote by linear probing, true where it is its agent's first on the proposal; there are
    // twice as many slots as votes or more.
    __device__ __forceinline__ bool file(u64 word) const {
        const u64 number = word >> cell_shift();
        u32 slot = mixed(u32(number) ^ mixed(u32(number >> 32) + 0x9E3779B9u)) & slot_mask;
        for (u32 probes = 0; probes <= slot_mask; ++probes) {
            u64 held = load_relaxed(&slots[slot]);
            if (held == Cell<u64>::EMPTY) {
                held = atomicCAS(&slots[slot], Cell<u64>::EMPTY, word);
                if (held == Cell<u64>::EMPTY) return true;
            }
            if (held >> cell_shift() == number) {
                if (cell().alters(held, word)) cell().join(&slots[slot], word);
                return false;
            }
            slot = (slot + 1) & slot_mask;
        }
        return false;
    }
};

// Validates and files the votes of this thread, and adds what became of them to the header.
template <class Votes>
__device__ __forceinline__ void file_votes(const Votes& vote, const Ballot& ballot, u32 votes,
                                           u32* cells, u32 is_repeating, u32 slot_mask,
                                           u32 agent_bits, u32 value_bits, u32* totals,
                                           u64* header) {
    const Table table{reinterpret_cast<u64*>(cells), slot_mask, agent_bits, value_bits};
    if (threadIdx.x < TOTALS) totals[threadIdx.x] = 0;
    __syncthreads();
    u32 valid = 0, tallied = 0;
    const u32 first = blockIdx.x * blockDim.x + threadIdx.x;
    for_each_vote(vote, votes, first, gridDim.x * blockDim.x, [&](const uint4& seen) {
        if (!is_valid(seen, ballot)) {
            count_fault(seen, ballot, totals);
            return;
        }
        ++valid;
        const u32 proposal = seen.y - ballot.proposal_first, agent = seen.x - ballot.agent_first;
        if (slot_mask != 0) {
            tallied += table.file(table.word_of(proposal, agent, seen.z));
            return;
        }
        u32* const cell = &cells[proposal * ballot.agents + agent];
        const u32 word = PLAIN | seen.z;
        tallied += is_repeating ? dense().look_and_join(cell, word) : dense().join(cell, word);
    });
    add_filed(tallied, valid - tallied, totals);
    __syncthreads();
    if (threadIdx.x < TOTALS && totals[threadIdx.x] != 0)
        atomicAdd(&header[threadIdx.x], u64(totals[threadIdx.x]));
}

// Draws the votes of one key, validates them and keeps each agent's first one in its cell.
//
//   cells[p, a] = the lowest rank among the valid votes of agent a on proposal p, and whether two
//                 of them name different values
//
// Work    per vote: 4 bytes read and written at a random cell (8 in a table), about 120 integer
//         operations. Bound by atomics of the second-level cache.
// Launch  a thread takes every (grid * block)-th vote: any grid, block a multiple of 32 up to 512.
// Needs   `cells` all ones: a word per (proposal, agent), or with `slot_mask` > 0 slot_mask + 1
//         slots of 8 bytes, a power of two and twice the votes; `header` zero; set `is_repeating`
//         where most votes find their cell as they would leave it.
// Checked against Consensus.reference: exact, no tolerance.
extern "C" __global__ void __launch_bounds__(512, 2)
file_drawn(u64 key, u32 stream_low, u32 stream_high, u32 mix, u32 agreement, u32 faulty,
           u32 first_sent, const u64* __restrict__ zipf, u32 agent_first, u32 round,
           u32 proposal_first, u32 agents, u32 proposals, u32 values, u32 votes, u32 is_repeating,
           u32 slot_mask, u32 agent_bits, u32 value_bits, u32* __restrict__ cells,
           u64* __restrict__ header) {
    __shared__ u32 totals[TOTALS];
    const Ballot ballot{agent_first, agents, proposal_first, proposals, values, round};
    const Source source{stream_low, stream_high, mix, agreement, faulty, first_sent, zipf};
    file_votes(Drawn(source, ballot, key), ballot, votes, cells, is_repeating, slot_mask,
               agent_bits, value_bits, totals, header);
}

// Validates votes that lie in memory and keeps each agent's first one, as `file_drawn` does.
//
//   cells as above, of stored[0..votes)
//
// Work    per vote: 16 bytes read, then 4 bytes read and written at a random cell (8 in a table),
//         about 20 integer operations. Bound by atomics of the second-level cache.
// Launch  a thread takes every (grid * block)-th vote: any grid, block a multiple of 32 up to 512.
// Needs   `stored` aligned to 16 bytes; the rest as in `file_drawn`.
// Checked against Consensus.reference: exact, no tolerance.
extern "C" __global__ void __launch_bounds__(512, 2)
file_stored(const uint4* __restrict__ stored, u32 agent_first, u32 round, u32 proposal_first,
            u32 agents, u32 proposals, u32 values, u32 votes, u32 is_repeating, u32 slot_mask,
            u32 agent_bits, u32 value_bits, u32* __restrict__ cells, u64* __restrict__ header) {
    __shared__ u32 totals[TOTALS];
    const Ballot ballot{agent_first, agents, proposal_first, proposals, values, round};
    file_votes(Stored{stored}, ballot, votes, cells, is_repeating, slot_mask, agent_bits,
               value_bits, totals, header);
}

// Adds the agents that the threads caught to the header.
__device__ __forceinline__ void add_caught(u32 caught, u32* total, u64* header) {
    if (threadIdx.x == 0) *total = 0;
    __syncthreads();
    caught = warp_sum(caught);
    if (lane() == 0) atomicAdd(total, caught);
    __syncthreads();
    if (threadIdx.x == 0 && *total != 0) atomicAdd(&header[EQUIVOCATIONS], u64(*total));
}

// Tallies the cells, empties them and decides by what the counts reach.
//
//   counts[p, v] = agents a whose cells[p, a] holds value v; decided[p] as in `decide_shared`
//
// Work    per cell: 4 bytes read and written (it is emptied for the next batch), about 40 integer
//         operations. Bound by memory. Counters are a block's own in shared memory where those of
//         its tile fit, so that a counter is added to once per tile.
// Launch  a block takes every grid-th tile of 4 * block * quads cells: any grid, block a multiple
//         of 32; 4 * counters_max bytes of shared memory.
// Needs   `cells` aligned to 16 bytes, as `file_drawn` leaves them, up to a multiple of four words
//         all ones; header as it left it; `decided`, `evidence` and `counts` zero.
// Checked against Consensus.reference: exact, no tolerance.
extern "C" __global__ void __launch_bounds__(1024, 1)
settle_cells(uint4* __restrict__ cells, u32 count, u32 quads, u32 agents, u32 values,
             u32 counters_max, u64* __restrict__ header, u32* __restrict__ decided,
             u32* __restrict__ evidence, u32* __restrict__ counts) {
    DYNAMIC_SHARED(u32, counters);
    __shared__ u32 total;
    const Ballot ballot{0, agents, 0, 0, values, 0};
    const u32 tile = QUAD * blockDim.x * quads;
    u32 caught = 0;
    for (u32 start = blockIdx.x * tile; start < count; start += gridDim.x * tile) {
        const u32 end = min(start + tile, count);
        const u32 first = start / agents * values, last = ((end - 1) / agents + 1) * values;
        const bool is_own = last - first <= counters_max;
        if (is_own) {
            for (u32 i = threadIdx.x; i < last - first; i += blockDim.x) counters[i] = 0;
            __syncthreads();
        }
        for (u32 quad = 0; quad < quads; ++quad) {
            const u32 i = start + QUAD * (quad * blockDim.x + threadIdx.x);
            u32 words[QUAD] = {EMPTY, EMPTY, EMPTY, EMPTY};
            if (i < end) {
                const uint4 read = load_streaming(cells + i / QUAD);
                words[0] = read.x, words[1] = read.y, words[2] = read.z, words[3] = read.w;
                store_streaming(cells + i / QUAD, make_uint4(EMPTY, EMPTY, EMPTY, EMPTY));
            }
            u32 proposal = i / agents, agent = i % agents;
#pragma unroll
            for (u32 k = 0; k < QUAD; ++k) {
                const bool is_present = words[k] != EMPTY;
                const u32 value = words[k] & VALUE_MASK, index = proposal * values + value;
                caught += count_cell(is_present, words[k] & PLAIN, proposal, value,
                                     is_own ? counters : counts, is_own ? index - first : index,
                                     is_own ? NEVER : ballot.quorum(), evidence, decided,
                                     ballot.tolerated());
                if (++agent == agents) agent = 0, ++proposal;
            }
        }
        if (!is_own) continue;
        __syncthreads();
        for (u32 i = threadIdx.x; i < last - first; i += blockDim.x) {
            const u32 added = counters[i];
            if (added == 0) continue;
            const u32 before = atomicAdd(&counts[first + i], added);
            if (before < ballot.quorum() && before + added >= ballot.quorum())
                atomicOr(&decided[(first + i) / values], (first + i) % values + 1);
        }
        // Each thread clears for the next tile what it has read here.
    }
    add_caught(caught, &total, header);
}

// Tallies the cells of a table, empties it and decides, as `settle_cells` does.
//
//   counts, decided as above, of the slots that hold a cell
//
// Work    per slot: 8 bytes read and written (it is emptied for the next batch), about 25 integer
//         operations, and for a cell one or two atomics. Bound by memory.
// Launch  a thread takes every (grid * block)-th slot: any grid, block a multiple of 32.
// Needs   slots as `file_drawn` leaves them; the rest as in `settle_cells`.
// Checked against Consensus.reference: exact, no tolerance.
extern "C" __global__ void __launch_bounds__(1024, 1)
settle_slots(u64* __restrict__ slots, u32 count, u32 agent_bits, u32 value_bits, u32 agents,
             u32 values, u64* __restrict__ header, u32* __restrict__ decided,
             u32* __restrict__ evidence, u32* __restrict__ counts) {
    __shared__ u32 total;
    const Ballot ballot{0, agents, 0, 0, values, 0};
    const Table table{slots, count - 1, agent_bits, value_bits};
    u32 caught = 0;
    const u32 step = gridDim.x * blockDim.x;
    for (u32 base = blockIdx.x * blockDim.x; base < count; base += step) {
        const u32 i = base + threadIdx.x;
        u64 word = Cell<u64>::EMPTY;
        if (i < count) {
            word = load_streaming(slots + i);
            store_streaming(slots + i, Cell<u64>::EMPTY);
        }
        const bool is_present = word != Cell<u64>::EMPTY;
        const u32 proposal = is_present ? u32(word >> (table.cell_shift() + agent_bits)) : 0;
        const u32 value = u32(word & table.cell().values);
        caught += count_cell(is_present, word >> table.rank_bits() & 1, proposal, value, counts,
                             proposal * values + value, ballot.quorum(), evidence, decided,
                             ballot.tolerated());
    }
    add_caught(caught, &total, header);
}
