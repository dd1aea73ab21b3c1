//! Byte dot products of tiles with queries: several instruction sets, the same integers.
//!
//! A plane is `groups` lines a tile; the dot product of a lane is the sum over its dimensions of
//! half byte (0..15) times signed query byte, exact in 32 bits up to 1 M dimensions.

use super::codes::{Line, TILE};
#[cfg(target_arch = "x86_64")]
use super::kernels_avx2 as avx2;
#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
use super::kernels_avx512 as avx512;
use crate::operations::instructions::InstructionSet;

/// Queries that share one pass over a tile.
pub const QUERIES: usize = 4;

/// Lanes of a tile whose dot product reached the threshold of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    pub tile: u32,
    pub query: u16,
    pub lanes: u16,
}

/// Query words of up to `QUERIES` queries and the threshold of each (`i32::MAX`: not asked).
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub queries: [&'a [i32]; QUERIES],
    pub thresholds: [i32; QUERIES],
    /// Queries from this on are not read at all.
    pub count: usize,
}

/// Kernels are methods of the instructions that they are compiled for.
pub type Kernels = InstructionSet;

impl InstructionSet {
    /// Tiles between two pauses, about 10 to 50 µs of work for `QUERIES` queries of 128 dimensions.
    pub fn chunk_tiles(self) -> usize {
        match self {
            Self::Portable => 16,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 64,
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512 => 64,
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512Vnni => 128,
        }
    }

    /// Dot products of one tile with one query.
    #[inline]
    pub fn dots(self, tile: &[Line], query: &[i32]) -> [i32; TILE] {
        assert!(tile.len() * 2 == query.len(), "a tile and a query of different dimensions");
        match self {
            Self::Portable => portable_dots(tile, query),
            // SAFETY: the set is only made where it was detected; lengths checked.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::dots(tile, query) },
            // SAFETY: as above; a set has all of those before it.
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512 => unsafe { avx2::dots(tile, query) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512Vnni => unsafe { avx512::dots(tile, query) },
        }
    }

    /// Dot products of whole codes with one query, 16 times the high half's plus the low half's:
    /// those of every lane of every tile, in order.
    #[inline]
    pub fn whole_dots(self, planes: [&[Line]; 2], query: &[i32], sums: &mut [i32]) {
        let groups = query.len() / 2;
        let [high, low] = planes;
        assert!(groups > 0 && high.len() % groups == 0 && high.len() == low.len());
        assert!(sums.len() == high.len() / groups * TILE, "as many sums as lanes");
        match self {
            // SAFETY: the set is only made where it was detected; lengths checked.
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512Vnni => unsafe { avx512::whole_dots(high, low, query, sums) },
            other => {
                let tiles = high.chunks_exact(groups).zip(low.chunks_exact(groups));
                for ((high, low), sums) in tiles.zip(sums.chunks_exact_mut(TILE)) {
                    let (coarse, fine) = (other.dots(high, query), other.dots(low, query));
                    for (sum, halves) in sums.iter_mut().zip(coarse.iter().zip(fine)) {
                        *sum = 16 * halves.0 + halves.1;
                    }
                }
            }
        }
    }

    /// Which of the first sixteen dot products are at least `least`.
    #[inline]
    pub fn at_least(self, dots: &[i32], least: i32) -> u16 {
        let dots: &[i32] = &dots[..TILE];
        match self {
            // SAFETY: the set is only made where it was detected; length checked.
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512Vnni => unsafe { avx512::at_least(dots, least) },
            _ => (dots.iter().enumerate())
                .fold(0, |lanes, (lane, &dot)| lanes | u16::from(dot >= least) << lane),
        }
    }

    /// Appends a hit for every (tile, query) with a lane at or above the query's threshold.
    #[inline]
    pub fn filter(self, plane: &[Line], asked: &Asked<'_>, hits: &mut Vec<Hit>) {
        let groups = asked.queries[0].len() / 2;
        assert!(groups > 0 && plane.len() % groups == 0, "a plane of whole tiles");
        assert!(asked.queries.iter().all(|query| query.len() == 2 * groups));
        match self {
            // SAFETY: the set is only made where it was detected; lengths checked.
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512Vnni => unsafe { avx512::filter(plane, groups, asked, hits) },
            other => {
                for (tile, lines) in plane.chunks_exact(groups).enumerate() {
                    for query in 0..asked.count {
                        let dots = other.dots(lines, asked.queries[query]);
                        let mut lanes = 0;
                        for (lane, dot) in dots.iter().enumerate() {
                            lanes |= u16::from(*dot >= asked.thresholds[query]) << lane;
                        }
                        if lanes != 0 {
                            hits.push(Hit { tile: tile as u32, query: query as u16, lanes });
                        }
                    }
                }
            }
        }
    }

    /// For each lane of a tile the query with the largest `32 · dot + bias`, the first of equals.
    pub fn nearest(self, tile: &[Line], queries: &[i32], biases: &[i32]) -> [u32; TILE] {
        let words = 2 * tile.len();
        assert!(queries.len() == words * biases.len(), "as many biases as queries");
        match self {
            // SAFETY: the set is only made where it was detected; lengths checked.
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512Vnni => unsafe { avx512::nearest(tile, queries, biases) },
            other => {
                let (mut best, mut winners) = ([i32::MIN; TILE], [0; TILE]);
                for (index, query) in queries.chunks_exact(words).enumerate() {
                    let dots = other.dots(tile, query);
                    for lane in 0..TILE {
                        let score = 32 * dots[lane] + biases[index];
                        if score > best[lane] {
                            (best[lane], winners[lane]) = (score, index as u32);
                        }
                    }
                }
                winners
            }
        }
    }
}

fn portable_dots(tile: &[Line], query: &[i32]) -> [i32; TILE] {
    let mut sums = [0; TILE];
    for (line, words) in tile.iter().zip(query.chunks_exact(2)) {
        let (low, high) = (words[0].to_le_bytes(), words[1].to_le_bytes());
        for (sum, bytes) in sums.iter_mut().zip(line.0.chunks_exact(4)) {
            for dim in 0..4 {
                *sum += i32::from(bytes[dim] & 15) * i32::from(low[dim] as i8)
                    + i32::from(bytes[dim] >> 4) * i32::from(high[dim] as i8);
            }
        }
    }
    sums
}
