//! One chunk through the pipeline on one worker: source, transform, compress, transfer, decompress,
//! verify, deliver.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::frame::{self, Choice, Codec, Coder, FrameError, Header};
use super::sink::Arrival;
use super::{OPS, Role, Shared};
use crate::operations::scratch::{PAGE_BYTES, PageBuffer, Scratch};
use crate::operations::{Completion, Fault, NoPause, Operation, Pause, Request, Status, Verdict};

/// Times that a worker serves others while the stream is full before it turns an operation away.
const FULL_PATIENCE: usize = 64;

pub struct Worker {
    pub shared: Arc<Shared>,
    coder: Coder,
    pub frame: PageBuffer,
    pub chunk: PageBuffer,
    disk: Option<Disk>,
    /// The number this worker took and has not delivered.
    pub open: Option<u64>,
    /// What `verify` has still to do.
    pub unverified: Unverified,
    violations: u32,
}

/// A worker's place on the disk.
struct Disk {
    scratch: Scratch,
    source: PageBuffer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unverified {
    Nothing,
    /// An operation that failed or was turned away: what it noticed itself.
    Noticed,
    /// The chunk of the pool that was restored in blocks of a choice, under its number where it was
    /// delivered.
    Chunk {
        index: usize,
        choice: Choice,
        sequence: Option<u64>,
    },
    Frame {
        index: usize,
        length: usize,
        codec: Codec,
    },
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
    pub fn admit(&mut self, pause: &mut dyn Pause) -> Option<u64> {
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
    pub fn deliver(&mut self, sequence: u64) {
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
        let status = match self.compress(role, index, sequence, pause) {
            Some((length, _)) => self.finish(sequence, length, pause),
            None => self.fail(sequence),
        };
        if status == Status::Ok {
            let (choice, sequence) = (role.choice(), Some(sequence));
            self.unverified = Unverified::Chunk { index, choice, sequence };
        }
        status
    }

    /// Transfer, decompression and delivery of the frame.
    pub fn finish(&mut self, sequence: u64, length: usize, pause: &mut dyn Pause) -> Status {
        match self.transfer(length, pause) {
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

    /// Source, transform and compression; returns the frame's length and codec, nothing where
    /// reading failed.
    pub fn compress(
        &mut self,
        role: Role,
        index: usize,
        sequence: u64,
        pause: &mut dyn Pause,
    ) -> Option<(usize, Codec)> {
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
        Some((length, codec))
    }

    /// Out to the file and back where the placement says so; in memory the frame stays.
    fn transfer(&mut self, length: usize, pause: &mut dyn Pause) -> Transfer {
        if self.shared.files.is_none() {
            return Transfer::Done;
        }
        let Some(disk) = &self.disk else { return Transfer::Failed };
        let pages = length.next_multiple_of(PAGE_BYTES);
        if !self.shared.budget.take(pages as u64) {
            return Transfer::OverBudget;
        }
        let frame = &mut self.frame.as_mut_slice()[..pages];
        let written = disk.scratch.write(frame, 0).is_ok();
        pause.point();
        // What is not read after all must not look as if it had been.
        frame.iter_mut().step_by(PAGE_BYTES).for_each(|mark| *mark = !*mark);
        let read = written && disk.scratch.read(frame, 0).is_ok();
        pause.point();
        if read { Transfer::Done } else { Transfer::Failed }
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
            Ok(header) if header.sequence == index as u64 => {
                let choice = Choice::Auto;
                self.unverified = Unverified::Chunk { index, choice, sequence: None };
                Status::Ok
            }
            _ => {
                self.violations += 1;
                Status::Error
            }
        }
    }

    /// Whether the restored chunk still has the checksum that its source had when it was made.
    fn is_original(&self, index: usize, choice: Choice) -> bool {
        let chunk = &self.chunk.as_slice()[..self.chunk_bytes()];
        let block_bytes = choice.block_bytes(self.shared.parameters.block_bytes);
        frame::chunk_checksum(chunk, block_bytes) == self.shared.checksum(index, choice)
    }

    /// Whether the frame says what it is and gives the chunk back.
    fn is_frame_of(&mut self, index: usize, length: usize, codec: Codec) -> bool {
        let Ok(header) = self.decompress(length, &mut NoPause) else { return false };
        header.codec == codec
            && (codec != Codec::Stored || !header.shuffled)
            && header.sequence == index as u64
            && self.chunk.as_slice()[..self.chunk_bytes()] == *self.shared.chunk(index)
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
        self.unverified = Unverified::Noticed;
        let status = match role {
            Role::Pipeline(_) => self.pipeline(role, index, pause),
            Role::Compress => match self.compress(role, index, index as u64, pause) {
                Some((length, codec)) => {
                    self.unverified = Unverified::Frame { index, length, codec };
                    Status::Ok
                }
                None => Status::Error,
            },
            Role::Decompress => self.decompress_kept(index, pause),
        };
        let units = if status == Status::Ok { self.chunk_bytes() as u64 } else { 0 };
        Completion { status, units }
    }

    fn plant(&mut self, fault: Fault) -> bool {
        self.damage(fault)
    }

    fn verify(&mut self, _: &mut dyn Pause) -> Verdict {
        self.notice_loss();
        let pending = std::mem::replace(&mut self.unverified, Unverified::Nothing);
        let holds = match pending {
            Unverified::Nothing | Unverified::Noticed => true,
            Unverified::Chunk { index, choice, .. } => self.is_original(index, choice),
            Unverified::Frame { index, length, codec } => self.is_frame_of(index, length, codec),
        };
        self.violations += u32::from(!holds);
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
