//! Which type an operation is.

use crate::random::{philox, stream_key};

use super::domain;

/// Which op type each operation is, by weight, drawn from its key alone.
#[derive(Clone, Debug)]
pub struct Mix {
    key: [u32; 2],
    /// Upper ends of the op types' shares of 2^32.
    thresholds: Box<[u64]>,
}

impl Mix {
    /// `weights` are per op type, not negative and not all zero.
    #[must_use]
    pub fn new(seed: u64, workload: u16, weights: &[f64]) -> Self {
        let total: f64 = weights.iter().sum();
        assert!(total > 0.0 && weights.iter().all(|weight| *weight >= 0.0), "weights: {weights:?}");
        let mut sum = 0.0;
        let thresholds = weights
            .iter()
            .map(|weight| {
                sum += weight;
                (sum / total * (1u64 << 32) as f64) as u64
            })
            .collect();
        Self { key: stream_key(seed, domain::MIX + u64::from(workload)), thresholds }
    }

    #[inline]
    #[must_use]
    pub fn op(&self, key: u64) -> u8 {
        if self.thresholds.len() == 1 {
            return 0;
        }
        let draw = u64::from(philox([key as u32, (key >> 32) as u32, 0, 0], self.key)[0]);
        let last = self.thresholds.len() - 1;
        self.thresholds.iter().position(|end| draw < *end).unwrap_or(last) as u8
    }

    /// The type of operation `key`, and how many from there on, `most` or fewer, are of the same.
    #[inline]
    pub(crate) fn run(&self, key: u64, most: u64) -> (u8, u64) {
        let op = self.op(key);
        if self.thresholds.len() == 1 {
            return (op, most);
        }
        let others = (1..most).take_while(|ahead| self.op(key + ahead) == op).count();
        (op, 1 + others as u64)
    }
}
