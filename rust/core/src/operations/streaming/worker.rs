//! One chunk through the pipeline on one worker: source, transform, compress, transfer, decompress,
//! verify, deliver.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::frame::{self, Codec, Coder, FrameError, Header};
use super::sink::Arrival;
use super::{OPS, Role, Shared};
use crate::operations::scratch::{PAGE_BYTES, PageBuffer, Scratch};
use crate::operations::{Completion, NoPause, Operation, Pause, Request, Status, Verdict};

/// Times that a worker serves others while the stream is full before it turns an operation away.
const FULL_PATIENCE: usize = 64;

pub struct Worker {
    shared: Arc<Shared>,
    coder: Coder,
    frame: PageBuffer,
    chunk: PageBuffer,
    disk: Option<Disk>,
    /// The number this worker took and has not delivered.
    open: Option<u64>,
    /// What `verify` has still to do.
    unverified: Unverified,
    violations: u32,
}

/// A worker's place on the disk.
struct Disk {
    scratch: Scratch,
    source: PageBuffer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unverified {
    Nothing,
    Delivered,
    Frame { index: usize, length: usize },
}

impl Worker {
    pub fn new(shared: Arc<Shared>) -> Self {
        let chunk_bytes = shared.parameters.chunk_bytes;
        let block_bytes = shared.parameters.block_bytes;
        let disk = shared.files.as_ref().and_then(|files| {
            let scratch = Scratch::create(&files.directory).ok()?;
            Some(Disk { scratch, source: PageBuffer::new(chunk_bytes) })
        });
        Self {
            coder: Coder::new(block_bytes, shared.parameters.zstd_level),
            frame: PageBuffer::new(frame::bound(chunk_bytes, block_bytes)),
            chunk: PageBuffer::new(chunk_bytes),
            disk,
            open: None,
            unverified: Unverified::Nothing,
            violations: 0,
            shared,
        }
    }

    fn chunk_bytes(&self) -> usize {
        self.shared.parameters.chunk_bytes
    }

    /// Takes a sequence number; while the stream is full, serves others a bounded number of times.
    fn admit(&mut self, pause: &mut dyn Pause) -> Option<u64> {
        self.notice_loss();
        for _ in 0..FULL_PATIENCE {
            self.open = self.shared.sink.admit();
            if self.open.is_some() {
                return self.open;
            }
            pause.point();
        }
        None
    }

    /// A number still open when the next is due, or when the worker ends, was lost on the way.
    fn notice_loss(&mut self) {
        if let Some(number) = self.open.take() {
            self.shared.totals.lost.fetch_add(1, Relaxed);
            self.violations += 1;
            self.shared.sink.arrive(number);
        }
    }

    /// Hands the chunk with the number `sequence` to the sink.
    fn deliver(&mut self, sequence: u64) {
        let totals = &self.shared.totals;
        let anomaly = match self.open.take() {
            Some(held) if held != sequence => {
                self.shared.sink.arrive(held);
                Some(&totals.reordered)
            }
            _ => match self.shared.sink.arrive(sequence) {
                Arrival::InWindow => None,
                Arrival::Doubled => Some(&totals.doubled),
                Arrival::Unknown => Some(&totals.reordered),
            },
        };
        if let Some(counter) = anomaly {
            counter.fetch_add(1, Relaxed);
            self.violations += 1;
        }
    }

    fn pipeline(&mut self, role: Role, index: usize, pause: &mut dyn Pause) -> Status {
        let Some(sequence) = self.admit(pause) else {
            self.shared.totals.turned_away.fetch_add(1, Relaxed);
            return Status::Rejected;
        };
        match self.compress(role, index, sequence, pause) {
            Some(length) => self.finish(sequence, length, pause),
            None => self.fail(sequence),
        }
    }

    /// Transfer, decompression and delivery of the frame.
    fn finish(&mut self, sequence: u64, length: usize, pause: &mut dyn Pause) -> Status {
        match self.transfer(length) {
            Transfer::Done => {}
            Transfer::OverBudget => {
                self.deliver(sequence);
                return Status::Rejected;
            }
            Transfer::Failed => return self.fail(sequence),
        }
        match self.decompress(length, pause) {
            Ok(header) => {
                self.deliver(header.sequence);
                Status::Ok
            }
            Err(_) => {
                self.violations += 1;
                self.shared.totals.corrupt.fetch_add(1, Relaxed);
                self.fail(sequence)
            }
        }
    }

    /// An operation that failed has used its number up: the stream goes on behind it.
    fn fail(&mut self, sequence: u64) -> Status {
        self.deliver(sequence);
        Status::Error
    }

