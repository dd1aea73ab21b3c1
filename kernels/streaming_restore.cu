// The `streaming` component, from a frame back to its chunk: unpacked, checked and delivered under
// its number.
#include "streaming.cuh"

// What the checks of a block's threads found, the same in all of them.
struct Block {
    const u8* bytes;
    u32 length, size;
    bool is_stored, is_whole;
};

__device__ __forceinline__ bool is_header(const u32* head, const Span& span) {
    const u32 codec = head[1] & 0xFF, shuffled = head[1] >> 8 & 0xFF;
    return head[0] == MAGIC && codec <= PACK && (shuffled == 0) &&
           head[1] >> 16 == span.blocks() && head[6] == span.groups * GROUP_BYTES &&
           head[7] == span.block_groups * GROUP_BYTES;
}

// Finds a block by the lengths of those before it; all threads come and meet before they come
// again, `room` has a word a warp.
__device__ __forceinline__ Block found(const u8* frame, u32 frame_bytes, const Span& span,
                                       u32 block, u32* room) {
    const u32* head = reinterpret_cast<const u32*>(frame);
    const u32* table = head + HEADER_BYTES / 4;
    u32 before = 0;
    for (u32 place = threadIdx.x; place < block; place += blockDim.x)
        before += table[place] & ~IS_STORED;
    before = warp_sum(before);
    if (lane() == 0) room[threadIdx.x / WARP] = before;
    __syncthreads();
    before = warp_sum(lane() < blockDim.x / WARP ? room[lane()] : 0u);
    const u32 entry = table[block], first = HEADER_BYTES + 4 * span.blocks();
    Block here = {frame + first + before, entry & ~IS_STORED, span.size(block), false, false};
    here.is_stored = (entry & IS_STORED) != 0;
    const u64 end = u64(first) + before + here.length;
    const u32 plain = here.size * GROUP_BYTES;
    here.is_whole = end <= frame_bytes && (block + 1 < span.blocks() || end == frame_bytes) &&
                    before % 2 == 0 && here.length % 2 == 0;
    if (here.is_stored) here.is_whole = here.is_whole && here.length == plain;
    else here.is_whole = here.is_whole && here.length >= 4 + here.size && (head[1] & 0xFF) == PACK;
    return here;
}

// Leaves the differences of a packed group in shared memory, in the places of its words.
__device__ __forceinline__ void unpack_group(const u8* packed, u32 width, bool is_aligned,
                                             uint4* tile) {
    u32* const staged = reinterpret_cast<u32*>(tile);
    const u32 column = lane() % COLUMNS, half = lane() / COLUMNS;
    const u32 mask = width == 0 ? 0 : 0xFFFFFFFFu >> (32 - width);
#pragma unroll 4
    for (u32 at = lane(); at < width * COLUMNS; at += WARP)
        staged[at] = load_word(packed + 4 * at, is_aligned);
    __syncwarp();
    u32 differences[ROWS / 2];
#pragma unroll
    for (u32 row = 0; row < ROWS / 2; ++row) {
        const u32 bit = (half * (ROWS / 2) + row) * width, shift = bit % 32;
        const u32 at = bit / 32 * COLUMNS + column;
        u32 code = width == 0 ? 0 : staged[at] >> shift;
        if (shift + width > 32) code |= staged[at + COLUMNS] << (32 - shift);
        differences[row] = unzigzag(code & mask);
    }
    __syncwarp();
#pragma unroll
    for (u32 row = 0; row < ROWS / 2; ++row)
        staged[word_place(half * (ROWS / 2) + row, column)] = differences[row];
    __syncwarp();
}

// Sum of the differences in the rows before this lane's; `total` is that of the whole group.
__device__ __forceinline__ u32 sum_before(const uint4* tile, u32* total) {
    u32 sum = 0;
#pragma unroll
    for (u32 quad = 0; quad < 4; ++quad) {
        const uint4 here = tile[quad_place(lane(), quad)];
        sum += here.x + here.y + here.z + here.w;
    }
    return warp_scan_exclusive(sum, total);
}

// Turns the differences in this lane's row into words, of which `word` came before.
__device__ __forceinline__ void sum_up(uint4* tile, u32 word) {
#pragma unroll
    for (u32 quad = 0; quad < 4; ++quad) {
        uint4 here = tile[quad_place(lane(), quad)];
        here.x += word;
        here.y += here.x;
        here.z += here.y;
        here.w += here.z;
        word = here.w;
        tile[quad_place(lane(), quad)] = here;
    }
}

