// Hammers the fake driver from several threads; built with ThreadSanitizer by
// test_fake_driver_threads.py. Ends with 0 and `whole` where every answer came in its order.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

using u32 = std::uint32_t;
using u64 = std::uint64_t;

extern "C" {
int cuInit(unsigned);
int cuDevicePrimaryCtxRetain(void**, int);
int cuDevicePrimaryCtxRelease_v2(int);
int cuCtxSetCurrent(void*);
int cuStreamCreateWithPriority(void**, unsigned, int);
int cuStreamDestroy_v2(void*);
int cuStreamQuery(void*);
int cuStreamSynchronize(void*);
int cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                   void*, void**, void**);
int cuMemsetD8Async(unsigned long long, unsigned char, size_t, void*);
int cuMemcpyAsync(unsigned long long, unsigned long long, size_t, void*);
int cuStreamWaitValue64_v2(void*, unsigned long long, u64, unsigned);
int cuStreamWriteValue64_v2(void*, unsigned long long, u64, unsigned);
int cuStreamBeginCapture_v2(void*, int);
int cuStreamEndCapture(void*, void**);
int cuGraphInstantiateWithFlags(void**, void*, unsigned long long);
int cuGraphLaunch(void*, void*);
int cuGraphExecDestroy(void*);
int cuGraphDestroy(void*);
u64 fake_function(void*, u32, u32, const u64*);
void fake_fault(const char*, u64, int);
void fake_reset();
u64 fake_live(const char*);
u64 fake_calls(const char*);
}

