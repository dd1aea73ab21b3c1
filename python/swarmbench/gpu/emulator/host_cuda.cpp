// Runs a grid on the calling thread: blocks one after the other in a random order, each of a
// block's threads as a fiber, and what a fiber waits for as a queue.
#include "common.cuh"
#include "tracing.h"

#include <sys/mman.h>
#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

extern "C" {
extern char __start_host_shared[] __attribute__((weak));
extern char __stop_host_shared[] __attribute__((weak));
}

namespace host_cuda {

Place place;

namespace {

constexpr u64 STACK_BYTES = 128 << 10;
constexpr u32 THREADS_MAX = 1024;
// Of the atomics and other accesses that others may meet, one in so many lets another thread run.
constexpr u32 SUSPEND_EVERY = 4;

enum class State : u8 { ready, at_barrier, at_exchange, done };

struct Fiber {
#if defined(__x86_64__)
    void* stack_pointer;
#else
    ucontext_t context;
#endif
    uint3 thread;
    State state;
    u32 mask;            // of the exchange that it waits in
    bool orders;         // whether that orders accesses
    u64 offered;         // what it gives to it
    Exchange* gathered;  // where it is told what all gave
    void* fake_stack;  // of a sanitizer
    void* known;       // by ThreadSanitizer, under which a fiber is one of its own
};

Fiber fibers[THREADS_MAX];
char* stacks;
std::vector<u32> ready;
u32 running, alive, waiting;
u32 barrier_sum, barrier_votes, barrier_results[2][3], barrier_turn;
void (*kernel)(void**);
void** kernel_arguments;
char* dynamic;
u64 dynamic_bytes;
u64 random_state;
bool suspending;
char trouble[512];
#if defined(__x86_64__)
void* scheduler_pointer;
#else
ucontext_t scheduler_context;
#endif
#if defined(__SANITIZE_ADDRESS__)
void* scheduler_fake;
const void* scheduler_bottom;
size_t scheduler_size;
#endif
#if defined(__SANITIZE_THREAD__)
void* scheduler_known;
#endif

u64 random_word() {  // xorshift64*, Vigna 2016
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545F4914F6CDD1Dull;
}

u32 random_below(u32 bound) { return u32((random_word() >> 32) * bound >> 32); }

#if defined(__x86_64__)
// Saves what a call must keep, changes the stack, and goes on where that stack had stopped.
asm(R"(
    .text
    .type host_cuda_switch, @function
host_cuda_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
extern "C" void host_cuda_switch(void** saved, void* next);
#endif

char* stack_of(u32 fiber) { return stacks + fiber * STACK_BYTES; }

// Not followed, as `begin_fiber`: its last call in each fiber has no end.
__attribute__((no_sanitize("thread"))) void to_scheduler(bool for_good) {
    Fiber& fiber = fibers[running];
    (void)for_good;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fiber.fake_stack, scheduler_bottom,
                                   scheduler_size);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(scheduler_known, 0);
#endif
#if defined(__x86_64__)
    host_cuda_switch(&fiber.stack_pointer, scheduler_pointer);
#else
    swapcontext(&fiber.context, &scheduler_context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fiber.fake_stack, &scheduler_bottom, &scheduler_size);
#endif
}

void to_fiber(u32 number) {
    running = number;
    Fiber& fiber = fibers[number];
    place.thread = fiber.thread;
    tracing::running(number, stack_of(number), stack_of(number) + STACK_BYTES);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&scheduler_fake, stack_of(number), STACK_BYTES);
#endif
#if defined(__SANITIZE_THREAD__)
    scheduler_known = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber.known, 0);
#endif
#if defined(__x86_64__)
    host_cuda_switch(&scheduler_pointer, fiber.stack_pointer);
#else
    swapcontext(&scheduler_context, &fiber.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);
#endif
}

// All that are left have come: everybody goes on, with what they brought.
void open_barrier() {
    u32* result = barrier_results[barrier_turn];
    result[0] = barrier_sum;
    result[1] = barrier_sum == barrier_votes;
    result[2] = barrier_sum != 0;
    barrier_turn ^= 1;
    barrier_sum = barrier_votes = waiting = 0;
    tracing::barrier();
    const u32 count = place.block_size.x * place.block_size.y * place.block_size.z;
    for (u32 number = 0; number < count; ++number)
        if (fibers[number].state == State::at_barrier) {
            fibers[number].state = State::ready;
            ready.push_back(number);
        }
}

