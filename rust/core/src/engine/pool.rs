//! One pool of workers shared by every workload: bounded queues, fair shares, no pre-emption.
//!
//! Worker time is shared by start-time fair queueing (Goyal et al., SIGCOMM 1996): each workload
//! carries the virtual time it has consumed and the one that has had least goes first, so a
//! workload that asks for more than its share queues up itself before it delays the others.
//! Workers spin for a few microseconds and then park; nothing waits for a barrier, so a core taken
//! by a neighbour costs that core and no more.

use std::sync::Arc;

use crate::arrivals::{Arrival, FOREVER};
use crate::clock::{Clock, RealClock, Signal};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

use super::pacer::Control;
use super::recorder::Recorder;
use super::seat::{OWN_MAX, SHORT_NS, Seat};
use super::station::{Overload, Station, StationSettings, Ticket, UNKNOWN_NS};

/// Op ordinals of closed loops live in lanes from here on, apart from those of schedules.
const CLOSED_LANE: u64 = 0x8000 << 48;

/// The maximum of both, kept in `cell`; most often it is there already, and nothing is written.
#[inline]
fn raise_to(cell: &AtomicU64, value: u64) {
    if cell.load(Ordering::Relaxed) < value {
        cell.fetch_max(value, Ordering::Relaxed);
    }
}

/// What workers, pacer and control share.
pub struct Pool {
    pub stations: Vec<Station>,
    pub clock: Arc<RealClock>,
    pub(super) control: Arc<Control>,
    /// What parked workers wait for: the pacer's own signal where they take turns as pacers.
    pub(super) work: Arc<Signal>,
    pub(super) seat: Seat,
    pub(super) parked: AtomicU32,
    /// Workers that are not inside an operation.
    free: AtomicU32,
    /// When a worker last became free after none had been.
    busy_until: AtomicU64,
    /// Start tag of the operation picked last.
    virtual_ns: AtomicU64,
    /// Queued operations of phases below this are given up.
    pub(super) abandon_below: AtomicU32,
    /// A workload whose overload policy ended the run: its index + 1.
    aborted: AtomicU32,
}

impl Pool {
    #[must_use]
    pub fn new(stations: Vec<StationSettings>, clock: Arc<RealClock>, seat: Seat) -> Self {
        let control = Arc::<Control>::default();
        let work = if seat.shared() { Arc::clone(&control.signal) } else { Arc::default() };
        Self {
            stations: stations.into_iter().map(Station::new).collect(),
            clock,
            control,
            work,
            seat,
            parked: AtomicU32::new(0),
            free: AtomicU32::new(0),
            busy_until: AtomicU64::new(0),
            virtual_ns: AtomicU64::new(0),
            abandon_below: AtomicU32::new(0),
            aborted: AtomicU32::new(0),
        }
    }

    /// Ends the pacer and the workers.
    pub fn stop(&self) {
        self.control.stop();
        self.work.raise();
    }

    /// Gives up what is still queued of phases below `phase`.
    pub fn abandon_below(&self, phase: u32) {
        self.abandon_below.fetch_max(phase, Ordering::AcqRel);
        self.work.raise();
    }

    /// The workload whose overload policy asked for the end of the run.
    #[must_use]
    pub fn aborted(&self) -> Option<usize> {
        (self.aborted.load(Ordering::Acquire) as usize).checked_sub(1)
    }

    /// Keeps `count` operations of `phase` in flight from now on; more than that run out.
    pub fn close_loop(
        &self,
        workload: u16,
        count: usize,
        phase: u32,
        epoch: u32,
        writer: &Recorder,
    ) {
        let station = &self.stations[usize::from(workload)];
        let target = (count as u64).min(station.in_flight_bound);
        station.closed_target.store(target, Ordering::Release);
        station.closed_phase.store(phase + 1, Ordering::Release);
        let template = Arrival { due: 0, key: 0, phase, epoch, workload, op: 0 };
        for _ in station.in_flight()..target {
            self.ask_again(&template, writer, self.clock.now());
        }
    }

    /// Lets a closed loop run dry.
    pub fn open_loop(&self, workload: u16) {
        self.stations[usize::from(workload)].closed_phase.store(0, Ordering::Release);
    }

    /// Admits the next operation of a closed loop after `previous`, which ended at `due`.
    pub(super) fn ask_again(&self, previous: &Arrival, writer: &Recorder, due: u64) {
        let station = &self.stations[usize::from(previous.workload)];
        let in_flight = station.in_flight.fetch_add(1, Ordering::AcqRel) + 1;
        self.ask(previous, writer, due, in_flight);
    }

    /// Hands the place in flight of `previous`, which ended at `now`, to the next operation where
    /// its loop is closed and does not shrink; false where its place is to be given back.
    pub(super) fn succeed(&self, previous: &Arrival, writer: &Recorder, now: u64) -> bool {
        let station = &self.stations[usize::from(previous.workload)];
        if station.closed_phase.load(Ordering::Acquire) != previous.phase + 1 {
            return false;
        }
        let target = station.closed_target.load(Ordering::Acquire);
        let in_flight = station.in_flight.load(Ordering::Acquire);
        if in_flight <= target {
            self.ask(previous, writer, now, in_flight);
        } else if station.in_flight.fetch_sub(1, Ordering::AcqRel) <= target {
            self.ask_again(previous, writer, now);
        }
        true
    }

