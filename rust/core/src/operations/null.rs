//! The `null` component: does nothing, so that whatever is measured with it is swarmbench itself.

use std::sync::Arc;

use serde::Deserialize;

use super::{
    Arrays, Build, BuildError, Completion, Component, Operation, Pause, Request, Status, Verdict,
};

/// One answer in so many is chosen for checking, which costs a reading of the clock.
const CHECKED_ONE_IN: u64 = 16;
const BATCH_MAX: usize = 1024;
const NOTHING: Completion = Completion { status: Status::Ok, units: 1 };

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Parameters {
    /// Operations done in one go.
    batch: usize,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { batch: 1 }
    }
}

struct Null {
    batch: usize,
}

pub fn build(parameters: &str, _: &Build<'_>) -> Result<Arc<dyn Component>, BuildError> {
    let Parameters { batch } = serde_json::from_str(parameters)?;
    if !(1..=BATCH_MAX).contains(&batch) {
        let problem = format!("{batch} is not between 1 and {BATCH_MAX}");
        return Err(BuildError::Value { key: "batch", problem });
    }
    Ok(Arc::new(Null { batch }))
}

impl Component for Null {
    fn ops(&self) -> &'static [&'static str] {
        &["nothing"]
    }

    fn operation(&self) -> Box<dyn Operation> {
        Box::new(Idler::default())
    }

    fn batch_max(&self) -> usize {
        self.batch
    }

    fn resident_bytes(&self, _: usize) -> u64 {
        0
    }

    fn describe(&self) -> serde_json::Value {
        serde_json::json!({ "batch": self.batch })
    }

    fn evaluate(&self, _: &str, _: &Arrays) -> Result<Arrays, BuildError> {
        Ok(Arrays::new())
    }
}

/// Does nothing, and remembers how many of its answers were chosen for checking.
#[derive(Default)]
struct Idler {
    chosen: u32,
}

fn chosen(request: Request) -> bool {
    request.key % CHECKED_ONE_IN == 0
}

impl Operation for Idler {
    #[inline]
    fn run(&mut self, request: Request, _: &mut dyn Pause) -> Completion {
        self.chosen = u32::from(chosen(request));
        NOTHING
    }

    fn run_batch(&mut self, requests: &[Request], _: &mut dyn Pause, ended: &mut Vec<Completion>) {
        self.chosen = requests.iter().filter(|request| chosen(**request)).count() as u32;
        ended.resize(ended.len() + requests.len(), NOTHING);
    }

    fn verify(&mut self, _: &mut dyn Pause) -> Verdict {
        Verdict { checked: self.chosen, violations: 0 }
    }
}
