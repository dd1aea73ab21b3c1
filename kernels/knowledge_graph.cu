// Node records by key: filling the table and looking up batches of keys.
#include "knowledge_graph.cuh"

constexpr u32 EMPTY = 0xFFFFFFFFu;

// Lanes that share a key: each has 16 bytes of its record.
constexpr u32 SHARERS = 4;

// MurmurHash3's 64-bit finaliser.
__device__ __forceinline__ u64 mix(u64 word) {
    word = (word ^ (word >> 33)) * 0xFF51AFD7ED558CCDull;
    word = (word ^ (word >> 33)) * 0xC4CEB9FE1A85EC53ull;
    return word ^ (word >> 33);
}

__device__ __forceinline__ u64 rotated(u64 word, u32 bits) {
    return bits ? word << bits | word >> (64 - bits) : word;
}

// The hash of a key (Knuth's multiplicative hashing): its first slot above, then 8 bits of tag.
__device__ __forceinline__ u64 hash_of(u64 key) { return key * 0x9E3779B97F4A7C15ull; }

__device__ __forceinline__ u32 tag_of(u64 hash, u32 shift) {
    return u32(hash >> (shift - 8)) << NODE_BITS;
}

// Records: writes the 64 bytes of every node and enters it into the table.
//
//   key(n) = mix(n + base)
//   record(n) = key, n | degree << 32, then six words w[i] = mix(w[i - 1] ^ key)
//   slots: open addressing by linear probing; an entry is 8 bits of hash and 24 of the node
//
// Work    per node: 12 bytes read, 64 written, and one atomic on a random slot of 4 bytes.
//         Bound by random atomics; done once, before a run.
// Launch  one thread per node: grid = ceil(nodes / 256), block = 256.
// Needs   slots filled with 0xFF, a power of two of them, more than nodes; nodes < 2^24.
// Checked against KnowledgeGraph.reference through node_lookup: exact, no tolerance.
extern "C" __global__ void write_records(const u32* __restrict__ inner,
                                         const u32* __restrict__ offsets, u32 nodes, u64 base,
                                         u32 slot_count, u32 shift, u32* slots,
                                         ulonglong2* __restrict__ records) {
    const u32 node = blockIdx.x * blockDim.x + threadIdx.x;
    if (node >= nodes) return;
    const u32 place = inner[node];
    const u64 key = mix(node + base);
    u64 word = node | u64(offsets[place + 1] - offsets[place]) << 32;
    ulonglong2* record = records + u64(node) * SHARERS;
    record[0] = make_ulonglong2(key, word);
    for (u32 part = 1; part < SHARERS; ++part) {
        const u64 first = mix(word ^ key);
        word = mix(first ^ key);
        record[part] = make_ulonglong2(first, word);
    }
    const u64 hash = hash_of(key);
    u32 slot = u32(hash >> shift);
    while (atomicCAS(slots + slot, EMPTY, tag_of(hash, shift) | node) != EMPTY)
        slot = (slot + 1) & (slot_count - 1);
}

// Pool: the keys that lookups ask for, the first half uniform, the second Zipf of exponent 1.
//
//   number(p) = scaled(w0, nodes)                    for p < half
//   number(p) = 2^o - 1 + (w0 & (2^o - 1)),          o = scaled(w3, octaves), for p >= half
//   pool[p] = mix(number + (scaled(w2, 8) == 0 ? nodes : 0) + base),  w = philox(p)
//
// Work    per key: 8 bytes written, ten rounds of Philox. Bound by arithmetic; done once.
// Launch  one thread per key: grid = ceil(keys / 256), block = 256.
// Needs   an even number of keys; octaves = floor(log2(nodes)), at least 1.
// Checked against graphs.lookup_keys: exact, no tolerance.
extern "C" __global__ void fill_pool(u32 keys, u32 nodes, u32 octaves, u64 base, u32 key0, u32 key1,
                                     u64* __restrict__ pool) {
    const u32 place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= keys) return;
    const Words words = philox({place, 0, 0, 0}, key0, key1);
    const u32 octave = (1u << scaled(words.w, octaves)) - 1;
    const u32 number =
        place < keys / 2 ? scaled(words.x, nodes) : octave + (words.x & octave);
    const u64 missing = scaled(words.z, 8) == 0 ? nodes : 0;
    pool[place] = mix(number + missing + base);
}