    /// `succeed` for a batch of one workload; returns how many places are to be given back. What
    /// is asked for next stands in `ended` afterwards.
    pub(super) fn succeed_all(&self, ended: &mut [Ticket], writer: &Recorder, now: u64) -> u64 {
        let (first, last) = (ended[0].arrival, ended[ended.len() - 1].arrival);
        let station = &self.stations[usize::from(last.workload)];
        let closed = station.closed_phase.load(Ordering::Acquire) == last.phase + 1;
        let shrinks = station.in_flight() > station.closed_target.load(Ordering::Acquire);
        if ended.len() == 1 || first.phase != last.phase || !closed || shrinks {
            let gone = ended.iter().filter(|each| !self.succeed(&each.arrival, writer, now));
            return gone.count() as u64;
        }
        let count = ended.len() as u64;
        let ordinal = station.closed_ordinal.fetch_add(count, Ordering::Relaxed);
        for (ordinal, next) in (ordinal..).zip(ended.iter_mut()) {
            let key = CLOSED_LANE | ordinal;
            next.arrival = Arrival { due: now, key, op: station.mix.op(key), ..next.arrival };
            next.unqueued = false;
        }
        for alike in ended.chunk_by(|left, right| left.arrival.op == right.arrival.op) {
            let series = writer.series(last.phase, last.workload, alike[0].arrival.op);
            series.asked(now, alike.len() as u64);
        }
        let waiting = station.queue.len() as u64;
        let queued = station.queue.push_many(ended);
        raise_to(&station.queue_max, waiting + queued as u64);
        for Ticket { arrival, .. } in &ended[queued..] {
            writer.series(arrival.phase, arrival.workload, arrival.op).refused(now);
        }
        self.wake_one();
        count - queued as u64
    }

    /// Queues the next operation of a closed loop, which is counted in flight already.
    fn ask(&self, previous: &Arrival, writer: &Recorder, due: u64, in_flight: u64) {
        let station = &self.stations[usize::from(previous.workload)];
        let key = CLOSED_LANE | station.closed_ordinal.fetch_add(1, Ordering::Relaxed);
        let arrival = Arrival { due, key, op: station.mix.op(key), ..*previous };
        writer.series(arrival.phase, arrival.workload, arrival.op).asked(arrival.due, 1);
        if self.enqueue(&arrival, in_flight) {
            if station.hosted {
                station.announce();
            } else {
                self.wake_one();
            }
        } else {
            writer.series(arrival.phase, arrival.workload, arrival.op).refused(arrival.due);
        }
    }

    /// Queues an arrival; false where there is no room.
    pub(super) fn admit(&self, arrival: &Arrival) -> bool {
        let station = &self.stations[usize::from(arrival.workload)];
        let in_flight = station.in_flight.fetch_add(1, Ordering::AcqRel) + 1;
        self.enqueue(arrival, in_flight)
    }

    /// Queues an arrival that is counted in flight already; false, and no longer counted, where
    /// there is no room.
    fn enqueue(&self, arrival: &Arrival, in_flight: u64) -> bool {
        let station = &self.stations[usize::from(arrival.workload)];
        let waiting = station.queue.len();
        let unqueued = if station.hosted {
            in_flight == 1
        } else {
            waiting == 0 && self.busy_until() <= arrival.due
        };
        if in_flight == 1 {
            self.level(station);
        }
        let ticket = Ticket { arrival: *arrival, unqueued };
        if in_flight > station.in_flight_bound || station.queue.push(ticket).is_err() {
            station.in_flight.fetch_sub(1, Ordering::AcqRel);
            if station.overload == Overload::Abort {
                self.aborted.store(u32::from(arrival.workload) + 1, Ordering::Release);
            }
            return false;
        }
        raise_to(&station.queue_max, waiting as u64 + 1);
        raise_to(&station.in_flight_max, in_flight);
        true
    }

    /// Counts operations that a worker keeps for itself as in flight; they are grouped by workload
    /// more or less.
    pub(super) fn count_own(&self, own: &[Ticket]) {
        for group in own.chunk_by(|left, right| left.arrival.workload == right.arrival.workload) {
            let station = &self.stations[usize::from(group[0].arrival.workload)];
            let before = station.in_flight.fetch_add(group.len() as u64, Ordering::AcqRel);
            if before == 0 {
                self.level(station);
            }
            raise_to(&station.in_flight_max, before + group.len() as u64);
        }
    }

    /// A workload that was idle starts level with the others: idling earns no credit.
    fn level(&self, station: &Station) {
        raise_to(&station.virtual_ns, self.virtual_ns.load(Ordering::Relaxed));
    }

