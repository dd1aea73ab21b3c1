//! Our own allocator over a region that was touched beforehand: a two-level segregated fit.
//!
//! Spans of whole granules; 16 size classes an octave, one list of free spans each, two levels of
//! bitmaps that find the first list with a fitting span, and neighbours merged when freed: both
//! calls in constant time. The tags lie beside the region, so that no call touches what it hands
//! out. Source: Masmano, Ripoll, Crespo, Real, "TLSF: a New Dynamic Memory Allocator for Real-Time
//! Systems", ECRTS 2004.

const CLASS_BITS: u32 = 4;
const CLASSES: usize = 1 << CLASS_BITS;
const OCTAVES: usize = 32 - CLASS_BITS as usize;
const NONE: u32 = u32::MAX;
const USED: u32 = 1 << 31;
/// Spans looked at in the list whose spans may be too short, before a request is turned away.
const LOOKS_MAX: usize = 16;

/// What is known of a granule; all of it but `back` holds for the first one of a span alone.
#[derive(Clone, Copy)]
struct Tag {
    /// Granules of the span that starts here, with `USED`; 0 inside a span.
    length: u32,
    /// Neighbours in the list of its class, for a free span.
    next: u32,
    previous: u32,
    /// First granule of the free span that ends here.
    back: u32,
}

pub const TAG_BYTES: u64 = size_of::<Tag>() as u64;

/// The place is not the start of an allocated span.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAllocated;

/// Spans of `total` granules.
pub struct Pool {
    tags: Vec<Tag>,
    heads: [[u32; CLASSES]; OCTAVES],
    octaves: u32,
    classes: [u32; OCTAVES],
    free: u32,
}

/// The list that a free span of `length` granules is in.
#[inline]
fn class_of(length: u32) -> (usize, usize) {
    if length < CLASSES as u32 {
        return (0, length as usize);
    }
    let magnitude = length.ilog2();
    let class = (length >> (magnitude - CLASS_BITS)) as usize & (CLASSES - 1);
    ((magnitude - CLASS_BITS + 1) as usize, class)
}

/// The first list whose spans all have `length` granules.
#[inline]
fn class_above(length: u32) -> (usize, usize) {
    if length < CLASSES as u32 {
        return class_of(length);
    }
    class_of(length + (1 << (length.ilog2() - CLASS_BITS)) - 1)
}

impl Pool {
    /// Most granules of a pool.
    pub const GRANULES_MAX: u64 = 1 << 30;

    /// A pool of `granules`, all free.
    ///
    /// # Panics
    /// There are none of them, or more than `GRANULES_MAX`.
    #[must_use]
    pub fn new(granules: u64) -> Self {
        assert!((1..=Self::GRANULES_MAX).contains(&granules), "{granules} granules");
        let vacant = Tag { length: 0, next: NONE, previous: NONE, back: NONE };
        let mut pool = Self {
            tags: vec![vacant; granules as usize],
            heads: [[NONE; CLASSES]; OCTAVES],
            octaves: 0,
            classes: [0; OCTAVES],
            free: 0,
        };
        pool.insert(0, granules as u32);
        pool
    }

    /// Frees everything.
    pub fn clear(&mut self) {
        let vacant = Tag { length: 0, next: NONE, previous: NONE, back: NONE };
        self.tags.fill(vacant);
        (self.heads, self.octaves) = ([[NONE; CLASSES]; OCTAVES], 0);
        (self.classes, self.free) = ([0; OCTAVES], 0);
        self.insert(0, self.tags.len() as u32);
    }

    /// The first granule of `granules` in a row; None where no free span is long enough.
    #[inline]
    pub fn allocate(&mut self, granules: u64) -> Option<u32> {
        if granules == 0 || granules > u64::from(self.free) {
            return None;
        }
        let wanted = granules as u32;
        let first = self.find(wanted)?;
        let length = self.tags[first as usize].length;
        self.remove(first, length);
        if length > wanted {
            self.insert(first + wanted, length - wanted);
        }
        self.tags[first as usize].length = wanted | USED;
        Some(first)
    }

