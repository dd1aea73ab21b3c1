// Votes, where they come from, and the cells that keep each agent's first one.
//
// A vote is 16 bytes: agent, proposal, rank (the sender's sequence number above the value, 16 bits
// each) and round. An agent's first vote on a proposal is the one of the lowest rank; a second one
// that names another value is evidence of equivocation.
#pragma once

#include "common.cuh"

constexpr u32 SEQUENCE_MAX = 0x7FFF;
constexpr u32 VALUE_MASK = 0xFFFF;
// In the word of a decided proposal: more agents equivocated than are tolerated. Below it is one
// more than the value that reached the quorum, 0 where none did.
constexpr u32 VETO = 1u << 31;

// What an answer begins with: votes by what became of them, and agents caught equivocating.
enum Total : u32 {
    TALLIED,
    DUPLICATES,
    FAULTY,  // the first of five, in the order in which a vote with several faults is filed
    EQUIVOCATIONS = FAULTY + 5,
    TOTALS
};
constexpr u32 HEADER_WORDS = 2 * TOTALS;

// The order of `Mix` in `components/cuda/consensus.py`.
enum Mix : u32 { MIX_UNIFORM, MIX_ZIPF, MIX_SAME, MIX_BYZANTINE, MIX_DUPLICATES };

// One round of one group: what a valid vote must name.
struct Ballot {
    u32 agent_first, agents, proposal_first, proposals, values, round;

    // Most faulty agents that are tolerated: floor((n - 1) / 3).
    __device__ u32 tolerated() const { return (agents - 1) / 3; }

    // Votes that decide: ceil((n + f + 1) / 2).
    __device__ u32 quorum() const { return (agents + tolerated() + 2) / 2; }
};

// The ballot `ordinal` keys after the one of (`group`, `round`): groups take turns.
__device__ __forceinline__ Ballot ballot_after(u32 ordinal, u32 group, u32 groups, u32 round,
                                               u32 proposal_first, u32 agents, u32 proposals,
                                               u32 values) {
    const u32 turn = group + ordinal;
    return {turn % groups * agents, agents, proposal_first, proposals, values,
            round + turn / groups};
}

// What the votes of a batch are drawn with; shares are in units of 2^-16.
struct Source {
    u32 stream_low, stream_high;
    u32 mix;
    u32 agreement, faulty, first_sent;
    const u64* zipf;  // of each proposal the threshold and, above it, the alias
};

// Draws the votes of one key: vote `index` is a pure function of (stream, key, index).
struct Drawn {
    // Votes drawn at a time in a thread: they share Philox's round keys.
    static constexpr u32 AHEAD = 2;
    Source source;
    Ballot ballot;
    u32 key_low, key_high, salt;

    __device__ __forceinline__ Drawn(const Source& source, const Ballot& ballot, u64 key)
        : source(source), ballot(ballot), key_low(u32(key)), key_high(u32(key >> 32)),
          // Through a shuffle, as the compiler else works it out again for every vote.
          salt(__shfl_sync(FULL, mixed(u32(key) ^ mixed(u32(key >> 32) + 0x9E3779B9u)), 0)) {}

    // The index whose draw vote `index` sends: its own, or an earlier one where it repeats it.
    __device__ __forceinline__ u32 origin(u32 index) const {
        const u64 kept = u64(index) * source.first_sent + 65535;
        const u32 before = u32(kept >> 16), after = u32((kept + source.first_sent) >> 16);
        return after > before ? before : scaled(mixed(index ^ salt), before);
    }

    // The proposal that a word draws by Zipf's law (Walker's aliases).
    __device__ __forceinline__ u32 zipf_rank(u32 word) const {
        const u32 column = scaled(word, ballot.proposals);
        const u64 slot = __ldg(&source.zipf[column]);
        return word * ballot.proposals < u32(slot) ? column : u32(slot >> 32);
    }

    // What an honest agent votes on a proposal, always the same under one key.
    __device__ __forceinline__ u32 preference(u32 agent, u32 proposal) const {
        const u32 turned = proposal * 0x9E3779B1u;
        const u32 chance = mixed(agent * 0x9E3779B1u ^ proposal * 0x85EBCA77u ^ salt);
        const u32 leading = scaled(turned + salt, ballot.values);
        const u32 own = (chance >> 16) * ballot.values >> 16;
        return (chance & 0xFFFF) < source.agreement ? leading : own;
    }

    __device__ __forceinline__ uint4 operator()(u32 index) const {
        const u32 drawn = source.mix == MIX_DUPLICATES ? origin(index) : index;
        const Words words =
            philox({drawn, 0, key_low, key_high}, source.stream_low, source.stream_high);
        const u32 agent = scaled(words.x, ballot.agents);
        const u32 proposal =
            source.mix == MIX_ZIPF ? zipf_rank(words.y) : scaled(words.y, ballot.proposals);
        const u32 value = source.mix == MIX_SAME ? 0 : preference(agent, proposal);
        uint4 vote = make_uint4(ballot.agent_first + agent, ballot.proposal_first + proposal,
                                value, ballot.round);
        if (agent < source.faulty) {
            // A third each: another value under a random sequence number, an agent of another
            // group, the next round.
            const u32 kind = (words.w >> 16) * 3 >> 16;
            if (kind == 0) {
                vote.z = scaled(words.z, ballot.values) | (words.w & SEQUENCE_MAX) << 16;
            } else if (kind == 1) {
                vote.x += ballot.agents;
            } else {
                vote.w += 1;
            }
        }
        return vote;
    }
};

// Votes that lie in memory, read once.
struct Stored {
    // Loads under way at a time in a thread: 64 bytes, as few threads fit beside a box.
    static constexpr u32 AHEAD = 4;
    const uint4* votes;