// Lets the lanes of an exchange go on once all of them that still run are there.
void try_exchange(u32 warp, u32 mask) {
    const u32 count = place.block_size.x * place.block_size.y * place.block_size.z;
    u32 present = 0;
    for (u32 lane = 0; lane < 32; ++lane) {
        const u32 number = warp * 32 + lane;
        if (!(mask >> lane & 1) || number >= count || fibers[number].state == State::done) continue;
        if (fibers[number].state != State::at_exchange || fibers[number].mask != mask) return;
        present |= 1u << lane;
    }
    if (present == 0) return;
    const u32 first = u32(__builtin_ctz(present));
    tracing::exchange(warp, present, fibers[warp * 32 + first].orders);
    Exchange all;
    all.present = present;
    for (u32 lane = 0; lane < 32; ++lane)
        all.values[lane] = present >> lane & 1 ? fibers[warp * 32 + lane].offered : 0;
    for (u32 lane = 0; lane < 32; ++lane)
        if (present >> lane & 1) {
            Fiber& fiber = fibers[warp * 32 + lane];
            *fiber.gathered = all;
            fiber.state = State::ready;
            ready.push_back(warp * 32 + lane);
        }
}

void after_end(u32 number) {
    alive -= 1;
    if (waiting != 0 && waiting == alive) open_barrier();
    const u32 warp = number / 32;
    for (u32 lane = 0; lane < 32; ++lane) {
        const u32 other = warp * 32 + lane;
        if (other < THREADS_MAX && fibers[other].state == State::at_exchange)
            try_exchange(warp, fibers[other].mask);
    }
}

__attribute__((no_sanitize("thread"))) void begin_fiber() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_bottom, &scheduler_size);
#endif
    kernel(kernel_arguments);
    fibers[running].state = State::done;
    after_end(running);
    to_scheduler(true);
    __builtin_unreachable();
}

void prepare_fiber(u32 number) {
    Fiber& fiber = fibers[number];
    const dim3 size = place.block_size;
    fiber.thread = {number % size.x, number / size.x % size.y, number / (size.x * size.y)};
    fiber.state = State::ready;
    fiber.fake_stack = nullptr;
#if defined(__SANITIZE_THREAD__)
    if (fiber.known == nullptr) fiber.known = __tsan_create_fiber(0);
#endif
#if defined(__x86_64__)
    // Six registers and the place to return to; the stack is 16-byte aligned at a function's call.
    void** top = reinterpret_cast<void**>(stack_of(number) + STACK_BYTES) - 2;
    *top = reinterpret_cast<void*>(&begin_fiber);
    for (u32 slot = 1; slot <= 6; ++slot) top[-i32(slot)] = nullptr;
    fiber.stack_pointer = top - 6;
#else
    getcontext(&fiber.context);
    fiber.context.uc_stack = {stack_of(number), 0, STACK_BYTES};
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, &begin_fiber, 0);
#endif
}

// Values that no kernel can have meant, in the place of what a block has not written yet.
__attribute__((no_sanitize("address"))) void poison(char* first, char* last) {
    for (char* byte = first; byte != last; ++byte) *byte = char(0xA5 ^ random_state >> 56);
}

bool run_block(u32 count) {
    poison(__start_host_shared, __stop_host_shared);
    poison(dynamic, dynamic + dynamic_bytes);
    tracing::block(place.block.x + u64(place.grid_size.x) * place.block.y, count);
    alive = count;
    waiting = barrier_sum = barrier_votes = 0;
    ready.clear();
    for (u32 number = 0; number < count; ++number) {
        prepare_fiber(number);
        ready.push_back(number);
    }
    for (u32 number = count; number < THREADS_MAX; ++number) fibers[number].state = State::done;
    while (!ready.empty() && trouble[0] == 0) {
        const u32 chosen = random_below(u32(ready.size()));
        const u32 number = ready[chosen];
        ready[chosen] = ready.back();
        ready.pop_back();
        to_fiber(number);
    }
    if (trouble[0] == 0 && alive != 0)
        snprintf(trouble, sizeof trouble,
                 "%u threads of block %u wait for others that never come (barrier or warp mask)",
                 alive, place.block.x);
    return trouble[0] == 0;
}

