//! A kernel with its shape and its arguments, laid out once and launched many times.

use std::ffi::c_void;
use std::sync::Arc;

const WORD_BYTES: usize = size_of::<u64>();

/// A kernel's launch over one-dimensional blocks of a one-dimensional grid.
#[derive(Clone, Debug)]
pub struct Launch {
    pub(super) function: u64,
    pub(super) grid: u32,
    pub(super) block: u32,
    pub(super) shared_bytes: u32,
    /// Where each argument begins in `arguments`.
    pub(super) places: Box<[*mut c_void]>,
    /// Every argument from a word's beginning on.
    #[expect(dead_code, reason = "owns what `places` points into")]
    arguments: Arc<[u64]>,
}

// SAFETY: the places point into `arguments`, which is kept as long, is never written again and is
// only read by the driver.
unsafe impl Send for Launch {}
// SAFETY: as above; nothing of a launch changes after it was made.
unsafe impl Sync for Launch {}

impl Launch {
    /// A launch of `grid` blocks of `block` threads. `function` is a `CUfunction` of the context;
    /// each of `arguments` has the bytes of one parameter, a buffer those of its address.
    #[must_use]
    pub fn new(
        function: u64,
        grid: u32,
        block: u32,
        shared_bytes: u32,
        arguments: &[&[u8]],
    ) -> Self {
        let mut words = Vec::new();
        let mut firsts = Vec::with_capacity(arguments.len());
        for argument in arguments {
            firsts.push(words.len());
            words.extend(argument.chunks(WORD_BYTES).map(|bytes| {
                let mut word = [0; WORD_BYTES];
                word[..bytes.len()].copy_from_slice(bytes);
                u64::from_ne_bytes(word)
            }));
        }
        let arguments: Arc<[u64]> = words.into();
        let places = firsts
            .iter()
            .map(|&first| arguments[first..].as_ptr().cast_mut().cast::<c_void>())
            .collect();
        Self { function, grid, block, shared_bytes, places, arguments }
    }
}
