//! The `null` component: does nothing, so that whatever is measured with it is swarmbench itself.

use std::sync::Arc;

use serde::Deserialize;

use super::{
    Arrays, Build, BuildError, Completion, Component, Operation, Pause, Request, Status, Verdict,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {}

struct Null;

pub fn build(parameters: &str, _: &Build<'_>) -> Result<Arc<dyn Component>, BuildError> {
    let Parameters {} = serde_json::from_str(parameters)?;
    Ok(Arc::new(Null))
}

impl Component for Null {
    fn ops(&self) -> &'static [&'static str] {
        &["nothing"]
    }

    fn operation(&self) -> Box<dyn Operation> {
        Box::new(Null)
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

impl Operation for Null {
    #[inline]
    fn run(&mut self, _: Request, _: &mut dyn Pause) -> Completion {
        Completion { status: Status::Ok, units: 1 }
    }

    fn verify(&mut self) -> Verdict {
        Verdict { checked: 1, violations: 0 }
    }
}
