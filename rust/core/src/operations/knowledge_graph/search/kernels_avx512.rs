//! Byte dot products with AVX-512 VNNI: a tile's sixteen lanes at once, tiles and queries blocked.

use std::arch::x86_64::*;

use super::codes::{Line, TILE};
use super::kernels::{Asked, Hit, QUERIES};

/// Dot products of `T` tiles from line `first` on with `Q` queries.
///
/// # Safety
/// Needs AVX-512 F, BW and VNNI, `first + T * groups` lines and `2 * groups` words a query.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn block<const T: usize, const Q: usize>(
    lines: *const Line,
    groups: usize,
    queries: [*const i32; Q],
) -> [[__m512i; Q]; T] {
    let mask = _mm512_set1_epi8(15);
    let mut sums = [[_mm512_setzero_si512(); Q]; T];
    for group in 0..groups {
        let (mut low, mut high) = ([mask; T], [mask; T]);
        for tile in 0..T {
            // SAFETY: the caller vouches for T * groups lines, each 64 bytes aligned to 64.
            let bytes =
                unsafe { _mm512_load_si512(lines.add(tile * groups + group).cast::<__m512i>()) };
            low[tile] = _mm512_and_si512(bytes, mask);
            high[tile] = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask);
        }
        for query in 0..Q {
            // SAFETY: the caller vouches for 2 * groups words.
            let (first, second) = unsafe {
                let words = queries[query].add(2 * group);
                (_mm512_set1_epi32(*words), _mm512_set1_epi32(*words.add(1)))
            };
            for tile in 0..T {
                let sum = _mm512_dpbusd_epi32(sums[tile][query], low[tile], first);
                sums[tile][query] = _mm512_dpbusd_epi32(sum, high[tile], second);
            }
        }
    }
    sums
}

/// Dot products of one tile with one query.
///
/// # Safety
/// Needs AVX-512 F, BW and VNNI and `query.len() == 2 * tile.len()`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub unsafe fn dots(tile: &[Line], query: &[i32]) -> [i32; TILE] {
    let mut sums = [0; TILE];
    // SAFETY: one tile of tile.len() lines and twice as many words; sums holds sixteen words.
    unsafe {
        let [[lanes]] = block::<1, 1>(tile.as_ptr(), tile.len(), [query.as_ptr()]);
        _mm512_storeu_si512(sums.as_mut_ptr().cast::<__m512i>(), lanes);
    }
    sums
}

/// Which of sixteen dot products are at least `least`.
///
/// # Safety
/// Needs AVX-512 F and sixteen words.
#[target_feature(enable = "avx512f")]
pub unsafe fn at_least(dots: &[i32], least: i32) -> u16 {
    // SAFETY: the caller vouches for sixteen words.
    let dots = unsafe { _mm512_loadu_si512(dots.as_ptr().cast::<__m512i>()) };
    _mm512_cmpge_epi32_mask(dots, _mm512_set1_epi32(least))
}

/// Tiles whose sums are in flight together: enough to fill the wait of each for its last product.
const TOGETHER: usize = 4;

/// Dot products of the whole codes of all tiles with one query.
///
/// # Safety
/// Needs AVX-512 F, BW and VNNI; planes of the same whole tiles of `query.len() / 2` lines, and
/// sixteen sums a tile.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub unsafe fn whole_dots(high: &[Line], low: &[Line], query: &[i32], sums: &mut [i32]) {
    let groups = query.len() / 2;
    let tiles = high.len() / groups;
    let mut tile = 0;
    while tile < tiles {
        let (first, out) = (tile * groups, tile * TILE);
        // SAFETY: tiles up to the step's end lie in both planes, their lanes in `sums`.
        tile += unsafe {
            let planes = [high.as_ptr().add(first), low.as_ptr().add(first)];
            let sums = sums.as_mut_ptr().add(out);
            if tile + TOGETHER <= tiles {
                whole_block::<TOGETHER>(planes, groups, query.as_ptr(), sums)
            } else {
                whole_block::<1>(planes, groups, query.as_ptr(), sums)
            }
        };
    }
}