    /// Source, transform and compression; returns the frame's length, nothing where reading failed.
    fn compress(
        &mut self,
        role: Role,
        index: usize,
        sequence: u64,
        pause: &mut dyn Pause,
    ) -> Option<usize> {
        let chunk = match (&mut self.disk, &self.shared.files) {
            (Some(disk), Some(files)) => {
                let offset = (index * self.shared.parameters.chunk_bytes) as u64;
                files.source.read(disk.source.as_mut_slice(), offset).ok()?;
                pause.point();
                &disk.source.as_slice()[..self.shared.parameters.chunk_bytes]
            }
            _ => self.shared.chunk(index),
        };
        let target = self.frame.as_mut_slice();
        let (length, codec) = self.coder.encode(role.choice(), sequence, chunk, target, pause);
        self.shared.totals.coded(chunk.len(), length, codec);
        Some(length)
    }

    /// Out to the file and back where the placement says so; in memory the frame stays.
    fn transfer(&mut self, length: usize) -> Transfer {
        let Some(files) = &self.shared.files else { return Transfer::Done };
        let Some(disk) = &self.disk else { return Transfer::Failed };
        let pages = length.next_multiple_of(PAGE_BYTES);
        if !files.budget.take(pages as u64) {
            return Transfer::OverBudget;
        }
        let frame = &mut self.frame.as_mut_slice()[..pages];
        let written = disk.scratch.write(frame, 0).is_ok();
        frame.iter_mut().step_by(PAGE_BYTES).for_each(|mark| *mark = !*mark);
        if written && disk.scratch.read(frame, 0).is_ok() {
            Transfer::Done
        } else {
            Transfer::Failed
        }
    }

    fn decompress(&mut self, length: usize, pause: &mut dyn Pause) -> Result<Header, FrameError> {
        let chunk_bytes = self.chunk_bytes();
        let chunk = &mut self.chunk.as_mut_slice()[..chunk_bytes];
        self.coder.decode(&self.frame.as_slice()[..length], chunk, pause)
    }

