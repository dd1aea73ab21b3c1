//! One block of a kernel as a thread of the host: what `kernels/ring.cuh` does, for tests.

use super::memory::{ENDED, Memory, PAYLOAD_WORDS, Payload, SEQUENCE, STATE, STOP, TAIL};
use crate::sync::{Ordering, retry};

/// How a launch of one block ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Stopped,
    Idle,
    Died,
}

/// What the kernel of these tests keeps: a sum in which the order and each message count.
pub fn digested(state: u64, payload: &Payload) -> u64 {
    payload.iter().fold(state, |sum, word| sum.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ word)
}

/// Serves `group` until it is stopped, looked for a message `polls` times in a row, or dies, which
/// it may before each acknowledgement. Answers word 0 of each message by its state.
pub fn serve(
    memory: &Memory,
    group: usize,
    launch: u64,
    polls: u64,
    mut dies: impl FnMut() -> bool,
) -> Ending {
    let tail = memory.tail(group);
    let mut number = tail[TAIL].load(Ordering::Relaxed);
    let mut idle = 0;
    let ending = loop {
        if memory.control()[STOP].load(Ordering::Relaxed) >= launch {
            break Ending::Stopped;
        }
        let slot = memory.slot(group, number);
        if slot[SEQUENCE].load(Ordering::Acquire) != number.wrapping_add(1) {
            idle += 1;
            if idle == polls {
                break Ending::Idle;
            }
            retry();
            continue;
        }
        idle = 0;
        let mut payload = [0; PAYLOAD_WORDS];
        for (value, word) in payload.iter_mut().zip(slot.iter()) {
            *value = word.load(Ordering::Relaxed);
        }
        let state = tail[STATE + (number & 1) as usize].load(Ordering::Relaxed);
        let state = digested(state, &payload);
        memory.answer(group, number)[0][0].store(state, Ordering::Relaxed);
        number = number.wrapping_add(1);
        tail[STATE + (number & 1) as usize].store(state, Ordering::Relaxed);
        if dies() {
            return Ending::Died;
        }
        tail[TAIL].store(number, Ordering::Release);
    };
    tail[ENDED].store(launch, Ordering::Release);
    ending
}
