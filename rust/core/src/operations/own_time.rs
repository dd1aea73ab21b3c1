//! The time that an operation spends itself, without what its worker serves while it pauses.

use std::time::Instant;

use super::Pause;

/// A pause whose clock stands still while others are served.
pub struct OwnTime<'a> {
    pause: &'a mut dyn Pause,
    spent_ns: u64,
    began: Instant,
}

impl<'a> OwnTime<'a> {
    /// The clock goes from here on.
    pub fn new(pause: &'a mut dyn Pause) -> Self {
        Self { pause, spent_ns: 0, began: Instant::now() }
    }

    /// What was spent so far.
    pub fn spent_ns(&self) -> u64 {
        let since = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.spent_ns.saturating_add(since)
    }
}

impl Pause for OwnTime<'_> {
    fn point(&mut self) {
        self.spent_ns = self.spent_ns();
        self.pause.point();
        self.began = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;

    struct Others;

    impl Pause for Others {
        fn point(&mut self) {
            sleep(Duration::from_millis(200));
        }
    }

    #[test]
    fn what_others_take_in_a_pause_is_not_counted() {
        let mut others = Others;
        let mut own = OwnTime::new(&mut others);
        sleep(Duration::from_millis(5));
        own.point();
        assert!((5_000_000..150_000_000).contains(&own.spent_ns()));
    }
}
