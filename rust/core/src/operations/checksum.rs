//! A 64-bit checksum, made to be cheaper than reading the bytes from memory, also while they are
//! copied.
//!
//! 64 lanes of 32 bits each take one word of a 256-byte stripe in turn:
//! `lane = rotate_left(lane ^ word, 13) * PRIME`. The step is a bijection of the word for a given
//! lane and of the lane for a given word, so a change confined to one word, above all a flipped
//! bit, always changes its lane's final value and with it the (bijectively folded) result. Any
//! other change goes unseen with a probability of about 2^-32. It is no protection against intent.
//!
//! Lanes take their stripes one after the other. A long block is summed in pieces of 64 KiB, whose
//! checksums are folded in order: pieces can be summed side by side.

const LANES: usize = 64;
const STRIPE_BYTES: usize = LANES * 4;
/// A running checksum is folded out of those of so many bytes each.
pub const PIECE_BYTES: usize = 64 << 10;
const PRIME: u32 = 0x9E37_79B1;
const FOLD: u64 = 0x9E37_79B9_7F4A_7C15;

/// The checksum of `bytes`.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u64 {
    let mut lanes = first_lanes();
    absorb(&mut lanes, bytes);
    folded(&lanes, bytes.len() as u64)
}

/// The checksum of a block, piece by piece.
#[must_use]
pub fn block_checksum(block: &[u8]) -> u64 {
    let mut running = Running::new();
    running.absorb(block);
    running.finish()
}

fn first_lanes() -> [u32; LANES] {
    std::array::from_fn(|number| PRIME.wrapping_mul(number as u32 + 1))
}

fn folded(lanes: &[u32; LANES], length: u64) -> u64 {
    lanes.iter().fold(length.wrapping_mul(FOLD), |folded, &lane| {
        let mixed = (folded ^ u64::from(lane)).wrapping_mul(FOLD);
        mixed ^ mixed >> 32
    })
}

/// Which side of a masked copy the checksum is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Source,
    Target,
}

/// A checksum on its way over several parts, each but the last of whole stripes: that of the first
/// piece of `PIECE_BYTES`, with those of the others folded into it in order.
pub struct Running {
    lanes: [u32; LANES],
    /// Bytes that the lanes have taken of this piece.
    length: usize,
    /// The pieces before.
    before: Option<u64>,
}

impl Running {
    #[must_use]
    pub fn new() -> Self {
        Self { lanes: first_lanes(), length: 0, before: None }
    }

    /// Takes the next part.
    pub fn absorb(&mut self, mut part: &[u8]) {
        while !part.is_empty() {
            let (now, rest) = part.split_at(self.grow(part.len()));
            absorb(&mut self.lanes, now);
            part = rest;
        }
    }

    /// Copies `source` to `target`, each word of 32 bits under `mask` (exclusive or), and takes the
    /// bytes of one side as the next part, in one pass. Both are equally long.
    pub fn copy(&mut self, mut source: &[u8], mut target: &mut [u8], mask: u32, side: Side) {
        assert_eq!(source.len(), target.len(), "both sides of a copy are equally long");
        let masks = match side {
            Side::Source => [0, mask],
            Side::Target => [mask, 0],
        };
        while !source.is_empty() {
            let bytes = self.grow(source.len());
            let (from, rest) = source.split_at(bytes);
            let (to, room) = target.split_at_mut(bytes);
            copy(&mut self.lanes, from, to, masks);
            (source, target) = (rest, room);
        }
    }

    /// The checksum of all that was taken.
    #[must_use]
    pub fn finish(&self) -> u64 {
        let last = folded(&self.lanes, self.length as u64);
        self.before.map_or(last, |before| joined(before, last))
    }

    /// Makes room for the next of `bytes` bytes, in a new piece where this one is full, and returns
    /// how many of them it takes.
    fn grow(&mut self, bytes: usize) -> usize {
        assert!(self.length % STRIPE_BYTES == 0, "only the last part may end in a stripe");
        if self.length == PIECE_BYTES {
            *self = Self { lanes: first_lanes(), length: 0, before: Some(self.finish()) };
        }
        let taken = bytes.min(PIECE_BYTES - self.length);
        self.length += taken;
        taken
    }
}

fn joined(before: u64, piece: u64) -> u64 {
    (before.rotate_left(29) ^ piece).wrapping_mul(FOLD)
}

fn absorb(lanes: &mut [u32; LANES], bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor was just asked for AVX2.
        return unsafe { absorb_avx2(lanes, bytes) };
    }
    absorb_portable(lanes, bytes);
}

fn copy(lanes: &mut [u32; LANES], source: &[u8], target: &mut [u8], masks: [u32; 2]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor was just asked for AVX2.
        return unsafe { copy_avx2(lanes, source, target, masks) };
    }
    copy_portable(lanes, source, target, masks);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn absorb_avx2(lanes: &mut [u32; LANES], bytes: &[u8]) {
    absorb_portable(lanes, bytes);
}

