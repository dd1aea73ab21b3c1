// A ballot box in a block's shared memory: filled with votes, then tallied and decided.
#pragma once

#include "consensus.cuh"

// What a block of a batch has in shared memory: a cell for each (proposal, agent), then by proposal
// the decision and the evidence, then the counts by (proposal, value).
struct Box {
    Ballot ballot;
    u32 cells;
    u32 *cell, *decided, *evidence, *counts;

    __device__ __forceinline__ Box(const Ballot& ballot, u32* shared)
        : ballot(ballot), cells(ballot.agents * ballot.proposals), cell(shared),
          decided(shared + cells), evidence(decided + ballot.proposals),
          counts(evidence + ballot.proposals) {}

    __device__ __forceinline__ u32 tally_words() const {
        return ballot.proposals * (ballot.values + 2);
    }
};

// Files the votes first, first + step, ... below `votes` in a box that is emptied before.
template <class Votes>
__device__ __forceinline__ void fill_box(const Box& box, const Votes& vote, u32 votes, u32 first,
                                         u32 step, u32* totals) {
    for (u32 i = threadIdx.x; i < box.cells; i += blockDim.x) box.cell[i] = EMPTY;
    for (u32 i = threadIdx.x; i < box.tally_words(); i += blockDim.x) box.decided[i] = 0;
    if (threadIdx.x < TOTALS) totals[threadIdx.x] = 0;
    __syncthreads();

    u32 valid = 0, tallied = 0;
    for_each_vote(vote, votes, first, step, [&](const uint4& seen) {
        if (!is_valid(seen, box.ballot)) {
            count_fault(seen, box.ballot, totals);
            return;
        }
        ++valid;
        u32* const cell = &box.cell[(seen.y - box.ballot.proposal_first) * box.ballot.agents +
                                    (seen.x - box.ballot.agent_first)];
        tallied += dense().look_and_join(cell, PLAIN | seen.z);
    });
    add_filed(tallied, valid - tallied, totals);
    __syncthreads();
}

// Tallies and decides what the box holds, and writes the answer.
__device__ __forceinline__ void close_box(const Box& box, u32* totals, u32* answer) {
    const Ballot& ballot = box.ballot;
    u32 caught = 0;
    for (u32 base = 0; base < box.cells; base += blockDim.x) {
        const u32 i = base + threadIdx.x;
        const u32 word = i < box.cells ? box.cell[i] : EMPTY;
        const bool is_present = word != EMPTY;
        const u32 proposal = i / ballot.agents, value = word & VALUE_MASK;
        caught += count_cell(is_present, word & PLAIN, proposal, value, box.counts,
                             proposal * ballot.values + value, ballot.quorum(), box.evidence,
                             box.decided, ballot.tolerated());
    }
    caught = warp_sum(caught);
    if (lane() == 0) atomicAdd(&totals[EQUIVOCATIONS], caught);
    __syncthreads();
    if (threadIdx.x < TOTALS) reinterpret_cast<u64*>(answer)[threadIdx.x] = totals[threadIdx.x];
    for (u32 i = threadIdx.x; i < box.tally_words(); i += blockDim.x)
        answer[HEADER_WORDS + i] = box.decided[i];
}
