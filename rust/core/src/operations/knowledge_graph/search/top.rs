//! The best few of many scores: highest first, of equal scores the lowest id first.

/// A vector that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    pub id: u32,
    pub score: f64,
}

impl Found {
    /// Whether this one comes before `other`.
    #[inline]
    pub fn before(&self, other: &Self) -> bool {
        self.score > other.score || (self.score == other.score && self.id < other.id)
    }
}

/// The best `limit` so far, sorted.
#[derive(Clone)]
pub struct Top {
    found: Vec<Found>,
    limit: usize,
}

impl Top {
    /// Room for `limit` (at least 1).
    pub fn new(limit: usize) -> Self {
        Self { found: Vec::with_capacity(limit), limit }
    }

    pub fn clear(&mut self) {
        self.found.clear();
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// The score that the last place holds: what scores less cannot enter.
    #[inline]
    pub fn floor(&self) -> f64 {
        if self.found.len() < self.limit {
            return f64::NEG_INFINITY;
        }
        self.found.last().map_or(f64::NEG_INFINITY, |last| last.score)
    }

    /// Puts `one` where it belongs, if it belongs to the best.
    pub fn offer(&mut self, one: Found) {
        let place = self.found.partition_point(|other| other.before(&one));
        if place == self.limit {
            return;
        }
        if self.found.len() == self.limit {
            self.found.pop();
        }
        self.found.insert(place, one);
    }

    /// The answers, to be damaged before they are checked.
    pub fn found_mut(&mut self) -> &mut Vec<Found> {
        &mut self.found
    }
}
