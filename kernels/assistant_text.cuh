// A text read by one warp: words, entities, hashed features, scores; as `tokens.rs` reads it.
#pragma once
#include "common.cuh"

// A text is a record of 256 bytes: up to 255 of text, and in the last one how many they are.
constexpr u32 TEXT_BYTES = 256, TEXT_WORDS = TEXT_BYTES / 8;
constexpr u32 WORDS_MAX = 128, FEATURES_MAX = 200, KINDS = 15, CLASSES = 32;
// Sixteen-byte parts of the 32 weights of a bucket.
constexpr u32 ROW_PARTS = 4;
constexpr u32 BUCKET_BITS = 14;
// An answer of a parse is 16 words of 16 bits: start and length of each kind's value in the low and
// the high byte, then the label.
constexpr u32 ANSWER_WORDS = 16, LABEL_WORD = KINDS;
constexpr u32 KNOWN = 256;
constexpr u32 NOWHERE = 0xFFFFFFFFu, FNV_BASIS = 0x811C9DC5u, FNV_PRIME = 0x01000193u;
constexpr u32 ENTITY = 0xE0000000u, LETTERS = 0x5BD1E995u;
// What a word can be beside an entity of some kind.
constexpr u32 PLAIN = 255, UNIT = 254;

// An entry of the open-addressing table of values and units; length 0 where it is empty.
struct Known {
    u32 hash;
    u8 kind, length;
    u8 text[26];
};

// How the command of an intent begins, and the kinds of its slots in their order.
struct Frame {
    u8 length, slots;
    u8 kinds[14];
    u8 command[48];
};

struct Name {
    u8 length;
    u8 text[15];
};

enum Pattern { NUMBER, PERCENT, VERSION, DURATION, TIME, NODE, AGENT, TICKET, PATTERNS };

// The tables of `assistant_grammar.json`; frames and accepted kinds by label.
struct Grammar {
    Known known[KNOWN];
    u8 patterns[PATTERNS];
    u32 classes, unused;
    u16 accepts[CLASSES];
    Name names[16];
    Frame frames[CLASSES];
};

// What a warp keeps of a text in shared memory.
struct Reading {
    u32 lower[TEXT_BYTES / 4];
    u32 hash[WORDS_MAX];
    u32 first[16];  // by kind: start << 8 | length of the first value
    u16 features[FEATURES_MAX];
    u8 start[WORDS_MAX], end[WORDS_MAX], kind[WORDS_MAX];

    __device__ u8* bytes() { return reinterpret_cast<u8*>(lower); }
};

// Which of `count` things the operation of `key` is about (Knuth's multiplicative hash).
__device__ __forceinline__ u32 pick(u64 key, u32 count) {
    return u32((key * 0x9E3779B97F4A7C15ull >> 32) * count >> 32);
}

// Lower case; 0 for what separates words: the zero byte and ` ,!?;()"'`.
__device__ __forceinline__ u32 lowered(u32 byte) {
    constexpr u64 SEPARATORS = 1ull << 0 | 1ull << ' ' | 1ull << '!' | 1ull << '"' | 1ull << '\'' |
                               1ull << '(' | 1ull << ')' | 1ull << ',' | 1ull << ';' | 1ull << '?';
    if (byte - 'A' < 26u) return byte | 32;
    return byte < 64 && (SEPARATORS >> byte & 1) ? 0 : byte;
}

__device__ __forceinline__ bool is_digit(u32 byte) { return byte - '0' < 10u; }

__device__ inline bool all_digits(const u8* text, u32 length) {
    for (u32 at = 0; at < length; ++at)
        if (!is_digit(text[at])) return false;
    return length > 0;
}

// Whether the word is `prefix` and digits behind it.
__device__ inline bool is_numbered(const u8* word, u32 length, const char* prefix, u32 size) {
    for (u32 at = 0; at < size; ++at)
        if (at >= length || word[at] != u8(prefix[at])) return false;
    return all_digits(word + size, length - size);
}

__device__ inline u32 numeric(const u8* word, u32 length) {
    if (all_digits(word, length)) return NUMBER;
    if (word[length - 1] == '%' && all_digits(word, length - 1)) return PERCENT;
    u32 colon = 0;
    while (colon < length && word[colon] != ':') ++colon;
    const bool is_time = colon <= 2 && colon + 3 == length && all_digits(word, colon) &&
                         all_digits(word + colon + 1, 2);
    return is_time ? TIME : PATTERNS;
}

