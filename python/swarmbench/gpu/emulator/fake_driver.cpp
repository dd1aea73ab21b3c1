// The calls of the fake driver, as cuda.h declares them.
#include "fake_driver.h"

#include <cstring>

using namespace fake;

namespace {

constexpr int DRIVER_VERSION = 13000;
constexpr int GREATEST_PRIORITY = -5;
constexpr u32 BLOCK_THREADS_MAX = 1024;
constexpr u32 SHARED_BYTES_MAX = 227 << 10;
constexpr u32 COMPARISON_MAX = 3, WRITE_FLAGS_MAX = 1;
constexpr int CAN_USE_64_BIT_STREAM_MEM_OPS = 122;
// cuda.h's numbers: multiprocessors, time-out of kernels, priorities of streams, words.
const std::map<int, int> ATTRIBUTES = {
    {16, 2}, {17, 0}, {78, 1}, {CAN_USE_64_BIT_STREAM_MEM_OPS, 1}};

const std::map<int, const char*> NAMES = {
    {SUCCESS, "CUDA_SUCCESS"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
    {ECC_UNCORRECTABLE, "CUDA_ERROR_ECC_UNCORRECTABLE"},
    {NVLINK_UNCORRECTABLE, "CUDA_ERROR_NVLINK_UNCORRECTABLE"},
    {CONTAINED, "CUDA_ERROR_CONTAINED"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"},
    {ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE"},
    {NOT_READY, "CUDA_ERROR_NOT_READY"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"},
    {LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"},
    {LAUNCH_TIMEOUT, "CUDA_ERROR_LAUNCH_TIMEOUT"},
    {ASSERT, "CUDA_ERROR_ASSERT"},
    {HARDWARE_STACK_ERROR, "CUDA_ERROR_HARDWARE_STACK_ERROR"},
    {ILLEGAL_INSTRUCTION, "CUDA_ERROR_ILLEGAL_INSTRUCTION"},
    {MISALIGNED_ADDRESS, "CUDA_ERROR_MISALIGNED_ADDRESS"},
    {INVALID_ADDRESS_SPACE, "CUDA_ERROR_INVALID_ADDRESS_SPACE"},
    {INVALID_PC, "CUDA_ERROR_INVALID_PC"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED"},
    {TENSOR_MEMORY_LEAK, "CUDA_ERROR_TENSOR_MEMORY_LEAK"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED"},
    {STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
    {STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
    {STREAM_CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD"},
    {UNKNOWN, "CUDA_ERROR_UNKNOWN"},
};

// For calls that need no context.
int begun(const char* call) {
    if (const int code = counted(call, nullptr)) return code;
    const std::lock_guard guard(driver.lock);
    return driver.is_initialized ? SUCCESS : NOT_INITIALIZED;
}

// For calls that need the context of the calling thread, which may be lost.
int begun_in_context(const char* call) {
    if (const int code = counted(call, current)) return code;
    const std::lock_guard guard(driver.lock);
    if (!driver.is_initialized) return NOT_INITIALIZED;
    if (current == nullptr || current->retained == 0) return INVALID_CONTEXT;
    return current->lost;
}

StreamPointer stream_of(void* handle) {
    const std::lock_guard guard(driver.lock);
    const auto found = driver.streams.find(handle);
    return found == driver.streams.end() ? nullptr : found->second;
}

// For calls on a stream; sets `stream` where the code is 0.
int begun_on(const char* call, void* handle, StreamPointer* stream) {
    if (const int code = begun_in_context(call)) return code;
    *stream = stream_of(handle);
    if (*stream == nullptr) return INVALID_HANDLE;
    return (*stream)->context == current ? SUCCESS : INVALID_CONTEXT;
}

int attribute_of(int attribute, int* value) {
    const std::lock_guard guard(driver.lock);
    const auto planted = driver.attributes.find(attribute);
    const auto known = ATTRIBUTES.find(attribute);
    if (planted == driver.attributes.end() && known == ATTRIBUTES.end()) return INVALID_VALUE;
    *value = planted == driver.attributes.end() ? known->second : planted->second;
    return SUCCESS;
}

int word_command(const char* call, Command::Kind kind, void* handle, u64 address, u64 value,
                 u32 flags, u32 flags_max) {
    StreamPointer stream;
    if (const int code = begun_on(call, handle, &stream)) return code;
    int is_there = 0;
    if (const int code = attribute_of(CAN_USE_64_BIT_STREAM_MEM_OPS, &is_there)) return code;
    if (is_there == 0) return NOT_SUPPORTED;
    if (address == 0 || address % 8 != 0 || flags > flags_max) return INVALID_VALUE;
    enqueue(stream, {{kind, address, value, flags}});
    return SUCCESS;
}

template <class Handles>
void* made(Handles& handles, std::shared_ptr<const Commands> commands) {
    const std::lock_guard guard(driver.lock);
    void* const handle = new char;  // an address that no other handle has
    handles.emplace(handle, std::move(commands));
    return handle;
}

template <class Handles>
int unmade(Handles& handles, void* handle) {
    const std::lock_guard guard(driver.lock);
    if (handles.erase(handle) == 0) return INVALID_HANDLE;
    delete static_cast<char*>(handle);
    return SUCCESS;
}

}  // namespace

extern "C" {

int cuInit(unsigned flags) {
    if (const int code = counted("cuInit", nullptr)) return code;
    if (flags != 0) return INVALID_VALUE;
    const std::lock_guard guard(driver.lock);
    driver.is_initialized = true;
    return SUCCESS;
}

int cuDriverGetVersion(int* version) {
    if (const int code = counted("cuDriverGetVersion", nullptr)) return code;
    *version = DRIVER_VERSION;
    return SUCCESS;
}

int cuGetErrorName(int error, const char** name) {
    if (const int code = counted("cuGetErrorName", nullptr)) return code;
    const auto found = NAMES.find(error);
    *name = found == NAMES.end() ? nullptr : found->second;
    return found == NAMES.end() ? INVALID_VALUE : SUCCESS;
}

int cuDeviceGet(int* device, int ordinal) {
    if (const int code = begun("cuDeviceGet")) return code;
    if (ordinal < 0 || ordinal >= DEVICES) return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}

int cuDeviceGetAttribute(int* value, int attribute, int device) {
    if (const int code = begun("cuDeviceGetAttribute")) return code;
    if (device < 0 || device >= DEVICES) return INVALID_DEVICE;
    return attribute_of(attribute, value);
}

int cuDevicePrimaryCtxRetain(void** context, int device) {
    if (const int code = begun("cuDevicePrimaryCtxRetain")) return code;
    if (device < 0 || device >= DEVICES) return INVALID_DEVICE;
    const std::lock_guard guard(driver.lock);
    driver.contexts[device].retained += 1;
    *context = &driver.contexts[device];
    return SUCCESS;
}

// Gives back also where it fails, as what gives back does with the driver (so do those below).
int cuDevicePrimaryCtxRelease_v2(int device) {
    const int code = begun("cuDevicePrimaryCtxRelease_v2");
    if (device < 0 || device >= DEVICES) return INVALID_DEVICE;
    const std::lock_guard guard(driver.lock);
    if (driver.contexts[device].retained == 0) return INVALID_CONTEXT;
    driver.contexts[device].retained -= 1;
    return code;
}

int cuCtxSetCurrent(void* context) {
    if (const int code = begun("cuCtxSetCurrent")) return code;
    const std::lock_guard guard(driver.lock);
    for (Context& each : driver.contexts)
        if (&each == context && each.retained != 0) {
            current = &each;
            return SUCCESS;
        }
    return INVALID_CONTEXT;
}

int cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    if (const int code = begun_in_context("cuCtxGetStreamPriorityRange")) return code;
    *least = 0;
    *greatest = GREATEST_PRIORITY;
    return SUCCESS;
}

int cuStreamCreateWithPriority(void** handle, unsigned flags, int) {
    if (const int code = begun_in_context("cuStreamCreateWithPriority")) return code;
    if (flags > 1) return INVALID_VALUE;
    const auto stream = std::make_shared<Stream>(current);
    *handle = stream.get();
    const std::lock_guard guard(driver.lock);
    driver.streams.emplace(stream.get(), stream);
    driver.workers.push_back(stream);
    start(stream);
    return SUCCESS;
}

int cuStreamDestroy_v2(void* handle) {
    StreamPointer stream;
    const int code = begun_on("cuStreamDestroy_v2", handle, &stream);
    if (code == INVALID_CONTEXT || code == INVALID_HANDLE) return code;
    stream = stream_of(handle);
    if (stream == nullptr) return INVALID_HANDLE;
    {
        const std::lock_guard guard(driver.lock);
        driver.streams.erase(handle);
    }
    const std::lock_guard guard(stream->lock);
    stream->is_closing = true;
    stream->changed.notify_all();
    return code;
}

int cuStreamQuery(void* handle) {
    StreamPointer stream;
    if (const int code = begun_on("cuStreamQuery", handle, &stream)) return code;
    if (const int code = asked(stream)) return code;
    const std::lock_guard guard(stream->lock);
    if (!stream->queue.empty() || stream->is_busy) return NOT_READY;
    return stream->context->lost;
}

int cuStreamSynchronize(void* handle) {
    StreamPointer stream;
    if (const int code = begun_on("cuStreamSynchronize", handle, &stream)) return code;
    if (const int code = asked(stream)) return code;
    drain(*stream);
    return stream->context->lost;
}

int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                   void* handle, void** parameters, void** extra) {
    StreamPointer stream;
    if (const int code = begun_on("cuLaunchKernel", handle, &stream)) return code;
    const Function* found = nullptr;
    {
        const std::lock_guard guard(driver.lock);
        const auto known = driver.functions.find(function);
        if (known != driver.functions.end()) found = known->second.get();
    }
    if (found == nullptr) return INVALID_HANDLE;
    const u64 threads = u64(block_x) * block_y * block_z;
    if (u64(grid_x) * grid_y * grid_z == 0 || threads == 0 || extra != nullptr)
        return INVALID_VALUE;
    if (threads > BLOCK_THREADS_MAX || shared_bytes > SHARED_BYTES_MAX) return INVALID_VALUE;
    if (parameters == nullptr && !found->sizes.empty()) return INVALID_VALUE;
    Launch launch{found, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, {}};
    for (u64 index = 0; index < found->sizes.size(); ++index) {
        const u64 bytes = found->sizes[index], first = launch.words.size();
        launch.words.resize(first + (bytes + 7) / 8);
        memcpy(launch.words.data() + first, parameters[index], bytes);
    }
    Command command{Command::Kind::launch};
    command.launch = std::make_shared<const Launch>(std::move(launch));
    enqueue(stream, {command});
    return SUCCESS;
}

int cuMemsetD8Async(unsigned long long address, unsigned char byte, size_t bytes, void* handle) {
    StreamPointer stream;
    if (const int code = begun_on("cuMemsetD8Async", handle, &stream)) return code;
    if (address == 0) return INVALID_VALUE;
    enqueue(stream, {{Command::Kind::fill, address, byte, bytes}});
    return SUCCESS;
}

int cuMemcpyAsync(unsigned long long to, unsigned long long from, size_t bytes, void* handle) {
    StreamPointer stream;
    if (const int code = begun_on("cuMemcpyAsync", handle, &stream)) return code;
    if (to == 0 || from == 0) return INVALID_VALUE;
    enqueue(stream, {{Command::Kind::copy, to, from, bytes}});
    return SUCCESS;
}

int cuStreamWaitValue64_v2(void* handle, unsigned long long address, u64 value, unsigned flags) {
    return word_command("cuStreamWaitValue64_v2", Command::Kind::wait, handle, address, value,
                        flags, COMPARISON_MAX);
}

int cuStreamWriteValue64_v2(void* handle, unsigned long long address, u64 value, unsigned flags) {
    return word_command("cuStreamWriteValue64_v2", Command::Kind::write, handle, address, value,
                        flags, WRITE_FLAGS_MAX);
}

int cuStreamBeginCapture_v2(void* handle, int mode) {
    StreamPointer stream;
    if (const int code = begun_on("cuStreamBeginCapture_v2", handle, &stream)) return code;
    if (mode < 0 || mode > 2) return INVALID_VALUE;
    const std::lock_guard guard(stream->lock);
    if (stream->is_capturing) return ILLEGAL_STATE;
    stream->is_capturing = true;
    stream->is_invalid = false;
    stream->capturing_thread = std::this_thread::get_id();
    stream->captured.clear();
    return SUCCESS;
}

// Ends the capture also where it fails, but for a thread that did not begin it.
int cuStreamEndCapture(void* handle, void** graph) {
    *graph = nullptr;
    StreamPointer stream;
    const int code = begun_on("cuStreamEndCapture", handle, &stream);
    stream = stream_of(handle);
    if (stream == nullptr) return INVALID_HANDLE;
    auto commands = std::make_shared<Commands>();
    {
        const std::lock_guard guard(stream->lock);
        if (!stream->is_capturing) return ILLEGAL_STATE;
        if (stream->capturing_thread != std::this_thread::get_id())
            return STREAM_CAPTURE_WRONG_THREAD;
        stream->is_capturing = false;
        commands->swap(stream->captured);
        if (stream->is_invalid) return STREAM_CAPTURE_INVALIDATED;
    }
    if (code == SUCCESS) *graph = made(driver.graphs, commands);
    return code;
}

int cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long flags) {
    if (const int code = begun_in_context("cuGraphInstantiateWithFlags")) return code;
    if (flags != 0) return INVALID_VALUE;
    std::shared_ptr<const Commands> commands;
    {
        const std::lock_guard guard(driver.lock);
        const auto found = driver.graphs.find(graph);
        if (found == driver.graphs.end()) return INVALID_HANDLE;
        commands = found->second;
    }
    *executable = made(driver.executables, commands);
    return SUCCESS;
}

int cuGraphLaunch(void* executable, void* handle) {
    StreamPointer stream;
    if (const int code = begun_on("cuGraphLaunch", handle, &stream)) return code;
    std::shared_ptr<const Commands> commands;
    {
        const std::lock_guard guard(driver.lock);
        const auto found = driver.executables.find(executable);
        if (found == driver.executables.end()) return INVALID_HANDLE;
        commands = found->second;
    }
    enqueue(stream, *commands);
    return SUCCESS;
}

int cuGraphExecDestroy(void* executable) {
    const int code = begun("cuGraphExecDestroy");
    const int there = unmade(driver.executables, executable);
    return there == SUCCESS ? code : there;
}

int cuGraphDestroy(void* graph) {
    const int code = begun("cuGraphDestroy");
    const int there = unmade(driver.graphs, graph);
    return there == SUCCESS ? code : there;
}

}  // extern "C"
