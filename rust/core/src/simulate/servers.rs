//! The servers of a simulated system: an event queue over start-time fair queues.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::arrivals::Arrival;
use crate::engine::{Executor, Moments, Occupancy, Recorder};
use crate::operations::{Completion, Status, Verdict};
use crate::random::{Stream, stream_key};

use super::{Service, Simulated};

/// Domain of the service times' randomness.
const SERVICE: u64 = 0x0300_0000;
/// Closed loops number their operations in lanes from here on, as the pool does.
const CLOSED_LANE: u64 = 0x8000 << 48;
const HOUR_NS: f64 = 3.6e12;

struct Job {
    arrival: Arrival,
    started: u64,
    finish: u64,
    unqueued: bool,
}

struct Queue {
    waiting: VecDeque<(Arrival, bool)>,
    running: u64,
    bound: u64,
    service: Service,
    key: [u32; 2],
    virtual_ns: u64,
    closed_phase: u32,
    closed_target: u64,
    closed_ordinal: u64,
    maxima: (u64, u64),
}

impl Queue {
    fn in_flight(&self) -> u64 {
        self.waiting.len() as u64 + self.running
    }
}

pub struct Servers {
    recorder: Arc<Recorder>,
    queues: Vec<Queue>,
    jobs: Vec<Job>,
    servers: usize,
    freezes: Vec<(u64, u64)>,
    drift_per_hour: f64,
    virtual_ns: u64,
}

impl Servers {
    pub fn new(simulated: &Simulated, recorder: Arc<Recorder>) -> Self {
        let queue = |(index, workload): (usize, &super::SimulatedWorkload)| Queue {
            waiting: VecDeque::new(),
            running: 0,
            bound: workload.in_flight_bound as u64,
            service: workload.service,
            key: stream_key(simulated.seed, SERVICE + index as u64),
            virtual_ns: 0,
            closed_phase: 0,
            closed_target: 0,
            closed_ordinal: 0,
            maxima: (0, 0),
        };
        Self {
            recorder,
            queues: simulated.workloads.iter().enumerate().map(queue).collect(),
            jobs: Vec::new(),
            servers: simulated.servers,
            freezes: simulated.freezes.clone(),
            drift_per_hour: simulated.drift_per_hour,
            virtual_ns: 0,
        }
    }

    /// Ends every operation that finishes by `moment`, in order, and starts the next ones.
    pub fn advance_to(&mut self, moment: u64) {
        while let Some(index) = self.next_to_finish() {
            if self.jobs[index].finish > moment {
                return;
            }
            let job = self.jobs.swap_remove(index);
            self.finish(&job);
            self.start_next(job.finish);
        }
    }

    fn next_to_finish(&self) -> Option<usize> {
        (0..self.jobs.len()).min_by_key(|index| self.jobs[*index].finish)
    }

    fn finish(&mut self, job: &Job) {
        let arrival = job.arrival;
        let series = self.recorder.series(arrival.phase, arrival.workload, arrival.op);
        let moments = Moments {
            due: arrival.due,
            started: job.started,
            finished: job.finish,
            slipped_ns: 0,
            unqueued: job.unqueued,
        };
        series.completed(&moments, Completion { status: Status::Ok, units: 1 }, 1);
        series.checked(Verdict { checked: 1, violations: 0 }, 0);
        let queue = &mut self.queues[usize::from(arrival.workload)];
        queue.running -= 1;
        let closed = queue.closed_phase == arrival.phase + 1;
        if closed && queue.in_flight() < queue.closed_target {
            self.ask_again(&arrival, job.finish);
        }
    }

    fn start_next(&mut self, now: u64) {
        while self.jobs.len() < self.servers {
            let waiting = self.queues.iter().enumerate().filter(|(_, one)| !one.waiting.is_empty());
            let Some((index, _)) = waiting.min_by_key(|(_, one)| one.virtual_ns) else { return };
            let queue = &mut self.queues[index];
            let Some((arrival, unqueued)) = queue.waiting.pop_front() else { return };
            let drift = 1.0 + self.drift_per_hour * (now as f64 / HOUR_NS);
            let service_ns = (draw(queue, arrival.key) * drift) as u64;
            self.virtual_ns = self.virtual_ns.max(queue.virtual_ns);
            queue.virtual_ns += service_ns;
            queue.running += 1;
            let finish = thaw(&self.freezes, now, service_ns);
            self.jobs.push(Job { arrival, started: now, finish, unqueued });
        }
    }

