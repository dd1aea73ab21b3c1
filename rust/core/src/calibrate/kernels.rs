//! The inner loops of the memory and arithmetic probes, by instruction set, with portable ones.
//!
//! AVX-512 is written as assembly on named registers: its intrinsics are younger than the oldest
//! supported compiler.

#[cfg(target_arch = "x86_64")]
use super::x86;

/// Floats that one thread's arithmetic loop keeps in registers: 12 vectors of 16.
///
/// Two fused units of latency 4 to 5 need 8 to 10 independent chains.
pub const LANES: usize = 12 * 16;

/// What every arithmetic step multiplies by and adds; the lanes tend to `ADDEND / (1 - FACTOR)`,
/// so no value ever overflows or turns denormal.
pub const FACTOR: f32 = 0.75;
pub const ADDEND: f32 = 0.25;

/// The sum of `words`, wrapping, by the widest loads that the machine has.
#[must_use]
pub fn read(words: &[u64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the instruction set was just detected.
            return unsafe { x86::read_avx512(words) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the instruction set was just detected.
            return unsafe { x86::read_avx2(words) };
        }
    }
    read_portable(words)
}

#[inline(always)]
pub fn read_portable(words: &[u64]) -> u64 {
    let mut sums = [0_u64; 32];
    let blocks = words.chunks_exact(sums.len());
    let rest: u64 = blocks.remainder().iter().fold(0, |sum, word| sum.wrapping_add(*word));
    for block in blocks {
        for (sum, word) in sums.iter_mut().zip(block) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().fold(rest, |sum, word| sum.wrapping_add(*word))
}

/// Copies past the caches where the machine can (`target` as long as `source`, whole lines).
pub fn copy_streaming(target: &mut [u64], source: &[u64]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the instruction set was just detected.
        unsafe { x86::copy_avx2(target, source) };
        return;
    }
    target.copy_from_slice(source);
}

/// Writes `value` everywhere past the caches where the machine can (whole lines).
pub fn fill_streaming(target: &mut [u64], value: u64) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the instruction set was just detected.
        unsafe { x86::fill_avx2(target, value) };
        return;
    }
    target.fill(value);
}

/// Lines asked for ahead of their loads: more than any core can have in flight, fewer than its
/// first-level cache holds.
const AHEAD: usize = 128;

/// Loads one word of `count` random 64-byte lines, each asked for `AHEAD` lines early and at an
/// address that depends on no load; returns their sum and the next state.
///
/// Plain independent loads reach a third of it: the reordering window fills before the memory does.
#[must_use]
pub fn read_random(words: &[u64], mut state: [u64; 4], count: usize) -> (u64, [u64; 4]) {
    let lines = (words.len() / 8) as u64;
    let mut pending = [0_usize; AHEAD];
    let mut sum = 0_u64;
    for load in 0..count + AHEAD {
        let slot = load % AHEAD;
        if load >= AHEAD {
            sum = sum.wrapping_add(words[pending[slot]]);
        }
        if load < count {
            let state = &mut state[load % 4];
            // Knuth's MMIX generator; its upper half is random enough to defeat prefetching.
            *state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            pending[slot] = (((*state >> 32) * lines) >> 32) as usize * 8;
            prefetch(&words[pending[slot]]);
        }
    }
    (sum, state)
}

#[inline(always)]
fn prefetch(word: &u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint about a mapped address; part of the x86-64 baseline.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(word).cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a hint about a mapped address.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{at}]", at = in(reg) word, options(nostack, readonly));
    }
}

/// Applies `lane = lane * FACTOR + ADDEND` `steps` times to every lane: 2 operations each.
pub fn fused(lanes: &mut [f32; LANES], steps: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the instruction set was just detected.
            return unsafe { x86::fused_avx512(lanes, steps) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the instruction sets were just detected.
            return unsafe { x86::fused_avx2(lanes, steps) };
        }
    }
    fused_portable(lanes, steps);
}

