// The `streaming` component, from a chunk to its frame: what it looks like, how wide its groups
// pack, and the packed words; an incompressible chunk is copied while its checksum is taken.
#include "streaming.cuh"

// Samples of a survey (`streaming/survey.rs`), and the bounds that decide by them.
constexpr u32 SAMPLES = 8, WIDTH_MAX = 20, PIECES = 16, PIECE_QUADS = 16, SAMPLE_BYTES = 4096;
constexpr u32 UNIFORM_MAX =
    u32((SAMPLE_BYTES + u64(SAMPLE_BYTES) * SAMPLE_BYTES / 256) * 106 / 100);

// Sum of the squared counts of sampled bytes, in all threads; the counters are those of a warp.
__device__ u32 squared_counts(const uint4* chunk, u32 groups) {
    __shared__ u32 counts[WARPS_MAX][256];
    __shared__ u32 parts[WARPS_MAX];
    const u32 warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    for (u32 value = lane(); value < 256; value += WARP) counts[warp][value] = 0;
    __syncwarp();
    for (u32 place = threadIdx.x; place < PIECES * PIECE_QUADS; place += blockDim.x) {
        const u32 stride = groups * (QUADS / PIECES);
        const uint4 quad = chunk[place / PIECE_QUADS * stride + place % PIECE_QUADS];
        const u32 words[4] = {quad.x, quad.y, quad.z, quad.w};
        for (u32 byte = 0; byte < 16; ++byte)
            atomicAdd(&counts[warp][words[byte / 4] >> 8 * (byte % 4) & 0xFF], 1u);
    }
    __syncthreads();
    u32 squares = 0;
    for (u32 value = threadIdx.x; value < 256; value += blockDim.x) {
        u32 count = 0;
        for (u32 other = 0; other < warps; ++other) count += counts[other][value];
        squares += count * count;
    }
    squares = warp_sum(squares);
    if (lane() == 0) parts[warp] = squares;
    __syncthreads();
    return warp_sum(lane() < warps ? parts[lane()] : 0u);
}

// Looks at samples of a chunk and chooses its codec; what was known of the last chunk is forgotten.
//
//   numeric         where 8 groups pack to 20 bits a word at most in the mean
//   incompressible  where sum(count[byte]^2) of 16 pieces of 256 bytes is that of uniform ones
//
// Work    20 KiB read. Bound by the latency of two loads.
// Launch  one block of 32 to 256 threads.
// Needs   chunks of whole groups, at least two; `choice` as the codecs' numbers, 0 for any.
// Checked against chunks.survey: exact.
extern "C" __global__ void __launch_bounds__(256)
    streaming_survey(const uint4* chunk, u32 groups, u32 choice, State* state) {
    __shared__ u32 widths[SAMPLES];
    const u32 warps = blockDim.x / WARP;
    bool is_numeric = false, is_incompressible = false;
    if (choice != PACK && groups >= SAMPLES) {
        for (u32 sample = threadIdx.x / WARP; sample < SAMPLES; sample += warps) {
            Quads quads;
            quads.load(chunk + u64(sample * groups / SAMPLES) * QUADS);
            const u32 width = quads.width(quads.first_word());
            if (lane() == 0) widths[sample] = width;
        }
        __syncthreads();
        is_numeric = warp_sum(lane() < SAMPLES ? widths[lane()] : 0u) <= WIDTH_MAX * SAMPLES;
    }
    if (choice != PACK && !is_numeric)
        is_incompressible = squared_counts(chunk, groups) <= UNIFORM_MAX;
    if (threadIdx.x > 0) return;
    u32 codec = choice == ZSTD ? ZSTD : LZ4;
    if (is_incompressible) codec = STORED;
    if (choice == PACK || (choice == 0 && is_numeric)) codec = PACK;
    state->codec = codec;
    state->is_shuffled = is_numeric && (codec == LZ4 || codec == ZSTD);
    state->problems = 0;
}

