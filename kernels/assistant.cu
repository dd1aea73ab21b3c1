// Parsing, learning and commands of the assistant: a warp for each text.
#include "assistant_text.cuh"

constexpr u32 WARPS = 8;
constexpr i32 WEIGHT_MAX = 160, MARGIN = 128;
constexpr u32 PROMPT_MAX = 32, ASKED_WORDS = 40;

// Parse: the intent of a text and the value of each kind of slot that the intent takes.
//
//   scores[c] = sum over the features f of the text of weights[f, c]
//   label     = the first c of the largest score
//   slots[k]  = start and length of the first value of kind k, 0 where the intent takes none
//
// Work    per text: 256 bytes of it, 64 bytes of weights for each of its about 55 features and some
//         5 bytes of tables for each of its about 12 words read, 32 bytes written; a few thousand
//         integer operations. Bound by latency alone, in batches by the cache.
// Launch  a warp per text: block a multiple of 32 up to 256, grid = ceil(count / (block / 32)).
// Needs   texts are records of 256 bytes (`assistant_text.cuh`), numbers below their count: with
//         `pool` texts a key picks one of them, with 0 it is the number. Weights are rows of 32.
// Checked against Assistant.reference: exact.
extern "C" __global__ void __launch_bounds__(256)
parse(const uint2* __restrict__ texts, const uint4* __restrict__ weights,
      const Grammar* __restrict__ grammar, const u64* __restrict__ keys, u32 count, u32 pool,
      u16* __restrict__ answers) {
    __shared__ Reading readings[WARPS];
    const u32 warp = threadIdx.x / WARP, text = blockIdx.x * (blockDim.x / WARP) + warp;
    if (text >= count) return;  // a whole warp leaves together
    Reading& reading = readings[warp];
    const u64 key = keys[text];
    const u32 number = pool ? pick(key, pool) : u32(key);

    i32 sums[8];
    const u32 features = read_text(grammar, reading, texts + u64(number) * TEXT_WORDS);
    add_scores(weights, reading, features, sums);
    const u32 label = decided(sums, grammar->classes);
    if (lane() < ANSWER_WORDS) {
        const u32 first = reading.first[lane()];
        const bool is_taken = first != NOWHERE && (grammar->accepts[label] >> lane() & 1);
        const u32 slot = is_taken ? (first >> 8 | (first & 0xFF) << 8) : 0;
        answers[text * ANSWER_WORDS + lane()] = u16(lane() == LABEL_WORD ? label : slot);
    }
}

// Scores: those of every class for a text, and its values of every kind whatever its intent.
//
//   scores[t, c] = sum over the features f of text t of weights[f, c]
//   slots[t, k]  = start and length of the first value of kind k
//
// Work    as `parse`; 160 bytes written per text.
// Launch  a warp per text: block a multiple of 32 up to 256, grid = ceil(count / (block / 32)).
// Needs   as `parse`; text t is record t.
// Checked against intents.scores_of and intents.tokens_of: exact.
extern "C" __global__ void __launch_bounds__(256)
score(const uint2* __restrict__ texts, const uint4* __restrict__ weights,
      const Grammar* __restrict__ grammar, u32 count, i32* __restrict__ scores,
      u16* __restrict__ answers) {
    __shared__ Reading readings[WARPS];
    const u32 warp = threadIdx.x / WARP, text = blockIdx.x * (blockDim.x / WARP) + warp;
    if (text >= count) return;  // a whole warp leaves together
    Reading& reading = readings[warp];

    i32 sums[8];
    const u32 features = read_text(grammar, reading, texts + u64(text) * TEXT_WORDS);
    add_scores(weights, reading, features, sums);
    const u32 label = decided(sums, grammar->classes);
    if (lane() < ROW_PARTS)
        for (u32 at = 0; at < 8; ++at) scores[text * CLASSES + 8 * lane() + at] = sums[at];
    if (lane() < ANSWER_WORDS) {
        const u32 first = reading.first[lane()];
        const u32 slot = first != NOWHERE ? (first >> 8 | (first & 0xFF) << 8) : 0;
        answers[text * ANSWER_WORDS + lane()] = u16(lane() == LABEL_WORD ? label : slot);
    }
}

