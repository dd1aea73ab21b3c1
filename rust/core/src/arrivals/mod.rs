//! When operations are asked for: a pure function of (seed, rate function), the same on every
//! machine, with every draw made once and never lost by a change of rate.
//!
//! A workload's arrivals live in *operational time*: the k-th one happens when the integral of the
//! rate reaches `E_k`, a sum of draws with mean 1 (`process`). Clock time is the inverse of that
//! integral (`rate`), so a day curve, a spike, a ramp and a live change are all segments of one
//! rate function and no draw depends on any of them.

mod exponentials;
mod lane;
mod mix;
mod process;
mod rate;
mod timetable;
mod tournament;

pub(crate) use exponentials::exponential;
pub use mix::Mix;
pub use process::Process;
pub use rate::{FOREVER, RateFunction, Segment};
pub use timetable::{Arrival, Timetable, Workload};

/// Operational time in units of 2^-40 arrivals; 88 integer bits outlast any run.
pub(crate) type Operational = u128;

pub(crate) const OPERATIONAL_BITS: u32 = 40;

/// Uses of randomness, the `domain` of `random::stream_key`; one number each, for ever.
pub(crate) mod domain {
    pub const ARRIVALS: u64 = 0x0100_0000;
    pub const MIX: u64 = 0x0200_0000;
}

#[cfg(test)]
mod tests;