fn fused_portable(lanes: &mut [f32; LANES], steps: usize) {
    // 32 lanes at a time: eight 4-float registers, which every target has to spare.
    for group in lanes.chunks_exact_mut(32) {
        let mut held = [0.0_f32; 32];
        held.copy_from_slice(group);
        for _ in 0..steps {
            for lane in &mut held {
                *lane = multiply_add(*lane);
            }
        }
        group.copy_from_slice(&held);
    }
}

#[cfg(target_arch = "aarch64")]
fn multiply_add(lane: f32) -> f32 {
    lane.mul_add(FACTOR, ADDEND)
}

/// Without a fused instruction `mul_add` is a library call; two roundings are what such a machine
/// does.
#[cfg(not(target_arch = "aarch64"))]
fn multiply_add(lane: f32) -> f32 {
    lane * FACTOR + ADDEND
}

#[cfg(test)]
mod tests {
    use super::super::region::Region;
    use super::*;
    use crate::random::Stream;

    fn random_words(count: usize) -> Vec<u64> {
        let mut stream = Stream::new([1, 2], 3);
        (0..count).map(|_| stream.next_u64()).collect()
    }

    #[test]
    fn every_reading_loop_gives_the_plain_sum() {
        for count in [0, 1, 31, 32, 33, 4_096, 4_099] {
            let words = random_words(count);
            let plain = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word));
            assert_eq!(read(&words), plain);
            assert_eq!(read_portable(&words), plain);
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the instruction set was just detected.
                assert_eq!(unsafe { x86::read_avx2(&words) }, plain);
            }
        }
    }

    #[test]
    fn streaming_stores_leave_what_was_written() {
        let mut source = Region::map(8_192, false).unwrap();
        let mut target = Region::map(8_192, false).unwrap();
        source.words().copy_from_slice(&random_words(1_024));
        copy_streaming(target.words(), source.words());
        assert_eq!(target.words(), source.words());
        fill_streaming(target.words(), 0x0123_4567_89AB_CDEF);
        assert!(target.words().iter().all(|word| *word == 0x0123_4567_89AB_CDEF));
    }

    #[test]
    fn random_loads_stay_inside_and_reach_nearly_every_line() {
        let words: Vec<u64> = (0..256 * 8).map(|word| u64::from(word % 8 == 0)).collect();
        let (sum, state) = read_random(&words, [1, 2, 3, 4], 4_000);
        assert_eq!(sum, 4_000);
        let mut seen = vec![0_u64; 256];
        for line in 0..256 {
            let mut only = vec![0_u64; 256 * 8];
            only[line * 8] = 1;
            seen[line] = read_random(&only, state, 4_000).0;
        }
        assert_eq!(seen.iter().sum::<u64>(), 4_000);
        assert!(seen.iter().all(|hits| *hits > 0), "{seen:?}");
    }

    #[test]
    fn every_arithmetic_loop_follows_the_recurrence() {
        let start: [f32; LANES] = std::array::from_fn(|lane| lane as f32 / 16.0);
        let loops: Vec<fn(&mut [f32; LANES], usize)> = vec![fused, fused_portable, fused_by_avx2];
        for steps in [0, 1, 7] {
            let expected =
                start.map(|lane| (0..steps).fold(lane, |value, _| value.mul_add(FACTOR, ADDEND)));
            for run in &loops {
                let mut lanes = start;
                run(&mut lanes, steps);
                for (lane, value) in lanes.iter().zip(expected) {
                    // Two roundings instead of one, at most `steps` times.
                    assert!((lane - value).abs() <= 8.0 * f32::EPSILON * value.abs().max(1.0));
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn fused_by_avx2(lanes: &mut [f32; LANES], steps: usize) {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the instruction sets were just detected.
            return unsafe { x86::fused_avx2(lanes, steps) };
        }
        fused_portable(lanes, steps);
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn fused_by_avx2(lanes: &mut [f32; LANES], steps: usize) {
        fused_portable(lanes, steps);
    }
}
