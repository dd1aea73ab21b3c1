// Follows every access of a launch: bounds, data races, and how many bytes it moved.
//
// The kernels are compiled with `-fsanitize=thread`, which calls a function before each access;
// these are the functions, and no sanitizer is linked. Two accesses of one place, one of them a
// plain write, race unless a barrier, a `__syncwarp` of both lanes, or (between blocks) a fence
// followed by an atomic on one side and a later atomic on the same word, followed by a fence, on the
// other came between, at once or by way of further blocks. What a lane has read another may write
// after any warp operation of both: the value was there before they met.
#include "common.cuh"
#include "tracing.h"

#include <link.h>

#include <algorithm>
#include <cstdio>
#include <unordered_map>

namespace host_cuda::tracing {
namespace {

constexpr u64 WORD = 4;
constexpr u32 READERS = 4;

struct Touch {
    u64 time = 0;  // 0: none
    u64 block = 0;
    u32 thread = 0;
    u8 bytes = 0;  // which of the word's
    bool is_atomic = false;
};

struct Shadow {
    Touch write;
    Touch reads[READERS];
    u8 read_bytes = 0, written_bytes = 0;
};

// Up to when a block, or who meets at a word, knows what others wrote: each a thread of a block, or
// all of its threads.
using Known = std::unordered_map<u64, u64>;
constexpr u32 THREADS_MAX = 1024, ALL = THREADS_MAX;

u64 writer(u64 block, u32 thread) { return block * (THREADS_MAX + 1) + thread; }

const Region* regions;
u32 region_count;
const char *dynamic_first, *dynamic_last, *static_first, *static_last;
const char *stack_low, *stack_high, *image_first, *image_last;
std::unordered_map<u64, Shadow> shadows;
std::unordered_map<u64, Known> blocks_know, words_know;
// What atomics of each thread met, and those of all threads before the last barrier: known once
// the thread fences.
Known met[THREADS_MAX], met_before;
u64 clock_now, block_now, barrier_time;
u32 thread_now, threads;
// [warp][lane][lane]: the last warp operation that both took part in, and the last of those that
// order what they wrote.
u64 common[32][32][32], joined[32][32][32];
u64 fenced[THREADS_MAX];  // when each thread last fenced; 0: not yet
// Up to when all that the block wrote is behind a fence of a thread: what came before a barrier that
// the thread had passed when it fenced; and of any thread, once a barrier has followed.
u64 covered[THREADS_MAX], published;
Counts counts;
bool is_tracing;
char said[256];

bool ordered(const Touch& before, bool was_write) {
    if (before.block != block_now) {
        const Known& known = blocks_know[block_now];
        for (const u32 whose : {before.thread, ALL}) {
            const auto found = known.find(writer(before.block, whose));
            if (found != known.end() && before.time < found->second) return true;
        }
        return false;
    }
    if (before.thread == thread_now || before.time < barrier_time) return true;
    const u32 warp = thread_now / 32;
    const auto& met = was_write ? joined[warp] : common[warp];
    return before.thread / 32 == warp && before.time < met[before.thread % 32][thread_now % 32];
}

void race(const void* place, const Touch& before, bool was_write, bool is_write) {
    snprintf(said, sizeof said, "a data race at %p: it %s what thread %u of block %llu %s before, and nothing orders the two",
             place, is_write ? "writes" : "reads", before.thread, before.block,
             was_write ? "wrote" : "read");
    wrong(said);
}

void check(const void* place, Shadow& shadow, u8 bytes, bool is_write, bool is_atomic) {
    const Touch now{clock_now, block_now, thread_now, bytes, is_atomic};
    const Touch& write = shadow.write;
    if (write.time && (write.bytes & bytes) && !(write.is_atomic && is_atomic) &&
        !ordered(write, true))
        race(place, write, true, is_write);
    if (!is_write) {
        Touch* oldest = &shadow.reads[0];
        for (Touch& read : shadow.reads) {
            if (read.time && read.thread == thread_now && read.block == block_now) {
                oldest = &read;
                break;
            }
            if (read.time < oldest->time) oldest = &read;
        }
        *oldest = now;
        return;
    }
    for (const Touch& read : shadow.reads)
        if (read.time && (read.bytes & bytes) && !(read.is_atomic && is_atomic) &&
            !ordered(read, false))
            race(place, read, false, true);
    // A whole word written anew has no readers that still matter.
    for (Touch& read : shadow.reads) read = Touch{};
    shadow.write = now;
}

void learn(Known& known, u64 writer, u64 time) {
    u64& until = known[writer];
    if (until < time) until = time;
}

void learn(Known& known, const Known& more) {
    for (const auto& [writer, time] : more) learn(known, writer, time);
}

// An atomic meets what its word's other users published before, and publishes what lies behind a
// fence: the thread's own writes, those of lanes that it has joined, and those before barriers.
void meet(const void* place) {
    const u64 word = reinterpret_cast<u64>(place);
    const u64 fence_time = fenced[thread_now];
    const auto found = words_know.find(word);
    if (found != words_know.end()) learn(met[thread_now], found->second);
    const u64 all = std::max(covered[thread_now], published);
    if (fence_time == 0 && all == 0) return;
    Known& here = words_know[word];
    learn(here, blocks_know[block_now]);
    if (all > 0) learn(here, writer(block_now, ALL), all);
    if (fence_time > 0) learn(here, writer(block_now, thread_now), fence_time);
    const u32 warp = thread_now / 32;
    for (u32 lane = 0; lane < 32; ++lane) {
        const u64 time = std::min(joined[warp][lane][thread_now % 32], fence_time);
        if (time > all) learn(here, writer(block_now, warp * 32 + lane), time);
    }
}

const Region* region_of(const char* place, u64 bytes) {
    for (u32 index = 0; index < region_count; ++index) {
        const Region& region = regions[index];
        if (place >= region.first && place + bytes <= region.first + region.bytes) return &region;
    }
    return nullptr;
}

void out_of_bounds(const char* place, u64 bytes, bool is_write) {
    const Region* nearest = nullptr;
    for (u32 index = 0; index < region_count; ++index)
        if (place >= regions[index].first &&
            (nearest == nullptr || regions[index].first > nearest->first))
            nearest = &regions[index];
    const i64 beyond = nearest ? place + bytes - (nearest->first + nearest->bytes) : -1;
    snprintf(said, sizeof said, "%s %llu bytes outside every buffer of the launch (%lld past the end of the one of %llu bytes)",
             is_write ? "writes" : "reads", bytes, beyond, nearest ? nearest->bytes : 0);
    wrong(said);
}

int find_image(dl_phdr_info* object, size_t, void* wanted) {
    for (int index = 0; index < object->dlpi_phnum; ++index) {
        const auto& header = object->dlpi_phdr[index];
        const char* first = reinterpret_cast<const char*>(object->dlpi_addr + header.p_vaddr);
        if (header.p_type != PT_LOAD || wanted < first || wanted >= first + header.p_memsz) continue;
        image_first = reinterpret_cast<const char*>(object->dlpi_addr);
        for (int other = 0; other < object->dlpi_phnum; ++other) {
            const auto& part = object->dlpi_phdr[other];
            const char* last = image_first + part.p_vaddr + part.p_memsz;
            if (part.p_type == PT_LOAD && last > image_last) image_last = last;
        }
        return 1;
    }
    return 0;
}

}  // namespace

void begin(const Region* given, u32 count, const char* dynamic, u64 dynamic_bytes,
           const char* shared_first, const char* shared_last) {
    if (image_first == nullptr) dl_iterate_phdr(&find_image, &counts);
    regions = given;
    region_count = count;
    dynamic_first = dynamic;
    dynamic_last = dynamic + dynamic_bytes;
    static_first = shared_first;
    static_last = shared_last;
    shadows.clear();
    blocks_know.clear();
    words_know.clear();
    counts = Counts{};
    clock_now = 1;
    is_tracing = true;
}

void end(Counts* out) {
    for (const auto& [word, shadow] : shadows) {
        const char* place = reinterpret_cast<const char*>(word * WORD);
        if (region_of(place, 1) == nullptr) continue;
        counts.distinct_read_bytes += u64(__builtin_popcount(shadow.read_bytes));
        counts.distinct_written_bytes += u64(__builtin_popcount(shadow.written_bytes));
    }
    is_tracing = false;
    if (out != nullptr) *out = counts;
}

void block(u64 number, u32 count) {
    block_now = number;
    threads = count;
    barrier_time = 0;
    memset(common, 0, sizeof common);
    memset(joined, 0, sizeof joined);
    memset(fenced, 0, sizeof fenced);
    memset(covered, 0, sizeof covered);
    published = 0;
    for (Known& each : met) each.clear();
    met_before.clear();
    // What the last block left in its shared memory is gone.
    for (const char* place = static_first; place < static_last; place += WORD)
        shadows.erase(reinterpret_cast<u64>(place) / WORD);
    for (const char* place = dynamic_first; place < dynamic_last; place += WORD)
        shadows.erase(reinterpret_cast<u64>(place) / WORD);
}

void running(u32 thread, const char* stack_first, const char* stack_last) {
    thread_now = thread;
    stack_low = stack_first;
    stack_high = stack_last;
}

void barrier() {
    barrier_time = ++clock_now;
    u64 by_all = ~0ull;
    for (u32 thread = 0; thread < threads; ++thread) {
        published = std::max(published, covered[thread]);
        by_all = std::min(by_all, fenced[thread]);
    }
    published = std::max(published, by_all);
    for (Known& each : met) {
        learn(met_before, each);
        each.clear();
    }
}

void exchange(u32 warp, u32 present, bool orders) {
    const u64 time = ++clock_now;
    for (u32 left = 0; left < 32; ++left) {
        for (u32 right = 0; right < 32; ++right) {
            if (!(present >> left & 1) || !(present >> right & 1)) continue;
            common[warp][left][right] = time;
            if (orders) joined[warp][left][right] = time;
        }
    }
}

void fence() {
    fenced[thread_now] = ++clock_now;
    covered[thread_now] = barrier_time;
    learn(blocks_know[block_now], met_before);
    learn(blocks_know[block_now], met[thread_now]);
}

void access(const void* address, u64 bytes, bool is_write, bool is_atomic) {
    const char* place = static_cast<const char*>(address);
    if (!is_tracing || (place >= stack_low && place < stack_high)) return;
    ++clock_now;
    const bool is_dynamic = place >= dynamic_first && place + bytes <= dynamic_last;
    const bool is_shared = is_dynamic || (place >= static_first && place + bytes <= static_last);
    if (!is_shared && region_of(place, bytes) == nullptr) {
        // Constants of the file itself may be read.
        if (!is_write && place >= image_first && place < image_last) return;
        out_of_bounds(place, bytes, is_write);
    }
    if (bytes <= 16 && (bytes & (bytes - 1)) == 0 && reinterpret_cast<u64>(place) % bytes != 0)
        wrong("a misaligned access");
    const bool is_read = !is_write || is_atomic;
    if (is_atomic) {
        counts.atomics += 1;
        if (!is_shared) meet(place);
    }
    (is_shared ? counts.shared_read_bytes : counts.read_bytes) += is_read ? bytes : 0;
    (is_shared ? counts.shared_written_bytes : counts.written_bytes) += is_write ? bytes : 0;
    const u64 first = reinterpret_cast<u64>(place), last = first + bytes;
    for (u64 word = first / WORD; word * WORD < last; ++word) {
        u8 touched = 0;
        for (u64 byte = 0; byte < WORD; ++byte)
            if (word * WORD + byte >= first && word * WORD + byte < last) touched |= u8(1 << byte);
        Shadow& shadow = shadows[word];
        if (is_read) shadow.read_bytes |= touched;
        if (is_write) shadow.written_bytes |= touched;
        check(address, shadow, touched, is_write, is_atomic);
    }
}

}  // namespace host_cuda::tracing