// Copies a stored group to shared memory.
__device__ __forceinline__ void share_stored(const u8* plain, uint4* tile, bool is_quad_aligned) {
    if (is_quad_aligned) {
        Quads quads;
        quads.load(reinterpret_cast<const uint4*>(plain));
        quads.share(tile);
        return;
    }
    u32* const words = reinterpret_cast<u32*>(tile);
    const bool is_aligned = reinterpret_cast<u64>(plain) % 4 == 0;
#pragma unroll 4
    for (u32 at = lane(); at < GROUP; at += WARP)
        words[word_place(at / COLUMNS, at % COLUMNS)] = load_word(plain + 4 * at, is_aligned);
}

// Restores a block to `target` and returns its checksum in thread 0; false in `is_whole` where its
// widths contradict its length.
__device__ u64 restore(Block* here, uint4* target, uint4* tile) {
    __shared__ u32 totals[WARPS_MAX], lanes[LANES];
    const u32 warps = blockDim.x / WARP, warp = threadIdx.x / WARP, size = here->size;
    const u8* widths = here->bytes + 4;
    const u8* packed = widths + size;
    const bool is_quad_aligned = reinterpret_cast<u64>(here->bytes) % 16 == 0;
    const bool is_aligned = reinterpret_cast<u64>(packed) % 4 == 0;
    uint4* const mine = tile + warp * QUADS;
    Checksum checksum;
    checksum.begin();
    u32 rows = 0;
    u32 carry = here->is_stored
                    ? 0
                    : load_word(here->bytes, reinterpret_cast<u64>(here->bytes) % 4 == 0);
    for (u32 round = 0; round < size; round += warps) {
        const u32 inner = round + warp, live = min(warps, size - round);
        u32 total = 0, above = 0;
        if (here->is_stored) {
            const u8* plain = here->bytes + inner * GROUP_BYTES;
            if (inner < size) share_stored(plain, mine, is_quad_aligned);
        } else {
            const u32 theirs = lane() < live ? widths[round + lane()] : 0;
            const u32 below = rows + warp_sum(lane() < warp ? theirs : 0u);
            const u32 width = __shfl_sync(FULL, theirs, warp);
            rows += warp_sum(theirs);
            // Every warp sees the same widths, so all of them leave.
            here->is_whole = __all_sync(FULL, theirs <= 32) && 4 + size + 64 * rows <= here->length;
            if (!here->is_whole) return 0;
            if (inner < size) {
                unpack_group(packed + 64 * below, width, is_aligned, mine);
                above = sum_before(mine, &total);
            }
            if (lane() == 0) totals[warp] = total;
            __syncthreads();
            const u32 sums = lane() < live ? totals[lane()] : 0;
            const u32 before = carry + warp_sum(lane() < warp ? sums : 0u);
            carry += warp_sum(sums);
            if (inner < size) sum_up(mine, before + above);
        }
        __syncthreads();
        for (u32 at = threadIdx.x; at < live * QUADS; at += blockDim.x)
            target[u64(round) * QUADS + at] = tile[quad_place(at / 4, at % 4)];
        checksum.absorb(tile, live);
        __syncthreads();
    }
    here->is_whole = here->is_stored || 4 + size + 64 * rows == here->length;
    return checksum.finish(lanes, u64(size) * GROUP_BYTES);
}

