//! Buckets of nodes for the parallel build: where an arc belongs, and sorting one bucket's arcs.

use std::ops::Range;

/// Buckets per octave of nodes, as a power of two.
const PARTS_BITS: u32 = 8;

/// Below this many arcs a comparison sort beats clearing the counters of the radix sort.
const RADIX_ARCS_MIN: usize = 4096;

const DIGIT_BITS: u32 = 12;
const DIGITS: usize = 1 << DIGIT_BITS;

/// The bucket of an inner node.
///
/// Degrees fall with the number roughly by a power law, so equal parts of every octave hold arcs
/// of about the same number, and the bucket follows from the number by two shifts.
#[inline]
pub fn bucket_of(node: u32) -> usize {
    let octave = 31 - (node | 1 << PARTS_BITS).leading_zeros() - PARTS_BITS;
    ((octave << PARTS_BITS) + (node >> octave)) as usize
}

/// Buckets that `nodes` need.
pub fn bucket_count(nodes: usize) -> usize {
    if nodes == 0 { 0 } else { bucket_of(nodes as u32 - 1) + 1 }
}

/// The inner nodes of a bucket, out of `nodes`.
pub fn bucket_nodes(bucket: usize, nodes: usize) -> Range<usize> {
    first_node(bucket).min(nodes)..first_node(bucket + 1).min(nodes)
}

fn first_node(bucket: usize) -> usize {
    let parts = 1 << PARTS_BITS;
    if bucket < 2 * parts {
        return bucket;
    }
    let octave = bucket / parts - 1;
    (parts + bucket % parts) << octave
}

/// One thread's scratch memory for sorting buckets.
#[derive(Default)]
pub struct Arrangement {
    spare: Vec<u64>,
    cursors: Vec<u32>,
}

impl Arrangement {
    /// Writes the rising rows of a bucket's nodes.
    ///
    /// `arcs` are first << 32 | second in any order; `offsets` those of the bucket's nodes, of
    /// which `first` is the first; `rows` begins at `offsets[0]`.
    pub fn fill_rows(&mut self, arcs: &mut [u64], offsets: &[u32], first: usize, rows: &mut [u32]) {
        if arcs.len() < RADIX_ARCS_MIN {
            arcs.sort_unstable();
            rows.iter_mut().zip(arcs).for_each(|(to, arc)| *to = *arc as u32);
            return;
        }
        self.spare.resize(arcs.len().max(self.spare.len()), 0);
        let spare = &mut self.spare[..arcs.len()];
        radix_pass(arcs, spare, 0);
        radix_pass(spare, arcs, DIGIT_BITS);
        let base = offsets[0];
        self.cursors.clear();
        self.cursors.extend(offsets.iter().map(|&offset| offset - base));
        for arc in arcs {
            let cursor = &mut self.cursors[(*arc >> 32) as usize - first];
            rows[*cursor as usize] = *arc as u32;
            *cursor += 1;
        }
    }
}

/// One stable pass by the digit of the second node that begins at bit `shift`.
fn radix_pass(from: &[u64], to: &mut [u64], shift: u32) {
    let digit = |arc: u64| (arc >> shift) as usize & (DIGITS - 1);
    let mut places = [0_u32; DIGITS];
    from.iter().for_each(|&arc| places[digit(arc)] += 1);
    let mut sum = 0;
    for place in &mut places {
        sum += std::mem::replace(place, sum);
    }
    for &arc in from {
        let place = &mut places[digit(arc)];
        to[*place as usize] = arc;
        *place += 1;
    }
}
