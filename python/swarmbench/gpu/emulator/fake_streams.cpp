// What the streams of the fake driver do: each in a thread of its own, one command after the other.
#include "fake_driver.h"

#include <chrono>
#include <cstring>

namespace fake {

namespace {

enum Comparison : u32 { GEQ, EQ, AND, NOR };
// A waiting stream looks again at once so often, then gives its core away so often, then sleeps.
constexpr u32 LOOKS = 64, YIELDS = 256;
constexpr auto NAP = std::chrono::microseconds(20);

u64 loaded(u64 address) {
    return std::atomic_ref(*reinterpret_cast<u64*>(address)).load(std::memory_order_acquire);
}

bool is_reached(u64 found, u64 value, u64 comparison) {
    switch (comparison) {
        case GEQ: return i64(found - value) >= 0;
        case EQ: return found == value;
        case AND: return (found & value) != 0;
        default: return ~(found | value) != 0;
    }
}

bool is_over(const Stream& stream) {
    return stream.context->lost != SUCCESS || driver.is_resetting;
}

void wait(const Stream& stream, const Command& command) {
    for (u32 look = 0; !is_reached(loaded(command.to), command.from, command.bytes); ++look) {
        if (is_over(stream)) return;
        if (look < LOOKS) continue;
        if (look < LOOKS + YIELDS)
            std::this_thread::yield();
        else
            std::this_thread::sleep_for(NAP);
    }
}

void run(const Stream& stream, const Launch& launch) {
    std::vector<u64> words = launch.words;  // a kernel may write its parameters
    std::vector<void*> places;
    u64 first = 0;
    for (const u64 bytes : launch.function->sizes) {
        places.push_back(words.data() + first);
        first += (bytes + 7) / 8;
    }
    const u64 seed = ++driver.launches * 0x9E3779B97F4A7C15u;
    int code = counted("kernel", stream.context);
    const char* problem = nullptr;
    if (code == SUCCESS) {
        const Function& function = *launch.function;
        problem = function.launch(function.number, launch.grid, launch.block, launch.shared_bytes,
                                  places.data(), nullptr, 0, seed >> 16, 0, nullptr);
    }
    if (problem != nullptr) code = LAUNCH_FAILED;
    if (code == SUCCESS) return;
    stream.context->lost = code;
    const std::lock_guard guard(driver.lock);
    driver.problem = problem == nullptr ? "planted" : problem;
}

void run(const Stream& stream, const Command& command) {
    if (is_over(stream)) return;
    switch (command.kind) {
        case Command::Kind::launch: return run(stream, *command.launch);
        case Command::Kind::fill:
            memset(reinterpret_cast<void*>(command.to), int(command.from), command.bytes);
            return;
        case Command::Kind::copy:
            memmove(reinterpret_cast<void*>(command.to),
                    reinterpret_cast<const void*>(command.from), command.bytes);
            return;
        case Command::Kind::wait: return wait(stream, command);
        case Command::Kind::write:
            std::atomic_ref(*reinterpret_cast<u64*>(command.to))
                .store(command.from, std::memory_order_release);
            return;
    }
}

void work(const StreamPointer& stream) {
    std::unique_lock guard(stream->lock);
    for (;;) {
        stream->changed.wait(guard, [&] { return !stream->queue.empty() || stream->is_closing; });
        if (stream->queue.empty()) break;
        const Command command = std::move(stream->queue.front());
        stream->queue.pop_front();
        stream->is_busy = true;
        guard.unlock();
        run(*stream, command);
        guard.lock();
        stream->is_busy = false;
        if (stream->queue.empty()) stream->changed.notify_all();
    }
    guard.unlock();
    const std::lock_guard all(driver.lock);
    std::erase(driver.workers, stream);
}

}  // namespace

void start(const StreamPointer& stream) { std::thread(work, stream).detach(); }

void enqueue(const StreamPointer& stream, const Commands& commands) {
    const std::lock_guard guard(stream->lock);
    if (stream->is_capturing) {
        stream->captured.insert(stream->captured.end(), commands.begin(), commands.end());
        return;
    }
    stream->queue.insert(stream->queue.end(), commands.begin(), commands.end());
    stream->changed.notify_all();
}

int asked(const StreamPointer& stream) {
    const std::lock_guard guard(stream->lock);
    if (!stream->is_capturing) return SUCCESS;
    stream->is_invalid = true;
    return STREAM_CAPTURE_UNSUPPORTED;
}

void drain(Stream& stream) {
    std::unique_lock guard(stream.lock);
    stream.changed.wait(guard, [&] { return stream.queue.empty() && !stream.is_busy; });
}

}  // namespace fake
