//! A 64-bit checksum of a chunk, made to be cheaper than reading the chunk from memory.
//!
//! 64 lanes of 32 bits each take one word of a 256-byte stripe in turn:
//! `lane = rotate_left(lane ^ word, 13) * PRIME`. The step is a bijection of the word for a given
//! lane and of the lane for a given word, so a change confined to one word, above all a flipped
//! bit, always changes its lane's final value and with it the (bijectively folded) result. Any
//! other change goes unseen with a probability of about 2^-32. It is no protection against intent.

const LANES: usize = 64;
const STRIPE_BYTES: usize = LANES * 4;
const PRIME: u32 = 0x9E37_79B1;
const FOLD: u64 = 0x9E37_79B9_7F4A_7C15;

/// The checksum of `bytes`.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor was just asked for AVX2.
        return unsafe { checksum_avx2(bytes) };
    }
    checksum_portable(bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn checksum_avx2(bytes: &[u8]) -> u64 {
    checksum_portable(bytes)
}

#[inline(always)]
fn checksum_portable(bytes: &[u8]) -> u64 {
    let mut lanes = [0u32; LANES];
    for (number, lane) in lanes.iter_mut().enumerate() {
        *lane = PRIME.wrapping_mul(number as u32 + 1);
    }
    let stripes = bytes.chunks_exact(STRIPE_BYTES);
    let tail = stripes.remainder();
    for stripe in stripes {
        absorb(&mut lanes, stripe);
    }
    if !tail.is_empty() {
        let mut stripe = [0u8; STRIPE_BYTES];
        stripe[..tail.len()].copy_from_slice(tail);
        absorb(&mut lanes, &stripe);
    }
    let start = (bytes.len() as u64).wrapping_mul(FOLD);
    lanes.iter().fold(start, |folded, &lane| {
        let mixed = (folded ^ u64::from(lane)).wrapping_mul(FOLD);
        mixed ^ mixed >> 32
    })
}

#[inline(always)]
fn absorb(lanes: &mut [u32; LANES], stripe: &[u8]) {
    for (lane, word) in lanes.iter_mut().zip(stripe.chunks_exact(4)) {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        *lane = (*lane ^ word).rotate_left(13).wrapping_mul(PRIME);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(length: usize) -> Vec<u8> {
        (0..length as u64).map(|i| (i.wrapping_mul(FOLD) >> 56) as u8).collect()
    }

    #[test]
    fn every_single_flipped_bit_changes_the_checksum() {
        let mut bytes = sample(777);
        let expected = checksum(&bytes);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(checksum(&bytes), expected, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(checksum(&bytes), expected);
    }

    #[test]
    fn two_flips_of_the_same_bit_of_a_lane_do_not_cancel() {
        let mut bytes = sample(1024);
        let expected = checksum(&bytes);
        bytes[3] ^= 0x80;
        bytes[3 + STRIPE_BYTES] ^= 0x80;
        assert_ne!(checksum(&bytes), expected);
    }

    #[test]
    fn a_length_and_its_padding_with_zeros_differ() {
        assert_ne!(checksum(&[0; 100]), checksum(&[0; 101]));
    }

    #[test]
    fn the_detected_and_the_portable_path_agree() {
        for length in [0, 1, 255, 256, 257, 4096, 100_001] {
            let bytes = sample(length);
            assert_eq!(checksum(&bytes), checksum_portable(&bytes));
        }
    }
}
