//! The native codec for numeric chunks: differences of neighbouring 32-bit words, packed to the
//! width that the largest of 512 needs.
//!
//! A segment of n bytes is coded as: its first word, one width byte (0..=32) per group of 512
//! words, then per group `width * 64` bytes, then the bytes beyond the last whole group as they
//! are. Word i is replaced by `zigzag(word[i] - word[i - 1])`, the first by 0; a group's codes
//! stand in 32 rows of 16 lanes, and each lane packs its 32 codes into `width` words, lowest bits
//! first. The vertical layout is that of Lemire & Boytsov, "Decoding billions of integers per
//! second through vectorization", Software: Practice and Experience 45(1), 2015 (SIMD-BP128), at
//! 16 lanes.
//! Float32 series are coded by their bit patterns, whose differences are small while the exponent
//! stays.

const LANES: usize = 16;
const ROWS: usize = 32;
/// Words of a group.
pub const GROUP_WORDS: usize = LANES * ROWS;
/// Bytes of a group before coding.
pub const GROUP_BYTES: usize = GROUP_WORDS * 4;

/// Bytes of the first word; a segment without a whole group has zeros there.
const BASE_BYTES: usize = 4;

type Row = [u32; LANES];
type Group = [Row; ROWS];

/// An encoded segment that no encoder wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// The most bytes that `encode` writes for `length` bytes.
#[must_use]
pub fn bound(length: usize) -> usize {
    BASE_BYTES + length + length / GROUP_BYTES
}

/// Encodes `segment` into `encoded` and returns the bytes written.
///
/// # Panics
/// `encoded` is shorter than `bound(segment.len())`.
pub fn encode(segment: &[u8], encoded: &mut [u8]) -> usize {
    assert!(encoded.len() >= bound(segment.len()), "room for the worst case");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor was just asked for AVX2.
        return unsafe { encode_avx2(segment, encoded) };
    }
    encode_portable(segment, encoded)
}

/// Decodes what `encode` wrote for a segment as long as `segment`.
///
/// # Errors
/// `encoded` has an impossible width or the wrong length.
pub fn decode(encoded: &[u8], segment: &mut [u8]) -> Result<(), Corrupt> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor was just asked for AVX2.
        return unsafe { decode_avx2(encoded, segment) };
    }
    decode_portable(encoded, segment)
}