// Finishes a span: the blocks' places in the frame, the folded checksum, the header.
__device__ void conclude(const Span& span, u64 sequence, const u64* sums, u32* offsets, u8* frame,
                         State* state, uint4* tile) {
    u64* const room = reinterpret_cast<u64*>(tile);
    u32* const entries = reinterpret_cast<u32*>(room + blockDim.x);
    u32* const head = reinterpret_cast<u32*>(frame);
    const u32 blocks = span.blocks();
    u64 folded = span.first == 0 ? 0 : state->source_sum;
    u32 offset = span.first == 0 ? HEADER_BYTES + 4 * blocks : u32(state->length);
    for (u32 first = span.first; first < span.end(); first += blockDim.x) {
        const u32 here = min(blockDim.x, span.end() - first);
        __syncthreads();
        if (threadIdx.x < here) {
            room[threadIdx.x] = __ldcg(sums + first + threadIdx.x);
            entries[threadIdx.x] = __ldcg(head + HEADER_BYTES / 4 + first + threadIdx.x);
        }
        __syncthreads();
        for (u32 place = 0; threadIdx.x == 0 && place < here; ++place) {
            folded = folded_with(folded, room[place]);
            offsets[first + place] = offset | (entries[place] & IS_STORED);
            offset += entries[place] & ~IS_STORED;
        }
    }
    if (threadIdx.x > 0) return;
    state->source_sum = folded;
    state->length = offset;
    if (span.first == 0) {
        head[0] = MAGIC;
        // What is shuffled is a frame of the host's.
        head[1] = u32(state->codec) | blocks << 16;
        head[2] = u32(sequence);
        head[3] = u32(sequence >> 32);
        head[6] = span.groups * GROUP_BYTES;
        head[7] = span.block_groups * GROUP_BYTES;
    }
    if (span.end() == blocks) {
        head[4] = u32(folded);
        head[5] = u32(folded >> 32);
    }
}

// Measures the groups of blocks and takes the blocks' checksums; copies what is stored as it is.
//
//   width[g]  = bits of max(zigzag(word[i] - word[i - 1])) over the 512 words of group g
//   length[b] = 4 + groups + 64 * sum(width), or the block's own where that is not shorter
//   lane      = rotate_left(lane ^ word, 13) * prime, 64 lanes a block, folded in order
//
// Work    per group: 2048 bytes read, 4 written, or 2048 where it is stored; a multiplication a
//         word. Bound by memory; 64 lanes make a checksum, whose steps come one after the other (3
//         us for 96 KiB).
// Launch  a block per block of the chunk, of 64 to 256 threads, any grid; the blocks go on by
//         strides; 2048 bytes of shared memory a warp.
// Needs   blocks of whole groups; a frame whose first block is 16-byte aligned; spans of a chunk in
//         order on one stream.
// Checked against chunks.pack and chunks.folded_checksum: exact.
extern "C" __global__ void __launch_bounds__(256)
    streaming_measure(const uint4* chunk, u32 first, u32 count, u32 block_groups, u32 groups,
                      u32 is_forced, u64 sequence, u32* places, u64* sums, u32* offsets, u8* frame,
                      State* state) {
    DYNAMIC_SHARED(uint4, tile);
    __shared__ u32 widths[WARPS_MAX], lanes[LANES];
    const Span span = {first, count, block_groups, groups};
    const u32 warps = blockDim.x / WARP, warp = threadIdx.x / WARP, codec = u32(state->codec);
    const u32 table_bytes = 4 * span.blocks();
    u32* const table = reinterpret_cast<u32*>(frame + HEADER_BYTES);
    uint4* const bodies = reinterpret_cast<uint4*>(frame + HEADER_BYTES + table_bytes);
    for (u32 block = first + blockIdx.x; block < span.end(); block += gridDim.x) {
        const u32 begin = span.begin(block), size = span.size(block);
        Checksum checksum;
        checksum.begin();
        u32 rows = 0;
        Quads quads;
        if (warp < size) quads.load(chunk + u64(begin + warp) * QUADS);
        for (u32 round = 0; round < size; round += warps) {
            const u32 inner = round + warp, live = min(warps, size - round);
            const u64 quad_first = u64(begin + inner) * QUADS;
            if (inner < size) {
                quads.share(tile + warp * QUADS);
                if (codec == STORED) quads.store(bodies + quad_first);
                if (codec == PACK) {
                    const u32* words = reinterpret_cast<const u32*>(chunk + quad_first);
                    const u32 before = inner == 0 ? quads.first_word() : words[-1];
                    const u32 width = quads.width(before);
                    if (lane() == 0) widths[warp] = width;
                }
            }
            __syncthreads();
            if (codec == PACK) {
                const u32 theirs = lane() < live ? widths[lane()] : 0;
                const u32 below = rows + warp_sum(lane() < warp ? theirs : 0u);
                if (lane() == 0 && inner < size) places[begin + inner] = below << 6 | widths[warp];
                rows += warp_sum(theirs);
            }
            // On its way while the checksum is taken.
            if (inner + warps < size) quads.load(chunk + quad_first + warps * QUADS);
            checksum.absorb(tile, live);
            __syncthreads();
        }
        const u32 packed = 4 + size + 64 * rows, plain = size * GROUP_BYTES;
        const u64 sum = checksum.finish(lanes, plain);
        if (threadIdx.x == 0) {
            sums[block] = sum;
            const bool is_packed = codec == PACK && (is_forced || packed < plain);
            table[block] = is_packed ? packed : plain | IS_STORED;
        }
    }
    if (is_last(state, widths)) conclude(span, sequence, sums, offsets, frame, state, tile);
}

