//! What an operation asks of a device, noted once and asked again without whoever noted it.

use super::{DriverError, Graph, Launch, Stream};

/// One thing that a stream is asked to do.
pub enum Command {
    Launch(Launch),
    Fill { address: u64, byte: u8, bytes: usize },
    Copy { to: u64, from: u64, bytes: usize },
}

impl Command {
    fn enqueue(&self, stream: &Stream) -> Result<(), DriverError> {
        match *self {
            Self::Launch(ref launch) => stream.launch(launch),
            Self::Fill { address, byte, bytes } => stream.fill(address, byte, bytes),
            Self::Copy { to, from, bytes } => stream.copy(to, from, bytes),
        }
    }
}

/// Commands in order, one driver call each or all of them one graph.
#[derive(Default)]
pub struct Program {
    commands: Vec<Command>,
    graph: Option<Graph>,
}

impl Program {
    #[must_use]
    pub fn new(commands: Vec<Command>) -> Self {
        Self { commands, graph: None }
    }

    /// Driver calls that `enqueue` makes.
    #[must_use]
    pub fn calls(&self) -> usize {
        if self.graph.is_some() { 1 } else { self.commands.len() }
    }

    /// Makes one graph of the commands; a single command stays what it is.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn capture(&mut self, stream: &Stream) -> Result<(), DriverError> {
        if self.commands.len() > 1 {
            self.graph = Some(stream.capture(|into| self.enqueue_each(into))?);
        }
        Ok(())
    }

    /// Enqueues it; allocates nothing.
    ///
    /// # Errors
    /// The driver refuses, or the device is lost.
    pub fn enqueue(&self, stream: &Stream) -> Result<(), DriverError> {
        match &self.graph {
            Some(graph) => stream.graph(graph),
            None => self.enqueue_each(stream),
        }
    }

    fn enqueue_each(&self, stream: &Stream) -> Result<(), DriverError> {
        self.commands.iter().try_for_each(|command| command.enqueue(stream))
    }
}