// The form of a lower-case word, PATTERNS where it has none.
__device__ inline u32 pattern(const u8* word, u32 length) {
    if (is_digit(word[0])) return numeric(word, length);
    if (is_numbered(word, length, "node-", 5)) return NODE;
    if (is_numbered(word, length, "agent-", 6)) return AGENT;
    if (is_numbered(word, length, "inc-", 4)) return TICKET;
    if (word[0] != 'v' || length < 2 || !is_digit(word[1])) return PATTERNS;
    for (u32 at = 2; at < length; ++at)
        if (!is_digit(word[at]) && word[at] != '.') return PATTERNS;
    return VERSION;
}

// The kind of a lower-case word, or UNIT, or PLAIN.
__device__ inline u32 kind_of(const Grammar* grammar, const u8* word, u32 length, u32 hash) {
    for (u32 place = hash % KNOWN;; place = (place + 1) % KNOWN) {
        const Known* known = grammar->known + place;
        if (known->length == 0) break;
        if (known->hash != hash) continue;
        u32 same = known->length == length ? 0 : length;
        while (same < length && known->text[same] == word[same]) ++same;
        if (known->length == length && same == length) return known->kind;
        break;  // no two entries have the same hash
    }
    const u32 found = pattern(word, length);
    return found == PATTERNS ? PLAIN : grammar->patterns[found];
}

// Finds the words of a text whose byte 8 l + i lane l holds as byte i of `own`, 0 beyond its end.
__device__ inline u32 split_words(Reading& reading, uint2 own) {
    u32 lower[2] = {0, 0}, inside = 0;
    for (u32 at = 0; at < 8; ++at) {
        const u32 byte = lowered((at < 4 ? own.x : own.y) >> 8 * (at % 4) & 0xFF);
        lower[at / 4] |= byte << 8 * (at % 4);
        inside |= u32(byte != 0) << at;
    }
    reading.lower[2 * lane()] = lower[0];
    reading.lower[2 * lane() + 1] = lower[1];
    const u32 below = __shfl_up_sync(FULL, inside >> 7, 1);
    const u32 above = __shfl_down_sync(FULL, inside & 1, 1);
    const u32 before = lane() == 0 ? 0 : below, after = lane() == WARP - 1 ? 0 : above;
    u32 starts = inside & ~(inside << 1 | before), ends = inside & ~(inside >> 1 | after << 7);
    u32 count, ended;
    u32 place = warp_scan_exclusive(__popc(starts), &count);
    for (; starts != 0; starts &= starts - 1)
        reading.start[place++] = u8(8 * lane() + __ffs(starts) - 1);
    place = warp_scan_exclusive(__popc(ends), &ended);
    for (; ends != 0; ends &= ends - 1) reading.end[place++] = u8(8 * lane() + __ffs(ends));
    __syncwarp();
    return count;
}

// Takes full stops and colons off the ends of words, drops what is left empty, and hashes the rest
// (32-bit FNV-1a).
__device__ inline u32 hash_words(Reading& reading, u32 count) {
    const u8* bytes = reading.bytes();
    u32 kept = 0;
    for (u32 base = 0; base < count; base += WARP) {
        const u32 word = base + lane();
        u32 start = 0, end = 0, hash = FNV_BASIS;
        if (word < count) {
            start = reading.start[word];
            end = reading.end[word];
            while (end > start && (bytes[end - 1] == '.' || bytes[end - 1] == ':')) --end;
            for (u32 at = start; at < end; ++at) hash = (hash ^ bytes[at]) * FNV_PRIME;
        }
        const u32 valid = __ballot_sync(FULL, end > start);
        // No word moves behind one that is still to be read.
        if (end > start) {
            const u32 place = kept + __popc(valid & ((1u << lane()) - 1));
            reading.start[place] = u8(start);
            reading.end[place] = u8(end);
            reading.hash[place] = hash;
        }
        kept += __popc(valid);
        __syncwarp();
    }
    return kept;
}

// The record of a text as `split_words` takes it.
__device__ __forceinline__ uint2 text_of(const uint2* record) {
    uint2 own = record[lane()];
    const u32 length = __shfl_sync(FULL, own.y >> 24, WARP - 1);
    const u32 before = 8 * lane(), left = length > before ? length - before : 0;
    if (left < 8) own.y = left <= 4 ? 0 : own.y & ((1u << 8 * (left - 4)) - 1);
    if (left < 4) own.x = own.x & ((1u << 8 * left) - 1);
    return own;
}

__device__ __forceinline__ void put_feature(Reading& reading, u32 place, u32 hash) {
    if (place >= FEATURES_MAX) return;
    reading.features[place] = u16(hash * 0x9E3779B1u >> (32 - BUCKET_BITS));
}

