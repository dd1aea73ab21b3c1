//! What the assistant counts.

use crate::operations::totals;

#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Total {
    Parses,
    Commands,
    Tokens,
    Received,
    Stored,
    Forgotten,
    /// Feedback that the classifier would have decided otherwise.
    Corrections,
    CheckedParses,
    /// Of those the ones with the right intent, or unknown as it is.
    CheckedRight,
}

impl totals::Total for Total {
    const NAMES: &'static [&'static str] = &[
        "parses",
        "commands",
        "tokens",
        "feedback_received",
        "feedback_stored",
        "feedback_forgotten",
        "feedback_corrections",
        "checked_parses",
        "checked_parses_right",
    ];

    fn index(self) -> usize {
        self as usize
    }
}

pub type Own = totals::Own<Total>;
pub type Counters = totals::Counters<Total>;

impl Own {
    /// `count` of what was stored is forgotten.
    pub fn forget(&self, count: u64) {
        self.add(Total::Stored, count.wrapping_neg());
        self.add(Total::Forgotten, count);
    }
}