    __device__ __forceinline__ uint4 operator()(u32 index) const {
        return load_streaming(votes + index);
    }
};

// Calls `file` for the votes first, first + step, ... below `votes`. The last turn takes the last
// vote in the place of those beyond it and leaves it out, so that no branch parts the others.
template <class Votes, class File>
__device__ __forceinline__ void for_each_vote(const Votes& vote, u32 votes, u32 first, u32 step,
                                              const File& file) {
    for (u32 index = first; index < votes; index += Votes::AHEAD * step) {
        uint4 seen[Votes::AHEAD];
#pragma unroll
        for (u32 k = 0; k < Votes::AHEAD; ++k)
            seen[k] = vote(min(index + k * step, votes - 1));
#pragma unroll
        for (u32 k = 0; k < Votes::AHEAD; ++k)
            if (index + k * step < votes) file(seen[k]);
    }
}

// Whether a vote names an agent, a proposal and a value of the ballot, its round, and a sequence
// number.
__device__ __forceinline__ bool is_valid(const uint4& vote, const Ballot& ballot) {
    return (vote.x - ballot.agent_first < ballot.agents) &
           (vote.y - ballot.proposal_first < ballot.proposals) &
           ((vote.z & VALUE_MASK) < ballot.values) & (vote.w == ballot.round) &
           (vote.z >> 16 <= SEQUENCE_MAX);
}

// Counts a vote that is not valid by its first fault.
__device__ __forceinline__ void count_fault(const uint4& vote, const Ballot& ballot, u32* totals) {
    const u32 faults = u32(vote.x - ballot.agent_first >= ballot.agents) |
                       u32(vote.y - ballot.proposal_first >= ballot.proposals) << 1 |
                       u32((vote.z & VALUE_MASK) >= ballot.values) << 2 |
                       u32(vote.w != ballot.round) << 3 | 1u << 4;
    atomicAdd(&totals[FAULTY + __ffs(faults) - 1], 1u);
}

// A cell is EMPTY, or what is held of one agent's votes on one proposal: the lowest rank and, above
// it, the flag PLAIN, which is cleared once two votes named different values. So held words only
// ever fall, whatever the order of the votes. The same words of 64 bits have the number of the cell
// above the flag.
template <class Word>
struct Cell {
    static constexpr Word EMPTY = ~Word(0);
    Word plain, values;  // the flag, and the bits of a rank that are its value

    // Whether a vote of this word alters a cell that holds `held`.
    __device__ __forceinline__ bool alters(Word held, Word word) const {
        const Word differs = ((held ^ word) & values) | (~word & plain);
        return ((word & ~plain) < (held & ~plain)) | (((held & plain) != 0) & (differs != 0));
    }

    // Adds a word to a cell; true where that was empty. The second step keeps a rank that another
    // thread has put there since the first one: it clears the flag, or is a minimum among words
    // without it.
    __device__ __forceinline__ bool join(Word* cell, Word word) const {
        const Word held = atomicMin(cell, word | plain);
        if (!(held & plain)) {
            atomicMin(cell, word & ~plain);
        } else if (!(word & plain) || (held != EMPTY && ((held ^ word) & values))) {
            atomicAnd(cell, ~plain);
        }
        return held == EMPTY;
    }

    // Adds a word to a cell that may well hold it already: a load costs less than an atomic.
    __device__ __forceinline__ bool look_and_join(Word* cell, Word word) const {
        return alters(load_relaxed(cell), word) && join(cell, word);
    }
};

// Cells of one word each, by proposal and agent.
constexpr u32 EMPTY = Cell<u32>::EMPTY;
constexpr u32 PLAIN = 1u << 31;
__device__ __forceinline__ Cell<u32> dense() { return {PLAIN, VALUE_MASK}; }

// Adds what became of the threads' valid votes to the totals of their block.
__device__ __forceinline__ void add_filed(u32 tallied, u32 duplicates, u32* totals) {
    tallied = warp_sum(tallied);
    duplicates = warp_sum(duplicates);
    if (lane() == 0) {
        atomicAdd(&totals[TALLIED], tallied);
        atomicAdd(&totals[DUPLICATES], duplicates);
    }
}

// Adds one to a counter for every lane that is present; the lanes that name the counter of the
// first one add together, as most votes name one value. The whole warp takes part. True in a lane
// whose addition brought its counter to `threshold`.
__device__ __forceinline__ bool count_up(u32* counters, bool is_present, u32 index, u32 threshold) {
    const u32 present = __ballot_sync(FULL, is_present);
    if (present == 0) return false;
    const u32 first = __ffs(present) - 1;
    const u32 common = __shfl_sync(FULL, index, first);
    const u32 together = __ballot_sync(FULL, is_present && index == common);
    if (!is_present || (index == common && lane() != first)) return false;
    const u32 added = index == common ? __popc(together) : 1;
    const u32 before = atomicAdd(&counters[index], added);
    return before < threshold && before + added >= threshold;
}

// Counts what a cell holds and says what follows from it: a quorum is reached by at most one value,
// as it is more than half of the agents. Returns whether the agent was caught equivocating.
__device__ __forceinline__ bool count_cell(bool is_present, bool is_plain, u32 proposal, u32 value,
                                           u32* counts, u32 index, u32 quorum, u32* evidence,
                                           u32* decided, u32 tolerated) {
    if (count_up(counts, is_present, index, quorum)) atomicOr(&decided[proposal], value + 1);
    const bool is_caught = is_present && !is_plain;
    if (count_up(evidence, is_caught, proposal, tolerated + 1)) atomicOr(&decided[proposal], VETO);
    return is_caught;
}