// Restores the blocks of a frame, checks them and delivers the chunk under its number.
//
//   word[i] = word[i - 1] + unzigzag(code[i]); checksum(chunk) = the header's
//
// Work    per group: 64 * width bytes read, or 2048 of a stored one, and 2048 written; a
//         multiplication a word. Bound by memory; in shared memory a word is written three times
//         and read five times.
// Launch  a block per block of the chunk, of 64 to 256 threads, any grid; the blocks go on by
//         strides; 2048 bytes of shared memory a warp.
// Needs   a frame whose start is 4-byte aligned and that is as long as `frame_bytes`, or as the
//         state says where that is 0; spans of a chunk in order on one stream.
// Checked against chunks.unpack, and frames of the CPU's backend: exact; a frame that contradicts
//         itself is a problem in the state and no access outside of it.
extern "C" __global__ void __launch_bounds__(256, 3)
    streaming_restore(const u8* frame, u32 frame_bytes, u32 first, u32 count, u32 block_groups,
                      u32 groups, u32 delivers, u64* sums, State* state, uint4* chunk) {
    DYNAMIC_SHARED(uint4, tile);
    __shared__ u32 room[WARPS_MAX];
    const Span span = {first, count, block_groups, groups};
    const u32* head = reinterpret_cast<const u32*>(frame);
    const u32 codec = head[1] & 0xFF;
    const u64 sequence = head[2] | u64(head[3]) << 32;
    const bool is_ours = codec != LZ4 && codec != ZSTD, is_whole = is_ours && is_header(head, span);
    const u32 end = frame_bytes > 0 ? frame_bytes : u32(state->length);
    for (u32 block = first + blockIdx.x; is_whole && block < span.end(); block += gridDim.x) {
        // A span's end is the frame's only where it is the last.
        Block here = found(frame, end, span, block, room);
        u64 sum = 0;
        if (here.is_whole) sum = restore(&here, chunk + u64(span.begin(block)) * QUADS, tile);
        if (threadIdx.x == 0) {
            sums[block] = sum;
            if (!here.is_whole) atomicOr(&state->problems, BAD_BLOCK);
        }
        __syncthreads();
    }
    if (!is_last(state, room)) return;
    const u64 before = first == 0 ? 0 : state->restored_sum;
    const u64 folded =
        is_whole ? folded_sums(before, sums + first, count, reinterpret_cast<u64*>(tile)) : 0;
    if (threadIdx.x > 0) return;
    u64 problems = atomicOr(&state->problems, u64(0));
    if (!is_whole) problems |= is_ours ? BAD_HEADER : FOREIGN;
    if (span.end() == span.blocks() && problems == 0) {
        if (folded != (head[4] | u64(head[5]) << 32)) problems = BAD_CHECKSUM;
        else if (delivers) deliver(state, sequence);
    }
    state->restored_sum = folded;
    state->problems = problems;
    state->sequence = sequence;
}

// Takes the checksum of a chunk, and delivers one that the host restored.
//
//   checksum = the blocks' checksums, folded in order
//
// Work    per group: 2048 bytes read, a multiplication a word. Bound by memory.
// Launch  a block per block of the chunk, of 64 to 256 threads, any grid; the blocks go on by
//         strides; 2048 bytes of shared memory a warp.
// Needs   blocks of whole groups; where it delivers, the source's checksum in the state.
// Checked against chunks.folded_checksum: exact.
extern "C" __global__ void __launch_bounds__(256)
    streaming_checksum(const uint4* chunk, u32 block_groups, u32 groups, u32 delivers, u64 sequence,
                       u64* sums, State* state) {
    DYNAMIC_SHARED(uint4, tile);
    __shared__ u32 lanes[LANES];
    const Span span = {0, (groups + block_groups - 1) / block_groups, block_groups, groups};
    const u32 warps = blockDim.x / WARP, warp = threadIdx.x / WARP;
    for (u32 block = blockIdx.x; block < span.count; block += gridDim.x) {
        const uint4* here = chunk + u64(span.begin(block)) * QUADS;
        const u32 size = span.size(block);
        Checksum checksum;
        checksum.begin();
        Quads quads;
        if (warp < size) quads.load(here + warp * QUADS);
        for (u32 round = 0; round < size; round += warps) {
            const u32 inner = round + warp;
            if (inner < size) quads.share(tile + warp * QUADS);
            __syncthreads();
            if (inner + warps < size) quads.load(here + u64(inner + warps) * QUADS);
            checksum.absorb(tile, min(warps, size - round));
            __syncthreads();
        }
        const u64 sum = checksum.finish(lanes, u64(size) * GROUP_BYTES);
        if (threadIdx.x == 0) sums[block] = sum;
    }
    if (!is_last(state, lanes)) return;
    const u64 folded = folded_sums(0, sums, span.count, reinterpret_cast<u64*>(tile));
    if (threadIdx.x > 0) return;
    state->restored_sum = folded;
    if (!delivers) return;
    state->problems = folded == state->source_sum ? 0 : BAD_CHECKSUM;
    if (folded == state->source_sum) deliver(state, sequence);
}
