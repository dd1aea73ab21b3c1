//! The `evolution` component: one operation is one generation of a genetic algorithm.
//!
//! Each worker's copy is an island that evolves by itself, with one population for each fitness
//! function; an operation advances the population of its op type by one generation, on the worker
//! that serves it. The islands start from the same population and part ways at once, because the
//! randomness of a generation follows from the key of its request: the state of an island is a
//! function of the seed and of the keys that it has served, in their order.
//!
//! Work per child and gene: both parents' gene read, the child's written (12 bytes), and about 80
//! operations, of which Philox and the normal variate are two thirds.

use std::sync::Arc;

use serde_json::json;

use super::{Array, Arrays, Build, BuildError, Component, NoPause, Operation, Request};
use breed::Scratch;
use counters::{Best, Counters};
use island::Island;
use parameters::{Parameters, Plan};
use paths::Path;
use population::{Population, fitness_of};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
#[allow(clippy::incompatible_msrv, reason = "compiled only where build.rs found them stable")]
mod avx512;
mod breed;
mod counters;
mod definition;
mod island;
mod lanes;
mod numbers;
mod parameters;
mod paths;
mod population;
#[cfg(test)]
mod tests;

/// Op types by their index in `Request::op`: the fitness function.
const OPS: &[&str] = &["sphere", "rastrigin", "mlp"];

/// What all islands share.
pub struct Shared {
    plan: Plan,
    path: Path,
    counters: Counters,
    /// By op type.
    best: [Best; OPS.len()],
}

struct Evolution(Arc<Shared>);

pub fn build(parameters: &str, context: &Build<'_>) -> Result<Arc<dyn Component>, BuildError> {
    let parameters = Parameters::parse(parameters)?;
    Ok(Arc::new(Evolution(Arc::new(Shared::new(parameters, context.seed)))))
}

impl Shared {
    fn new(parameters: Parameters, seed: u64) -> Self {
        Self {
            plan: Plan::new(parameters, seed),
            path: paths::best(),
            counters: Counters::default(),
            best: Default::default(),
        }
    }

    fn evaluate(&self, op: &str, inputs: &Arrays) -> Result<Arrays, BuildError> {
        let wrong =
            |problem: &str| BuildError::Value { key: "inputs", problem: problem.to_owned() };
        let kind = OPS.iter().position(|known| *known == op);
        let kind = kind.ok_or_else(|| wrong("name sphere, rastrigin or mlp"))?;
        let Some(Array::U64(key)) = inputs.get("key") else {
            return Err(wrong("`key` must be u64"));
        };
        let [key] = key[..] else {
            return Err(wrong("`key` must be one"));
        };
        let plan = &self.plan;
        let mut before = Population::new(plan);
        match inputs.get("genes") {
            Some(Array::F32(genes))
                if genes.len() == plan.parameters.population * plan.parameters.genome =>
            {
                before.set_genes(plan, genes);
            }
            None => (self.path.settle)(plan, 0, &mut before.rows),
            Some(_) => return Err(wrong("`genes` must be f32, population * genome of them")),
        }
        island::rank_all(self, kind, &mut before);
        let mut after = Population::new(plan);
        let request = Request { op: kind as u8, key };
        let mut scratch = Scratch::new(plan);
        let scratch = (&mut scratch, island::chunk_children(plan));
        let (digest, _) =
            island::breed_generation(self, request, (&before, &mut after), scratch, &mut NoPause);
        let fitness = after.ranks.iter().map(|&rank| fitness_of(rank)).collect();
        Ok(Arrays::from([
            ("genes".to_owned(), Array::F32(after.genes(plan))),
            ("fitness".to_owned(), Array::F32(fitness)),
            ("digest".to_owned(), Array::U64(vec![digest.word()])),
        ]))
    }
}

impl Component for Evolution {
    fn ops(&self) -> &'static [&'static str] {
        OPS
    }

    fn operation(&self) -> Box<dyn Operation> {
        Box::new(Island::new(Arc::clone(&self.0)))
    }

    fn resident_bytes(&self, workers: usize) -> u64 {
        let plan = &self.0.plan;
        let populations = OPS.len() as u64 + 1;
        workers as u64 * (populations * Population::bytes(plan) + Scratch::bytes(plan))
    }

    fn describe(&self) -> serde_json::Value {
        let Shared { plan, path, best, .. } = &*self.0;
        let read = OPS.iter().zip(best).map(|(op, best)| ((*op).to_owned(), json!(best.read())));
        json!({
            "vectors": path.name,
            "mutation": plan.chance.value(),
            "row_bytes": plan.lines() * size_of::<lanes::Line>(),
            "best_fitness": serde_json::Value::Object(read.collect()),
        })
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.0.counters.read()
    }

    fn evaluate(&self, op: &str, inputs: &Arrays) -> Result<Arrays, BuildError> {
        self.0.evaluate(op, inputs)
    }
}
