//! The model checker's stand-ins: each access is a place where it may switch threads, and each
//! load may return any value that the memory model allows.
//!
//! Loom treats a sequentially consistent access as acquire and release alone, and would find
//! store-buffering that no machine shows. It does model `fence(SeqCst)`, so such an access has one
//! before it here, which is how it is compiled for machines without an instruction of its own for
//! it. That is more than the language promises, for it also orders the weaker accesses before it:
//! a model can miss a protocol that needs this of them.
//!
//! Loom looks for a race with the last access of a cell alone (its issues 166 and 392), so that a
//! thread's own load hides another thread's before its store. In a model the thread that only
//! writes therefore begins (a load that comes late still finds every value), and where both write,
//! each begins once.

use std::sync::Arc;
use std::sync::PoisonError;

pub(crate) use loom::cell::UnsafeCell;
pub(crate) use loom::hint::spin_loop;
pub(crate) use loom::sync::atomic::{Ordering, fence};
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use loom::thread::yield_now;

/// Accesses of one schedule; more are a loop without end.
#[cfg(test)]
const BRANCHES_MAX: usize = 10_000;

/// Lets the others go on: what is tried again may only succeed by their progress.
pub(crate) fn retry() {
    yield_now();
}

/// `count` counters at 0.
pub(crate) fn zeroed(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::default()).collect()
}

/// Checks `body` over all schedules of at most `preemptions`, or of as many as
/// `LOOM_MAX_PREEMPTIONS` says; there have to be several.
#[cfg(test)]
pub(crate) fn check(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.or(Some(preemptions));
    model.max_branches = BRANCHES_MAX;
    let schedules = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&schedules);
    model.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        body();
    });
    let schedules = schedules.load(Ordering::Relaxed);
    println!("{schedules} schedules");
    assert!(schedules > 1, "the model is of one thread");
}

/// Checks `one` beside `other`, which share what `make` makes, and then what they left; each of
/// them begins once.
#[cfg(test)]
pub(crate) fn check_both<S: Send + Sync + 'static>(
    preemptions: usize,
    make: fn() -> S,
    one: fn(&S),
    other: fn(&S),
    ended: fn(&S),
) {
    for (first, second) in [(one, other), (other, one)] {
        check(preemptions, move || {
            let shared = Arc::new(make());
            let beside = Arc::clone(&shared);
            let beside = loom::thread::spawn(move || second(&beside));
            first(&shared);
            beside.join().expect("the second thread failed");
            ended(&shared);
        });
    }
}

fn ordered<R>(ordering: Ordering, access: impl FnOnce() -> R) -> R {
    if ordering == Ordering::SeqCst {
        fence(Ordering::SeqCst);
    }
    access()
}

macro_rules! atomics {
    ($($name:ident: $value:ty { $($method:ident),* $(,)? })+) => {$(
        #[derive(Debug, Default)]
        pub(crate) struct $name(loom::sync::atomic::$name);

        #[allow(dead_code)]
        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, ordering: Ordering) -> $value {
                ordered(ordering, || self.0.load(ordering))
            }

            pub(crate) fn store(&self, value: $value, ordering: Ordering) {
                ordered(ordering, || self.0.store(value, ordering));
            }

            pub(crate) fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let exchange = || self.0.compare_exchange_weak(current, new, success, failure);
                ordered(success, exchange)
            }

            $(pub(crate) fn $method(&self, value: $value, ordering: Ordering) -> $value {
                ordered(ordering, || self.0.$method(value, ordering))
            })*
        }
    )+};
}

atomics! {
    AtomicBool: bool { swap }
    AtomicU32: u32 { swap, fetch_add, fetch_sub, fetch_max }
    AtomicU64: u64 { swap, fetch_add, fetch_sub, fetch_max }
    AtomicUsize: usize { swap, fetch_add, fetch_sub, fetch_max }
}

/// A word, and the threads that sleep until it changes.
///
/// The lock stands for the kernel's own, under which it compares the word and puts a thread to
/// sleep. Nobody wakes by the passing of time: a wake-up that is lost is a deadlock.
#[derive(Debug, Default)]
pub(crate) struct Futex {
    pub(crate) word: AtomicU32,
    asleep: Mutex<()>,
    woken: Condvar,
}

impl Futex {
    pub(crate) fn wake(&self, sleepers: i32) {
        let _asleep = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        if sleepers == 1 {
            self.woken.notify_one();
        } else {
            self.woken.notify_all();
        }
    }

    pub(crate) fn wait(&self, seen: u32, _duration_ns: u64) {
        let asleep = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        if self.word.load(Ordering::Relaxed) == seen {
            drop(self.woken.wait(asleep));
        }
    }
}
