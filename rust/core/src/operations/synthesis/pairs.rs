//! Which pairs of neighbouring bytes the windows of byte patterns admit, for 64 positions at once.
//!
//! Bytes fall into 64 classes, the common ones into one of their own. Whether some window has two
//! classes one after the other is a bit of a table of 4096, which eight registers hold: looking 64
//! pairs up takes four permutations of two registers (VBMI), so a position costs 0.03 ns a
//! pair. Of a window's three pairs the first ones are looked at, as many as pay.

use super::sieve::{WINDOW, Window};

/// Classes of bytes.
const CLASSES: usize = 64;
/// Pairs of neighbours in a window.
pub const LINKS: usize = WINDOW - 1;

/// Time of a look at one pair of a position, in about nanoseconds.
const PAIR_COST: f64 = 0.03;

/// The classes of bytes, and how often each is to be expected.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Alphabet {
    pub classes: [u8; 256],
    shares: [f64; CLASSES],
}

impl Alphabet {
    /// For texts in which bytes have these shares.
    pub fn new(shares: &[f64; 256]) -> Self {
        let mut ordered: Vec<usize> = (0..256).collect();
        ordered.sort_by(|&left, &right| shares[right].total_cmp(&shares[left]));
        let mut made = Self { classes: [0; 256], shares: [0.0; CLASSES] };
        for byte in ordered {
            let least =
                made.shares.iter().enumerate().min_by(|left, right| left.1.total_cmp(right.1));
            let class = least.map_or(0, |(class, _)| class);
            made.classes[byte] = class as u8;
            made.shares[class] += shares[byte];
        }
        made
    }
}

/// The tables of a set of windows.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Pairs {
    pub alphabet: Alphabet,
    /// For each pair of a window, by the upper three bits of the latter's class and the former's,
    /// a bit for each of the lower three bits of the latter's.
    pub admitted: [[[u8; CLASSES]; 8]; LINKS],
    /// Pairs that are looked at.
    pub links: usize,
    /// The share of positions that pass, were neighbouring bytes independent.
    pub passing: f64,
}

impl Pairs {
    /// The tables of some windows, where a position that passes takes so many nanoseconds more.
    pub fn new(windows: &[Window], alphabet: &Alphabet, passed_cost: f64) -> Self {
        let mut admitted = [[[0; CLASSES]; 8]; LINKS];
        for window in windows {
            let bytes = window.bytes.to_le_bytes();
            let classes = |place: usize| {
                let class = usize::from(alphabet.classes[usize::from(bytes[place])]);
                let is_demanded = window.demanded >> (8 * place) & 0xFF != 0;
                if is_demanded { class..class + 1 } else { 0..CLASSES }
            };
            for (link, table) in admitted.iter_mut().enumerate() {
                for latter in classes(link + 1) {
                    for former in classes(link) {
                        table[latter / 8][former] |= 1 << (latter % 8);
                    }
                }
            }
        }
        let mut made = Self { alphabet: alphabet.clone(), admitted, links: 0, passing: 1.0 };
        let passing = made.all_passing();
        for (links, &passing) in (1..).zip(&passing) {
            let cost =
                |links: usize, passing: f64| PAIR_COST * links as f64 + passing * passed_cost;
            if cost(links, passing) < cost(made.links, made.passing) {
                (made.links, made.passing) = (links, passing);
            }
        }
        made
    }

    /// The shares of positions that pass after one, two and three pairs.
    fn all_passing(&self) -> [f64; LINKS] {
        let shares = &self.alphabet.shares;
        let mut reached = *shares;
        std::array::from_fn(|link| {
            let table = &self.admitted[link];
            reached = std::array::from_fn(|latter| {
                let row = &table[latter / 8];
                let formers = (0..CLASSES).filter(|&former| row[former] >> (latter % 8) & 1 != 0);
                shares[latter] * formers.map(|former| reached[former]).sum::<f64>()
            });
            reached.iter().sum()
        })
    }

    /// Nanoseconds of a position, about.
    pub fn cost(&self, passed_cost: f64) -> f64 {
        PAIR_COST * self.links as f64 + self.passing * passed_cost
    }
}

#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
#[allow(clippy::incompatible_msrv, reason = "build.rs leaves it out before Rust 1.89")]
pub mod x86 {
    use std::arch::x86_64::*;

    use super::{CLASSES, Pairs};

