// What a traced build sees of every access; in the other builds nothing.
#pragma once

namespace host_cuda::tracing {

// Device memory that a launch may touch.
struct Region {
    const char* first;
    u64 bytes;
};

// Bytes by what they were: asked for by threads, and different ones of device memory; and the
// arithmetic that counts.
struct Counts {
    u64 read_bytes, written_bytes, distinct_read_bytes, distinct_written_bytes;
    u64 shared_read_bytes, shared_written_bytes, atomics;
    u64 arithmetic[ARITHMETIC];
};

#if defined(HOST_CUDA_TRACED)
void begin(const Region* regions, u32 count, const char* dynamic, u64 dynamic_bytes,
           const char* shared_first, const char* shared_last);
void end(Counts* counts);
void block(u64 number, u32 threads);
void running(u32 thread, const char* stack_first, const char* stack_last);
void barrier();
void exchange(u32 warp, u32 present, bool orders);
void fence();
void access(const void* place, u64 bytes, bool is_write, bool is_atomic);
#else
inline void begin(const Region*, u32, const char*, u64, const char*, const char*) {}
inline void end(Counts*) {}
inline void block(u64, u32) {}
inline void running(u32, const char*, const char*) {}
inline void barrier() {}
inline void exchange(u32, u32, bool) {}
inline void fence() {}
inline void access(const void*, u64, bool, bool) {}
#endif

}  // namespace host_cuda::tracing