// How often each bucket of a text stands in it, at the first place where it does, else 0.
__device__ void count_features(const Reading& reading, u32 count, u8* times) {
    for (u32 own = lane(); own < count; own += WARP) {
        u32 first = own, same = 0;
        for (u32 other = 0; other < count; ++other) {
            if (reading.features[other] != reading.features[own]) continue;
            if (other < first) first = other;
            same += 1;
        }
        times[own] = u8(first == own ? same : 0);
    }
}

// A pair of weights moved by so much each, held to the largest.
__device__ __forceinline__ u32 moved_pair(u32 pair, i32 low, i32 high) {
    const i32 first = max(-WEIGHT_MAX, min(WEIGHT_MAX, i32(i16(pair & 0xFFFF)) + low));
    const i32 second = max(-WEIGHT_MAX, min(WEIGHT_MAX, (i32(pair) >> 16) + high));
    return (u32(first) & 0xFFFF) | u32(second) << 16;
}

// Learn: one gradient step of the hinge loss of every class on each text, one after the other, and
// the feedback remembered in a ring.
//
//   moved[c]      = s * 1 where s * scores[c] < 128, else 0; s = 1 for the label, -1 for others
//   weights[f, c] = clamp(weights[f, c] + moved[c], -160, 160) for every feature f of the text
//   store[received % feedback_max] = (key, label, decided); received += 1
//
// Work    per text: what `parse` reads, and each row of weights once more; rows written once, and
//         66 bytes per feature and 56 more of what the check needs. Bound by latency.
// Launch  one block of one warp: every step needs the one before it.
// Needs   as `parse`; `truths` are answers of a parse with the right labels; `before` has room for
//         200 rows, `features` for 200 buckets, `answer` for four words.
// Checked against Assistant.reference: exact.
extern "C" __global__ void __launch_bounds__(32)
learn(const uint2* __restrict__ texts, const u16* __restrict__ truths, uint4* weights,
      const Grammar* __restrict__ grammar, const u64* __restrict__ keys, u32 count, u32 pool,
      u64* received, ulonglong2* __restrict__ store, u32 feedback_max, uint4* __restrict__ before,
      u16* __restrict__ features, u64* __restrict__ answer) {
    __shared__ Reading reading;
    __shared__ u8 times[FEATURES_MAX];
    u64 taken = *received;
    for (u32 turn = 0; turn < count; ++turn, ++taken) {
        const u64 key = keys[turn];
        const u32 number = pool ? pick(key, pool) : u32(key);
        const u32 label = truths[number * ANSWER_WORDS + LABEL_WORD];
        const u32 found = read_text(grammar, reading, texts + u64(number) * TEXT_WORDS);
        i32 sums[8];
        add_scores(weights, reading, found, sums);
        const u32 guess = decided(sums, grammar->classes);
        count_features(reading, found, times);

        i32 moved[8];
        for (u32 at = 0; at < 8; ++at) {
            const u32 own = 8 * (lane() % ROW_PARTS) + at;
            const i32 sign = own == label ? 1 : -1;
            moved[at] = own < grammar->classes && sign * sums[at] < MARGIN ? sign : 0;
        }
        for (u32 feature = lane(); feature < found; feature += WARP)
            features[feature] = reading.features[feature];
        for (u32 feature = lane() / ROW_PARTS; feature < found; feature += WARP / ROW_PARTS) {
            const u32 part = lane() % ROW_PARTS, bucket = reading.features[feature];
            before[feature * ROW_PARTS + part] = weights[bucket * ROW_PARTS + part];
        }
        __syncwarp();
        for (u32 feature = lane() / ROW_PARTS; feature < found; feature += WARP / ROW_PARTS) {
            const i32 often = times[feature];
            uint4* place = weights + reading.features[feature] * ROW_PARTS + lane() % ROW_PARTS;
            if (often == 0) continue;
            const uint4 row = *place;
            *place = make_uint4(moved_pair(row.x, often * moved[0], often * moved[1]),
                                moved_pair(row.y, often * moved[2], often * moved[3]),
                                moved_pair(row.z, often * moved[4], often * moved[5]),
                                moved_pair(row.w, often * moved[6], often * moved[7]));
        }
        // The next text is read before its rows are: its barriers order these before them.
        if (lane() == 0) {
            store[taken % feedback_max] = make_ulonglong2(key, label | guess << 8);
            answer[0] = taken + 1;
            answer[1] = key;
            answer[2] = label | guess << 8;
            answer[3] = found;
        }
    }
    if (lane() == 0) *received = taken;
}