    impl Pairs {
        /// Bits of the 64 positions from `text` on that pass.
        ///
        /// # Safety
        /// Needs AVX-512 F, BW and VBMI, and 67 bytes at `text`.
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
        pub unsafe fn look(&self, text: *const u8) -> u64 {
            // SAFETY: 64 bytes at most three behind `text`.
            let mut former = unsafe { self.classes(_mm512_loadu_si512(text.cast())) };
            let mut left = u64::MAX;
            for link in 0..self.links {
                // SAFETY: as above.
                let latter = unsafe { self.classes(_mm512_loadu_si512(text.add(link + 1).cast())) };
                left &= self.admit(link, former, latter);
                former = latter;
            }
            left
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
        fn classes(&self, bytes: __m512i) -> __m512i {
            let quarter = |at: usize| {
                // SAFETY: one of the four quarters of 256 bytes.
                unsafe { _mm512_load_si512(self.alphabet.classes.as_ptr().add(at).cast()) }
            };
            let lower = _mm512_permutex2var_epi8(quarter(0), bytes, quarter(64));
            let upper = _mm512_permutex2var_epi8(quarter(128), bytes, quarter(192));
            _mm512_mask_blend_epi8(_mm512_movepi8_mask(bytes), lower, upper)
        }

        /// Bits of the places at which a pair of classes is admitted.
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
        fn admit(&self, link: usize, former: __m512i, latter: __m512i) -> u64 {
            const BITS: i64 = i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]);
            let row = |number: usize| {
                // SAFETY: a row of 64 bytes of a table that is aligned to 64.
                unsafe { _mm512_load_si512(self.admitted[link][number].as_ptr().cast()) }
            };
            const { assert!(CLASSES == 64, "a row is a register") };
            // A permutation takes the former's six bits and the fourth bit of the latter.
            let fourth = _mm512_and_si512(_mm512_slli_epi16::<3>(latter), _mm512_set1_epi8(64));
            let index = _mm512_or_si512(former, fourth);
            let eighth =
                |number: usize| _mm512_permutex2var_epi8(row(number), index, row(number + 1));
            let fifth = _mm512_test_epi8_mask(latter, _mm512_set1_epi8(16));
            let sixth = _mm512_test_epi8_mask(latter, _mm512_set1_epi8(32));
            let low = _mm512_mask_blend_epi8(fifth, eighth(0), eighth(2));
            let high = _mm512_mask_blend_epi8(fifth, eighth(4), eighth(6));
            let bit = _mm512_shuffle_epi8(_mm512_set1_epi64(BITS), latter);
            _mm512_test_epi8_mask(_mm512_mask_blend_epi8(sixth, low, high), bit)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::operations::instructions::InstructionSet;

    fn any_pairs(bytes: u32) -> impl Strategy<Value = (Vec<Window>, Pairs)> {
        let window = (any::<u32>(), 0u32..16).prop_map(move |(drawn, demanded)| Window {
            bytes: u32::from_le_bytes(drawn.to_le_bytes().map(|byte| byte % bytes as u8)),
            demanded: (0..4).fold(0, |mask, at| mask | ((demanded >> at & 1) * (0xFF << (8 * at)))),
        });
        prop::collection::vec(window, 1..40).prop_map(|windows| {
            let shares = std::array::from_fn(|byte| 1.0 / (2.0 + byte as f64));
            let pairs = Pairs::new(&windows, &Alphabet::new(&shares), 10.0);
            (windows, pairs)
        })
    }

    proptest! {
        #[test]
        fn no_window_is_missed_and_the_look_is_that_of_the_tables(
            (windows, pairs) in any_pairs(251),
            mut text in prop::collection::vec(0u8..251, 67),
            at in 0usize..64,
        ) {
            let admits = |link: usize, place: usize| {
                let [former, latter] = [place, place + 1]
                    .map(|place| usize::from(pairs.alphabet.classes[usize::from(text[place])]));
                pairs.admitted[link][latter / 8][former] >> (latter % 8) & 1 != 0
            };
            let passes = |place: usize| (0..pairs.links).all(|link| admits(link, place + link));
            let bits = (0..64).fold(0u64, |bits, place| bits | u64::from(passes(place)) << place);
            let by_registers = |text: &[u8]| match InstructionSet::best() {
                // SAFETY: the set was detected, and the text has 67 bytes.
                #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
                InstructionSet::Avx512Vnni => Some(unsafe { pairs.look(text.as_ptr()) }),
                _ => None,
            };
            prop_assert_eq!(by_registers(&text).unwrap_or(bits), bits);
            text[at..at + WINDOW].copy_from_slice(&windows[0].bytes.to_le_bytes());
            prop_assert!(by_registers(&text).is_none_or(|bits| bits >> at & 1 != 0));
        }
    }

    #[test]
    fn common_bytes_have_classes_of_their_own_and_shares_add_up() {
        let shares = std::array::from_fn(|byte| if byte < 40 { 1.0 } else { 0.01 });
        let alphabet = Alphabet::new(&shares);
        let mut own = alphabet.classes[..40].to_vec();
        own.sort_unstable();
        own.dedup();
        assert_eq!(own.len(), 40);
        let [given, classed] = [shares.iter().sum::<f64>(), alphabet.shares.iter().sum()];
        assert!((given - classed).abs() < 1e-9);
    }
}
