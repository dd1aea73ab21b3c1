//! Components made for a test.

use std::sync::Arc;
use std::time::Instant;

use crate::operations::{
    Arrays, BuildError, Completion, Component, Operation, Pause, Request, Status, Verdict,
};

/// A component whose copies are clones of one operation.
struct Made<O> {
    ops: &'static [&'static str],
    batch_max: usize,
    operation: O,
}

/// A component with one op type, `operation`, taken `batch_max` at a time.
pub fn made<O: Operation + Clone + Sync + 'static>(
    batch_max: usize,
    operation: O,
) -> Arc<dyn Component> {
    Arc::new(Made { ops: &["made"], batch_max, operation })
}

/// `made` with two op types.
pub fn made_twofold<O: Operation + Clone + Sync + 'static>(
    batch_max: usize,
    operation: O,
) -> Arc<dyn Component> {
    Arc::new(Made { ops: &["made", "other"], batch_max, operation })
}

impl<O: Operation + Clone + Sync + 'static> Component for Made<O> {
    fn ops(&self) -> &'static [&'static str] {
        self.ops
    }
    fn operation(&self) -> Box<dyn Operation> {
        Box::new(self.operation.clone())
    }
    fn batch_max(&self) -> usize {
        self.batch_max
    }
    fn resident_bytes(&self, _: usize) -> u64 {
        0
    }
    fn describe(&self) -> serde_json::Value {
        serde_json::json!({})
    }
    fn evaluate(&self, _: &str, _: &Arrays) -> Result<Arrays, BuildError> {
        Ok(Arrays::new())
    }
}

/// Busy for a given time; pauses after every chunk.
#[derive(Clone, Copy)]
pub struct Busy {
    pub busy_ns: u64,
    pub chunk_ns: u64,
}

impl Busy {
    pub fn of(busy_ns: u64) -> Self {
        Self { busy_ns, chunk_ns: 50_000 }
    }
}

pub fn busy(busy_ns: u64) -> Arc<dyn Component> {
    made(1, Busy::of(busy_ns))
}

impl Operation for Busy {
    fn run(&mut self, _: Request, pause: &mut dyn Pause) -> Completion {
        let mut left = self.busy_ns;
        while left > 0 {
            let chunk = left.min(self.chunk_ns);
            let began = Instant::now();
            while (began.elapsed().as_nanos() as u64) < chunk {
                std::hint::spin_loop();
            }
            left -= chunk;
            pause.point();
        }
        Completion { status: Status::Ok, units: 1 }
    }
    fn verify(&mut self, _: &mut dyn Pause) -> Verdict {
        Verdict { checked: 1, violations: 0 }
    }
}