// The features of one token from `place` on: itself, itself behind the one before it, and of a
// plain word every three letters in a row between its marks.
__device__ inline void put_token(Reading& reading, u32 place, u32 hash, u32 before, u32 start,
                                 u32 end) {
    put_feature(reading, place++, hash);
    put_feature(reading, place++, (before << 5 | before >> 27) ^ hash);
    u32 letters = '^';
    for (u32 at = start; at <= end && start < end; ++at) {
        const u32 byte = at < end ? reading.bytes()[at] : '$';
        letters = (letters << 8 | byte) & 0xFFFFFF;
        if (at > start) put_feature(reading, place++, letters ^ LETTERS);
    }
}

// Tags the words, joins numbers with the units of time behind them, and writes the features and the
// first value of every kind; returns how many features there are.
__device__ inline u32 tag_words(const Grammar* grammar, Reading& reading, u32 count) {
    const u32 number = grammar->patterns[NUMBER], duration = grammar->patterns[DURATION];
    if (lane() < 16) reading.first[lane()] = NOWHERE;
    for (u32 word = lane(); word < count; word += WARP) {
        const u32 start = reading.start[word], length = reading.end[word] - start;
        reading.kind[word] =
            u8(kind_of(grammar, reading.bytes() + start, length, reading.hash[word]));
    }
    __syncwarp();
    u32 found = 0, last_hash = 0, last_number = 0;
    for (u32 base = 0; base < count; base += WARP) {
        const u32 word = base + lane();
        u32 kind = PLAIN, start = 0, end = 0, hash = 0;
        if (word < count) {
            kind = reading.kind[word];
            start = reading.start[word];
            end = reading.end[word];
            hash = reading.hash[word];
        }
        const u32 is_number = kind == number;
        const u32 below = __shfl_up_sync(FULL, is_number, 1);
        const u32 after_number = lane() == 0 ? last_number : below;
        const bool is_token = word < count && !(kind == UNIT && after_number);
        if (is_number && word + 1 < count && reading.kind[word + 1] == UNIT) {
            kind = duration;
            end = reading.end[word + 1];
        }
        const bool is_plain = kind >= UNIT;
        if (!is_plain) {
            hash = ENTITY + kind;
            if (is_token) atomicMin(&reading.first[kind], start << 8 | (end - start));
        }
        const u32 tokens = __ballot_sync(FULL, is_token);
        const u32 earlier = tokens & ((1u << lane()) - 1);
        const u32 other = __shfl_sync(FULL, hash, earlier ? 31 - __clz(earlier) : 0);
        u32 total;
        const u32 size = is_token ? 2 + (is_plain ? end - start : 0) : 0;
        const u32 place = found + warp_scan_exclusive(size, &total);
        const u32 before = earlier ? other : last_hash;
        if (is_token) put_token(reading, place, hash, before, start, is_plain ? end : start);
        found += total;
        const u32 newest = __shfl_sync(FULL, hash, tokens ? 31 - __clz(tokens) : 0);
        last_hash = tokens ? newest : last_hash;
        last_number = __shfl_sync(FULL, is_number, WARP - 1);
    }
    __syncwarp();
    return found < FEATURES_MAX ? found : FEATURES_MAX;
}

// Reads a record; returns how many features it has.
__device__ inline u32 read_text(const Grammar* grammar, Reading& reading, const uint2* record) {
    return tag_words(grammar, reading, hash_words(reading, split_words(reading, text_of(record))));
}

// The scores of classes 8 p to 8 p + 7 in every lane with p = lane % 4.
__device__ inline void add_scores(const uint4* weights, const Reading& reading, u32 count,
                                  i32 (&sums)[8]) {
    for (u32 at = 0; at < 8; ++at) sums[at] = 0;
#pragma unroll 4
    for (u32 feature = lane() / ROW_PARTS; feature < count; feature += WARP / ROW_PARTS) {
        const uint4 row = weights[reading.features[feature] * ROW_PARTS + lane() % ROW_PARTS];
        const u32 pairs[4] = {row.x, row.y, row.z, row.w};
        for (u32 at = 0; at < 4; ++at) {
            sums[2 * at] += i16(pairs[at] & 0xFFFF);
            sums[2 * at + 1] += i32(pairs[at]) >> 16;
        }
    }
    for (u32 at = 0; at < 8; ++at)
        for (u32 step = ROW_PARTS; step < WARP; step *= 2)
            sums[at] += __shfl_xor_sync(FULL, sums[at], step);
}

// The class of the largest score, the first of equals.
__device__ inline u32 decided(const i32 (&sums)[8], u32 classes) {
    u32 best = 0;
    for (u32 at = 0; at < 8; ++at) {
        const u32 number = 8 * (lane() % ROW_PARTS) + at;
        const u32 rank = u32(sums[at] + (1 << 20)) << 8 | (CLASSES - 1 - number);
        if (number < classes && rank > best) best = rank;
    }
    return CLASSES - 1 - (warp_max(best) & (CLASSES - 1));
}
