// Templates of literals and variables, expanded to bytes: sizes first, then the bytes.
#include "synthesis.cuh"

// Variables that an instance binds, a byte of a use each.
constexpr u32 VARIABLES = 4;
// The variable of a part that ends with its literal.
constexpr u32 NO_VARIABLE = 255;
// Bytes put together in shared memory before they are written in full lines.
constexpr u32 WINDOW = 8192;
// Lanes that copy one instance: a literal or a text has about as many bytes.
constexpr u32 COPIERS = 16;

// Bytes of an instance; `is_bound` says whether its template is there, and a text for every
// variable that it uses. A shape: x, y its parts, z bytes of its literals, w uses of its variables.
__device__ __forceinline__ u32 size_of(const uint4* shapes, u32 templates, const uint2* texts,
                                       u32 text_count, u32 number, uint4 bound, bool* is_bound) {
    *is_bound = number < templates;
    if (!*is_bound) return 0;
    const uint4 shape = shapes[number];
    const u32 chosen[VARIABLES] = {bound.x, bound.y, bound.z, bound.w};
    u32 size = shape.z;
#pragma unroll
    for (u32 variable = 0; variable < VARIABLES; ++variable) {
        const u32 uses = shape.w >> 8 * variable & 0xFF;
        if (uses == 0) continue;
        const bool is_there = chosen[variable] < text_count;
        *is_bound &= is_there;
        if (is_there) size += uses * texts[chosen[variable]].y;
    }
    return size;
}

// The bytes of one instance that fall into a window of the output, by COPIERS lanes.
struct Copier {
    u8* window;
    u32 sublane;
    u32 at;  // of the next byte, from the start of the window on; before it, below zero

    __device__ __forceinline__ void copy(const u8* source, u32 length) {
        for (u32 byte = sublane; byte < length; byte += COPIERS)
            if (at + byte < WINDOW) window[at + byte] = source[byte];
        at += length;
    }
};

// Writes bytes [first, end) of the output from a window that starts with byte `start`, a multiple
// of 16: whole lines of 16 where all of one is there.
__device__ __forceinline__ void flush(const u8* window, u64 start, u64 first, u64 end, u8* bytes) {
    const uint4* lines = reinterpret_cast<const uint4*>(window);
    for (u32 line = threadIdx.x; start + 16 * line < end; line += blockDim.x) {
        const u64 from = start + 16 * line;
        if (from >= first && from + 16 <= end) {
            store_streaming(reinterpret_cast<uint4*>(bytes + from), lines[line]);
            continue;
        }
        for (u64 at = max(from, first); at < min(from + 16, end); ++at)
            bytes[at] = window[at - start];
    }
}

// Sizes of all instances: how many bytes the expansion has, and whether something is unbound.
//
//   size[i]         = literals of template[i] + texts bound to its variables
//   answer[TOTAL]   = sum of size
//   answer[PROBLEM] = first i with a template or, of a variable that it uses, a text that there is
//                     not; all ones where there is none
//
// Work    per instance 20 bytes read; shapes and lengths of texts come from the caches. Bound by
//         the latency of these.
// Launch  a thread an instance; any grid; blocks of whole warps. Shared memory: 8 * 34 bytes.
//         `expand_write` follows with the same grid and block.
// Needs   uses of a variable up to 255, as in the shape; answer[DONE] = 0 and answer[PROBLEM] all
//         ones.
// Checked against Synthesis.reference: exact, no tolerance.
extern "C" __global__ void expand_measure(const u32* __restrict__ numbers,
                                          const uint4* __restrict__ bindings, u32 instances,
                                          const uint4* __restrict__ shapes, u32 templates,
                                          const uint2* __restrict__ texts, u32 text_count,
                                          u64* starts, u64* answer) {
    DYNAMIC_SHARED(u64, sums);
    const Run run = run_of((instances + blockDim.x - 1) / blockDim.x);
    u64 size = 0, problem = ~u64(0);
    for (u32 tile = run.first; tile < run.end; ++tile) {
        const u32 instance = tile * blockDim.x + threadIdx.x;
        if (instance >= instances) break;
        bool is_bound;
        size += size_of(shapes, templates, texts, text_count, load_streaming(numbers + instance),
                        load_streaming(bindings + instance), &is_bound);
        if (!is_bound) problem = min(problem, u64(instance));
    }
    if (problem != ~u64(0)) atomicMin(answer + PROBLEM, problem);
    publish(size, starts, answer, sums);
}

