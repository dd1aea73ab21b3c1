//! Counter-based random numbers: Philox4x32-10, the same bits on every machine and thread.
//!
//! Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011. Anything that a
//! seed decides (arrivals, op mixes, inputs) is a pure function of (seed, domain, counter), so the
//! order in which threads ask never matters.

pub(crate) const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
pub(crate) const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Philox4x32-10 of one 128-bit counter under one 64-bit key.
#[inline]
#[must_use]
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let low = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let high = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (high >> 32) as u32 ^ counter[1] ^ key[0],
            high as u32,
            (low >> 32) as u32 ^ counter[3] ^ key[1],
            low as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// The two 64-bit draws of each of `N` blocks of a stream, from block `first` on: all first draws,
/// then all second ones. Each round is taken for all blocks before the next.
#[inline(always)]
pub(crate) fn philox_blocks<const N: usize>(key: [u32; 2], first: u64, high: u64) -> [[u64; N]; 2] {
    const LOW: u64 = u32::MAX as u64;
    let counters: [u64; N] = std::array::from_fn(|block| first.wrapping_add(block as u64));
    let mut words = [counters, counters.map(|word| word >> 32), [high; N], [high >> 32; N]];
    let mut key = key;
    for _ in 0..10 {
        let low = words[0].map(|word| u64::from(MULTIPLIERS[0]) * (word & LOW));
        let high = words[2].map(|word| u64::from(MULTIPLIERS[1]) * (word & LOW));
        words = [
            std::array::from_fn(|at| high[at] >> 32 ^ words[1][at] & LOW ^ u64::from(key[0])),
            high,
            std::array::from_fn(|at| low[at] >> 32 ^ words[3][at] & LOW ^ u64::from(key[1])),
            low,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    let draws =
        |word: usize| std::array::from_fn(|at| words[word][at] & LOW | words[word + 1][at] << 32);
    [draws(0), draws(2)]
}

/// The key of one independent stream: `seed` and a `domain` (which use of randomness this is).
///
/// SplitMix64's finaliser (Steele et al., OOPSLA 2014) over both words.
#[must_use]
pub fn stream_key(seed: u64, domain: u64) -> [u32; 2] {
    let mut mixed = seed ^ domain.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17);
    mixed = mixed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    [mixed as u32, (mixed >> 32) as u32]
}

/// A sequential reader of one stream; two 64-bit draws per Philox block.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    high: u64,
    next: u64,
    spare: Option<u64>,
}

impl Stream {
    /// The stream of (`key`, `high`): `high` is the upper half of the counter (an op, a lane).
    #[must_use]
    pub fn new(key: [u32; 2], high: u64) -> Self {
        Self { key, high, next: 0, spare: None }
    }

    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        let [first, second] = self.next_block();
        self.spare = Some(second);
        first
    }

    /// The two draws of the next block; a single draw left over by `next_u64` stays where it is.
    #[inline]
    pub(crate) fn next_block(&mut self) -> [u64; 2] {
        let counter = [
            self.next as u32,
            (self.next >> 32) as u32,
            self.high as u32,
            (self.high >> 32) as u32,
        ];
        self.next += 1;
        let block = philox(counter, self.key);
        [
            u64::from(block[0]) | u64::from(block[1]) << 32,
            u64::from(block[2]) | u64::from(block[3]) << 32,
        ]
    }

    /// Passes over `count` blocks; returns what draws them: key, number of the first, upper half of
    /// the counter. A single draw left over by `next_u64` stays where it is.
    #[inline]
    pub(crate) fn skip_blocks(&mut self, count: u64) -> ([u32; 2], u64, u64) {
        let first = self.next;
        self.next += count;
        (self.key, first, self.high)
    }

    /// Uniform in [0, 1), 53 bits.
    #[inline]
    pub fn next_unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in [0, `bound`) by multiplication (Lemire, ACM TOMACS 2019, without rejection: the
    /// bias is below `bound` / 2^64).
    #[inline]
    pub fn next_below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_answers() {
        // Known-answer vectors of the Random123 distribution (kat_vectors, philox4x32 10).
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn streams_of_different_domains_share_no_draw() {
        let mut first = Stream::new(stream_key(7, 1), 0);
        let mut second = Stream::new(stream_key(7, 2), 0);
        let drawn: Vec<u64> = (0..64).map(|_| first.next_u64()).collect();
        assert!((0..64).all(|_| !drawn.contains(&second.next_u64())));
    }
}
