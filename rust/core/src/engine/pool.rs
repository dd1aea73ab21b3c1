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

    /// Ends the pacer, the workers, and whoever waits outside for operations.
    pub fn stop(&self) {
        self.control.stop();
        self.work.raise();
        self.stations.iter().for_each(|station| station.arrived.raise());
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
        let (before, room) = self.stations[usize::from(previous.workload)].reserve(1);
        self.ask(previous, writer, due, room, before);
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
            self.ask(previous, writer, now, 1, in_flight - 1);
        } else if station.in_flight.fetch_sub(1, Ordering::AcqRel) <= target {
            self.ask_again(previous, writer, now);
        }
        true
    }

    /// `succeed` for a batch of one workload; returns how many places are to be given back. `next`
    /// is scratch with room for a ticket for each operation.
    pub(super) fn succeed_all(
        &self,
        ended: &[Ticket],
        writer: &Recorder,
        now: u64,
        next: &mut Vec<Ticket>,
    ) -> u64 {
        if let [Ticket { arrival, count: 1, .. }] = ended {
            return u64::from(!self.succeed(arrival, writer, now));
        }
        let (first, last) = (&ended[0].arrival, ended[ended.len() - 1].arrival);
        let station = &self.stations[usize::from(last.workload)];
        let count = station.operations(ended) as u64;
        let closed = station.closed_phase.load(Ordering::Acquire) == last.phase + 1;
        let shrinks = station.in_flight() > station.closed_target.load(Ordering::Acquire);
        if first.phase != last.phase || !closed || shrinks {
            let mut gone = 0;
            for Ticket { arrival, count, .. } in ended {
                gone += (0..*count).filter(|_| !self.succeed(arrival, writer, now)).count();
            }
            return gone as u64;
        }
        let ordinal = station.closed_ordinal.fetch_add(count, Ordering::Relaxed);
        let mut asked = 0;
        while asked < count {
            let key = CLOSED_LANE | (ordinal + asked);
            let (op, run) = station.mix.run(key, count - asked);
            let arrival = Arrival { due: now, key, op, ..last };
            next.push(Ticket { count: run as u32, ..Ticket::one(arrival) });
            asked += run;
        }
        for Ticket { arrival, count, .. } in next.iter() {
            let series = writer.series(arrival.phase, arrival.workload, arrival.op);
            series.asked(now, u64::from(*count));
        }
        let waiting = station.queue_depth();
        let queued = station.push(next);
        raise_to(&station.queue_max, waiting + station.operations(&next[..queued]) as u64);
        let refused = station.operations(&next[queued..]) as u64;
        for Ticket { arrival, count, .. } in &next[queued..] {
            let series = writer.series(arrival.phase, arrival.workload, arrival.op);
            series.refused(now, u64::from(*count));
        }
        next.clear();
        self.wake_one();
        refused
    }

    /// Queues the next operation of a closed loop, if it has been given `room`, and is counted in
    /// flight beside `before` others.
    fn ask(&self, previous: &Arrival, writer: &Recorder, due: u64, room: usize, before: u64) {
        let station = &self.stations[usize::from(previous.workload)];
        let key = CLOSED_LANE | station.closed_ordinal.fetch_add(1, Ordering::Relaxed);
        let arrival = Arrival { due, key, op: station.mix.op(key), ..*previous };
        let series = writer.series(arrival.phase, arrival.workload, arrival.op);
        series.asked(due, 1);
        if self.enqueue(&mut [Ticket::one(arrival)], room, before) == 0 {
            series.refused(due, 1);
        } else if station.hosted {
            station.announce();
        } else {
            self.wake_one();
        }
    }

    /// Queues arrivals of one workload, in order; returns for how many there was room.
    pub(super) fn admit(&self, arrived: &mut [Ticket]) -> usize {
        let station = &self.stations[usize::from(arrived[0].arrival.workload)];
        let (before, room) = station.reserve(arrived.len());
        self.enqueue(arrived, room, before)
    }

    /// Queues the first `room` operations of one workload, which are counted in flight already
    /// beside `before` others. Returns how many did fit; the rest are counted no longer.
    fn enqueue(&self, tickets: &mut [Ticket], room: usize, before: u64) -> usize {
        let first = &mut tickets[0];
        let workload = first.arrival.workload;
        let station = &self.stations[usize::from(workload)];
        let waiting = station.queue_depth();
        first.unqueued = if station.hosted {
            before == 0
        } else {
            waiting == 0 && self.busy_until() <= first.arrival.due
        };
        if before == 0 {
            self.level(station);
        }
        let queued = station.push(&tickets[..room]);
        if queued < room {
            let refused = station.operations(&tickets[queued..room]);
            station.in_flight.fetch_sub(refused as u64, Ordering::AcqRel);
        }
        if queued < tickets.len() && station.overload == Overload::Abort {
            self.aborted.store(u32::from(workload) + 1, Ordering::Release);
        }
        let queued_operations = station.operations(&tickets[..queued]) as u64;
        raise_to(&station.queue_max, waiting + queued_operations);
        raise_to(&station.in_flight_max, before + queued_operations);
        queued
    }

    /// Counts operations that a worker keeps for itself as in flight; they are grouped by workload
    /// more or less.
    pub(super) fn count_own(&self, own: &[Ticket]) {
        for group in own.chunk_by(Ticket::of_one_workload) {
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
        station.pop_many(own, count.max(station.batch_max));
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
        for ticket in own {
            let Arrival { due, phase, workload, op, .. } = ticket.arrival;
            let counted = u64::from(ticket.count);
            let before = self.stations[usize::from(workload)].in_flight() - counted;
            if self.enqueue(&mut [*ticket], 1, before) == 0 {
                let series = writer.series(phase, workload, op);
                series.refused(due, counted);
            } else {
                self.wake_one();
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
