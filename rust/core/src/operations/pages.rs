//! Large zeroed arrays on huge pages, and prefetching: random access is bound by both.

/// Bytes of a huge page on x86-64 and (with 4 KiB base pages) aarch64.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// A zeroed array whose pages, where the kernel allows it, are huge and not yet touched.
///
/// A random access to 640 MB of 4 KiB pages misses the second-level TLB nearly every time, and a
/// first touch costs one fault per page.
pub fn zeroed<T: Clone + Default>(length: usize) -> Vec<T> {
    let mut values = vec![T::default(); length];
    advise_huge(&mut values);
    values
}

/// As `zeroed`, for elements that the allocator cannot zero by itself: every page is touched.
pub fn filled<T: Clone + Default>(length: usize) -> Vec<T> {
    let mut values: Vec<T> = Vec::with_capacity(length);
    advise_huge(values.spare_capacity_mut());
    values.resize(length, T::default());
    values
}

#[cfg(target_os = "linux")]
fn advise_huge<T>(values: &mut [T]) {
    let bytes = std::mem::size_of_val(values);
    if bytes < 2 * HUGE_PAGE_BYTES {
        return;
    }
    let pointer = values.as_mut_ptr().cast::<u8>();
    let offset = pointer.align_offset(HUGE_PAGE_BYTES);
    let length = (bytes - offset) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    // SAFETY: [pointer + offset, + length) lies inside `values` (offset < one huge page, and the
    // slice is at least two long); the advice changes no content, and a refusal is harmless.
    unsafe {
        libc::madvise(pointer.add(offset).cast(), length, libc::MADV_HUGEPAGE);
    }
}

#[cfg(not(target_os = "linux"))]
fn advise_huge<T>(_: &mut [T]) {}

/// Asks for the cache line of `values[index]`; out of range asks for nothing.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn prefetch<T>(values: &[T], index: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    if index < values.len() {
        // SAFETY: the address is inside the slice, and a prefetch reads nothing architecturally.
        unsafe { _mm_prefetch(values.as_ptr().add(index).cast(), _MM_HINT_T0) };
    }
}

/// Elsewhere the hardware is left to itself.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub fn prefetch<T>(_: &[T], _: usize) {}