namespace {

constexpr u32 THREADS = 4, ROUNDS = 20, AHEAD = 16;
constexpr u64 MESSAGES = 400;
constexpr int SUCCESS = 0, NOT_READY = 600, ILLEGAL_ADDRESS = 700;

void require(bool holds, const char* what) {
    if (holds) return;
    printf("%s\n", what);
    exit(1);
}

void done(int code, const char* call) {
    if (code == SUCCESS) return;
    printf("%s: %d\n", call, code);
    exit(1);
}

#define DO(call, ...) done(call(__VA_ARGS__), #call)

// In the place of a kernel library's `host_cuda_launch`: adds to a word that is the stream's alone.
const char* add(u32, const u32*, const u32*, u64, void** arguments, const void*, u32, u64, u32,
                void*) {
    **static_cast<u64**>(arguments[0]) += *static_cast<u64*>(arguments[1]);
    return nullptr;
}

unsigned long long place(const void* word) { return reinterpret_cast<unsigned long long>(word); }

// A stream with commands behind a word, a thread of the host that answers, others that ask.
struct Lane {
    void* stream = nullptr;
    std::atomic<u64> published{0}, answered{0};
    u64 sent[AHEAD] = {}, received[AHEAD] = {}, sum = 0, filled = ~u64(0);
};

void launch(Lane& lane, void* function, u64 value) {
    u64* sum = &lane.sum;
    void* arguments[] = {&sum, &value};
    DO(cuLaunchKernel, function, 1, 1, 1, 1, 1, 1, 0, lane.stream, arguments, nullptr);
}

// Each message: wait for its word, copy, add, answer; half of them as a graph.
void serve(Lane& lane, void* function, void* context) {
    DO(cuCtxSetCurrent, context);
    DO(cuStreamCreateWithPriority, &lane.stream, 1, 0);
    void *graph = nullptr, *executable = nullptr;
    DO(cuStreamBeginCapture_v2, lane.stream, 1);
    launch(lane, function, 1);
    DO(cuMemsetD8Async, place(&lane.filled), 0, 8, lane.stream);
    DO(cuStreamEndCapture, lane.stream, &graph);
    DO(cuGraphInstantiateWithFlags, &executable, graph, 0);
    DO(cuGraphDestroy, graph);
    for (u64 first = 0; first < MESSAGES; first += AHEAD) {
        for (u64 message = first + 1; message <= first + AHEAD; ++message) {
            const u64 slot = message % AHEAD;
            DO(cuStreamWaitValue64_v2, lane.stream, place(&lane.published), message, 0);
            DO(cuMemcpyAsync, place(&lane.received[slot]), place(&lane.sent[slot]), 8, lane.stream);
            if (message % 2)
                DO(cuGraphLaunch, executable, lane.stream);
            else
                launch(lane, function, 1);
            DO(cuStreamWriteValue64_v2, lane.stream, place(&lane.answered), message, 0);
        }
        for (u64 message = first + 1; message <= first + AHEAD; ++message) {
            lane.sent[message % AHEAD] = message * message;
            lane.published.store(message, std::memory_order_release);
        }
        while (lane.answered.load(std::memory_order_acquire) < first + AHEAD)
            std::this_thread::yield();
        for (u64 message = first + 1; message <= first + AHEAD; ++message)
            require(lane.received[message % AHEAD] == message * message, "a message is wrong");
        require(lane.sum == first + AHEAD, "a launch is lost");
        void* other = nullptr;  // streams come and go while others work
        DO(cuStreamCreateWithPriority, &other, 1, 0);
        DO(cuStreamDestroy_v2, other);
        const int asked = cuStreamQuery(lane.stream);
        require(asked == SUCCESS || asked == NOT_READY, "cuStreamQuery");
    }
    DO(cuGraphExecDestroy, executable);
    DO(cuStreamSynchronize, lane.stream);
    require(lane.filled == 0, "a graph's fill is lost");
    DO(cuStreamDestroy_v2, lane.stream);
}

// Threads that enqueue into one stream, whose context is lost in the middle: all of them are told,
// and another stream waits no longer.
void lose(void* function, void* context) {
    Lane lane, waiting;
    DO(cuCtxSetCurrent, context);
    DO(cuStreamCreateWithPriority, &lane.stream, 1, 0);
    DO(cuStreamCreateWithPriority, &waiting.stream, 1, 0);
    DO(cuStreamWaitValue64_v2, waiting.stream, place(&waiting.published), 1, 0);
    fake_fault("kernel", 10, ILLEGAL_ADDRESS);
    std::vector<std::thread> threads;
    for (u32 number = 0; number < THREADS; ++number)
        threads.emplace_back([&] {
            DO(cuCtxSetCurrent, context);
            u64* sum = &lane.sum;
            u64 one = 1;
            void* arguments[] = {&sum, &one};
            int code = SUCCESS;
            while (code == SUCCESS)
                code = cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, lane.stream, arguments, nullptr);
            require(code == ILLEGAL_ADDRESS, "a thread is told something else");
        });
    for (std::thread& each : threads) each.join();
    require(cuStreamSynchronize(lane.stream) == ILLEGAL_ADDRESS, "the stream is not lost");
    require(cuStreamSynchronize(waiting.stream) == ILLEGAL_ADDRESS, "a stream still waits");
    require(lane.sum == 9, "work was done after the device was lost");
    fake_reset();
    DO(cuStreamWaitValue64_v2, lane.stream, place(&lane.published), 1, 0);
    fake_reset();  // nobody will write that word
    DO(cuStreamSynchronize, lane.stream);
    DO(cuStreamDestroy_v2, lane.stream);
    DO(cuStreamDestroy_v2, waiting.stream);
}

}  // namespace

int main() {
    const u64 sizes[] = {8, 8};
    void* const function =
        reinterpret_cast<void*>(fake_function(reinterpret_cast<void*>(&add), 0, 2, sizes));
    DO(cuInit, 0);
    for (u32 round = 0; round < ROUNDS; ++round) {
        void* context = nullptr;
        DO(cuDevicePrimaryCtxRetain, &context, 0);
        std::vector<Lane> lanes(THREADS);
        std::vector<std::thread> threads;
        std::atomic<u32> served{0};
        for (Lane& lane : lanes)
            threads.emplace_back([&] {
                serve(lane, function, context);
                served += 1;
            });
        while (served < THREADS) {
            require(fake_calls("kernel") <= THREADS * MESSAGES, "more was run than was asked for");
            require(fake_live("graphs") <= THREADS, "graphs are left");
            std::this_thread::yield();
        }
        for (std::thread& each : threads) each.join();
        lose(function, context);
        DO(cuDevicePrimaryCtxRelease_v2, 0);
        while (fake_live("workers") != 0) std::this_thread::yield();
        require(fake_live("executables") + fake_live("contexts") == 0, "something is left");
    }
    printf("whole\n");
}