    /// Sleeps until woken, for at most `park_ns`, unless the caller is `wanted`.
    pub(super) fn park(&self, wanted: impl Fn() -> bool, park_ns: u64) {
        let seen = self.work.value();
        self.parked.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if !wanted() {
            self.work.sleep(seen, park_ns);
        }
        self.parked.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes a waiting thread, if there is one, after work was queued by another than the pacer.
    pub(super) fn wake_one(&self) {
        // A thread that goes to sleep counts itself and then looks at the queue; this one has
        // queued and now looks at the count. All of it is sequentially consistent, so one sees
        // the other.
        if self.parked.load(Ordering::SeqCst) > 0 || self.seat.taken() {
            self.work.raise_one();
        }
    }

    /// Until when every worker has been inside an operation: `FOREVER` while that is so.
    pub(super) fn busy_until(&self) -> u64 {
        // In this order: a worker stores the moment before it counts itself as free.
        match self.free.load(Ordering::Acquire) {
            0 => FOREVER,
            _ => self.busy_until.load(Ordering::Acquire),
        }
    }

    /// A worker is outside any operation from `now` on.
    pub(super) fn freed(&self, now: u64) {
        if self.free.load(Ordering::Relaxed) == 0 {
            self.busy_until.fetch_max(now, Ordering::Release);
        }
        self.free.fetch_add(1, Ordering::Release);
    }

    /// A worker goes into an operation.
    pub(super) fn engaged(&self) {
        self.free.fetch_sub(1, Ordering::Release);
    }

    /// The waiting workload that has had least, by start tag, among those `allowed` lets through.
    pub(super) fn least_served(&self, allowed: impl Fn(usize, u64) -> bool) -> Option<usize> {
        let mut best = None;
        for (index, station) in self.stations.iter().enumerate() {
            if !station.waits_for_worker() {
                continue;
            }
            let tag = station.virtual_ns.load(Ordering::Relaxed);
            if allowed(index, tag) && best.is_none_or(|(_, least)| tag < least) {
                best = Some((index, tag));
            }
        }
        best.map(|(index, _)| index)
    }

    /// Takes operations that wait at station `index` into `own`: one or a batch, or as many as take
    /// less time together than another worker to wake.
    pub(super) fn take_some(&self, index: usize, own: &mut Vec<Ticket>) {
        let station = &self.stations[index];
        let longest_ns = station.longest_ns.load(Ordering::Relaxed).max(1);
        let count = (SHORT_NS / longest_ns).min(OWN_MAX as u64) as usize;
        station.queue.pop_many(own, count.max(station.batch_max));
    }

    /// Charges station `index` in advance what `count` operations are expected to take; returns
    /// its start tag and that time.
    pub(super) fn charge(&self, index: usize, count: usize) -> (u64, u64) {
        let station = &self.stations[index];
        let charged = station.estimate_ns.load(Ordering::Relaxed) * count as u64;
        let tag = station.virtual_ns.fetch_add(charged, Ordering::Relaxed);
        // Several workers may pick at once; which of their tags stays is of no consequence.
        self.virtual_ns.store(tag.max(self.virtual_ns.load(Ordering::Relaxed)), Ordering::Relaxed);
        (tag, charged)
    }

    /// Takes `ended` operations of station `index` out of flight, and corrects what was charged
    /// in advance for `count` of them by what they took together: `(charged, spent)`.
    pub(super) fn settle(
        &self,
        index: usize,
        ended: u64,
        (charged, spent): (u64, u64),
        count: u64,
    ) {
        let station = &self.stations[index];
        if ended > 0 {
            station.in_flight.fetch_sub(ended, Ordering::AcqRel);
        }
        station.virtual_ns.fetch_add(spent.wrapping_sub(charged), Ordering::Relaxed);
        if spent > 0 {
            self.learn(index, spent / count.max(1));
        }
    }

    /// Queues again what a worker has taken and has no time for.
    pub(super) fn queue_again(&self, own: &[Ticket], writer: &Recorder) {
        for Ticket { arrival, .. } in own {
            let station = &self.stations[usize::from(arrival.workload)];
            if self.enqueue(arrival, station.in_flight()) {
                self.wake_one();
            } else {
                writer.series(arrival.phase, arrival.workload, arrival.op).refused(arrival.due);
            }
        }
    }

    /// Whether another worker is outside any operation; the caller is not.
    pub(super) fn others_free(&self) -> bool {
        self.free.load(Ordering::Relaxed) > 0
    }

    /// Remembers what an operation of station `index` took a worker.
    fn learn(&self, index: usize, spent: u64) {
        let station = &self.stations[index];
        let estimate = station.estimate_ns.load(Ordering::Relaxed);
        let smoothed = estimate - estimate / 8 + spent / 8;
        station.estimate_ns.store(smoothed, Ordering::Relaxed);
        let longest = match station.longest_ns.load(Ordering::Relaxed) {
            UNKNOWN_NS => 0,
            known => known - known / 64,
        };
        station.longest_ns.store(spent.max(longest), Ordering::Relaxed);
    }

    pub(super) fn anything_waiting(&self) -> bool {
        self.stations.iter().any(Station::waits_for_worker)
    }
}