/// Writes the dot products of `T` tiles; returns `T`.
///
/// # Safety
/// Needs AVX-512 F, BW and VNNI; `T * groups` lines in either plane, `2 * groups` words, and room
/// for `16 * T` sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn whole_block<const T: usize>(
    [high, low]: [*const Line; 2],
    groups: usize,
    query: *const i32,
    out: *mut i32,
) -> usize {
    let lower = _mm512_set1_epi8(15);
    let mut sums = [_mm512_setzero_si512(); T];
    for group in 0..groups {
        // SAFETY: the caller vouches for 2 * groups words.
        let (first, second) = unsafe {
            let words = query.add(2 * group);
            (_mm512_set1_epi32(*words), _mm512_set1_epi32(*words.add(1)))
        };
        for (tile, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller vouches for T * groups lines, each 64 bytes aligned to 64.
            let (high, low) = unsafe {
                let line = tile * groups + group;
                (
                    _mm512_load_si512(high.add(line).cast::<__m512i>()),
                    _mm512_load_si512(low.add(line).cast::<__m512i>()),
                )
            };
            // 0xCA: where the first operand's bit is set the second's, else the third's.
            let front = _mm512_ternarylogic_epi32::<0xCA>(lower, low, _mm512_slli_epi16::<4>(high));
            let back = _mm512_ternarylogic_epi32::<0xCA>(lower, _mm512_srli_epi16::<4>(low), high);
            *sum = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(*sum, front, first), back, second);
        }
    }
    for (tile, sum) in sums.into_iter().enumerate() {
        // SAFETY: the caller vouches for room for 16 * T sums.
        unsafe { _mm512_storeu_si512(out.add(tile * TILE).cast::<__m512i>(), sum) };
    }
    T
}

/// Appends a hit for every (tile, query) with a lane at or above the query's threshold.
///
/// # Safety
/// Needs AVX-512 F, BW and VNNI, whole tiles of `groups` lines and `2 * groups` words a query.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub unsafe fn filter(plane: &[Line], groups: usize, asked: &Asked<'_>, hits: &mut Vec<Hit>) {
    // SAFETY: as the caller vouches.
    unsafe {
        if asked.count == 1 {
            let done = pass::<4, 1>(plane, groups, 0, asked, hits);
            pass::<1, 1>(plane, groups, done, asked, hits);
        } else {
            let done = pass::<2, QUERIES>(plane, groups, 0, asked, hits);
            pass::<1, QUERIES>(plane, groups, done, asked, hits);
        }
    }
}

/// Filters tiles from `first` on in blocks of `T`; returns the first tile that was left over.
///
/// # Safety
/// As `filter`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn pass<const T: usize, const Q: usize>(
    plane: &[Line],
    groups: usize,
    first: usize,
    asked: &Asked<'_>,
    hits: &mut Vec<Hit>,
) -> usize {
    let mut queries = [asked.queries[0].as_ptr(); Q];
    let mut thresholds = [_mm512_set1_epi32(i32::MAX); Q];
    for query in 0..Q.min(asked.count) {
        queries[query] = asked.queries[query].as_ptr();
        thresholds[query] = _mm512_set1_epi32(asked.thresholds[query]);
    }
    let end = plane.len() / groups;
    let mut tile = first;
    while tile + T <= end {
        // SAFETY: tiles up to tile + T lie in the plane.
        let sums = unsafe { block::<T, Q>(plane.as_ptr().add(tile * groups), groups, queries) };
        for (step, sums) in sums.iter().enumerate() {
            for query in 0..Q {
                let lanes = _mm512_cmpge_epi32_mask(sums[query], thresholds[query]);
                if lanes != 0 {
                    hits.push(Hit { tile: (tile + step) as u32, query: query as u16, lanes });
                }
            }
        }
        tile += T;
    }
    tile
}

/// For each lane of a tile the query with the largest `32 · dot + bias`, the first of equals.
///
/// # Safety
/// Needs AVX-512 F, BW and VNNI and `2 * tile.len()` words for each bias.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub unsafe fn nearest(tile: &[Line], queries: &[i32], biases: &[i32]) -> [u32; TILE] {
    const STEP: usize = 8;
    let groups = tile.len();
    let mut best = _mm512_set1_epi32(i32::MIN);
    let mut winners = _mm512_setzero_si512();
    for first in (0..biases.len()).step_by(STEP) {
        let mut words = [queries.as_ptr(); STEP];
        let count = STEP.min(biases.len() - first);
        for (step, words) in words.iter_mut().enumerate().take(count) {
            // SAFETY: query first + step has its 2 * groups words in the slice.
            *words = unsafe { queries.as_ptr().add((first + step) * 2 * groups) };
        }
        // SAFETY: one tile; each pointer has 2 * groups words.
        let [sums] = unsafe { block::<1, STEP>(tile.as_ptr(), groups, words) };
        for step in 0..count {
            let bias = _mm512_set1_epi32(biases[first + step]);
            let score = _mm512_add_epi32(_mm512_slli_epi32::<5>(sums[step]), bias);
            let better = _mm512_cmpgt_epi32_mask(score, best);
            best = _mm512_mask_mov_epi32(best, better, score);
            let index = _mm512_set1_epi32((first + step) as i32);
            winners = _mm512_mask_mov_epi32(winners, better, index);
        }
    }
    let mut lanes = [0; TILE];
    // SAFETY: sixteen words.
    unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast::<__m512i>(), winners) };
    lanes
}