// Rows: the weights of some buckets, one behind the other.
//
//   rows[f] = weights[features[f]]
//
// Work    64 bytes read and written per feature. Bound by latency.
// Launch  four threads per feature: grid = ceil(count / (block / 4)), any block of whole warps.
// Needs   buckets below 16 384.
// Checked against indexing of an array: exact.
extern "C" __global__ void __launch_bounds__(256)
rows(const uint4* __restrict__ weights, const u16* __restrict__ features, u32 count,
     uint4* __restrict__ rows) {
    const u32 at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count * ROW_PARTS) return;
    rows[at] = weights[features[at / ROW_PARTS] * ROW_PARTS + at % ROW_PARTS];
}

__device__ __forceinline__ void put_byte(u8* text, u32 place, u32 byte) {
    if (place < TEXT_BYTES - 1) text[place] = u8(byte);
}

// Command: what is asked for by an intent and its slots, as a text that is parsed back to them, and
// as the prompt of the decoder.
//
//   command = frame " with " name " " value ", " name " " value ...; 255 bytes at most
//   prompt  = 0, then fnv1a(word) % vocabulary for the first 31 words
//
// Work    per command: 256 bytes of text, 32 of slots and some 100 of tables read; 256 and about 50
//         bytes written. Bound by latency.
// Launch  a warp per command: block = 32, grid = count.
// Needs   texts and truths as `parse` has them, of labels that are not 0; with `pool` requests a
//         key picks one of them, with 0 it is the number of the text.
// Checked against Assistant.reference: exact.
extern "C" __global__ void __launch_bounds__(32)
command(const uint2* __restrict__ texts, const u16* __restrict__ truths,
        const Grammar* __restrict__ grammar, const u32* __restrict__ requests,
        const u64* __restrict__ keys, u32 pool, u32 vocabulary, uint2* __restrict__ commands,
        u32* __restrict__ asked) {
    __shared__ Reading reading;
    __shared__ u32 written[TEXT_BYTES / 4];
    const u64 key = keys[blockIdx.x];
    const u32 number = pool ? requests[pick(key, pool)] : u32(key);
    const u8* text = reinterpret_cast<const u8*>(texts + u64(number) * TEXT_WORDS);
    const u16* truth = truths + number * ANSWER_WORDS;
    const Frame* frame = grammar->frames + truth[LABEL_WORD];
    u8* bytes = reinterpret_cast<u8*>(written);
    const bool is_slot = lane() < frame->slots;
    const u32 kind = is_slot ? frame->kinds[lane()] : 0;
    const u32 slot = is_slot ? truth[kind] : 0;
    const u32 start = slot & 0xFF, length = slot >> 8;
    const u32 named = __ballot_sync(FULL, length != 0);
    const bool is_first = (named & ((1u << lane()) - 1)) == 0;
    const Name* name = grammar->names + kind;
    const u32 joint = is_first ? 6 : 2, named_bytes = length ? name->length : 0;
    u32 total;
    u32 place = frame->length +
                warp_scan_exclusive(length ? joint + named_bytes + 1 + length : 0, &total);
    total = min(total + frame->length, TEXT_BYTES - 1);
    written[2 * lane()] = written[2 * lane() + 1] = 0;
    __syncwarp();
    for (u32 at = lane(); at < frame->length; at += WARP) put_byte(bytes, at, frame->command[at]);
    if (length) {
        for (u32 at = 0; at < joint; ++at)
            put_byte(bytes, place++, is_first ? " with "[at] : ", "[at]);
        for (u32 at = 0; at < named_bytes; ++at) put_byte(bytes, place++, name->text[at]);
        put_byte(bytes, place++, ' ');
        for (u32 at = 0; at < length; ++at) put_byte(bytes, place++, text[start + at]);
    }
    __syncwarp();

    const uint2 own = make_uint2(written[2 * lane()], written[2 * lane() + 1]);
    const u32 size = lane() == WARP - 1 ? total << 24 : 0;
    commands[blockIdx.x * TEXT_WORDS + lane()] = make_uint2(own.x, own.y | size);
    const u32 words = min(hash_words(reading, split_words(reading, own)), PROMPT_MAX - 1);
    u32* prompt = asked + blockIdx.x * ASKED_WORDS;
    if (lane() == 0) {
        prompt[0] = words + 1;
        prompt[1] = 0;
    }
    if (lane() < words) prompt[2 + lane()] = reading.hash[lane()] % vocabulary;
}