void suspend() {
    fibers[running].state = State::ready;
    ready.push_back(running);
    to_scheduler(false);
}

}  // namespace

void wrong(const char* what) {
    if (trouble[0] == 0)
        snprintf(trouble, sizeof trouble, "block %u, thread %u: %s", place.block.x,
                 fibers[running].thread.x, what);
    to_scheduler(true);
    abort();
}

void suspend_sometimes() {
    if (suspending && random_below(SUSPEND_EVERY) == 0) suspend();
}

void* dynamic_shared() { return dynamic; }

u32 lane_number() { return running % 32; }

void fence() { tracing::fence(); }

u32 barrier(u32 predicate, u32 kind) {
    barrier_sum += predicate;
    barrier_votes += 1;
    const u32 turn = barrier_turn;
    fibers[running].state = State::at_barrier;
    if (++waiting == alive) open_barrier();
    to_scheduler(false);
    return barrier_results[turn][kind];
}

void exchange(u32 mask, u64 value, Exchange* gathered, bool orders) {
    Fiber& fiber = fibers[running];
    if (!(mask >> (running % 32) & 1)) wrong("a lane calls a warp operation without being in its mask");
    fiber.state = State::at_exchange;
    fiber.mask = mask;
    fiber.orders = orders;
    fiber.offered = value;
    fiber.gathered = gathered;
    try_exchange(running / 32, mask);
    to_scheduler(false);
}

template <class Word, class Signed>
Word changed(Word before, Word operand, Word compare, int operation) {
    switch (operation) {
        case ADD: return before + operand;
        case MIN: return operand < before ? operand : before;
        case MAX: return operand > before ? operand : before;
        case AND: return before & operand;
        case OR: return before | operand;
        case XOR: return before ^ operand;
        case EXCHANGE: return operand;
        case COMPARE: return before == compare ? operand : before;
        case MIN_SIGNED: return Signed(operand) < Signed(before) ? operand : before;
        case MAX_SIGNED: return Signed(operand) > Signed(before) ? operand : before;
        case ADD_FLOAT:
            if constexpr (sizeof(Word) == 4)
                return Word(bits_of(value_of<f32>(before) + value_of<f32>(operand)));
    }
    wrong("an atomic operation that the emulator does not know");
}

u32 fetch32(u32* word, u32 operand, u32 compare, int operation) {
    suspend_sometimes();
    if (reinterpret_cast<u64>(word) % 4 != 0) wrong("a misaligned atomic");
    tracing::access(word, 4, true, true);
    const u32 before = *word;
    *word = changed<u32, i32>(before, operand, compare, operation);
    return before;
}

u64 fetch64(u64* word, u64 operand, u64 compare, int operation) {
    suspend_sometimes();
    if (reinterpret_cast<u64>(word) % 8 != 0) wrong("a misaligned atomic");
    tracing::access(word, 8, true, true);
    const u64 before = *word;
    *word = changed<u64, i64>(before, operand, compare, operation);
    return before;
}

u64 load_bits(const void* from, u32 bytes) {
    suspend_sometimes();
    tracing::access(from, bytes, false, true);
    // A word at once, as a card has it: the host may be writing it.
    if (bytes == 8) return __atomic_load_n(static_cast<const u64*>(from), __ATOMIC_RELAXED);
    u64 bits = 0;
    memcpy(&bits, from, bytes);
    return bits;
}

void store_bits(void* to, u64 bits, u32 bytes) {
    suspend_sometimes();
    tracing::access(to, bytes, true, true);
    if (bytes == 8)
        __atomic_store_n(static_cast<u64*>(to), bits, __ATOMIC_RELAXED);
    else
        memcpy(to, &bits, bytes);
}