// Packs one group by a warp: a thread has 16 rows of a column, lower half or upper.
__device__ __forceinline__ void pack_group(const u32* words, u32 before, u32 width, u8* packed,
                                           bool is_aligned) {
    const u32 column = lane() % COLUMNS, half = lane() / COLUMNS;
    u32 row_words[ROWS / 2];
#pragma unroll
    for (u32 row = 0; row < ROWS / 2; ++row)
        row_words[row] = words[(half * (ROWS / 2) + row) * COLUMNS + column];
    // The word before a half's first, which stands in the lower half's last row.
    const u32 between = __shfl_sync(FULL, row_words[ROWS / 2 - 1], COLUMNS - 1);
    u32 left = half == 0 ? before : between;
    const u32 first_bit = half * (ROWS / 2) * width;
    u32 filled = first_bit % 32, place = first_bit / 32, pending = 0, held = 0;
    const bool is_shared = width % 2 == 1;
#pragma unroll
    for (u32 row = 0; row < ROWS / 2; ++row) {
        const u32 beside = __shfl_up_sync(FULL, row_words[row], 1, COLUMNS);
        const u32 code = zigzag(row_words[row] - (column == 0 ? left : beside));
        left = __shfl_sync(FULL, row_words[row], COLUMNS - 1, COLUMNS);
        pending |= code << filled;
        filled += width;
        if (filled < 32) continue;
        filled -= 32;
        // Halves of an odd width meet in the middle of a word.
        if (is_shared && half == 1 && place == first_bit / 32) held = pending;
        else store_word(packed + 4 * (place * COLUMNS + column), pending, is_aligned);
        const u32 taken = width - filled;
        pending = taken < 32 ? code >> taken : 0;
        ++place;
    }
    const u32 lower = __shfl_xor_sync(FULL, pending, COLUMNS);
    if (is_shared && half == 1)
        store_word(packed + 4 * (first_bit / 32 * COLUMNS + column), held | lower, is_aligned);
}

// Writes the packed groups of blocks to their places in the frame.
//
//   block = first word, a width per group, then per group and column the 32 codes, each in `width`
//           bits, lowest first; a block that packing would not shorten as it is
//
// Work    per group: 2048 bytes read, which mostly are in the L2 cache since they were measured,
//         and 64 * width written. Bound by memory, then by shuffles (34 a group).
// Launch  a warp per group, blocks of 32 to 256 threads, any grid; the warps go on by strides.
// Needs   what streaming_measure wrote for the same span.
// Checked against chunks.pack: exact.
extern "C" __global__ void __launch_bounds__(256)
    streaming_pack(const u32* chunk, u32 first, u32 count, u32 block_groups, u32 groups,
                   const u32* places, const u32* offsets, u8* frame, const State* state) {
    if (state->codec != PACK) return;
    const Span span = {first, count, block_groups, groups};
    const u32 warps = blockDim.x / WARP, end = min(span.end() * block_groups, groups);
    u32 group = first * block_groups + blockIdx.x * warps + threadIdx.x / WARP;
    for (; group < end; group += gridDim.x * warps) {
        const u32 block = group / block_groups, inner = group % block_groups;
        const u32* words = chunk + u64(group) * GROUP;
        const u32 offset = offsets[block], place = places[group];
        u8* const target = frame + (offset & ~IS_STORED);
        if (offset & IS_STORED) {
            u8* const plain = target + inner * GROUP_BYTES;
            const bool is_aligned = offset % 4 == 0;
            for (u32 at = lane(); at < GROUP; at += WARP)
                store_word(plain + 4 * at, words[at], is_aligned);
            continue;
        }
        const u32 before = inner == 0 ? words[0] : words[-1];
        u8* const widths = target + 4;
        u8* const packed = widths + span.size(block);
        const bool is_aligned = (offset + span.size(block)) % 4 == 0;
        if (lane() == 0) {
            widths[inner] = u8(place & 63);
            if (inner == 0) store_word(target, words[0], offset % 4 == 0);
        }
        pack_group(words, before, place & 63, packed + 64 * (place >> 6), is_aligned);
    }
}
