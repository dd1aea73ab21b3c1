//! Parameters of the agents, and the sizes that follow from them.

use serde::Deserialize;

use crate::operations::{BuildError, within};

use super::tile::{LANES, SLOT_BITS};

pub const POPULATION_MAX: u32 = 1 << 22;
pub const SWARMS_MAX: u32 = 2048;
pub const BATCH_MAX: u32 = 4096;
/// Most slots of a swarm: a step of them holds its lock for less than 200 µs.
pub const SLOTS_MAX: usize = 8192;
const _: () = assert!(SWARMS_MAX as usize * SLOTS_MAX <= 1 << SLOT_BITS, "an id tells all slots");
pub const CHECK_EVERY_MAX: u32 = 1 << 16;
pub const PROCESS_STEPS_MAX: u32 = 1 << 24;
pub const PROCESSES_MAX: u32 = 1024;

/// The same names and bounds as `Agents` in `components/agents.py`, which has the defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The band that the controller holds the number of live agents in.
    pub population_min: u32,
    pub population_max: u32,
    /// Swarms that the agents are spread over, each with a lock and a torus of its own.
    pub swarms: u32,
    /// Agents that one `spawn` or `destroy` is about.
    pub batch: u32,
    /// One operation in so many has its whole swarm checked.
    pub check_every: u32,
    /// Steps that a process takes before it reports.
    pub process_steps: u32,
    /// Most processes alive at a time.
    pub processes_max: u32,
}

/// The fewest and the most agents of one swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    pub least: u32,
    pub most: u32,
}

impl Band {
    /// The size that the controller steers for.
    pub fn target(self) -> i64 {
        i64::from(self.least + self.most) / 2
    }
}

impl Parameters {
    /// Reads and checks a JSON object.
    ///
    /// # Errors
    /// An unknown, missing or mistyped key, or a value out of its bounds.
    pub fn parse(text: &str) -> Result<Self, BuildError> {
        let read: Self = serde_json::from_str(text)?;
        within("population_min", read.population_min, 1, POPULATION_MAX)?;
        within("population_max", read.population_max, 1, POPULATION_MAX)?;
        within("swarms", read.swarms, 1, SWARMS_MAX)?;
        within("batch", read.batch, 1, BATCH_MAX)?;
        within("check_every", read.check_every, 1, CHECK_EVERY_MAX)?;
        within("process_steps", read.process_steps, 1, PROCESS_STEPS_MAX)?;
        within("processes_max", read.processes_max, 1, PROCESSES_MAX)?;
        let band = read.band();
        if band.least > band.most {
            let problem = format!(
                "no number of agents times {} swarms is within {} to {}",
                read.swarms, read.population_min, read.population_max
            );
            return Err(BuildError::Value { key: "population_max", problem });
        }
        if read.slots() > SLOTS_MAX {
            let problem =
                format!("{} slots in each are more than {SLOTS_MAX}; use more", read.slots());
            return Err(BuildError::Value { key: "swarms", problem });
        }
        Ok(read)
    }

    /// A swarm's share of the band.
    pub fn band(&self) -> Band {
        let least = self.population_min.div_ceil(self.swarms);
        Band { least, most: self.population_max / self.swarms }
    }

    /// Slots of a swarm: room for its band and one batch, in whole tiles.
    pub fn slots(&self) -> usize {
        ((self.band().most + self.batch) as usize).next_multiple_of(LANES)
    }
}
