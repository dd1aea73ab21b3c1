//! Graphs: commands captured once and enqueued as one.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use super::driver::{Driver, Handle, call};
use super::{Context, DriverError};

/// What was captured, before it can be launched; destroyed when it is dropped.
pub(super) struct Template<'a> {
    pub(super) driver: &'a Driver,
    pub(super) handle: Handle,
}

impl Template<'_> {
    /// The graph as it is launched.
    pub(super) fn instantiate(self, context: &Arc<Context>) -> Result<Graph, DriverError> {
        let mut handle = 0;
        // SAFETY: the call writes one handle to a place that lives as long as it; 0 is no flags.
        unsafe {
            call!(*self.driver, cuGraphInstantiateWithFlags(&raw mut handle, self.handle, 0))
        }?;
        Ok(Graph { context: Arc::clone(context), handle, of_one_thread: PhantomData })
    }
}

impl Drop for Template<'_> {
    fn drop(&mut self) {
        // A lost device refuses even this, and there is nobody left to be told.
        // SAFETY: the handle is destroyed here alone; an executable graph does not refer to it.
        unsafe { call!(*self.driver, cuGraphDestroy(self.handle)) }.ok();
    }
}

/// An executable graph of a context, destroyed when it is dropped; a launch of it that is under way
/// ends first.
///
/// Not for two threads at once: the driver leaves it to its caller to serialize calls on one graph
/// (CUDA driver API, "Graph object thread safety").
pub struct Graph {
    context: Arc<Context>,
    handle: Handle,
    of_one_thread: PhantomData<Cell<()>>,
}

impl Graph {
    pub(super) fn handle(&self) -> Handle {
        self.handle
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // A lost device refuses both, and there is nobody left to be told.
        self.context.enter().ok();
        // SAFETY: the handle is destroyed here alone.
        unsafe { call!(*self.context.driver, cuGraphExecDestroy(self.handle)) }.ok();
    }
}
