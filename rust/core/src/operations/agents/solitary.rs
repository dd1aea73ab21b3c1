//! The life of an agent without neighbours: the same source for the process and for its check.

/// Words of a report: key, steps, position (x low, y high), and a digest of the whole way.
pub const REPORT_WORDS: usize = 4;

/// xoshiro128++ (Blackman and Vigna, "Scrambled Linear Pseudorandom Number Generators", ACM TOMS
/// 2021): the next word, and the state after it.
#[inline(always)]
pub const fn next_word(state: [u32; 4]) -> (u32, [u32; 4]) {
    let [s0, mut s1, mut s2, mut s3] = state;
    let word = s0.wrapping_add(s3).rotate_left(7).wrapping_add(s0);
    let shifted = s1 << 9;
    s2 ^= s0;
    s3 ^= s1;
    s1 ^= s2;
    let s0 = s0 ^ s3;
    s2 ^= shifted;
    (word, [s0, s1, s2, s3.rotate_left(11)])
}

/// The finaliser of SplitMix64 (Steele et al., OOPSLA 2014).
#[inline(always)]
pub const fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// Walks `steps` steps at random from a place that `key` decides, and reports.
pub fn live(key: u64, steps: u32) -> [u64; REPORT_WORDS] {
    let (first, second) = (mixed(key ^ 0x6167_656E_7473), mixed(key.wrapping_add(1)));
    let (mut x, mut y) = (first as u32, (first >> 32) as u32);
    let mut state = [second as u32, (second >> 32) as u32, x ^ 0x9E37_79B9, y | 1];
    let mut digest = 0u64;
    for _ in 0..steps {
        let word;
        (word, state) = next_word(state);
        x = x.wrapping_add(word & 0xFFFF).wrapping_sub(0x8000);
        y = y.wrapping_add(word >> 16).wrapping_sub(0x8000);
        digest = digest.rotate_left(5) ^ (u64::from(x) | u64::from(y) << 32);
    }
    [key, steps as u64, x as u64 | (y as u64) << 32, mixed(digest)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_published_words() {
        // First outputs of xoshiro128plusplus.c for the state {1, 2, 3, 4}.
        let mut state = [1, 2, 3, 4];
        let mut words = [0; 4];
        for word in &mut words {
            (*word, state) = next_word(state);
        }
        assert_eq!(words, [641, 1_573_767, 3_222_811_527, 3_517_856_514]);
    }

    #[test]
    fn every_step_and_every_key_changes_the_report() {
        let report = live(7, 1000);
        assert_eq!(report[..2], [7, 1000]);
        for other in [live(8, 1000), live(7, 1001), live(7, 999)] {
            assert!(report[2..].iter().zip(&other[2..]).all(|(left, right)| left != right));
        }
    }
}
