//! What a request's key makes of it: sizes and lifetimes by integers alone, the same bits in NumPy.

use crate::random::{Stream, stream_key};

/// First domain of this component's streams.
const DOMAIN: u64 = 0x4D45_4D00;
const DOMAIN_CONTENT: u64 = DOMAIN + 1;
const DOMAIN_BLOCK: u64 = DOMAIN + 2;
const DOMAIN_ALLOCATION: u64 = DOMAIN + 3;

/// Bits of the fixed-point number of octaves between the least and the largest size.
const OCTAVE_BITS: u32 = 20;
/// 2^f = 1 + f (a + (1 - a) f) for f in [0, 1), off by 0.2 % at most, exact at both ends; in 2^-32.
const POWER_LINEAR: u64 = 0xA810_624E;
/// log2(1 + f) = f (1 + b - b f) for f in [0, 1), off by 0.008 at most; in 2^-32.
const LOGARITHM_CURVE: u64 = 0x58B4_3958;
const ONE: u64 = 1 << 32;
/// Bits of the fixed-point half-life.
pub const HALF_LIFE_BITS: u32 = 16;

/// Sizes between two bounds, each octave as likely as any other.
#[derive(Clone, Copy, Debug)]
pub struct LogUniform {
    least: u64,
    most: u64,
    octaves: u64,
}

impl LogUniform {
    /// Sizes from `least` (positive) to `most`.
    pub fn new(least: u64, most: u64) -> Self {
        let octaves = (most as f64 / least as f64).log2() * f64::from(1 << OCTAVE_BITS);
        Self { least, most, octaves: octaves.round() as u64 }
    }

    /// The size at `position` / 2^32 of the way.
    #[inline]
    pub fn at(&self, position: u32) -> u64 {
        let exponent = u64::from(position) * self.octaves;
        let fraction = (exponent >> OCTAVE_BITS) & (ONE - 1);
        let curve = POWER_LINEAR + (((ONE - POWER_LINEAR) * fraction) >> 32);
        let power = ONE + ((fraction * curve) >> 32);
        let scaled = u128::from(self.least << (exponent >> (32 + OCTAVE_BITS))) * u128::from(power);
        ((scaled >> 32) as u64).min(self.most)
    }

    /// Mean of the sizes.
    pub fn mean(&self) -> f64 {
        let (least, most) = (self.least as f64, self.most as f64);
        if self.most == self.least { least } else { (most - least) / (most / least).ln() }
    }
}

/// What one operation of the storm asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    pub bytes: u64,
    /// Operations of the storm after which it is freed, at least one.
    pub lifetime: u64,
}

/// Draws of one seed.
#[derive(Clone, Copy, Debug)]
pub struct Draws {
    content: [u32; 2],
    block: [u32; 2],
    allocation: [u32; 2],
}

impl Draws {
    pub fn new(seed: u64) -> Self {
        Self {
            content: stream_key(seed, DOMAIN_CONTENT),
            block: stream_key(seed, DOMAIN_BLOCK),
            allocation: stream_key(seed, DOMAIN_ALLOCATION),
        }
    }

    /// Fills `bytes` with the content of block `index`: random, so that no file system gains by
    /// compressing it.
    pub fn fill(&self, index: usize, bytes: &mut [u8]) {
        let mut stream = Stream::new(self.content, index as u64);
        for word in bytes.chunks_mut(8) {
            word.copy_from_slice(&stream.next_u64().to_le_bytes()[..word.len()]);
        }
    }

    /// The block that the operation `key` moves, where it is free to be moved.
    pub fn block(&self, key: u64, blocks: usize) -> usize {
        Stream::new(self.block, key).next_below(blocks as u64) as usize
    }

    /// The allocation of the operation `key`: sizes log-uniform, lifetimes exponential with the
    /// given half-life (in 2^-16 operations), cut at `lifetime_max`.
    #[inline]
    pub fn allocation(
        &self,
        key: u64,
        sizes: &LogUniform,
        half_life: u64,
        lifetime_max: u64,
    ) -> Allocation {
        let [size, life] = Stream::new(self.allocation, key).next_block();
        let scaled = u128::from(halvings(life)) * u128::from(half_life);
        let lifetime = 1 + (scaled >> (32 + HALF_LIFE_BITS)) as u64;
        Allocation { bytes: sizes.at((size >> 32) as u32), lifetime: lifetime.min(lifetime_max) }
    }
}

/// -log2 of a uniform draw, in 2^-32: exponential with a half-life of one.
#[inline]
fn halvings(draw: u64) -> u64 {
    let draw = draw | 1;
    let zeros = u64::from(draw.leading_zeros());
    let fraction = (draw << zeros) << 1 >> 32;
    let curve = ONE + LOGARITHM_CURVE - ((LOGARITHM_CURVE * fraction) >> 32);
    ((zeros + 1) << 32) - ((fraction * (curve >> 1)) >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_their_bounds_and_every_octave_its_share() {
        let sizes = LogUniform::new(1000, 100_000_000);
        assert_eq!(sizes.at(0), 1000);
        assert!(sizes.at(u32::MAX) <= 100_000_000 && sizes.at(u32::MAX) > 99_900_000);
        let below = (0..1000u32).filter(|i| sizes.at(i * 4_294_967) < 10_000_000).count();
        assert!((795..=805).contains(&below), "four of five decades: {below}");
        assert!((0..1000u32).all(|i| sizes.at(i * 4_000_000) <= sizes.at((i + 1) * 4_000_000)));
        assert_eq!(LogUniform::new(4096, 4096).at(12_345), 4096);
    }

    #[test]
    fn lifetimes_are_exponential_with_the_half_life_asked_for() {
        let draws = Draws::new(7);
        let sizes = LogUniform::new(1000, 2000);
        let lives: Vec<u64> = (0..100_000)
            .map(|key| draws.allocation(key, &sizes, 100 << HALF_LIFE_BITS, 65_535).lifetime)
            .collect();
        for (halves, share) in [(1, 0.5), (2, 0.25), (4, 0.0625)] {
            let longer = lives.iter().filter(|life| **life > 100 * halves).count() as f64 / 1e5;
            assert!((longer / share - 1.0).abs() < 0.05, "{longer} live {halves} half-lives");
        }
        let mean = lives.iter().sum::<u64>() as f64 / 1e5;
        assert!((mean / (100.0 / std::f64::consts::LN_2) - 1.0).abs() < 0.02, "{mean}");
    }
}
