// Embeddings on the device, made once before a run: their rows by seed, and the two 4-bit planes
// of their codes that searches read.
//
// A tile is 32 vectors, one per lane of a warp. A plane holds, tile after tile and 32 dimensions
// after 32 (padded with the value 0), 16 bytes of each lane's vector: every 32-bit word has four
// dimensions in the low halves of its bytes and the next four in the high halves.
#include "knowledge_graph_search.cuh"

// A code of which only the high half is known is 16 high - 120.5, in steps of the tile's scale.
constexpr f64 OFFSET = 128.0, HIGH_OFFSET = 120.5;

// Rows: the vectors of a run of places, as they are searched.
//
//   x[d] = (noise(id)[d] + noise(cluster)[d]) / 65536,  cluster = scaled(w0(id), clusters)
//   fp16: rounded to half precision; int8: nearest(x[d] 32 sqrt(dims) / |x|) within ±127
//
// Work    per vector: dims / 2 Philox blocks, 4 bytes written per component (and 2 in fp16).
//         Bound by arithmetic; done once.
// Launch  a warp per place, in strides: any grid, block = 256 (any multiple of 32).
// Needs   dims a multiple of 8; rows 16-byte aligned; `given` rows by id, or is_given = 0.
// Checked against embeddings.vectors: exact, no tolerance.
extern "C" __global__ void embed_vectors(const u32* __restrict__ ids, u32 first, u32 count,
                                         u32 dims, u32 clusters, u32 vectors0, u32 vectors1,
                                         u32 centres0, u32 centres1,
                                         const float4* __restrict__ given, u32 is_given,
                                         float4* __restrict__ rows, ushort4* __restrict__ halves) {
    const u32 blocks = dims / 4;
    for (u32 number = warp_number(); number < count; number += warp_count()) {
        const u32 id = ids[first + number];
        const u32 draw = philox({0, id, 0, 1}, vectors0, vectors1).x;
        const u32 cluster = scaled(draw, clusters);
        float4* row = rows + u64(number) * blocks;
        f64 squares = 0;
        for (u32 block = lane(); block < blocks; block += WARP) {
            float4 value;
            if (is_given) {
                value = id == NONE ? make_float4(0, 0, 0, 0) : given[u64(id) * blocks + block];
            } else {
                const int4 own = noise(block, id, 0, 0, vectors0, vectors1);
                const int4 centre = noise(block, cluster, 0, 0, centres0, centres1);
                const f32 unit = 1.0f / 65536.0f;
                value = make_float4(f32(own.x + centre.x) * unit, f32(own.y + centre.y) * unit,
                                    f32(own.z + centre.z) * unit, f32(own.w + centre.w) * unit);
            }
#if STORAGE == 1
            const f32 most = 65504.0f;
            const ushort4 half = {float_to_half(min(max(value.x, -most), most)),
                                  float_to_half(min(max(value.y, -most), most)),
                                  float_to_half(min(max(value.z, -most), most)),
                                  float_to_half(min(max(value.w, -most), most))};
            halves[u64(first + number) * blocks + block] = half;
            value = make_float4(half_to_float(half.x), half_to_float(half.y),
                                half_to_float(half.z), half_to_float(half.w));
#endif
            squares += f64(value.x) * value.x + f64(value.y) * value.y;
            squares += f64(value.z) * value.z + f64(value.w) * value.w;
            row[block] = value;
        }
#if STORAGE == 2
        const f64 norm = sqrt(warp_sum(squares));
        const f64 factor = norm > 0 ? 32.0 * sqrt(f64(dims)) / norm : 0.0;
        if (norm == 0) continue;
        for (u32 block = lane(); block < blocks; block += WARP) {
            const float4 value = row[block];
            row[block] = make_float4(f32(min(max(rint(value.x * factor), -127.0), 127.0)),
                                     f32(min(max(rint(value.y * factor), -127.0), 127.0)),
                                     f32(min(max(rint(value.z * factor), -127.0), 127.0)),
                                     f32(min(max(rint(value.w * factor), -127.0), 127.0)));
        }
#endif
    }
}

