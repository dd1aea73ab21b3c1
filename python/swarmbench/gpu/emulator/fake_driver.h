// A CUDA driver without a card: a stream is a thread that works off its queue in order, a kernel is
// one of the emulator's, memory is the host's, and every call fails on demand.
//
// fake_driver.cpp has the calls that rust/core/src/cuda makes, with the names, types and codes of
// cuda.h (CUDA 12 and 13), and refuses what it does not know; fake_streams.cpp has what streams do,
// fake_control.cpp what a test asks for. As with a card, a call that enqueues returns at once, what
// fails in a stream is told by a later call, and after some errors a context is of no use until
// `fake_reset`. Unlike a card it does not order two launches of one graph in two streams.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace fake {

using u8 = std::uint8_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i64 = std::int64_t;

enum Code : int {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    ECC_UNCORRECTABLE = 214,
    NVLINK_UNCORRECTABLE = 220,
    CONTAINED = 226,
    INVALID_HANDLE = 400,
    ILLEGAL_STATE = 401,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_OUT_OF_RESOURCES = 701,
    LAUNCH_TIMEOUT = 702,
    ASSERT = 710,
    HARDWARE_STACK_ERROR = 714,
    ILLEGAL_INSTRUCTION = 715,
    MISALIGNED_ADDRESS = 716,
    INVALID_ADDRESS_SPACE = 717,
    INVALID_PC = 718,
    LAUNCH_FAILED = 719,
    TENSOR_MEMORY_LEAK = 721,
    NOT_SUPPORTED = 801,
    STREAM_CAPTURE_UNSUPPORTED = 900,
    STREAM_CAPTURE_INVALIDATED = 901,
    STREAM_CAPTURE_WRONG_THREAD = 908,
    UNKNOWN = 999,
};

constexpr int DEVICES = 2;

// The emulator's own, of one kernel file: `host_cuda_launch` (host_cuda.cpp).
using HostLaunch = const char* (*)(u32 number, const u32* grid, const u32* block, u64 shared_bytes,
                                   void** arguments, const void* regions, u32 region_count,
                                   u64 seed, u32 is_random, void* traced);

struct Function {
    HostLaunch launch;
    u32 number;
    std::vector<u64> sizes;  // of the parameters, in bytes
};

struct Context {
    u32 retained = 0;
    std::atomic<int> lost{SUCCESS};
};

struct Launch {
    const Function* function;
    u32 grid[3], block[3];
    u64 shared_bytes;
    std::vector<u64> words;  // the arguments, each from a word's beginning on
};

struct Command {
    enum class Kind : u8 { launch, fill, copy, wait, write } kind;
    u64 to = 0, from = 0;  // `from` is also a word's value and a fill's byte
    u64 bytes = 0;         // also the comparison of a wait
    std::shared_ptr<const Launch> launch = nullptr;
};

using Commands = std::vector<Command>;

struct Stream {
    explicit Stream(Context* of) : context(of) {}
    Context* const context;
    std::mutex lock;
    std::condition_variable changed;
    // Under the lock:
    std::deque<Command> queue;
    bool is_busy = false, is_closing = false;
    bool is_capturing = false, is_invalid = false;
    std::thread::id capturing_thread;
    Commands captured;
};

using StreamPointer = std::shared_ptr<Stream>;

struct Fault {
    std::string call;
    u64 at;  // the number of the call since the reset
    int code;
};

// Never destroyed: streams may still be at work when the process ends.
struct Driver {
    std::mutex lock;
    // Under the lock:
    bool is_initialized = false;
    Context contexts[DEVICES];
    std::map<void*, StreamPointer> streams;
    std::map<void*, std::shared_ptr<const Commands>> graphs, executables;
    std::map<const void*, std::unique_ptr<Function>> functions;
    std::vector<StreamPointer> workers;  // also of streams that are destroyed and not done yet
    std::vector<Fault> faults;
    std::map<std::string, u64> calls;
    std::map<int, int> attributes;
    std::string problem;
    // Set while a reset waits for the streams.
    std::atomic<bool> is_resetting{false};
    std::atomic<u64> launches{0};
};

extern Driver& driver;
extern thread_local Context* current;

// Counts a call, and returns what is planted for it; a planted error may lose the context.
int counted(const char* call, Context* context);

// Whether a context is of no use any more after an error.
bool is_lost(int code);

// Begins the thread of a stream, which ends when the stream is closing and has nothing left to do.
void start(const StreamPointer& stream);

// Into the queue, or into the graph that is being captured.
void enqueue(const StreamPointer& stream, const Commands& commands);

// A stream that is captured has nothing to ask after; asking spoils the capture.
int asked(const StreamPointer& stream);

// Waits until a stream has nothing to do.
void drain(Stream& stream);

}  // namespace fake
