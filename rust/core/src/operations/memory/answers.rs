//! What `evaluate` computes: the answers that the NumPy reference also gives, and the disk's floor.

use std::time::Instant;

use super::draws::Allocation;
use super::mover::Extent;
use super::storm::{Outcome, WHEEL};
use super::transfers::Task;
use super::{OPS, Path, Role, Scratch, Shared, refuse, refuse_directory, refuse_io};
use crate::operations::{Array, Arrays, BuildError, NoPause};

/// Operations of the storm in one evaluation of `allocate`.
const STRETCH: u64 = 256;

impl Shared {
    /// Answers of an op.
    ///
    /// `migrate` and `round_trip` take a `block` (u8) out to a file and back: the `block` as it
    /// arrived and its `checksum` (u64). `allocate` steps a fresh storm through `sizes` (u64) and
    /// `lifetimes` (u64): whether each was `accepted` (u8: 1; 0 over the bound, 2 not placed) and
    /// the `live_bytes` (u64) after it. Beside the ops: `source` (`op` u8, `key` u64 → the inputs)
    /// and `places` (as `allocate` → `offsets` u64 of what was placed, else 2^64 - 1). `disk` moves
    /// so many `bytes` (u64; one per trip) out and back with nothing copied and nothing summed, by
    /// the same requests: the `elapsed_ns` (u64) of each trip.
    pub fn answers(&self, op: &str, inputs: &Arrays) -> Result<Arrays, BuildError> {
        match op {
            "migrate" | "round_trip" => self.there_and_back(bytes(inputs, "block")?),
            "allocate" | "places" => {
                self.stepped(op == "places", words(inputs, "sizes")?, words(inputs, "lifetimes")?)
            }
            "disk" => self.disk_alone(words(inputs, "bytes")?),
            "source" => self.source_of(inputs),
            _ => Err(wrong("op", format!("there is no op `{op}`"))),
        }
    }

    fn there_and_back(&self, block: &[u8]) -> Result<Arrays, BuildError> {
        if block.is_empty() {
            return Err(wrong("block", "is empty".to_owned()));
        }
        let mut mover = self.mover().map_err(|error| refuse_io(&self.parameters, &error))?;
        let scratch = self.scratch()?;
        let file = scratch.descriptor();
        let extent = Extent { file, offset: 0, bytes: block.len(), mask: 0x5EED_5EED };
        let failed = refuse("block");
        let left = mover.send(block, extent, false, &mut NoPause).map_err(&failed)?;
        let mut room = vec![0; block.len()];
        let arrived = mover.fetch(extent, Some(&mut room), &mut NoPause).map_err(&failed)?;
        if left != arrived {
            return Err(wrong("block", "left and arrived with different checksums".to_owned()));
        }
        self.keep(Some(mover), None);
        Ok(Arrays::from([
            ("block".into(), Array::U8(room)),
            ("checksum".into(), Array::U64(vec![arrived])),
        ]))
    }

    /// A file of its own, so that no block is touched.
    fn scratch(&self) -> Result<Scratch, BuildError> {
        let directory = &self.parameters.directory;
        Scratch::create(Path::new(directory)).map_err(refuse_directory(directory))
    }

    fn disk_alone(&self, trips: &[u64]) -> Result<Arrays, BuildError> {
        let most = self.parameters.size_max_bytes;
        if let Some(bytes) = trips.iter().find(|bytes| !(1..=most).contains(bytes)) {
            return Err(wrong("bytes", format!("{bytes} is not within 1 to {most}")));
        }
        let mut mover = self.mover().map_err(|error| refuse_io(&self.parameters, &error))?;
        let scratch = self.scratch()?;
        let failed = refuse("bytes");
        let mut elapsed = Vec::new();
        // The first trip makes room in the file.
        for (trip, &bytes) in trips.iter().max().into_iter().chain(trips).enumerate() {
            if !self.tiers.budget.take(Extent::padded_bytes(bytes as usize)) {
                return Err(wrong("write_budget_bytes", "is spent".to_owned()));
            }
            let file = scratch.descriptor();
            let extent = Extent { file, offset: 0, bytes: bytes as usize, mask: 0 };
            let began = Instant::now();
            mover.bare(extent, Task::Write, &mut NoPause).map_err(&failed)?;
            mover.bare(extent, Task::Read, &mut NoPause).map_err(&failed)?;
            if trip > 0 {
                elapsed.push(began.elapsed().as_nanos() as u64);
            }
        }
        self.keep(Some(mover), None);
        Ok(Arrays::from([("elapsed_ns".into(), Array::U64(elapsed))]))
    }