#[inline(always)]
fn absorb_portable(lanes: &mut [u32; LANES], bytes: &[u8]) {
    let mut running = *lanes;
    let stripes = bytes.chunks_exact(STRIPE_BYTES);
    let tail = stripes.remainder();
    for stripe in stripes {
        absorb_stripe(&mut running, stripe);
    }
    if !tail.is_empty() {
        let mut stripe = [0u8; STRIPE_BYTES];
        stripe[..tail.len()].copy_from_slice(tail);
        absorb_stripe(&mut running, &stripe);
    }
    *lanes = running;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn copy_avx2(lanes: &mut [u32; LANES], source: &[u8], target: &mut [u8], masks: [u32; 2]) {
    copy_portable(lanes, source, target, masks);
}

/// `masks` are applied before and after the checksum takes the word.
#[inline(always)]
fn copy_portable(lanes: &mut [u32; LANES], source: &[u8], target: &mut [u8], masks: [u32; 2]) {
    let mut running = *lanes;
    let whole = source.len() / STRIPE_BYTES * STRIPE_BYTES;
    let (stripes, tail) = source.split_at(whole);
    let (room, rest) = target.split_at_mut(whole);
    for (from, to) in stripes.chunks_exact(STRIPE_BYTES).zip(room.chunks_exact_mut(STRIPE_BYTES)) {
        copy_stripe(&mut running, from, to, masks);
    }
    if !tail.is_empty() {
        let (mut from, mut to) = ([0u8; STRIPE_BYTES], [0u8; STRIPE_BYTES]);
        from[..tail.len()].copy_from_slice(tail);
        // Behind the end the checksum takes zeros.
        let mut masked = from;
        mask_bytes(&mut masked[..tail.len()], masks[0]);
        absorb_stripe(&mut running, &masked);
        to[..tail.len()].copy_from_slice(&masked[..tail.len()]);
        mask_bytes(&mut to[..tail.len()], masks[1]);
        rest.copy_from_slice(&to[..tail.len()]);
    }
    *lanes = running;
}

#[inline(always)]
fn copy_stripe(lanes: &mut [u32; LANES], source: &[u8], target: &mut [u8], masks: [u32; 2]) {
    let words = source.chunks_exact(4).zip(target.chunks_exact_mut(4));
    for (lane, (from, to)) in lanes.iter_mut().zip(words) {
        let word = u32::from_le_bytes([from[0], from[1], from[2], from[3]]) ^ masks[0];
        *lane = (*lane ^ word).rotate_left(13).wrapping_mul(PRIME);
        to.copy_from_slice(&(word ^ masks[1]).to_le_bytes());
    }
}

/// Masks a piece that starts at a whole word.
fn mask_bytes(bytes: &mut [u8], mask: u32) {
    for (byte, mask) in bytes.iter_mut().zip(mask.to_le_bytes().into_iter().cycle()) {
        *byte ^= mask;
    }
}

#[inline(always)]
fn absorb_stripe(lanes: &mut [u32; LANES], stripe: &[u8]) {
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
            let mut portable = first_lanes();
            absorb_portable(&mut portable, &bytes);
            assert_eq!(checksum(&bytes), folded(&portable, length as u64));
        }
    }

    /// As the definition has it: piece by piece.
    fn of_pieces(bytes: &[u8]) -> u64 {
        let sums = bytes.chunks(PIECE_BYTES).map(checksum);
        sums.reduce(joined).unwrap_or_else(|| checksum(&[]))
    }

    #[test]
    fn parts_of_any_length_give_the_checksum_of_the_whole() {
        for length in [10_000, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES] {
            let bytes = sample(length);
            for part in [3 * STRIPE_BYTES, PIECE_BYTES, 2 * PIECE_BYTES + STRIPE_BYTES] {
                let mut running = Running::new();
                bytes.chunks(part).for_each(|part| running.absorb(part));
                assert_eq!(running.finish(), of_pieces(&bytes), "{length} in parts of {part}");
            }
        }
        assert_eq!(of_pieces(&sample(777)), checksum(&sample(777)));
        for length in [0, 1, PIECE_BYTES, PIECE_BYTES + 777, 3 * PIECE_BYTES] {
            assert_eq!(block_checksum(&sample(length)), of_pieces(&sample(length)));
        }
    }

    #[test]
    fn two_pieces_that_change_places_change_the_checksum() {
        let bytes = sample(2 * PIECE_BYTES);
        let (first, second) = bytes.split_at(PIECE_BYTES);
        assert_ne!(of_pieces(&bytes), of_pieces(&[second, first].concat()));
    }

    #[test]
    fn a_copy_masks_and_checks_the_side_that_was_asked_for() {
        for length in [0, 1, 3, 255, 256, 257, 1000, 4096, 65_537, 200_001] {
            let plain = sample(length);
            let (mut masked, mut back) = (vec![0; length], vec![1; length]);
            let mut leaving = Running::new();
            leaving.copy(&plain, &mut masked, 0xA5C3_0F69, Side::Source);
            assert_eq!(leaving.finish(), of_pieces(&plain));
            assert!(length < 4 || masked != plain);
            let mut arriving = Running::new();
            arriving.copy(&masked, &mut back, 0xA5C3_0F69, Side::Target);
            assert_eq!((arriving.finish(), &back), (of_pieces(&plain), &plain));
            let (mut portable, mut again) = (first_lanes(), vec![0; length]);
            copy_portable(&mut portable, &plain, &mut again, [0, 0xA5C3_0F69]);
            let summed = folded(&portable, length as u64);
            assert_eq!((summed, again), (checksum(&plain), masked));
        }
    }
}