    fn admit(&mut self, arrival: &Arrival, now: u64) {
        let free = self.jobs.len() < self.servers;
        let level = self.virtual_ns;
        let queue = &mut self.queues[usize::from(arrival.workload)];
        let in_flight = queue.in_flight() + 1;
        if in_flight > queue.bound {
            self.recorder.series(arrival.phase, arrival.workload, arrival.op).refused(now, 1);
            return;
        }
        if in_flight == 1 {
            queue.virtual_ns = queue.virtual_ns.max(level);
        }
        let unqueued = free && queue.waiting.is_empty();
        queue.waiting.push_back((*arrival, unqueued));
        let depth = queue.waiting.len() as u64;
        queue.maxima = (queue.maxima.0.max(depth), queue.maxima.1.max(in_flight));
        self.start_next(now);
    }

    fn ask_again(&mut self, previous: &Arrival, now: u64) {
        let queue = &mut self.queues[usize::from(previous.workload)];
        let key = CLOSED_LANE | queue.closed_ordinal;
        queue.closed_ordinal += 1;
        let arrival = Arrival { due: now, key, ..*previous };
        self.recorder.series(arrival.phase, arrival.workload, arrival.op).asked(now, 1);
        self.admit(&arrival, now);
    }

    pub fn close_loop(&mut self, workload: u16, count: usize, phase: u32, epoch: u32, now: u64) {
        let queue = &mut self.queues[usize::from(workload)];
        queue.closed_phase = phase + 1;
        queue.closed_target = (count as u64).min(queue.bound);
        let template = Arrival { due: now, key: 0, phase, epoch, workload, op: 0 };
        for _ in queue.in_flight()..queue.closed_target {
            self.ask_again(&template, now);
        }
    }

    pub fn open_loop(&mut self, workload: u16) {
        self.queues[usize::from(workload)].closed_phase = 0;
    }

    pub fn abandon_below(&mut self, phase: u32, now: u64) {
        for queue in &mut self.queues {
            queue.waiting.retain(|(arrival, _)| {
                let kept = arrival.phase >= phase;
                if !kept {
                    let recorder = &self.recorder;
                    let series = recorder.series(arrival.phase, arrival.workload, arrival.op);
                    series.abandoned(arrival.due, now, 1);
                }
                kept
            });
        }
    }

    pub fn occupancy(&self, workload: usize) -> Occupancy {
        let queue = &self.queues[workload];
        Occupancy {
            queue_depth: queue.waiting.len() as u64,
            in_flight: queue.in_flight(),
            queue_depth_max: queue.maxima.0,
            in_flight_max: queue.maxima.1,
        }
    }

    pub fn reset_maxima(&mut self) {
        self.queues.iter_mut().for_each(|queue| queue.maxima = (0, 0));
    }
}

impl Executor for Servers {
    fn hand_over(&mut self, arrival: &Arrival, handed: u64, late_ns: u64) {
        self.advance_to(handed);
        let series = self.recorder.series(arrival.phase, arrival.workload, arrival.op);
        series.handed_over(arrival.due, late_ns);
        self.admit(arrival, handed);
    }
}

/// The service time of the operation `key`, a pure function of seed, workload and key.
fn draw(queue: &Queue, key: u64) -> f64 {
    match queue.service {
        Service::Constant { ns } => ns,
        Service::Exponential { mean_ns } => {
            crate::arrivals::exponential(&mut Stream::new(queue.key, key)) * mean_ns
        }
    }
}

/// When `service_ns` of work begun at `start` ends, given the stretches without progress.
pub(super) fn thaw(freezes: &[(u64, u64)], start: u64, service_ns: u64) -> u64 {
    let mut finish = start + service_ns;
    for &(begin, end) in freezes {
        if begin < finish && end > start {
            finish += end - begin.max(start);
        }
    }
    finish
}
