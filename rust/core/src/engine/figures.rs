//! Reading the engine: sums over all threads' recorders, at any moment and without stopping them.

use crate::histogram::Histogram;

use super::{Counters, Engine, EngineError, IntervalReading, LIVE_PHASES, Reading, lock};

impl Engine {
    pub(super) fn totals(&self, phase: u32) -> Vec<Vec<Reading>> {
        let total = |workload: usize, op: usize| {
            let mut sum = Reading::default();
            for recorder in self.system.recorders() {
                sum.merge(&recorder.series(phase, workload as u16, op as u8).read());
            }
            sum
        };
        let ops = self.op_counts.iter().enumerate();
        ops.map(|(workload, ops)| (0..*ops).map(|op| total(workload, op)).collect()).collect()
    }

    pub(super) fn workload_totals(&self, phase: u32, workload: usize) -> (Counters, Histogram) {
        let (mut counters, mut response) = (Counters::default(), Histogram::default());
        for recorder in self.system.recorders() {
            for op in 0..self.op_counts[workload] {
                let series = recorder.series(phase, workload as u16, op as u8);
                counters.merge(&series.read_counters());
                response.merge(&series.read_response());
            }
        }
        (counters, response)
    }

    /// Everything recorded of `phase` so far, by workload and op type.
    ///
    /// # Errors
    /// The phase is neither the current one nor the one before it.
    pub fn reading(&self, phase: u32) -> Result<Vec<Vec<Reading>>, EngineError> {
        let steering = lock(&self.steering);
        if phase == 0 || phase > steering.phase || phase + (LIVE_PHASES as u32) <= steering.phase {
            return Err(EngineError::NoSuchPhase(phase));
        }
        let bases = &steering.bases[phase as usize % LIVE_PHASES];
        let mut readings = self.totals(phase);
        for (workload, ops) in readings.iter_mut().enumerate() {
            for (op, reading) in ops.iter_mut().enumerate() {
                *reading = reading.since(&bases[workload][op])?;
            }
        }
        Ok(readings)
    }

    /// What each workload did in the current phase since the last call (or since its begin).
    ///
    /// # Errors
    /// A recorder ran backwards, which is a mistake of ours.
    pub fn interval(&self) -> Result<Vec<IntervalReading>, EngineError> {
        let mut steering = lock(&self.steering);
        let phase = steering.phase;
        let mut intervals = Vec::with_capacity(self.op_counts.len());
        for (workload, last) in steering.last_interval.iter_mut().enumerate() {
            let (counters, response) = self.workload_totals(phase, workload);
            let occupancy = self.system.occupancy(workload);
            intervals.push(IntervalReading {
                counters: counters.since(&last.0),
                response: response.subtract(&last.1)?,
                queue_depth: occupancy.queue_depth,
                in_flight: occupancy.in_flight,
            });
            *last = (counters, response);
        }
        Ok(intervals)
    }

    /// (Greatest queue depth, greatest number in flight) of each workload since the last begin.
    #[must_use]
    pub fn maxima(&self) -> Vec<(u64, u64)> {
        let of = |workload| {
            let occupancy = self.system.occupancy(workload);
            (occupancy.queue_depth_max, occupancy.in_flight_max)
        };
        (0..self.op_counts.len()).map(of).collect()
    }
}
