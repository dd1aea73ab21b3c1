//! One lane of a component on a device: an operation in flight at a time, asked without its host
//! code by one of three rungs of the submission ladder.

use super::entry::Entry;
use super::host_memory::HostWord;
use super::{DriverError, Stream};

/// How a lane's operations reach the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One driver call a command.
    Native,
    /// One driver call for all commands.
    Graph,
    /// Enqueued ahead behind a word that the host stores: no driver call at all.
    Armed,
}

/// Operations that are enqueued ahead of each stream.
const AHEAD: u64 = 4;
/// Bytes of an answer up to which every one is checked; of a longer one as many fewer are.
const CHECKED_BYTES: usize = 64 << 10;

/// A count that no berth reaches. A stream waits for a word to be at least a value as one number is
/// ahead of another on a circle, so it may not be more than 2^63 - 1 ahead.
const RELEASED: u64 = 1 << 62;

/// The words by which the two sides of a berth tell each other how far they are. Each counts the
/// operations of the berth; `go` is the host's, the others are the device's.
#[derive(Clone, Copy)]
pub struct Words {
    pub go: HostWord,
    pub begun: HostWord,
    pub done: HostWord,
    pub checked: HostWord,
}

/// The operations of one op type of a lane: a stream and what may be asked of it.
pub struct Berth {
    stream: Stream,
    words: Words,
    mode: Mode,
    has_words: bool,
    entries: Vec<Entry>,
    /// Operations asked so far, and those enqueued ahead.
    asked: u64,
    armed: u64,
}

/// What a look at a berth shows of the operation that was asked of it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Waiting,
    Begun,
    Done,
    Checked,
}

impl Berth {
    /// A berth with its entries, which are asked in turn; by `Mode::Armed` the first are enqueued.
    /// Without `has_words` the stream itself is asked how far it is.
    ///
    /// # Errors
    /// The driver refuses.
    ///
    /// # Panics
    /// There is no entry, or stream words are wanted and there are none.
    pub fn new(
        stream: Stream,
        words: Words,
        mode: Mode,
        has_words: bool,
        mut entries: Vec<Entry>,
    ) -> Result<Self, DriverError> {
        assert!(!entries.is_empty(), "a berth has an operation to ask");
        assert!(has_words || mode != Mode::Armed, "words are what arms a stream");
        if mode != Mode::Native {
            for entry in &mut entries {
                entry.run.capture(&stream)?;
                entry.check.capture(&stream)?;
            }
        }
        for word in [words.go, words.begun, words.done, words.checked] {
            word.store(0);
        }
        let mut berth = Self { stream, words, mode, has_words, entries, asked: 0, armed: 0 };
        berth.arm()?;
        Ok(berth)
    }

    /// Driver calls of all its entries, words not counted.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.entries.iter().map(|entry| entry.run.calls() + entry.check.calls()).sum()
    }

    /// Asks the next operation; nothing is under way. Returns whether its answer will be checked.
    ///
    /// # Errors
    /// The driver refuses, or the device is lost.
    pub fn submit(&mut self) -> Result<bool, DriverError> {
        let number = self.asked;
        let entry = &self.entries[self.place_of(number)];
        let every = 1 + (entry.answer_bytes() / CHECKED_BYTES) as u64;
        let is_checked = number % every == 0;
        entry.ready(is_checked);
        self.asked += 1;
        if self.mode == Mode::Armed {
            self.words.go.store(self.asked);
            return Ok(is_checked);
        }
        if self.has_words {
            self.stream.write_word(self.words.begun.address(), self.asked)?;
        }
        entry.run.enqueue(&self.stream)?;
        if self.has_words {
            self.finish(self.place_of(number), self.asked)?;
        }
        Ok(is_checked)
    }

    /// How far the last operation is; `seen` is what the look before showed.
    ///
    /// # Errors
    /// The device is lost.
    pub fn look(&self, seen: Stage) -> Result<Stage, DriverError> {
        if self.has_words {
            let reached = |word: HostWord| word.load() >= self.asked;
            let stages = [
                (self.words.checked, Stage::Checked),
                (self.words.done, Stage::Done),
                (self.words.begun, Stage::Begun),
            ];
            let found = stages.into_iter().find(|(word, _)| reached(*word));
            return Ok(found.map_or(Stage::Waiting, |(_, stage)| stage));
        }
        if !self.stream.is_idle()? {
            return Ok(seen);
        }
        if seen >= Stage::Done {
            return Ok(Stage::Checked);
        }
        // Its check is asked when the answer is seen to be there.
        self.entries[self.place_of(self.asked - 1)].check.enqueue(&self.stream)?;
        Ok(Stage::Done)
    }

    /// Asks the driver whether it is still there: words alone never tell that a device was lost.
    ///
    /// # Errors
    /// The device is lost.
    pub fn probe(&self) -> Result<(), DriverError> {
        self.stream.is_idle().map(|_| ())
    }

    /// The operation that was asked last.
    #[must_use]
    pub fn last(&self) -> &Entry {
        &self.entries[self.place_of(self.asked - 1)]
    }

    /// Enqueues operations ahead, where that is how they are asked.
    ///
    /// # Errors
    /// The driver refuses, or the device is lost.
    pub fn arm(&mut self) -> Result<(), DriverError> {
        if self.mode != Mode::Armed {
            return Ok(());
        }
        while self.armed < self.asked + AHEAD {
            let number = self.armed + 1;
            self.stream.wait_word(self.words.go.address(), number)?;
            self.stream.write_word(self.words.begun.address(), number)?;
            let place = self.place_of(self.armed);
            self.entries[place].run.enqueue(&self.stream)?;
            self.finish(place, number)?;
            self.armed = number;
        }
        Ok(())
    }

    /// Lets whatever is enqueued ahead run to its end.
    ///
    /// # Errors
    /// The device is lost.
    pub fn release(&mut self) -> Result<(), DriverError> {
        self.words.go.store(RELEASED);
        self.stream.synchronize()
    }

    fn place_of(&self, number: u64) -> usize {
        (number % self.entries.len() as u64) as usize
    }

    fn finish(&self, place: usize, number: u64) -> Result<(), DriverError> {
        self.stream.write_word(self.words.done.address(), number)?;
        self.entries[place].check.enqueue(&self.stream)?;
        self.stream.write_word(self.words.checked.address(), number)
    }
}

impl Drop for Berth {
    /// A stream that waits for a word would keep its context for ever.
    fn drop(&mut self) {
        // Where the device is lost nothing waits any more.
        self.release().ok();
    }
}