/// Bits per word that the group of words at the start of `bytes` would be packed to.
///
/// # Panics
/// `bytes` is shorter than a group.
#[must_use]
pub fn width_of(bytes: &[u8]) -> u32 {
    let mut group = [[0; LANES]; ROWS];
    let first = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    read_codes(&bytes[..GROUP_BYTES], first, &mut group)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn encode_avx2(segment: &[u8], encoded: &mut [u8]) -> usize {
    encode_portable(segment, encoded)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn decode_avx2(encoded: &[u8], segment: &mut [u8]) -> Result<(), Corrupt> {
    decode_with(encoded, segment, sums_avx2)
}

#[inline(always)]
fn encode_portable(segment: &[u8], encoded: &mut [u8]) -> usize {
    let groups = segment.chunks_exact(GROUP_BYTES);
    let tail = groups.remainder();
    let mut before = if segment.len() < GROUP_BYTES { 0 } else { word_at(segment, 0) };
    let (base, coded) = encoded.split_at_mut(BASE_BYTES);
    base.copy_from_slice(&before.to_le_bytes());
    let (widths, packed) = coded.split_at_mut(segment.len() / GROUP_BYTES);
    let mut written = 0;
    let mut codes: Group = [[0; LANES]; ROWS];
    for (group, width) in groups.zip(widths.iter_mut()) {
        let bits = read_codes(group, before, &mut codes);
        before = word_at(group, GROUP_WORDS - 1);
        *width = bits as u8;
        let length = bits as usize * LANES * 4;
        pack(&codes, bits, &mut packed[written..written + length]);
        written += length;
    }
    packed[written..written + tail.len()].copy_from_slice(tail);
    BASE_BYTES + widths.len() + written + tail.len()
}

fn decode_portable(encoded: &[u8], segment: &mut [u8]) -> Result<(), Corrupt> {
    decode_with(encoded, segment, sums_portable)
}

/// `sums` writes the running sums of a group's differences and returns the last.
#[inline(always)]
fn decode_with(
    encoded: &[u8],
    segment: &mut [u8],
    sums: impl Fn(&Group, u32, &mut [u8]) -> u32,
) -> Result<(), Corrupt> {
    let count = segment.len() / GROUP_BYTES;
    let (base, coded) = encoded.split_at_checked(BASE_BYTES).ok_or(Corrupt)?;
    let (widths, mut packed) = coded.split_at_checked(count).ok_or(Corrupt)?;
    let mut groups = segment.chunks_exact_mut(GROUP_BYTES);
    let mut before = word_at(base, 0);
    let mut differences: Group = [[0; LANES]; ROWS];
    for (group, &width) in groups.by_ref().zip(widths) {
        if width > 32 {
            return Err(Corrupt);
        }
        let (rows, rest) =
            packed.split_at_checked(usize::from(width) * LANES * 4).ok_or(Corrupt)?;
        packed = rest;
        unpack(rows, u32::from(width), &mut differences);
        before = sums(&differences, before, group);
    }
    let tail = groups.into_remainder();
    if packed.len() != tail.len() {
        return Err(Corrupt);
    }
    tail.copy_from_slice(packed);
    Ok(())
}

#[inline(always)]
fn word_at(bytes: &[u8], index: usize) -> u32 {
    let place = &bytes[index * 4..index * 4 + 4];
    u32::from_le_bytes([place[0], place[1], place[2], place[3]])
}

#[inline(always)]
fn read_row(bytes: &[u8]) -> Row {
    let mut row = [0; LANES];
    for (word, place) in row.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_le_bytes([place[0], place[1], place[2], place[3]]);
    }
    row
}

#[inline(always)]
fn write_row(row: Row, bytes: &mut [u8]) {
    for (word, place) in row.iter().zip(bytes.chunks_exact_mut(4)) {
        place.copy_from_slice(&word.to_le_bytes());
    }
}

/// Turns a group of words into codes and returns the bits that the largest needs.
#[inline(always)]
fn read_codes(group: &[u8], before: u32, codes: &mut Group) -> u32 {
    let mut union: Row = [0; LANES];
    for (number, row_codes) in codes.iter_mut().enumerate() {
        let at = number * LANES * 4;
        let row = read_row(&group[at..at + LANES * 4]);
        let left = if number == 0 {
            let mut left = [0; LANES];
            left[0] = before;
            left[1..].copy_from_slice(&row[..LANES - 1]);
            left
        } else {
            read_row(&group[at - 4..at + LANES * 4 - 4])
        };
        for lane in 0..LANES {
            let difference = row[lane].wrapping_sub(left[lane]);
            let code = difference << 1 ^ ((difference as i32) >> 31) as u32;
            row_codes[lane] = code;
            union[lane] |= code;
        }
    }
    32 - union.iter().fold(0, |all, lane| all | lane).leading_zeros()
}

#[inline(always)]
fn pack(codes: &Group, width: u32, packed: &mut [u8]) {
    let mut words = packed.chunks_exact_mut(LANES * 4);
    let mut pending: Row = [0; LANES];
    let mut filled = 0;
    for row in codes {
        for lane in 0..LANES {
            pending[lane] |= row[lane] << filled;
        }
        filled += width;
        if filled >= 32 {
            filled -= 32;
            if let Some(place) = words.next() {
                write_row(pending, place);
            }
            let consumed = width - filled;
            for lane in 0..LANES {
                pending[lane] = row[lane].checked_shr(consumed).unwrap_or(0);
            }
        }
        if width == 0 {
            return;
        }
    }
}

/// Restores the differences of a group.
#[inline(always)]
fn unpack(packed: &[u8], width: u32, differences: &mut Group) {
    if width == 0 {
        *differences = [[0; LANES]; ROWS];
        return;
    }
    let mask = u32::MAX >> (32 - width);
    for (number, row) in differences.iter_mut().enumerate() {
        let first_bit = number * width as usize;
        let (at, shift) = (first_bit / 32 * LANES * 4, first_bit as u32 % 32);
        let lower = read_row(&packed[at..at + LANES * 4]);
        if shift + width > 32 {
            let upper = read_row(&packed[at + LANES * 4..at + LANES * 8]);
            for lane in 0..LANES {
                row[lane] = unzigzag((lower[lane] >> shift | upper[lane] << (32 - shift)) & mask);
            }
        } else {
            for lane in 0..LANES {
                row[lane] = unzigzag(lower[lane] >> shift & mask);
            }
        }
    }
}

#[inline(always)]
fn unzigzag(code: u32) -> u32 {
    code >> 1 ^ (code & 1).wrapping_neg()
}

fn sums_portable(differences: &Group, before: u32, group: &mut [u8]) -> u32 {
    let mut value = before;
    for (difference, place) in differences.as_flattened().iter().zip(group.chunks_exact_mut(4)) {
        value = value.wrapping_add(*difference);
        place.copy_from_slice(&value.to_le_bytes());
    }
    value
}

/// Prefix sums of eight words in three steps (Hillis & Steele, CACM 29(12), 1986); only one
/// addition of the carry depends on the eight before.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn sums_avx2(differences: &Group, before: u32, group: &mut [u8]) -> u32 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi32, _mm256_loadu_si256, _mm256_permute2x128_si256,
        _mm256_permutevar8x32_epi32, _mm256_set1_epi32, _mm256_shuffle_epi32, _mm256_slli_si256,
        _mm256_storeu_si256,
    };
    let eights = differences.as_flattened().chunks_exact(8);
    // SAFETY: inlined into `decode_avx2` only, which runs where AVX2 was detected; every load is of
    // a chunk of 8 words and every store to one of 32 bytes.
    unsafe {
        let last = _mm256_set1_epi32(7);
        let mut carry = _mm256_set1_epi32(before as i32);
        for (eight, place) in eights.zip(group.chunks_exact_mut(32)) {
            let mut sum = _mm256_loadu_si256(eight.as_ptr().cast::<__m256i>());
            sum = _mm256_add_epi32(sum, _mm256_slli_si256::<4>(sum));
            sum = _mm256_add_epi32(sum, _mm256_slli_si256::<8>(sum));
            let lower = _mm256_permute2x128_si256::<0x08>(sum, sum);
            sum = _mm256_add_epi32(sum, _mm256_shuffle_epi32::<0xFF>(lower));
            let placed = _mm256_add_epi32(sum, carry);
            _mm256_storeu_si256(place.as_mut_ptr().cast::<__m256i>(), placed);
            carry = _mm256_add_epi32(carry, _mm256_permutevar8x32_epi32(sum, last));
        }
    }
    word_at(group, GROUP_WORDS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(words: usize, width: u32) -> Vec<u8> {
        let mut value = 0u32;
        let mut state = 0x1234_5678_9ABC_DEF0u64;
        let mut bytes = Vec::new();
        for _ in 0..words {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            let noise = (state >> 32) as u32;
            let code = if width == 0 { 0 } else { noise >> (32 - width) };
            value = value.wrapping_add(code >> 1 ^ (code & 1).wrapping_neg());
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    fn encoded(segment: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xAA; bound(segment.len())];
        let length = encode(segment, &mut bytes);
        bytes.truncate(length);
        bytes
    }

    #[test]
    fn every_width_comes_back_on_both_paths_with_the_same_bytes() {
        for width in 0..=32 {
            let segment = series(3 * GROUP_WORDS + 7, width);
            let bytes = encoded(&segment);
            let mut portable = vec![0xAA; bound(segment.len())];
            let length = encode_portable(&segment, &mut portable);
            assert_eq!(bytes, portable[..length]);

            let mut restored = vec![0x55; segment.len()];
            assert_eq!(decode(&bytes, &mut restored), Ok(()));
            assert!(restored == segment, "width {width}");
            restored.fill(0x55);
            assert_eq!(decode_portable(&bytes, &mut restored), Ok(()));
            assert!(restored == segment, "width {width}, portable");
        }
    }

    #[test]
    fn a_group_is_packed_to_the_width_of_its_largest_difference() {
        let segment = series(4 * GROUP_WORDS, 9);
        assert_eq!(encoded(&segment).len(), BASE_BYTES + 4 + 4 * 9 * LANES * 4);
        assert_eq!(width_of(&segment[GROUP_BYTES..]), 9);
    }

    #[test]
    fn impossible_encodings_are_refused() {
        let segment = series(2 * GROUP_WORDS + 1, 5);
        let mut restored = vec![0; segment.len()];
        let mut bytes = encoded(&segment);
        assert_eq!(decode(&bytes[..bytes.len() - 1], &mut restored), Err(Corrupt));
        assert_eq!(decode(&bytes[..1], &mut restored), Err(Corrupt));
        bytes[BASE_BYTES] = 33;
        assert_eq!(decode(&bytes, &mut restored), Err(Corrupt));
    }
}
