// The ring by itself: a kernel that gives every message back.
#include "ring.cuh"

// An odd number: each digest is another one after every different sequence of messages but one in
// 2^64.
constexpr u64 FACTOR = 0x9E3779B97F4A7C15ull;

// Answers each message with itself and the digest of all messages that its group has had.
//
//   digest = digest * FACTOR + sum of message[i] * (FACTOR + 2 i) over i < 15 (mod 2^64)
//   answer = message[0..15), digest
//
// Work    per message: 128 bytes read and 128 written across PCIe, and at least one look of 16
//         bytes. Bound by the round trip of a read across PCIe, of which a message costs two.
// Launch  a block of 32 threads for each group; ends by the ring's rules and is launched again.
// Needs   a ring as rust/core/src/cuda/ring.rs makes it, in memory that the host sees, with a line
//         an answer or more; `launch` above that of every earlier launch.
// Checked against the same sums in NumPy: exact, no tolerance.
extern "C" __global__ void __launch_bounds__(32)
ring_echo(u64* ring, u32 slots, u32 answer_lines, u64 launch, u64 slice_ns, u64 polls_max) {
    Group group(ring, slots, answer_lines, launch, slice_ns, polls_max);
    u64 digest = group.state();
    while (group.next()) {
        const u64 word = lane() < PAYLOAD_WORDS ? group.word(lane()) : 0;
        digest = digest * FACTOR + warp_sum(word * (FACTOR + 2 * lane()));
        if (lane() < LINE_WORDS) group.answer()[lane()] = lane() < PAYLOAD_WORDS ? word : digest;
        if (lane() == 0) group.keep(digest);
        group.acknowledge();
    }
    group.end();
}