    /// Decompression alone, of the frame that building made of the chunk.
    fn decompress_kept(&mut self, index: usize, pause: &mut dyn Pause) -> Status {
        let chunk_bytes = self.chunk_bytes();
        let chunk = &mut self.chunk.as_mut_slice()[..chunk_bytes];
        match self.coder.decode(&self.shared.frames[index], chunk, pause) {
            Ok(header) if header.sequence == index as u64 => Status::Ok,
            _ => {
                self.violations += 1;
                Status::Error
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transfer {
    Done,
    OverBudget,
    Failed,
}

impl Operation for Worker {
    fn run(&mut self, request: Request, pause: &mut dyn Pause) -> Completion {
        let (_, role) = OPS[usize::from(request.op)];
        let index = self.shared.index_of(role, request.key);
        self.unverified = Unverified::Delivered;
        let status = match role {
            Role::Pipeline(_) => self.pipeline(role, index, pause),
            Role::Compress => match self.compress(role, index, index as u64, pause) {
                Some(length) => {
                    self.unverified = Unverified::Frame { index, length };
                    Status::Ok
                }
                None => Status::Error,
            },
            Role::Decompress => self.decompress_kept(index, pause),
        };
        let units = if status == Status::Ok { self.chunk_bytes() as u64 } else { 0 };
        Completion { status, units }
    }

    fn verify(&mut self) -> Verdict {
        self.notice_loss();
        let pending = std::mem::replace(&mut self.unverified, Unverified::Nothing);
        if let Unverified::Frame { index, length } = pending {
            let restored = self.decompress(length, &mut NoPause);
            let chunk = &self.chunk.as_slice()[..self.chunk_bytes()];
            if restored.is_err() || chunk != self.shared.chunk(index) {
                self.violations += 1;
            }
        }
        let checked = u32::from(pending != Unverified::Nothing);
        Verdict { checked, violations: std::mem::take(&mut self.violations) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.notice_loss();
    }
}

/// What all workers did together, whole operations only.
#[derive(Default)]
pub struct Totals {
    pub chunks: AtomicU64,
    pub bypassed: AtomicU64,
    pub packed: AtomicU64,
    pub chunk_bytes: AtomicU64,
    pub frame_bytes: AtomicU64,
    pub turned_away: AtomicU64,
    pub corrupt: AtomicU64,
    pub lost: AtomicU64,
    pub doubled: AtomicU64,
    pub reordered: AtomicU64,
}

impl Totals {
    fn coded(&self, chunk_bytes: usize, frame_bytes: usize, codec: Codec) {
        self.chunks.fetch_add(1, Relaxed);
        self.chunk_bytes.fetch_add(chunk_bytes as u64, Relaxed);
        self.frame_bytes.fetch_add(frame_bytes as u64, Relaxed);
        self.bypassed.fetch_add(u64::from(codec == Codec::Stored), Relaxed);
        self.packed.fetch_add(u64::from(codec == Codec::Pack), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::streaming::shared_for_tests;

    const AUTO: Role = OPS[0].1;

    fn run(worker: &mut Worker, key: u64) -> Completion {
        worker.run(Request { op: 0, key }, &mut NoPause)
    }

    #[test]
    fn a_clean_run_has_no_violation() {
        let mut worker = Worker::new(shared_for_tests(8));
        for key in 0..12 {
            assert_eq!(run(&mut worker, key).status, Status::Ok);
            assert_eq!(worker.verify(), Verdict { checked: 1, violations: 0 });
        }
    }

    #[test]
    fn a_flipped_bit_in_the_frame_is_a_violation() {
        let mut worker = Worker::new(shared_for_tests(8));
        for (key, at) in (0..12).zip([17, 33, 200, 1000].into_iter().cycle()) {
            let sequence = worker.admit(&mut NoPause).expect("room");
            let length =
                worker.compress(AUTO, key, sequence, &mut NoPause).expect("a source in memory");
            worker.frame.as_mut_slice()[at % length] ^= 4;
            assert_eq!(worker.finish(sequence, length, &mut NoPause), Status::Error);
            assert_eq!(worker.verify().violations, 1, "chunk {key}");
        }
        assert_eq!(worker.shared.totals.corrupt.load(Relaxed), 12);
    }

    #[test]
    fn a_flipped_bit_of_the_sequence_number_is_a_violation() {
        let mut worker = Worker::new(shared_for_tests(8));
        let sequence = worker.admit(&mut NoPause).expect("room");
        let length = worker.compress(AUTO, 0, sequence, &mut NoPause).expect("a source in memory");
        worker.frame.as_mut_slice()[9] ^= 4;
        assert_eq!(worker.finish(sequence, length, &mut NoPause), Status::Ok);
        assert_eq!(worker.verify().violations, 1);
        assert_eq!(worker.shared.totals.reordered.load(Relaxed), 1);
    }

    #[test]
    fn a_lost_operation_is_a_violation_and_the_stream_goes_on() {
        let shared = shared_for_tests(2);
        let mut worker = Worker::new(Arc::clone(&shared));
        worker.admit(&mut NoPause);
        assert_eq!(worker.verify().violations, 1);
        worker.admit(&mut NoPause);
        assert_eq!(run(&mut worker, 5).status, Status::Ok);
        assert_eq!(worker.verify().violations, 1, "noticed when the next one starts");
        worker.admit(&mut NoPause);
        drop(worker);
        assert_eq!(shared.totals.lost.load(Relaxed), 3);
        assert_eq!(shared.sink.totals().1, 4);
    }

    #[test]
    fn a_doubled_operation_is_a_violation() {
        let mut worker = Worker::new(shared_for_tests(8));
        run(&mut worker, 0);
        worker.deliver(0);
        assert_eq!(worker.verify().violations, 1);
        assert_eq!(worker.shared.totals.doubled.load(Relaxed), 1);
    }

    #[test]
    fn chunks_that_change_places_are_two_violations() {
        let shared = shared_for_tests(8);
        let mut workers = [Worker::new(Arc::clone(&shared)), Worker::new(Arc::clone(&shared))];
        let numbers = workers.each_mut().map(|worker| worker.admit(&mut NoPause));
        workers[0].deliver(numbers[1].expect("room"));
        workers[1].deliver(numbers[0].expect("room"));
        let found: u32 = workers.iter_mut().map(|worker| worker.verify().violations).sum();
        assert_eq!(found, 2);
        assert_eq!(shared.sink.totals().1, 2);
    }

    #[test]
    fn a_full_stream_turns_operations_away_without_using_numbers() {
        let shared = shared_for_tests(2);
        let mut stalled = [Worker::new(Arc::clone(&shared)), Worker::new(Arc::clone(&shared))];
        let numbers = stalled.each_mut().map(|worker| worker.admit(&mut NoPause));
        let mut worker = Worker::new(Arc::clone(&shared));
        let completion = run(&mut worker, 0);
        assert_eq!(completion, Completion { status: Status::Rejected, units: 0 });
        assert_eq!(worker.verify().violations, 0);
        for (stalled, number) in stalled.iter_mut().zip(numbers) {
            stalled.deliver(number.expect("room"));
        }
        assert_eq!(run(&mut worker, 1).status, Status::Ok);
        assert_eq!(shared.sink.totals(), (3, 3, 2));
    }

    #[test]
    fn a_worker_may_serve_others_between_any_two_blocks() {
        struct Count(usize);
        impl Pause for Count {
            fn point(&mut self) {
                self.0 += 1;
            }
        }
        let mut worker = Worker::new(shared_for_tests(8));
        let mut pauses = Count(0);
        worker.run(Request { op: 2, key: 0 }, &mut pauses);
        assert_eq!(pauses.0, 2 * (1 << 16) / 2048);
    }
}
