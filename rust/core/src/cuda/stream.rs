//! Streams: commands that the device works off in order.

use std::ffi::{c_int, c_uint};
use std::ptr;
use std::sync::Arc;

use super::driver::{Handle, call};
use super::error::{DriverError, NOT_READY};
use super::graph::Template;
use super::{Context, Graph, Launch};

/// `CU_STREAM_NON_BLOCKING` (cuda.h): no waiting for the default stream.
const NON_BLOCKING: c_uint = 1;
/// `CU_STREAM_WAIT_VALUE_GEQ`: until the word, less the value, is not negative as a signed number.
const AT_LEAST: c_uint = 0;
/// `CU_STREAM_WRITE_VALUE_DEFAULT`: what was enqueued before is visible before the word.
const AFTER_ALL_BEFORE: c_uint = 0;
/// `CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`: other threads may do meanwhile what they like.
const THREAD_LOCAL: c_int = 1;

/// A stream of a context, destroyed when it is dropped; what it still has to do is done all the
/// same.
///
/// Every method but `synchronize` returns at once, and fails where the device is lost. The calling
/// thread has entered the context.
pub struct Stream {
    context: Arc<Context>,
    handle: Handle,
}

impl Stream {
    pub(super) fn new(context: &Arc<Context>, priority: i32) -> Result<Self, DriverError> {
        let mut handle = 0;
        // SAFETY: the call writes one handle to a place that lives as long as it.
        unsafe {
            call!(
                *context.driver,
                cuStreamCreateWithPriority(&raw mut handle, NON_BLOCKING, priority)
            )
        }?;
        Ok(Self { context: Arc::clone(context), handle })
    }

    /// Enqueues a kernel. The driver takes a copy of the arguments; nothing is allocated here.
    ///
    /// # Errors
    /// The device is lost, or the function cannot be launched in that shape.
    #[inline]
    pub fn launch(&self, launch: &Launch) -> Result<(), DriverError> {
        // SAFETY: the places are those of the arguments, which live as long as the launch; that
        // there are as many and as large ones as the function reads is its maker's word.
        unsafe {
            call!(
                *self.context.driver,
                cuLaunchKernel(
                    launch.function as Handle,
                    launch.grid,
                    1,
                    1,
                    launch.block,
                    1,
                    1,
                    launch.shared_bytes,
                    self.handle,
                    launch.places.as_ptr(),
                    ptr::null_mut(),
                )
            )
        }
    }

    /// Enqueues setting `bytes` bytes from `address` on to `byte`.
    ///
    /// # Errors
    /// The device is lost, or the memory is none of its own.
    #[inline]
    pub fn fill(&self, address: u64, byte: u8, bytes: usize) -> Result<(), DriverError> {
        // SAFETY: the driver is given numbers; that the memory is there is the caller's word.
        unsafe { call!(*self.context.driver, cuMemsetD8Async(address, byte, bytes, self.handle)) }
    }

    /// Enqueues a copy of `bytes` bytes between memories of the device or pinned ones of the host.
    ///
    /// # Errors
    /// The device is lost, or knows nothing of the memory.
    #[inline]
    pub fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<(), DriverError> {
        // SAFETY: the driver is given numbers; that the memory is there is the caller's word.
        unsafe { call!(*self.context.driver, cuMemcpyAsync(to, from, bytes, self.handle)) }
    }

    /// Lets what is enqueued from now on wait until the word at `address` is `at_least` or up to
    /// 2^63 - 1 more.
    ///
    /// # Errors
    /// The device is lost or has no such commands ([`super::Capabilities::stream_words`]).
    #[inline]
    pub fn wait_word(&self, address: u64, at_least: u64) -> Result<(), DriverError> {
        // SAFETY: the driver is given numbers; that the word is there is the caller's word.
        unsafe {
            call!(
                *self.context.driver,
                cuStreamWaitValue64_v2(self.handle, address, at_least, AT_LEAST)
            )
        }
    }

    /// Enqueues writing a word, after which all is visible that was enqueued before it.
    ///
    /// # Errors
    /// The device is lost or has no such commands ([`super::Capabilities::stream_words`]).
    #[inline]
    pub fn write_word(&self, address: u64, value: u64) -> Result<(), DriverError> {
        // SAFETY: the driver is given numbers; that the word is there is the caller's word.
        unsafe {
            call!(
                *self.context.driver,
                cuStreamWriteValue64_v2(self.handle, address, value, AFTER_ALL_BEFORE)
            )
        }
    }

    /// Makes a graph of what `commands` enqueues, of which nothing is run.
    ///
    /// # Errors
    /// What `commands` returned, or the driver cannot make a graph of it.
    pub fn capture(
        &self,
        commands: impl FnOnce(&Self) -> Result<(), DriverError>,
    ) -> Result<Graph, DriverError> {
        // SAFETY: the handle is of a stream that `self` keeps; `Capture` ends what begins here.
        unsafe { call!(*self.context.driver, cuStreamBeginCapture_v2(self.handle, THREAD_LOCAL)) }?;
        let capture = Capture(self);
        let enqueued = commands(self);
        let template = capture.end();
        // What failed first is why the capture has no graph.
        enqueued?;
        template?.instantiate(&self.context)
    }

    /// Enqueues a graph; one command, however many it holds.
    ///
    /// # Errors
    /// The device is lost.
    #[inline]
    pub fn graph(&self, graph: &Graph) -> Result<(), DriverError> {
        // SAFETY: both handles are of what is alive during the call.
        unsafe { call!(*self.context.driver, cuGraphLaunch(graph.handle(), self.handle)) }
    }

    /// Whether all that was enqueued has ended.
    ///
    /// # Errors
    /// The device is lost.
    #[inline]
    pub fn is_idle(&self) -> Result<bool, DriverError> {
        let driver = &self.context.driver;
        // SAFETY: the handle is of a stream that `self` keeps.
        match unsafe { (driver.calls.cuStreamQuery)(self.handle) } {
            NOT_READY => Ok(false),
            code => driver.checked("cuStreamQuery", code).map(|()| true),
        }
    }

    /// Waits until all that was enqueued has ended.
    ///
    /// # Errors
    /// The device is lost.
    pub fn synchronize(&self) -> Result<(), DriverError> {
        // SAFETY: the handle is of a stream that `self` keeps.
        unsafe { call!(*self.context.driver, cuStreamSynchronize(self.handle)) }
    }

    fn end_capture(&self) -> Result<Template<'_>, DriverError> {
        let mut handle = 0;
        // SAFETY: the call writes one handle to a place that lives as long as it.
        unsafe { call!(*self.context.driver, cuStreamEndCapture(self.handle, &raw mut handle)) }?;
        Ok(Template { driver: &self.context.driver, handle })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A lost device refuses both, and there is nobody left to be told.
        self.context.enter().ok();
        // SAFETY: the handle is destroyed here alone, and graphs do not refer to the stream.
        unsafe { call!(*self.context.driver, cuStreamDestroy_v2(self.handle)) }.ok();
    }
}

/// A capture that is ended when it is dropped: what fails or panics in it leaves a usable stream.
struct Capture<'a>(&'a Stream);

impl<'a> Capture<'a> {
    fn end(self) -> Result<Template<'a>, DriverError> {
        let stream = self.0;
        std::mem::forget(self);
        stream.end_capture()
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        // The panic on its way says more than what ending the capture could.
        drop(self.0.end_capture());
    }
}