    /// Frees the span that starts at `first`, and says how many granules that were.
    ///
    /// # Errors
    /// Nothing was allocated there.
    #[inline]
    pub fn free(&mut self, first: u32) -> Result<u32, NotAllocated> {
        let length = self.length_of(first).ok_or(NotAllocated)?;
        let (mut start, mut span) = (first, length);
        let right = first + length;
        if let Some(tag) = self.tags.get(right as usize) {
            if tag.length & USED == 0 {
                let more = tag.length;
                self.remove(right, more);
                span += more;
            }
        }
        if first > 0 && self.tags[first as usize - 1].back != NONE {
            start = self.tags[first as usize - 1].back;
            let more = self.tags[start as usize].length;
            self.remove(start, more);
            span += more;
        }
        self.tags[first as usize].length = 0;
        self.insert(start, span);
        Ok(length)
    }

    /// Granules of the allocated span that starts at `first`.
    #[inline]
    pub fn length_of(&self, first: u32) -> Option<u32> {
        let length = self.tags.get(first as usize)?.length;
        (length & USED != 0).then_some(length & !USED)
    }

    pub fn free_granules(&self) -> u64 {
        u64::from(self.free)
    }

    pub fn used_granules(&self) -> u64 {
        self.tags.len() as u64 - u64::from(self.free)
    }

    /// Granules of the longest free span; looks through one list.
    pub fn largest_free_granules(&self) -> u64 {
        let Some(octave) = self.octaves.checked_ilog2() else { return 0 };
        let class = self.classes[octave as usize].ilog2();
        let mut largest = 0;
        let mut at = self.heads[octave as usize][class as usize];
        while at != NONE {
            let tag = &self.tags[at as usize];
            largest = largest.max(tag.length);
            at = tag.next;
        }
        u64::from(largest)
    }

    /// 1 - largest free / total free; 0 where nothing is free.
    pub fn fragmentation(&self) -> f64 {
        if self.free == 0 {
            return 0.0;
        }
        1.0 - self.largest_free_granules() as f64 / f64::from(self.free)
    }

    #[inline]
    fn find(&self, wanted: u32) -> Option<u32> {
        let (octave, class) = class_above(wanted);
        if octave < OCTAVES {
            let fitting = self.classes[octave] & (u32::MAX << class);
            if fitting != 0 {
                return Some(self.heads[octave][fitting.trailing_zeros() as usize]);
            }
            let higher = self.octaves & (u32::MAX << octave) & !(1 << octave);
            if higher != 0 {
                let octave = higher.trailing_zeros() as usize;
                return Some(self.heads[octave][self.classes[octave].trailing_zeros() as usize]);
            }
        }
        self.look(wanted)
    }

    /// A span of the list in which some are too short.
    #[cold]
    fn look(&self, wanted: u32) -> Option<u32> {
        let (octave, class) = class_of(wanted);
        let mut at = self.heads[octave][class];
        for _ in 0..LOOKS_MAX {
            let tag = self.tags.get(at as usize)?;
            if tag.length >= wanted {
                return Some(at);
            }
            at = tag.next;
        }
        None
    }

    /// Puts a free span at the head of its list.
    #[inline]
    fn insert(&mut self, first: u32, length: u32) {
        let (octave, class) = class_of(length);
        let head = self.heads[octave][class];
        if head != NONE {
            self.tags[head as usize].previous = first;
        }
        let tag = &mut self.tags[first as usize];
        (tag.length, tag.next, tag.previous) = (length, head, NONE);
        self.tags[(first + length - 1) as usize].back = first;
        self.heads[octave][class] = first;
        self.classes[octave] |= 1 << class;
        self.octaves |= 1 << octave;
        self.free += length;
    }

