//! The driver's library and the table of the calls that are used.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::ptr;
use std::sync::Arc;

use libloading::Library;

use super::Context;
use super::error::{DriverError, SUCCESS};

/// A context, a stream, a graph or a function: a pointer of the driver's, never followed here.
pub(super) type Handle = usize;
/// `CUdeviceptr`.
pub(super) type Address = u64;

/// Declares the table: one field for each call, by the name that the library exports it under.
macro_rules! calls {
    ($($name:ident($($argument:ty),*);)*) => {
        #[allow(non_snake_case, reason = "the driver's own names")]
        pub(super) struct Calls {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) -> c_int,)*
        }

        impl Calls {
            /// Finds every call in the library.
            fn of(library: &Library) -> Result<Self, DriverError> {
                Ok(Self {
                    // SAFETY: each type is that of `cuda.h` for the name, from CUDA 12 on.
                    $($name: *unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) }
                        .map_err(|_| DriverError::Symbol { name: stringify!($name).to_owned() })?,)*
                })
            }
        }

        /// The names of all calls, for the tests that let each of them fail.
        #[cfg(test)]
        pub(super) const CALLS: &[&str] = &[$(stringify!($name)),*];
    };
}

calls! {
    cuInit(c_uint);
    cuDriverGetVersion(*mut c_int);
    cuGetErrorName(c_int, *mut *const c_char);
    cuDeviceGet(*mut c_int, c_int);
    cuDeviceGetAttribute(*mut c_int, c_int, c_int);
    cuDevicePrimaryCtxRetain(*mut Handle, c_int);
    cuDevicePrimaryCtxRelease_v2(c_int);
    cuCtxSetCurrent(Handle);
    cuCtxGetStreamPriorityRange(*mut c_int, *mut c_int);
    cuStreamCreateWithPriority(*mut Handle, c_uint, c_int);
    cuStreamDestroy_v2(Handle);
    cuStreamQuery(Handle);
    cuStreamSynchronize(Handle);
    cuLaunchKernel(
        Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle,
        *const *mut c_void, *mut *mut c_void
    );
    cuMemsetD8Async(Address, u8, usize, Handle);
    cuMemcpyAsync(Address, Address, usize, Handle);
    cuStreamWaitValue64_v2(Handle, Address, u64, c_uint);
    cuStreamWriteValue64_v2(Handle, Address, u64, c_uint);
    cuStreamBeginCapture_v2(Handle, c_int);
    cuStreamEndCapture(Handle, *mut Handle);
    cuGraphInstantiateWithFlags(*mut Handle, Handle, u64);
    cuGraphLaunch(Handle, Handle);
    cuGraphExecDestroy(Handle);
    cuGraphDestroy(Handle);
}

/// Calls the driver; an error names the call. Whoever uses it has the `unsafe` block.
macro_rules! call {
    ($driver:expr, $name:ident($($argument:expr),* $(,)?)) => {{
        let driver: &$crate::cuda::driver::Driver = &$driver;
        driver.checked(stringify!($name), (driver.calls.$name)($($argument),*))
    }};
}
pub(super) use call;

/// An opened driver: its table of calls. It stays loaded to the end of the process, for it has
/// threads of its own that run its code.
pub struct Driver {
    pub(super) calls: Calls,
}

impl Driver {
    /// Opens the driver's library (`libcuda.so.1`, or a path) and starts it.
    ///
    /// # Errors
    /// The library is not there or lacks a call, or the driver does not start: there is no device,
    /// or its kernel module is of another version.
    pub fn open(path: &Path) -> Result<Arc<Self>, DriverError> {
        // SAFETY: the driver's initializers have no precondition; the path is the caller's word
        // for its being a driver.
        let library = unsafe { Library::new(path) }.map_err(|error| DriverError::Absent {
            path: path.to_owned(),
            why: error.to_string(),
        })?;
        let driver = Self { calls: Calls::of(&library)? };
        std::mem::forget(library);
        // SAFETY: the call takes no pointer; 0 is the only flag there is.
        unsafe { call!(driver, cuInit(0)) }?;
        Ok(Arc::new(driver))
    }

    /// The newest CUDA that the driver knows, as 1000 times its major plus 10 times its minor
    /// number.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn version(&self) -> Result<i32, DriverError> {
        let mut version = 0;
        // SAFETY: the call writes one `int` to a place that lives as long as it.
        unsafe { call!(*self, cuDriverGetVersion(&raw mut version)) }?;
        Ok(version)
    }

    /// The primary context of a device, which CuPy uses too; kept until it is dropped.
    ///
    /// # Errors
    /// There is no such device, or it has no room for a context.
    pub fn context(self: &Arc<Self>, device: i32) -> Result<Arc<Context>, DriverError> {
        Context::primary(self, device).map(Arc::new)
    }

    /// Turns what a call returned into a result.
    #[inline]
    pub(super) fn checked(&self, call: &'static str, code: c_int) -> Result<(), DriverError> {
        if code == SUCCESS { Ok(()) } else { Err(self.failed(call, code)) }
    }

    #[cold]
    fn failed(&self, call: &'static str, code: c_int) -> DriverError {
        let mut name = ptr::null();
        // SAFETY: the call writes one pointer to a place that lives as long as it, or leaves it.
        let found = unsafe { (self.calls.cuGetErrorName)(code, &raw mut name) };
        let name = if found == SUCCESS && !name.is_null() {
            // SAFETY: the driver gives a string of its own that ends in a zero and is never freed.
            unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
        } else {
            "an error without a name".to_owned()
        };
        DriverError::Call { call, code, name }
    }
}