// The code byte of a component, from 1 to 255; 128 stands for 0.
__device__ __forceinline__ u32 code_of(f32 value, f64 inverse_norm, f64 scale) {
#if STORAGE == 2
    return u32(i32(value) + 128);
#else
    return u32(i32(min(max(rint(value * inverse_norm / scale), -127.0), 127.0)) + 128);
#endif
}

// Codes: both planes of a run of tiles, and how a tile's codes stand to its unit vectors.
//
//   code = nearest(x / |x| / scale) + 128, scale = the tile's largest component / 127
//   (int8: code = x + 128, scale = the middle of the tile's longest and shortest 1 / |x|)
//   spans[tile] = 1 / scale, longest |x / |x| - scale (16 (code / 16) - 120.5)|, longest
//   |x / |x| - scale (code - 128)|, scale; both lengths rounded up
//
// Work    per vector: 12 bytes read and 1 written per component. Bound by memory; done once.
// Launch  one warp per tile: grid = ceil(tiles / 8), block = 256 (any multiple of 32).
// Needs   rows of all places of the run, zeros where there is no vector; dims a multiple of 8.
// Checked against embeddings.search through semantic_search: exact, no tolerance.
extern "C" __global__ void encode_vectors(const f32* __restrict__ rows, u32 first_tile, u32 tiles,
                                          u32 dims, uint4* __restrict__ high,
                                          uint4* __restrict__ low, float4* __restrict__ spans) {
    if (warp_number() >= tiles) return;
    const u32 tile = first_tile + warp_number();
    const f32* row = rows + (u64(warp_number()) * WARP + lane()) * dims;
    f64 squares = 0;
    f32 peak = 0;
    for (u32 dim = 0; dim < dims; ++dim) {
        squares += f64(row[dim]) * row[dim];
        peak = max(peak, fabsf(row[dim]));
    }
    const f64 norm = sqrt(squares), inverse_norm = norm > 0 ? 1.0 / norm : 0.0;
#if STORAGE == 2
    const f64 most = warp_max(inverse_norm);
    const f64 least = warp_min(norm > 0 ? inverse_norm : most);
    f32 scale = f32(0.5 * most + 0.5 * least);
#else
    f32 scale = f32(warp_max(peak * inverse_norm) / 127.0);
#endif
    if (!(scale > 0)) scale = 1;
    f64 lost_high = 0, lost = 0;
    const u32 groups = (dims + GROUP - 1) / GROUP;
    for (u32 group = 0; group < groups; ++group) {
        u32 upper[4], lower[4];
#pragma unroll
        for (u32 word = 0; word < 4; ++word) {
            upper[word] = lower[word] = 0;
            for (u32 byte = 0; byte < 8; ++byte) {
                const u32 dim = group * GROUP + 8 * word + byte;
                const f32 value = dim < dims ? row[dim] : 0;
                const u32 code = code_of(value, inverse_norm, scale);
                upper[word] |= (code >> 4) << (8 * (byte % 4) + byte / 4 * 4);
                lower[word] |= (code & 15) << (8 * (byte % 4) + byte / 4 * 4);
                if (dim >= dims) continue;
                const f64 unit = value * inverse_norm;
                const f64 apart_high = unit - scale * (f64(code & 0xF0) - HIGH_OFFSET);
                const f64 apart = unit - scale * (f64(code) - OFFSET);
                lost_high += apart_high * apart_high;
                lost += apart * apart;
            }
        }
        const u64 place = (u64(tile) * groups + group) * WARP + lane();
        high[place] = make_uint4(upper[0], upper[1], upper[2], upper[3]);
        low[place] = make_uint4(lower[0], lower[1], lower[2], lower[3]);
    }
    const f64 above = 1 + 1e-6;  // more than what the sums and the conversion round off
    const f32 high_residual = f32(sqrt(warp_max(lost_high)) * above + 1e-7);
    const f32 residual = f32(sqrt(warp_max(lost)) * above + 1e-7);
    if (lane() == 0) spans[tile] = make_float4(1 / scale, high_residual, residual, scale);
}
