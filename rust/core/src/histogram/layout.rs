//! Which bucket a latency falls into: HdrHistogram's layout for 3 significant digits from 1 ns up.
//!
//! Source: Tene, HdrHistogram. Values below 2048 ns have a bucket of their own; above, each
//! doubling is cut into 1024 buckets, so a bucket is never wider than 1/1024 of its values. The
//! position of a value does not depend on the range, so encodings of any range interoperate. Under
//! the model checker, which follows every bucket, there are four blocks of four.

/// Significant decimal digits kept of every value.
pub const SIGNIFICANT_DIGITS: i32 = 3;
/// The largest value told apart, in nanoseconds (one hour); what is beyond it saturates.
pub const HIGHEST_NS: u64 = if cfg!(loom) { 31 } else { 3_600_000_000_000 };

/// log2 of the buckets that one doubling is cut into.
pub(super) const BLOCK_BITS: u32 = if cfg!(loom) { 2 } else { 10 };
pub(super) const BLOCK: usize = 1 << BLOCK_BITS;
/// Blocks from 0 ns to beyond `HIGHEST_NS`: two of the first 2048 ns, one for each doubling more.
pub(super) const BLOCKS: usize = if cfg!(loom) { 4 } else { 33 };
/// Buckets in all: HdrHistogram's counts array length for this range.
pub const BUCKETS: usize = BLOCKS * BLOCK;

/// The bucket of `value_ns`; beyond `BUCKETS` where it is far beyond `HIGHEST_NS`.
#[inline]
pub(super) fn index_of(value_ns: u64) -> usize {
    let doubling = 63 - BLOCK_BITS - (value_ns | (2 * BLOCK as u64 - 1)).leading_zeros();
    (doubling as usize) * BLOCK + (value_ns >> doubling) as usize
}

/// The smallest value of bucket `index`, in nanoseconds.
pub(super) fn lowest_of(index: usize) -> u64 {
    let doubling = doubling_of(index);
    ((index - doubling as usize * BLOCK) as u64) << doubling
}

/// The largest value of bucket `index`, in nanoseconds.
pub(super) fn highest_of(index: usize) -> u64 {
    lowest_of(index) + (1u64 << doubling_of(index)) - 1
}

/// The value that stands for all of bucket `index` in a mean, in nanoseconds.
pub(super) fn median_of(index: usize) -> u64 {
    lowest_of(index) + ((1u64 << doubling_of(index)) >> 1)
}

fn doubling_of(index: usize) -> u32 {
    (index >> BLOCK_BITS).saturating_sub(1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_maps_back_to_itself_and_borders_on_the_next() {
        for index in 0..=index_of(HIGHEST_NS) {
            assert_eq!(index_of(lowest_of(index)), index);
            assert_eq!(index_of(highest_of(index)), index);
            assert_eq!(highest_of(index) + 1, lowest_of(index + 1));
        }
    }

    #[test]
    fn no_bucket_is_wider_than_a_thousandth_of_its_values() {
        for index in 0..=index_of(HIGHEST_NS) {
            assert!((highest_of(index) - lowest_of(index)) * 1000 <= lowest_of(index));
        }
    }

    #[test]
    fn the_highest_value_has_a_bucket() {
        assert!(index_of(HIGHEST_NS) < BUCKETS);
        assert_eq!(index_of(HIGHEST_NS) >> BLOCK_BITS, BLOCKS - 1);
    }
}
