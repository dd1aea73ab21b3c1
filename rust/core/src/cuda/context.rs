//! The primary context of a device, and what the device can do.

use std::ffi::c_int;
use std::sync::Arc;

use super::driver::{Driver, Handle, call};
use super::{DriverError, Stream};

/// `CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT` (cuda.h).
const KERNEL_EXEC_TIMEOUT: c_int = 17;
/// `CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS`.
const CAN_USE_64_BIT_STREAM_MEM_OPS: c_int = 122;

/// What decides which rungs of the submission ladder a device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Streams wait for words of 64 bits and write them.
    pub stream_words: bool,
    /// The system ends kernels that run for long, as where a display hangs on the device.
    pub has_time_out: bool,
    /// The least and the greatest priority of a stream; smaller numbers go first.
    pub priorities: (i32, i32),
}

/// The primary context of a device, given back when it is dropped.
pub struct Context {
    pub(super) driver: Arc<Driver>,
    device: c_int,
    handle: Handle,
}

impl Context {
    pub(super) fn primary(driver: &Arc<Driver>, ordinal: i32) -> Result<Self, DriverError> {
        let (mut device, mut handle) = (0, 0);
        // SAFETY: each call writes one word to a place that lives as long as it.
        unsafe {
            call!(**driver, cuDeviceGet(&raw mut device, ordinal))?;
            call!(**driver, cuDevicePrimaryCtxRetain(&raw mut handle, device))?;
        }
        Ok(Self { driver: Arc::clone(driver), device, handle })
    }

    /// Makes the context that of the calling thread; each thread that enqueues calls it once.
    ///
    /// # Errors
    /// The device is lost.
    pub fn enter(&self) -> Result<(), DriverError> {
        // SAFETY: the handle is of the context that `self` keeps.
        unsafe { call!(*self.driver, cuCtxSetCurrent(self.handle)) }
    }

    /// What the device can do. Enters the context.
    ///
    /// # Errors
    /// The device is lost.
    pub fn capabilities(&self) -> Result<Capabilities, DriverError> {
        self.enter()?;
        let (mut least, mut greatest) = (0, 0);
        // SAFETY: the call writes two `int`s to places that live as long as it.
        unsafe {
            call!(*self.driver, cuCtxGetStreamPriorityRange(&raw mut least, &raw mut greatest))
        }?;
        Ok(Capabilities {
            stream_words: self.attribute(CAN_USE_64_BIT_STREAM_MEM_OPS)? != 0,
            has_time_out: self.attribute(KERNEL_EXEC_TIMEOUT)? != 0,
            priorities: (least, greatest),
        })
    }

    /// A new stream that does not wait for the default stream. Enters the context.
    ///
    /// # Errors
    /// The device is lost or out of memory.
    pub fn stream(self: &Arc<Self>, priority: i32) -> Result<Stream, DriverError> {
        self.enter()?;
        Stream::new(self, priority)
    }

    fn attribute(&self, attribute: c_int) -> Result<c_int, DriverError> {
        let mut value = 0;
        // SAFETY: the call writes one `int` to a place that lives as long as it.
        unsafe {
            call!(*self.driver, cuDeviceGetAttribute(&raw mut value, attribute, self.device))
        }?;
        Ok(value)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // A lost device refuses even this, and there is nobody left to be told.
        // SAFETY: the context was retained once, here it is released once; streams and graphs of
        // it keep it alive.
        unsafe { call!(*self.driver, cuDevicePrimaryCtxRelease_v2(self.device)) }.ok();
    }
}