// Node lookup: the node of every key of a batch and the digest of its record, or a miss.
//
//   nodes[i]   = n where key(n) = keys[first + i], else 0xFFFFFFFF
//   digests[i] = xor over j of rotate_left(record(n)[j], 7 (7 - j)), or 0 for a miss
//   first      = scaled(w0, half - count + 1) + (w1 odd ? half : 0), w = philox(request),
//                where the batch is a window of a pool of 2 half keys; else 0
//
// Work    per key: 8 bytes of key, 16 per probed window of four slots, 64 of the record for a hit
//         (one miss in some hundred reads a record too); 12 bytes written. Every thread draws the
//         window by a Philox block of its own. Bound by random 64-byte reads.
// Launch  four lanes per key: grid = ceil(4 count / 256), block = 256.
// Needs   records 64-byte aligned; half = 0 or count <= half; a table with an empty slot.
// Checked against KnowledgeGraph.reference: exact, no tolerance.
extern "C" __global__ void node_lookup(const u64* __restrict__ keys, u32 count, u32 half,
                                       u64 request, u32 key0, u32 key1,
                                       const u32* __restrict__ slots, u32 slot_count, u32 shift,
                                       const ulonglong2* __restrict__ records,
                                       u32* __restrict__ nodes, u64* __restrict__ digests) {
    const u32 number = (blockIdx.x * blockDim.x + threadIdx.x) / SHARERS;
    const u32 sharer = lane() % SHARERS, leader = lane() - sharer;
    u32 first = 0;
    if (half != 0) {
        const Words words = philox({u32(request), u32(request >> 32), NONE, 0}, key0, key1);
        first = scaled(words.x, half - count + 1) + (words.y & 1 ? half : 0);
    }
    bool is_open = number < count;
    u64 key = 0;
    if (is_open && sharer == 0) key = keys[first + number];
    key = __shfl_sync(FULL, key, leader);
    const u64 hash = hash_of(key);
    const u32 tag = tag_of(hash, shift);
    u32 slot = u32(hash >> shift), node = NONE;
    ulonglong2 part = make_ulonglong2(0, 0);
    while (__any_sync(FULL, is_open)) {
        u32 entry = EMPTY;
        if (is_open) entry = slots[(slot + sharer) & (slot_count - 1)];
        const u32 empties = __ballot_sync(FULL, entry == EMPTY) >> leader & 15;
        const u32 tagged = __ballot_sync(FULL, entry != EMPTY && (entry & ~NODE_MASK) == tag);
        // Of the slots before the first empty one, the first with the key's tag.
        const u32 before = empties ? (1u << (__ffs(empties) - 1)) - 1 : 15;
        const u32 fitting = tagged >> leader & before;
        const u32 found = fitting ? __ffs(fitting) - 1 : 0;
        const u32 seen = __shfl_sync(FULL, entry, leader + found) & NODE_MASK;
        ulonglong2 read = make_ulonglong2(0, 0);
        if (is_open && fitting) read = records[u64(seen) * SHARERS + sharer];
        const bool is_it = __shfl_sync(FULL, u64(read.x), leader) == key;
        if (!is_open) continue;
        if (fitting && is_it) {
            node = seen;
            part = read;
        }
        is_open = fitting ? !is_it : empties == 0;
        slot += fitting ? found + 1 : SHARERS;
    }
    const u32 turn = 7 * (7 - 2 * sharer);
    u64 digest = rotated(part.x, turn) ^ rotated(part.y, turn - 7);
    digest ^= __shfl_xor_sync(FULL, digest, 1);
    digest ^= __shfl_xor_sync(FULL, digest, 2);
    if (number < count && sharer == 0) {
        nodes[number] = node;
        digests[number] = digest;
    }
}