void host_cuda::count(Arithmetic kind, u32 times) { tracing::counts.arithmetic[kind] += times; }

// What the compiler calls; every now and then another thread is let in first.
#define TRACED(name, bytes, is_write)                                        \
    extern "C" void name(void* place) {                                      \
        host_cuda::tracing::access(place, bytes, is_write, false);           \
    }
TRACED(__tsan_read1, 1, false)
TRACED(__tsan_read2, 2, false)
TRACED(__tsan_read4, 4, false)
TRACED(__tsan_read8, 8, false)
TRACED(__tsan_read16, 16, false)
TRACED(__tsan_write1, 1, true)
TRACED(__tsan_write2, 2, true)
TRACED(__tsan_write4, 4, true)
TRACED(__tsan_write8, 8, true)
TRACED(__tsan_write16, 16, true)
TRACED(__tsan_unaligned_read2, 2, false)
TRACED(__tsan_unaligned_read4, 4, false)
TRACED(__tsan_unaligned_read8, 8, false)
TRACED(__tsan_unaligned_read16, 16, false)
TRACED(__tsan_unaligned_write2, 2, true)
TRACED(__tsan_unaligned_write4, 4, true)
TRACED(__tsan_unaligned_write8, 8, true)
TRACED(__tsan_unaligned_write16, 16, true)
TRACED(__tsan_volatile_read1, 1, false)
TRACED(__tsan_volatile_read2, 2, false)
TRACED(__tsan_volatile_read4, 4, false)
TRACED(__tsan_volatile_read8, 8, false)
TRACED(__tsan_volatile_read16, 16, false)
TRACED(__tsan_volatile_write1, 1, true)
TRACED(__tsan_volatile_write2, 2, true)
TRACED(__tsan_volatile_write4, 4, true)
TRACED(__tsan_volatile_write8, 8, true)
TRACED(__tsan_volatile_write16, 16, true)
extern "C" void __tsan_read_range(void* place, unsigned long bytes) {
    host_cuda::tracing::access(place, bytes, false, false);
}
extern "C" void __tsan_write_range(void* place, unsigned long bytes) {
    host_cuda::tracing::access(place, bytes, true, false);
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
