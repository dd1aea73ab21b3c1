// Feeds a ring from one thread while another one runs its kernel in the emulator, for
// ThreadSanitizer: a message and an answer are plain words, so that only the words that guard them
// keep the two threads apart.
//
// Usage: ring_feeder MESSAGES; exit status 0 where every answer was right. With PLAIN_STORE or
// PLAIN_LOAD defined the feeder guards nothing.
#include "common.cuh"

#include <cstdio>
#include <cstdlib>
#include <thread>

namespace {

constexpr u32 SLOTS = 8, LINE = 16, PAYLOAD = 15;
constexpr u64 FACTOR = 0x9E3779B97F4A7C15ull;
// The lines of the stop word, of the host and of the device; each slot has one line of answer.
alignas(128) u64 ring[LINE * (3 + SLOTS * 2)];
u64* const stop = ring;
u64* const acknowledged = ring + 2 * LINE;

__attribute__((noinline)) void publish(u64* word, u64 value) {
#if defined(PLAIN_STORE)
    *word = value;
#else
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
#endif
}

__attribute__((noinline)) u64 acquired(const u64* word) {
#if defined(PLAIN_LOAD)
    return *word;
#else
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
#endif
}

u64* slot(u64 number) { return ring + LINE * (3 + number % SLOTS * 2); }

u64 content(u64 number, u64 index) { return (number + 1) * 0xD1342543DE82EF95ull ^ index; }

}  // namespace

namespace host_cuda {
extern "C" const char* host_cuda_launch(u32, const u32*, const u32*, u64, void**, const void*, u32,
                                        u64, u32, void*);
}  // namespace host_cuda

int main(int, char** words) {
    const u64 messages = strtoull(words[1], nullptr, 10);
    u64 sent = 0, done = 0, digest = 0, wrong = 0;
    for (u64 number = 0; number < SLOTS; ++number) slot(number)[PAYLOAD] = number + 1 - SLOTS;
    std::thread device([] {
        const u32 grid[] = {1, 1, 1}, block[] = {32, 1, 1};
        for (u64 launch = 1; __atomic_load_n(stop, __ATOMIC_RELAXED) == 0; ++launch) {
            u64* given = ring;
            u32 slots = SLOTS, answer_lines = 1;
            u64 slice_ns = launch % 3 ? 1000000 : 50000, polls = launch % 5 * 100 + 1;
            void* arguments[] = {&given, &slots, &answer_lines, &launch, &slice_ns, &polls};
            const char* problem = host_cuda::host_cuda_launch(0, grid, block, 0, arguments, nullptr,
                                                              0, launch * 7919, 1, nullptr);
            if (problem != nullptr) puts(problem);
        }
    });
    while (done < messages) {
        if (sent < messages && sent - done < SLOTS) {
            for (u64 index = 0; index < PAYLOAD; ++index)
                slot(sent)[index] = content(sent, index);
            publish(slot(sent) + PAYLOAD, sent + 1);
            ++sent;
        }
        const u64 tail = acquired(acknowledged);
        if (tail == done) std::this_thread::yield();
        for (; done < tail; ++done) {
            const u64* const answer = slot(done) + LINE;
            u64 sum = 0;
            for (u64 index = 0; index < PAYLOAD; ++index) {
                wrong += answer[index] != content(done, index);
                sum += content(done, index) * (FACTOR + 2 * index);
            }
            digest = digest * FACTOR + sum;
            wrong += answer[PAYLOAD] != digest;
        }
    }
    __atomic_store_n(stop, ~0ull, __ATOMIC_RELAXED);
    device.join();
    printf("%llu messages, %llu wrong words\n", done, wrong);
    return wrong != 0;
}
