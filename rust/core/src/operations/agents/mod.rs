//! Agents: a churning population in slabs, stepped and sent messages; and process agents.
//!
//! The population is spread over swarms, each a slab, a lock and a torus of its own. Arrivals are
//! the schedule's; a controller holds each swarm's size in its share of the wanted band.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use serde_json::json;

use crate::operations::{Arrays, Build, BuildError, Component, Operation};

mod agent;
mod audit;
mod births;
mod counters;
mod evaluate;
mod grid;
mod kernels;
mod parameters;
mod population;
#[cfg(process_agents)]
mod process;
#[cfg(not(process_agents))]
#[path = "no_process.rs"]
mod process;
#[cfg(target_arch = "x86_64")]
mod sight_avx2;
#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
mod sight_avx512;
mod solitary;
mod swarm;
#[cfg(test)]
mod tests;
mod tile;
mod turnover;
mod worker;

use counters::Counters;
use kernels::Kernels;
use parameters::Parameters;
use population::Population;
use process::Program;
use swarm::Swarm;
use worker::Worker;

/// The order of `OPS`.
mod op {
    pub const SPAWN: u8 = 0;
    pub const DESTROY: u8 = 1;
    pub const DESTROY_OLDEST: u8 = 2;
    pub const STEP: u8 = 3;
    pub const TICK: u8 = 4;
    pub const PROCESS: u8 = 5;
}
const OPS: [&str; 6] = ["spawn", "destroy", "destroy_oldest", "step", "tick", "process"];

/// What all workers share.
struct Shared {
    parameters: Parameters,
    seed: u64,
    kernels: Kernels,
    population: Population,
    /// Why there is none where this machine does not let it be executed.
    program: io::Result<Program>,
    processes_alive: AtomicU32,
    counters: Counters,
}

struct Agents {
    shared: Arc<Shared>,
}

/// Builds the component: checks the parameters, fills the population to its target and starts one
/// process.
///
/// # Errors
/// Parameters out of bounds, or cancelled.
pub fn build(parameters: &str, context: &Build<'_>) -> Result<Arc<dyn Component>, BuildError> {
    Ok(Arc::new(Agents { shared: Arc::new(shared(parameters, context)?) }))
}

fn shared(parameters: &str, context: &Build<'_>) -> Result<Shared, BuildError> {
    let parameters = Parameters::parse(parameters)?;
    let progress = |done| (context.progress)("agents", done);
    let kernels = kernels::all()[0];
    let population = Population::new(&parameters, context.seed, kernels, progress)
        .ok_or(BuildError::Cancelled)?;
    Ok(Shared {
        parameters,
        seed: context.seed,
        kernels,
        population,
        program: Program::new(),
        processes_alive: AtomicU32::new(0),
        counters: Counters::default(),
    })
}

impl Component for Agents {
    fn ops(&self) -> &'static [&'static str] {
        &OPS
    }

    fn operation(&self) -> Box<dyn Operation> {
        Box::new(Worker::new(Arc::clone(&self.shared)))
    }

    fn resident_bytes(&self, workers: usize) -> u64 {
        let parameters = &self.shared.parameters;
        let swarms = u64::from(parameters.swarms) * Swarm::bytes(parameters.slots());
        swarms + workers as u64 * Worker::bytes(parameters)
    }

    fn describe(&self) -> serde_json::Value {
        let parameters = &self.shared.parameters;
        let band = parameters.band();
        let program = match &self.shared.program {
            Ok(_) => "ready".to_owned(),
            Err(error) => format!("not available: {error}"),
        };
        json!({
            "slot_bytes": tile::SLOT_BYTES,
            "slots": parameters.slots() * parameters.swarms as usize,
            "columns": grid::columns(parameters.slots()),
            "swarm_least": band.least,
            "swarm_target": band.target(),
            "swarm_most": band.most,
            "vectors": self.shared.kernels.name,
            "process": program,
        })
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let ledger = self.shared.population.ledger();
        let mut read = vec![
            ("live", ledger.live),
            ("spawned", ledger.spawned),
            ("destroyed", ledger.destroyed),
            ("replaced", ledger.replaced),
            ("expired", ledger.expired),
            ("retired_slots", ledger.retired),
            ("swarm_steps", ledger.steps),
            ("stepped", ledger.stepped),
            ("swarm_ticks", ledger.ticks),
            ("messages_sent", ledger.traffic.sent),
            ("messages_read", ledger.traffic.read),
            ("messages_dead", ledger.dead),
        ];
        read.extend(self.shared.counters.read());
        read
    }

    fn evaluate(&self, op: &str, inputs: &Arrays) -> Result<Arrays, BuildError> {
        evaluate::evaluate(&self.shared, op, inputs)
    }
}