u64 load_acquire(const u64* word) {
    suspend_sometimes();
    if (reinterpret_cast<u64>(word) % 8 != 0) wrong("a misaligned word of the system's");
    tracing::access(word, 8, false, true);
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

void store_release(u64* word, u64 value) {
    suspend_sometimes();
    if (reinterpret_cast<u64>(word) % 8 != 0) wrong("a misaligned word of the system's");
    tracing::fence();
    tracing::access(word, 8, true, true);
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

u64 clock_now_ns() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return u64(now.tv_sec) * 1000000000 + u64(now.tv_nsec);
}

extern "C" {

extern const Entry host_cuda_entries[];

// Runs entry `number`; of launches in several threads one waits for the other. Returns null, or what
// went wrong, which is the calling thread's until its next launch; `traced` gets the counts of a
// traced build.
const char* host_cuda_launch(u32 number, const u32* grid, const u32* block, u64 shared_bytes,
                             void** arguments, const tracing::Region* regions, u32 region_count,
                             u64 seed, u32 is_random, tracing::Counts* traced) {
    static std::mutex one_at_a_time;
    static thread_local char said[sizeof trouble];
    const std::lock_guard guard(one_at_a_time);
    if (stacks == nullptr) {
        void* mapped = mmap(nullptr, THREADS_MAX * STACK_BYTES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mapped == MAP_FAILED) return "no memory for the threads' stacks";
        stacks = static_cast<char*>(mapped);
        ready.reserve(THREADS_MAX);
    }
    place.grid_size = {grid[0], grid[1], grid[2]};
    place.block_size = {block[0], block[1], block[2]};
    const u64 count = u64(block[0]) * block[1] * block[2];
    if (count == 0 || count > THREADS_MAX) return "a block has 1 to 1024 threads";
    kernel = host_cuda_entries[number].call;
    kernel_arguments = arguments;
    random_state = seed | 1;
    suspending = is_random != 0;
    trouble[0] = 0;
    barrier_turn = 0;
    // Its own allocation, so that a sanitizer sees the access that is one too far.
    dynamic_bytes = shared_bytes;
    dynamic = shared_bytes ? static_cast<char*>(aligned_alloc(16, (shared_bytes + 15) / 16 * 16))
                           : nullptr;
    tracing::begin(regions, region_count, dynamic, shared_bytes, __start_host_shared,
                   __stop_host_shared);
    const u64 blocks = u64(grid[0]) * grid[1] * grid[2];
    std::vector<u32> order(blocks);
    for (u64 index = 0; index < blocks; ++index) order[index] = u32(index);
    for (u64 left = blocks; left > 1; --left)
        std::swap(order[left - 1], order[random_below(u32(left))]);
    for (u32 index : order) {
        place.block = {index % grid[0], index / grid[0] % grid[1], index / (grid[0] * grid[1])};
        if (!run_block(u32(count))) break;
    }
    tracing::end(traced);
    free(dynamic);
    memcpy(said, trouble, sizeof said);
    return said[0] ? said : nullptr;
}

u32 host_cuda_entry(const char* name) {
    for (u32 number = 0; host_cuda_entries[number].name != nullptr; ++number)
        if (strcmp(host_cuda_entries[number].name, name) == 0) return number;
    return ~0u;
}

}  // extern "C"

}  // namespace host_cuda

f32 half_to_float(u16 bits) {
    const u32 sign = u32(bits & 0x8000) << 16, exponent = bits >> 10 & 0x1F, fraction = bits & 0x3FF;
    if (exponent == 0x1F) return __uint_as_float(sign | 0x7F800000u | fraction << 13);
    if (exponent != 0) return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
    const f32 value = f32(fraction) * 0x1p-24f;
    return sign ? -value : value;
}

u16 float_to_half(f32 value) {
    const u32 bits = __float_as_uint(value), magnitude = bits & 0x7FFFFFFF;
    const u16 sign = u16(bits >> 16 & 0x8000);
    if (magnitude >= 0x47800000u)  // 65536 and above, infinities and NaN
        return u16(sign | 0x7C00 | (magnitude > 0x7F800000u ? 0x200 | (magnitude >> 13 & 0x3FF) : 0));
    if (magnitude < 0x38800000u) {  // below the smallest normal half: a fraction of 2^-24
        const f32 scaled = __builtin_rintf(__uint_as_float(magnitude) * 0x1p24f);
        return u16(sign | u32(scaled));
    }
    const u32 rounded = magnitude + 0xFFF + (magnitude >> 13 & 1);
    return u16(sign | ((rounded - 0x38000000u) >> 13));
}