// Writes the bytes of all instances, and where each one's start.
//
//   bytes[offsets[i] .. offsets[i + 1]) = for each part of template[i]: its literal, then the text
//                                         that its variable is bound to
//
// Work    per instance 20 bytes read, its size and 4 bytes written (105 bytes of text on average);
//         parts, literals and texts come from the caches. Bound by the memory's writes.
// Launch  a tile of block / 4 instances, COPIERS lanes each in turn; grid and block of
//         `expand_measure`, after it. Shared memory: 8 * 34 + 4 * (block / 4 + 4) + WINDOW bytes.
// Needs   `bytes` at a multiple of 16; `starts` and `answer` as `expand_measure` left them; nothing
//         is written where that found a problem or more than `room` bytes.
// Checked against Synthesis.reference: exact, no tolerance.
extern "C" __global__ void expand_write(
    const u32* __restrict__ numbers, const uint4* __restrict__ bindings, u32 instances,
    const uint4* __restrict__ shapes, u32 templates, const uint2* __restrict__ parts,
    const u8* __restrict__ literals, const uint2* __restrict__ texts, u32 text_count,
    const u8* __restrict__ letters, const u64* __restrict__ starts,
    const u64* __restrict__ answer, u32 room, u8* __restrict__ bytes,
    u32* __restrict__ offsets) {
    if (answer[PROBLEM] != ~u64(0) || answer[TOTAL] > room) return;
    DYNAMIC_SHARED(u64, sums);
    const u32 tile_size = blockDim.x / 4;
    // Where the tile's instances start, and the last one ends.
    u32* const places = reinterpret_cast<u32*>(sums + SUMS);
    u8* const window = reinterpret_cast<u8*>(places + (tile_size + 4) / 4 * 4);
    const u32 copier = threadIdx.x / COPIERS, copiers = blockDim.x / COPIERS;

    // The blocks' runs are those of `expand_measure`, in tiles of a quarter of its size.
    const Run run = run_of((instances + blockDim.x - 1) / blockDim.x);
    const u32 last = min(run.end * blockDim.x, instances);
    u64 written = starts[blockIdx.x], total;
    for (u32 first = run.first * blockDim.x; first < last; first += tile_size) {
        const u32 count = min(tile_size, last - first), own = first + threadIdx.x;
        u32 size = 0;
        bool is_bound;
        if (threadIdx.x < count)
            size = size_of(shapes, templates, texts, text_count, numbers[own], bindings[own],
                           &is_bound);
        const u32 before = u32(block_prefix(size, sums, &total));
        if (threadIdx.x < count) {
            places[threadIdx.x] = before;
            offsets[own] = u32(written) + before;
        }
        if (threadIdx.x == 0) places[count] = u32(total);
        const u64 end = written + total;
        for (u64 start = written / 16 * 16; start < end; start += WINDOW) {
            __syncthreads();  // places are there; the last window was written
            for (u32 turn = copier; turn < count; turn += copiers) {
                if (written + places[turn + 1] <= start) continue;
                if (written + places[turn] >= start + WINDOW) break;
                const u32 instance = first + turn;
                const uint4 shape = shapes[numbers[instance]];
                const u32* bound = reinterpret_cast<const u32*>(bindings + instance);
                Copier copying{window, threadIdx.x % COPIERS,
                               u32(written + places[turn] - start)};
                for (u32 at = shape.x; at < shape.y; ++at) {
                    const uint2 part = parts[at];  // x start of its literal; y its length, variable
                    copying.copy(literals + part.x, part.y & 0xFFFF);
                    if (part.y >> 16 == NO_VARIABLE) continue;
                    const uint2 text = texts[bound[part.y >> 16]];
                    copying.copy(letters + text.x, text.y);
                }
            }
            __syncthreads();
            flush(window, start, max(written, start), min(end, start + WINDOW), bytes);
        }
        written = end;
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) offsets[instances] = u32(answer[TOTAL]);
}
