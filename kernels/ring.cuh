// A ring of messages between the host and a grid that spins: the device's side of it.
//
// rust/core/src/cuda/ring.rs is the host's side. A ring is lines of 16 words of 8 bytes: the stop
// word's line; then for each group the host's line, the device's line, and its slots, each of them
// a message with the lines of its answer behind it. Every word has one writer. A message's last
// word is one more than its number once the rest of it is there. The device's line says how many
// messages were acknowledged; all that a launch knows is there, so that the next one goes on where
// it ended, wherever that was.
#pragma once

#include "common.cuh"

constexpr u32 LINE_WORDS = 16;
constexpr u32 PAYLOAD_WORDS = LINE_WORDS - 1;
// Of a message, and of the device's line: where the state after an even number of messages and
// that after an odd number lie from.
constexpr u32 SEQUENCE = PAYLOAD_WORDS;
enum Tail : u32 { ACKNOWLEDGED, ENDED, STATE };

// What one block serves. Every thread of the block calls each function that says so.
struct Group {
    const u64* stop;
    u64 *tail, *slots;
    u64 slot_words, slot_mask;
    u64 launch, last_ns, polls_max;
    u64 number;  // of the message that is next

    // The group of this block. The launch ends at a stop word of its number or above, `slice_ns`
    // after it began, or when it looked for a message `polls_max` times in a row.
    __device__ __forceinline__ Group(u64* ring, u32 slot_count, u32 answer_lines, u64 launch,
                                     u64 slice_ns, u64 polls_max)
        : stop(ring), slot_words(u64(1 + answer_lines) * LINE_WORDS), slot_mask(slot_count - 1),
          launch(launch), last_ns(clock_ns() + slice_ns), polls_max(polls_max) {
        const u64 group_words = 2 * LINE_WORDS + slot_count * slot_words;
        tail = ring + LINE_WORDS + blockIdx.x * group_words + LINE_WORDS;
        slots = tail + LINE_WORDS;
        number = load_relaxed(tail + ACKNOWLEDGED);
    }

    __device__ __forceinline__ u64* slot() const {
        return slots + (number & slot_mask) * slot_words;
    }

    // A word of the message, past every cache: the host writes the slot anew later.
    __device__ __forceinline__ u64 word(u32 index) const { return load_relaxed(slot() + index); }

    // The lines of its answer.
    __device__ __forceinline__ u64* answer() const { return slot() + LINE_WORDS; }

    // What is kept of the messages before this one, and where what is kept with it goes. They are
    // two words, so that a message that is begun again finds the first one as it was.
    __device__ __forceinline__ u64 state() const { return load_relaxed(tail + STATE + number % 2); }
    __device__ __forceinline__ void keep(u64 state) const {
        store_relaxed(tail + STATE + (number + 1) % 2, state);
    }

    // Waits for a message: whether one is there, else the block has to end. All threads.
    __device__ __forceinline__ bool next() const {
        return __syncthreads_or(threadIdx.x == 0 && wait());
    }

    __device__ __forceinline__ bool wait() const {
        const u64* const sequence = slot() + SEQUENCE;
        for (u64 polls = 0; polls < polls_max; ++polls) {
            // Both loads are under way at once: the acquire holds back only what comes after it.
            const u64 stopped = load_relaxed(stop);
            const u64 found = load_acquire_sys(sequence);
            if (stopped >= launch || i64(clock_ns() - last_ns) >= 0) return false;
            if (found == number + 1) return true;
        }
        return false;
    }

    // Publishes the answer, of which each thread wrote its part. All threads.
    __device__ __forceinline__ void acknowledge() {
        __syncthreads();
        ++number;
        if (threadIdx.x == 0) store_release_sys(tail + ACKNOWLEDGED, number);
    }

    // Says that the block serves no more in this launch. All threads.
    __device__ __forceinline__ void end() const {
        if (threadIdx.x == 0) store_release_sys(tail + ENDED, launch);
    }
};
