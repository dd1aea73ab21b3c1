//! The workloads: what one operation is, how a component is built, and the table of all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

mod agents;
mod alone;
mod assistant;
mod checksum;
mod consensus;
mod evolution;
mod instructions;
mod knowledge_graph;
mod memory;
mod null;
mod own_time;
mod pages;
mod scratch;
mod streaming;
mod synthesis;
mod totals;

pub use alone::{Checking, Tally, longest_stretches, run_alone};
pub use checksum::block_checksum;
pub use knowledge_graph::graph_file_size;
pub use memory::{BlockFile, SpanPool};
pub use streaming::{Choice, FrameCoder, frame_bound};

/// One operation as the schedule asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Index into the component's `ops()`.
    pub op: u8,
    /// Unique in the workload (lane in the upper 16 bits, ordinal in the lower 48); it keys all the
    /// randomness of this operation.
    pub key: u64,
}

/// How an operation ended, as the operation itself says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    /// It ran and failed.
    Error,
    /// It would have broken a budget and did not run.
    Rejected,
}

/// What an operation did, in the component's unit of work (votes, bytes, queries).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    pub status: Status,
    pub units: u64,
}

/// What checking the last answer found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Answers checked (0 where this operation was not chosen for checking).
    pub checked: u32,
    /// Answers found wrong.
    pub violations: u32,
}

/// Damage to the answer of an operation, which its check has to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    FlippedBit,
    LostResult,
    DoubledResult,
}

impl Fault {
    pub const ALL: [(&'static str, Self); 3] = [
        ("flipped_bit", Self::FlippedBit),
        ("lost_result", Self::LostResult),
        ("doubled_result", Self::DoubledResult),
    ];
}

/// A point between two chunks of a long operation at which its worker may serve others first.
///
/// The pool never pre-empts; an operation longer than about 200 µs calls `point` between chunks so
/// that short operations of other components do not wait for the whole of it.
pub trait Pause {
    fn point(&mut self);
}

/// A worker that never serves others: benchmarks and tests of one component.
pub struct NoPause;

impl Pause for NoPause {
    fn point(&mut self) {}
}

/// One worker's copy of a component: its scratch memory is allocated when it is made, so that
/// `run` allocates nothing.
pub trait Operation: Send {
    /// Does the work; timed.
    fn run(&mut self, request: Request, pause: &mut dyn Pause) -> Completion;

    /// Does several operations in one go, no more than the component's `batch_max`, and appends
    /// how each of them ended; timed together.
    fn run_batch(
        &mut self,
        requests: &[Request],
        pause: &mut dyn Pause,
        ended: &mut Vec<Completion>,
    ) {
        ended.extend(requests.iter().map(|request| self.run(*request, pause)));
    }

    /// Damages the answer of the last `run`, before it is checked; false where it holds nothing
    /// that could be damaged so.
    fn plant(&mut self, _: Fault) -> bool {
        false
    }

    /// Checks the answer of the last `run`, or those of the last `run_batch`; called after the
    /// clock was read. Does nothing where none was chosen for checking. A check that takes longer
    /// than about 200 µs pauses as `run` does.
    fn verify(&mut self, pause: &mut dyn Pause) -> Verdict;
}

/// A component built for one seed: its shared, read-only data and its table of op types.
pub trait Component: Send + Sync {
    /// Names of the op types, in the order of `Request::op`.
    fn ops(&self) -> &'static [&'static str];

    /// A new worker's copy.
    fn operation(&self) -> Box<dyn Operation>;

    /// How many operations its copies take in one go where so many wait.
    fn batch_max(&self) -> usize {
        1
    }

    /// Bytes that the component keeps resident, shared data and `workers` copies together.
    fn resident_bytes(&self, workers: usize) -> u64;

    /// Facts established while building (fitted sizes, error bounds, recall), for the manifest.
    fn describe(&self) -> serde_json::Value;

    /// Totals that the component keeps beside the engine's own (compressed bytes, decisions).
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// A file for blocks that another backend keeps.
    ///
    /// # Errors
    /// The component keeps no blocks, or the system refuses the file.
    fn block_file(&self) -> Result<BlockFile, BuildError> {
        Err(BuildError::Value { key: "component", problem: "keeps no blocks".to_owned() })
    }

    /// Computes the answers of `op` for given inputs, to be held against the reference.
    ///
    /// # Errors
    /// Says which input is missing or of the wrong type.
    fn evaluate(&self, op: &str, inputs: &Arrays) -> Result<Arrays, BuildError>;
}

/// Named arrays that cross to Python: inputs and answers of `Component::evaluate`.
pub type Arrays = BTreeMap<String, Array>;

/// A flat array; shapes are the caller's business.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

/// Called while a component is built with (stage, fraction done); `false` asks to give up.
pub type Progress<'a> = &'a (dyn Fn(&str, f64) -> bool + Sync);

/// What a component is built with beside its parameters.
#[derive(Clone, Copy)]
pub struct Build<'a> {
    pub seed: u64,
    /// Threads that building may use.
    pub threads: usize,
    pub progress: Progress<'a>,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("there is no component `{0}`")]
    UnknownComponent(String),
    #[error("{0}")]
    Parameters(#[from] serde_json::Error),
    #[error("{key}: {problem}")]
    Value { key: &'static str, problem: String },
    #[error("building was cancelled")]
    Cancelled,
}

/// Refuses a parameter that is not within its bounds.
fn within<T: PartialOrd + std::fmt::Display>(
    key: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), BuildError> {
    if value >= least && value <= most {
        return Ok(());
    }
    let problem = format!("{value} is not within {least} to {most}");
    Err(BuildError::Value { key, problem })
}

/// The names of a table of op types, in its order.
const fn op_names<R, const N: usize>(ops: &[(&'static str, R); N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut at = 0;
    while at < N {
        names[at] = ops[at].0;
        at += 1;
    }
    names
}

type Builder = fn(&str, &Build<'_>) -> Result<Arc<dyn Component>, BuildError>;

/// The only list of native components: name and builder (parameters as a JSON object).
const COMPONENTS: &[(&str, Builder)] = &[
    ("agents", agents::build),
    ("assistant", assistant::build),
    ("consensus", consensus::build),
    ("evolution", evolution::build),
    ("knowledge_graph", knowledge_graph::build),
    ("memory", memory::build),
    ("null", null::build),
    ("streaming", streaming::build),
    ("synthesis", synthesis::build),
];

/// Builds the component `name` from `parameters` (a JSON object; unknown keys are errors).
///
/// # Errors
/// No such component, parameters that do not fit, or cancelled.
pub fn build(
    name: &str,
    parameters: &str,
    context: &Build<'_>,
) -> Result<Arc<dyn Component>, BuildError> {
    let (_, builder) = COMPONENTS
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| BuildError::UnknownComponent(name.to_owned()))?;
    builder(parameters, context)
}

/// Names of all native components.
#[must_use]
pub fn names() -> Vec<&'static str> {
    COMPONENTS.iter().map(|(name, _)| *name).collect()
}
