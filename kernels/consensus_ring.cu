// Consensus without a launch for each batch: a grid that spins and decides what a ring brings.
#include "consensus_box.cuh"
#include "ring.cuh"

// Draws, validates, tallies and decides the batch that each message names, as `decide_shared`.
//
//   message = key, agent_first | round << 32, proposal_first | votes << 32
//   answer  = that of `decide_shared` for the ballot and the votes of this message
//
// Work    per vote and per answer as in `decide_shared`; per message 24 bytes a warp read across
//         PCIe, at least one look of 16 bytes, and 8 bytes acknowledged. A small batch is bound by
//         two round trips across PCIe, a large one by integer arithmetic.
// Launch  a block for each group, a multiple of 32 threads up to 1024; 4 (agents proposals +
//         proposals (values + 2)) bytes of shared memory. Ends by the ring's rules and is launched
//         again.
// Needs   a ring as rust/core/src/cuda/ring.rs makes it, in memory that the host sees, its answers
//         of 64 + 4 proposals (values + 2) bytes or more; `launch` above that of every earlier
//         launch; `zipf` as in `decide_shared`.
// Checked against Consensus.reference: exact, no tolerance.
extern "C" __global__ void __launch_bounds__(1024, 1)
decide_ring(u64* ring, u32 slots, u32 answer_lines, u64 launch, u64 slice_ns, u64 polls_max,
            u32 stream_low, u32 stream_high, u32 mix, u32 agreement, u32 faulty, u32 first_sent,
            const u64* __restrict__ zipf, u32 agents, u32 proposals, u32 values) {
    DYNAMIC_SHARED(u32, shared);
    __shared__ u32 totals[TOTALS];
    const Source source{stream_low, stream_high, mix, agreement, faulty, first_sent, zipf};
    Group group(ring, slots, answer_lines, launch, slice_ns, polls_max);
    while (group.next()) {
        const u64 key = group.word(0), turn = group.word(1), batch = group.word(2);
        const Ballot ballot{u32(turn),      agents, u32(batch), proposals, values,
                            u32(turn >> 32)};
        const Box box(ballot, shared);
        fill_box(box, Drawn(source, ballot, key), u32(batch >> 32), threadIdx.x, blockDim.x,
                 totals);
        close_box(box, totals, reinterpret_cast<u32*>(group.answer()));
        group.acknowledge();
    }
    group.end();
}