    /// Takes a free span out of its list.
    #[inline]
    fn remove(&mut self, first: u32, length: u32) {
        let (octave, class) = class_of(length);
        let Tag { next, previous, .. } = self.tags[first as usize];
        if next != NONE {
            self.tags[next as usize].previous = previous;
        }
        if previous != NONE {
            self.tags[previous as usize].next = next;
        } else {
            self.heads[octave][class] = next;
            if next == NONE {
                self.classes[octave] &= !(1 << class);
                if self.classes[octave] == 0 {
                    self.octaves &= !(1 << octave);
                }
            }
        }
        self.tags[first as usize].length = 0;
        self.tags[(first + length - 1) as usize].back = NONE;
        self.free -= length;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Free spans of the plainest model: what lies between the allocated ones.
    fn gaps(allocated: &BTreeMap<u32, u32>, total: u32) -> Vec<(u32, u32)> {
        let mut found = Vec::new();
        let mut end = 0;
        for (&first, &length) in allocated.iter().chain([(&total, &0)]) {
            if first > end {
                found.push((end, first - end));
            }
            end = first + length;
        }
        found
    }

    proptest! {
        #[test]
        fn spans_never_overlap_and_free_neighbours_are_merged(
            total in 1u32..5000,
            steps in prop::collection::vec((0.0f64..1.0, 0usize..64, any::<bool>()), 1..300),
        ) {
            let mut pool = Pool::new(u64::from(total));
            let mut allocated = BTreeMap::new();
            for (magnitude, pick, frees) in steps {
                if frees && !allocated.is_empty() {
                    let first = *allocated.keys().nth(pick % allocated.len()).expect("not empty");
                    prop_assert_eq!(Ok(allocated[&first]), pool.free(first));
                    allocated.remove(&first);
                    prop_assert_eq!(pool.free(first), Err(NotAllocated));
                } else {
                    let wanted = f64::from(total).powf(magnitude) as u32;
                    let free = gaps(&allocated, total);
                    match pool.allocate(u64::from(wanted)) {
                        Some(first) => {
                            let holds = |&(start, length): &(u32, u32)| {
                                start <= first && first + wanted <= start + length
                            };
                            prop_assert!(free.iter().any(holds), "{first} + {wanted}");
                            allocated.insert(first, wanted);
                        }
                        // A class is a sixteenth of an octave: what is longer by that is found.
                        None => prop_assert!(
                            free.iter().all(|gap| gap.1 <= wanted + wanted.div_ceil(16))
                        ),
                    }
                }
                let free = gaps(&allocated, total);
                let sum: u32 = free.iter().map(|gap| gap.1).sum();
                let largest = free.iter().map(|gap| gap.1).max().unwrap_or(0);
                prop_assert_eq!(pool.free_granules(), u64::from(sum));
                prop_assert_eq!(pool.largest_free_granules(), u64::from(largest));
                let whole = if sum == 0 { 1.0 } else { f64::from(largest) / f64::from(sum) };
                prop_assert!((pool.fragmentation() - (1.0 - whole)).abs() < 1e-12);
            }
            for first in allocated.into_keys() {
                prop_assert!(pool.free(first).is_ok());
            }
            prop_assert_eq!(pool.used_granules(), 0);
            prop_assert_eq!(pool.largest_free_granules(), u64::from(total));
        }
    }

    #[test]
    fn fragmentation_is_what_the_largest_span_lacks() {
        let mut pool = Pool::new(300);
        let places = [100, 100, 100].map(|length| pool.allocate(length).expect("room"));
        assert_eq!((pool.fragmentation(), pool.allocate(1)), (0.0, None));
        pool.free(places[0]).expect("allocated");
        pool.free(places[2]).expect("allocated");
        assert_eq!(pool.fragmentation(), 0.5);
        assert_eq!(pool.allocate(101), None);
        pool.free(places[1]).expect("allocated");
        assert_eq!((pool.fragmentation(), pool.allocate(300)), (0.0, Some(0)));
        pool.clear();
        assert_eq!(pool.free_granules(), 300);
    }
}
