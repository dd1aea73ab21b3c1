//! What goes wrong with the driver, as the driver names it.

use std::path::PathBuf;

/// `CUresult` of a call that did what it was asked for (cuda.h).
pub(super) const SUCCESS: i32 = 0;
/// `CUresult` of a stream that still has work.
pub(super) const NOT_READY: i32 = 600;
const OUT_OF_MEMORY: i32 = 2;
/// The codes after which a context is of no use any more (cuda.h); `gpu/card_stream.py` names them.
pub(super) const LOST: [i32; 14] =
    [214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721, 999];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    #[error("the CUDA driver `{}` cannot be opened: {why}", path.display())]
    Absent { path: PathBuf, why: String },
    #[error("the CUDA driver has no `{name}`; it is too old")]
    Symbol { name: String },
    /// `name` is the driver's own for `code`.
    #[error("{call}: {name} ({code})")]
    Call { call: &'static str, code: i32, name: String },
}

impl DriverError {
    /// Whether the context is gone: every later call fails with the same code.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Call { code, .. } if LOST.contains(code))
    }

    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Call { code, .. } if *code == OUT_OF_MEMORY)
    }
}
