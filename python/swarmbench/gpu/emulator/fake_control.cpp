// What a test asks of the fake driver beside its calls: functions, faults, counts.
#include "fake_driver.h"

#include <algorithm>
#include <cstring>

namespace fake {

Driver& driver = *new Driver;
thread_local Context* current = nullptr;

bool is_lost(int code) {
    switch (code) {
        case ECC_UNCORRECTABLE:
        case NVLINK_UNCORRECTABLE:
        case CONTAINED:
        case ILLEGAL_ADDRESS:
        case LAUNCH_TIMEOUT:
        case ASSERT:
        case HARDWARE_STACK_ERROR:
        case ILLEGAL_INSTRUCTION:
        case MISALIGNED_ADDRESS:
        case INVALID_ADDRESS_SPACE:
        case INVALID_PC:
        case LAUNCH_FAILED:
        case TENSOR_MEMORY_LEAK:
        case UNKNOWN: return true;
        default: return false;
    }
}

int counted(const char* call, Context* context) {
    const std::lock_guard guard(driver.lock);
    const u64 at = ++driver.calls[call];
    for (const Fault& fault : driver.faults)
        if (fault.at == at && fault.call == call) {
            if (context != nullptr && is_lost(fault.code)) context->lost = fault.code;
            return fault.code;
        }
    return SUCCESS;
}

}  // namespace fake

using namespace fake;

extern "C" {

// A CUfunction for a kernel of a library: `launch` is its `host_cuda_launch`, `sizes` are those of
// the kernel's parameters in bytes. It stays.
u64 fake_function(void* launch, u32 number, u32 count, const u64* sizes) {
    const std::lock_guard guard(driver.lock);
    auto made = std::make_unique<Function>();
    made->launch = reinterpret_cast<HostLaunch>(launch);
    made->number = number;
    made->sizes.assign(sizes, sizes + count);
    const Function* key = made.get();
    driver.functions.emplace(key, std::move(made));
    return reinterpret_cast<u64>(key);
}

// Lets the `nth` call of that name from now on fail, where 1 is the next; "kernel" is what a stream
// runs, whose failure is told by a later call.
void fake_fault(const char* call, u64 nth, int code) {
    const std::lock_guard guard(driver.lock);
    driver.faults.push_back({call, driver.calls[call] + nth, code});
}

void fake_attribute(int attribute, int value) {
    const std::lock_guard guard(driver.lock);
    driver.attributes[attribute] = value;
}

// Drops what streams have to do, then forgets faults, attributes, lost contexts and counts of
// calls. Handles stay what they are.
void fake_reset() {
    driver.is_resetting = true;
    for (;;) {
        StreamPointer stream;
        {
            const std::lock_guard guard(driver.lock);
            for (const StreamPointer& each : driver.workers) {
                const std::lock_guard its_own(each->lock);
                if (!each->queue.empty() || each->is_busy) stream = each;
            }
        }
        if (stream == nullptr) break;
        drain(*stream);
    }
    const std::lock_guard guard(driver.lock);
    for (Context& each : driver.contexts) each.lost = SUCCESS;
    driver.faults.clear();
    driver.attributes.clear();
    driver.calls.clear();
    driver.problem.clear();
    driver.is_resetting = false;
}

// How many there are of `contexts` (retained ones), `streams`, `workers` (threads of streams),
// `graphs` and `executables`.
u64 fake_live(const char* kind) {
    const std::lock_guard guard(driver.lock);
    const std::string asked = kind;
    u64 retained = 0;
    for (const Context& each : driver.contexts) retained += each.retained;
    if (asked == "contexts") return retained;
    if (asked == "streams") return driver.streams.size();
    if (asked == "workers") return driver.workers.size();
    if (asked == "graphs") return driver.graphs.size();
    if (asked == "executables") return driver.executables.size();
    return ~u64(0);
}

// How often a call was made since the reset.
u64 fake_calls(const char* call) {
    const std::lock_guard guard(driver.lock);
    return driver.calls[call];
}

// What the last kernel that failed did, as text that ends in a zero.
void fake_problem(char* text, u64 bytes) {
    const std::lock_guard guard(driver.lock);
    const u64 length = std::min<u64>(driver.problem.size(), bytes - 1);
    memcpy(text, driver.problem.data(), length);
    text[length] = 0;
}

}  // extern "C"
