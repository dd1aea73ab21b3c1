//! What threads share without waiting is built on these: the standard library's atomics and the
//! kernel's futex, or under `--cfg loom` a model checker's stand-ins for them.
//!
//! Only structures that a `loom_models.rs` beside them checks take theirs from here.

#[cfg(loom)]
mod modelled;
#[cfg(not(loom))]
mod native;

#[cfg(loom)]
pub(crate) use modelled::*;
#[cfg(not(loom))]
pub(crate) use native::*;
