//! What consensus counts.

use crate::operations::totals;

#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Total {
    Decisions,
    Undecided,
    /// The first of the seven classes of votes.
    Classes,
    Equivocations = 9,
    Elections,
    OracleChecks,
}

impl totals::Total for Total {
    const NAMES: &'static [&'static str] = &[
        "decisions",
        "undecided",
        "tallied",
        "duplicates",
        "unauthorised",
        "unknown_proposal",
        "unknown_value",
        "wrong_round",
        "malformed",
        "equivocations",
        "elections",
        "oracle_checks",
    ];

    fn index(self) -> usize {
        self as usize
    }
}

pub type Own = totals::Own<Total>;
pub type Counters = totals::Counters<Total>;

impl Own {
    pub fn add_classes(&self, classes: [u64; 7]) {
        for (offset, count) in classes.into_iter().enumerate() {
            self.add_at(Total::Classes as usize + offset, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_of_workers_that_ended_are_kept() {
        let counters = Counters::default();
        let (first, second) = (counters.enrol(), counters.enrol());
        first.add(Total::Decisions, 3);
        second.add(Total::Decisions, 4);
        second.add_classes([1, 2, 3, 4, 5, 6, 7]);
        second.add(Total::OracleChecks, 9);
        counters.retire(&first);
        let read = counters.read();
        assert_eq!(read[0], ("decisions", 7));
        assert_eq!(read[2], ("tallied", 1));
        assert_eq!(read[8], ("malformed", 7));
        assert_eq!(read[11], ("oracle_checks", 9));
    }
}
