//! Serves a workload's operations on a device from a thread of its own: no other thread, and no
//! interpreter, takes part between an operation's hand-over and its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::engine::{Desk, Open};
use crate::histogram::Counts;
use crate::operations::{Completion, Status, Verdict};

use super::lane::{Berth, Stage};
use super::{Context, DriverError};

/// How long an idle submitter waits for an operation before it looks whether it is to stop.
const PATIENCE_NS: u64 = 50_000_000;
/// How long a look at busy lanes goes on before others may have the core.
const SPIN: Duration = Duration::from_micros(200);
/// How often a driver is asked whether the device is still there while words do not move.
const PROBE: Duration = Duration::from_millis(100);
/// How long operations under way may take once the submitter is to stop.
const GRACE: Duration = Duration::from_secs(5);

/// What a submitter measured beside the engine, in nanoseconds.
#[derive(Default)]
pub struct Figures {
    /// From taking an operation until the driver, or the word, had it.
    pub submit: Counts,
    /// From then until its first command was seen to begin; where stream words tell it.
    pub queue: Counts,
    /// From then until its answer was seen to be there.
    pub execute: Counts,
}

/// One lane: a berth for each op type, none of an op type that is never asked for.
pub struct Lane {
    berths: Vec<Option<Berth>>,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    open: Open,
    op: usize,
    is_checked: bool,
    stage: Stage,
    since: Instant,
}

impl Lane {
    /// Berths in the order of the component's op types.
    #[must_use]
    pub fn new(berths: Vec<Option<Berth>>) -> Self {
        Self { berths, under_way: None }
    }
}

struct Shared {
    figures: Figures,
    stop: AtomicBool,
    lost: Mutex<Option<DriverError>>,
}

impl Shared {
    fn lost(&self) -> MutexGuard<'_, Option<DriverError>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running submitter; it ends when it is dropped or the engine is stopped.
pub struct Submitter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Submitter {
    /// Serves a desk with some lanes.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(
        context: Arc<Context>,
        desk: Arc<Desk>,
        lanes: Vec<Lane>,
    ) -> Result<Self, std::io::Error> {
        let shared = Arc::new(Shared {
            figures: Figures::default(),
            stop: AtomicBool::new(false),
            lost: Mutex::new(None),
        });
        let mut serving = Serving { desk, lanes, shared: Arc::clone(&shared) };
        let thread =
            std::thread::Builder::new().name("submitter".to_owned()).spawn(
                move || match context.enter() {
                    Ok(()) => serving.serve(),
                    Err(error) => serving.give_up(error),
                },
            )?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What it measured so far.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.shared.figures
    }

    /// What ended its work before it was to end; every later operation is counted as an error.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.shared.lost().as_ref().map(ToString::to_string)
    }

    /// Ends it, after what is under way.
    pub fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed, and what it had open is counted as failed.
            thread.join().ok();
        }
    }
}

impl Drop for Submitter {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Serving {
    desk: Arc<Desk>,
    lanes: Vec<Lane>,
    shared: Arc<Shared>,
}

impl Serving {
    fn serve(&mut self) {
        let mut stopped_at = None;
        let mut moved_at = Instant::now();
        loop {
            let is_stopped = self.is_stopped();
            if is_stopped && stopped_at.get_or_insert_with(Instant::now).elapsed() > GRACE {
                break;
            }
            match self.turn(is_stopped, moved_at) {
                Ok(Turn::Moved) => moved_at = Instant::now(),
                Ok(Turn::Idle) if is_stopped => break,
                Ok(Turn::Idle) => {}
                Ok(Turn::Waiting) if moved_at.elapsed() < SPIN => std::hint::spin_loop(),
                Ok(Turn::Waiting) => std::thread::yield_now(),
                Err(error) => return self.give_up(error),
            }
        }
        self.end();
    }

    fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire) || self.desk.stopped()
    }

    /// Looks at every lane once, and takes an operation for each that is free.
    fn turn(&mut self, is_stopped: bool, moved_at: Instant) -> Result<Turn, DriverError> {
        let mut turn = Turn::Idle;
        for place in 0..self.lanes.len() {
            if self.lanes[place].under_way.is_some() {
                let moved = self.look(place, moved_at)?;
                turn = turn.max(if moved { Turn::Moved } else { Turn::Waiting });
            }
            if self.lanes[place].under_way.is_none() && !is_stopped {
                // Only where nothing is under way may it sleep until something comes.
                let patience_ns =
                    if turn == Turn::Idle && self.is_idle() { PATIENCE_NS } else { 0 };
                if let Some(open) = self.desk.open(patience_ns) {
                    self.begin(place, open)?;
                    turn = Turn::Moved;
                }
            }
        }
        Ok(turn)
    }

    fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.under_way.is_none())
    }

    fn begin(&mut self, place: usize, open: Open) -> Result<(), DriverError> {
        let began = Instant::now();
        let op = usize::from(open.arrival().op);
        let lane = &mut self.lanes[place];
        let Some(berth) = lane.berths.get_mut(op).and_then(Option::as_mut) else {
            close(&self.desk, open, Status::Error, 0, Verdict::default());
            return Ok(());
        };
        match berth.submit() {
            Ok(is_checked) => {
                let since = Instant::now();
                self.shared.figures.submit.record(nanoseconds(since - began));
                let stage = Stage::Waiting;
                lane.under_way = Some(UnderWay { open, op, is_checked, stage, since });
                Ok(())
            }
            Err(error) => {
                close(&self.desk, open, Status::Error, 0, Verdict::default());
                Err(error)
            }
        }
    }

    /// Whether a lane's operation got further.
    fn look(&mut self, place: usize, moved_at: Instant) -> Result<bool, DriverError> {
        let Lane { berths, under_way } = &mut self.lanes[place];
        let Some(current) = under_way else { return Ok(false) };
        let Some(berth) = &mut berths[current.op] else { return Ok(false) };
        let stage = berth.look(current.stage)?;
        if stage == current.stage {
            if moved_at.elapsed() > PROBE {
                berth.probe()?;
            }
            return Ok(false);
        }
        let now = Instant::now();
        let figures = &self.shared.figures;
        if current.stage < Stage::Done && stage >= Stage::Done {
            self.desk.finish(&mut current.open);
            figures.execute.record(nanoseconds(now - current.since));
        } else if current.stage == Stage::Waiting {
            figures.queue.record(nanoseconds(now - current.since));
            current.since = now;
        }
        current.stage = stage;
        if stage < Stage::Checked {
            return Ok(true);
        }
        let entry = berth.last();
        let checked = u32::from(current.is_checked);
        let violations = u32::from(current.is_checked && !entry.is_right());
        if let Some(ended) = under_way.take() {
            close(&self.desk, ended.open, Status::Ok, entry.units, Verdict { checked, violations });
        }
        berth.arm()?;
        Ok(true)
    }

    /// Counts everything from now on as failed, until it is to stop.
    fn give_up(&mut self, error: DriverError) {
        *self.shared.lost() = Some(error);
        self.close_all();
        while !self.is_stopped() {
            if let Some(open) = self.desk.open(PATIENCE_NS) {
                close(&self.desk, open, Status::Error, 0, Verdict::default());
            }
        }
    }

    /// Lets what is enqueued ahead run out; what is still under way has failed.
    fn end(&mut self) {
        self.close_all();
        let mut berths = self.lanes.iter_mut().flat_map(|lane| lane.berths.iter_mut().flatten());
        if let Err(error) = berths.try_for_each(Berth::release) {
            *self.shared.lost() = Some(error);
        }
    }

    fn close_all(&mut self) {
        for lane in &mut self.lanes {
            if let Some(current) = lane.under_way.take() {
                close(&self.desk, current.open, Status::Error, 0, Verdict::default());
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Idle,
    Waiting,
    Moved,
}

fn close(desk: &Desk, open: Open, status: Status, units: u64, verdict: Verdict) {
    desk.close(open, Completion { status, units }, verdict);
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