    fn stepped(&self, places: bool, sizes: &[u64], lives: &[u64]) -> Result<Arrays, BuildError> {
        if sizes.len() != lives.len() {
            return Err(wrong("lifetimes", "are not as many as sizes".to_owned()));
        }
        let most = self.parameters.allocation_max_bytes;
        if let Some(size) = sizes.iter().find(|size| !(1..=most).contains(size)) {
            return Err(wrong("sizes", format!("{size} is not within 1 to {most}")));
        }
        let mut storm = self.new_storm().map_err(refuse("pool_bytes"))?;
        let (mut accepted, mut live, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
        for (step, (&bytes, &lifetime)) in sizes.iter().zip(lives).enumerate() {
            let lifetime = lifetime.clamp(1, WHEEL as u64 - 1);
            let asked = Allocation { bytes, lifetime };
            let outcome = storm.step(asked, step as u64, true, &mut NoPause);
            if outcome == Outcome::Placed && !storm.is_right() {
                return Err(wrong("sizes", format!("allocation {step} is damaged")));
            }
            accepted.push(match outcome {
                Outcome::Placed => 1,
                Outcome::OverBound => 0,
                Outcome::Unplaced => 2,
            });
            live.push(storm.alive_bytes());
            offsets.push(storm.last_offset().unwrap_or(u64::MAX));
        }
        if storm.take_books().broken > 0 {
            return Err(wrong("sizes", "an allocation was damaged while it was alive".to_owned()));
        }
        if places {
            return Ok(Arrays::from([("offsets".into(), Array::U64(offsets))]));
        }
        Ok(Arrays::from([
            ("accepted".into(), Array::U8(accepted)),
            ("live_bytes".into(), Array::U64(live)),
        ]))
    }

    fn source_of(&self, inputs: &Arrays) -> Result<Arrays, BuildError> {
        let op = bytes(inputs, "op")?.first().copied();
        let role = op.and_then(|op| OPS.get(usize::from(op)));
        let (Some((_, role)), Some(&key)) = (role, words(inputs, "key")?.first()) else {
            return Err(wrong("op", "there is no such op or no key".to_owned()));
        };
        if *role == Role::Allocate {
            let drawn = (key..key + STRETCH).map(|key| self.allocation(key));
            let (sizes, lives) = drawn.map(|one| (one.bytes, one.lifetime)).unzip();
            return Ok(Arrays::from([
                ("sizes".into(), Array::U64(sizes)),
                ("lifetimes".into(), Array::U64(lives)),
            ]));
        }
        let sizes = self.parameters.block_sizes();
        let index = self.draws.block(key, sizes.len());
        let mut block = vec![0; sizes[index]];
        self.draws.fill(index, &mut block);
        Ok(Arrays::from([("block".into(), Array::U8(block))]))
    }
}

fn wrong(key: &'static str, problem: String) -> BuildError {
    BuildError::Value { key, problem }
}

fn bytes<'a>(inputs: &'a Arrays, key: &'static str) -> Result<&'a [u8], BuildError> {
    match inputs.get(key) {
        Some(Array::U8(values)) => Ok(values),
        _ => Err(wrong(key, "must be an array of u8".to_owned())),
    }
}

fn words<'a>(inputs: &'a Arrays, key: &'static str) -> Result<&'a [u64], BuildError> {
    match inputs.get(key) {
        Some(Array::U64(values)) => Ok(values),
        _ => Err(wrong(key, "must be an array of u64".to_owned())),
    }
}
