//! Both ways of transfer against each other, short transfers, failures and what is not read.

use std::fs::File;
use std::os::fd::AsRawFd;

use super::*;
use crate::operations::NoPause;
use crate::operations::scratch::Scratch;

const CHUNK: usize = 1 << 16;

/// Every way that this machine has.
fn ways() -> Vec<Transfers> {
    [Wish::IoUring, Wish::Threads]
        .into_iter()
        .filter_map(|wish| Transfers::open(wish, 3, CHUNK).ok())
        .collect()
}

#[test]
fn chunks_come_back_as_they_went_whichever_way_they_go() {
    let scratch = Scratch::create(&std::env::temp_dir()).expect("a folder");
    let file = scratch.descriptor();
    for mut transfers in ways() {
        for slot in 0..3 {
            transfers.buffer(slot).fill(slot as u8 + 1);
            let offset = (slot * CHUNK) as u64;
            transfers.begin(slot, Task::Write, file, CHUNK, offset).expect("begun");
        }
        transfers.finish_all(&mut NoPause).expect("written");
        transfers.begin(0, Task::Sync, file, 0, 0).expect("begun");
        transfers.finish(0, &mut NoPause).expect("durable");
        for slot in 0..3 {
            let offset = ((2 - slot) * CHUNK) as u64;
            transfers.begin(slot, Task::Read, file, CHUNK, offset).expect("begun");
        }
        transfers.finish_all(&mut NoPause).expect("read");
        for slot in 0..3 {
            assert!(transfers.buffer(slot).iter().all(|byte| *byte == 3 - slot as u8));
        }
    }
}

#[test]
fn a_full_disk_fails_the_request_and_not_the_next_one() {
    let full = File::options().write(true).open("/dev/full").expect("a device of Linux");
    let scratch = Scratch::create(&std::env::temp_dir()).expect("a folder");
    for mut transfers in ways() {
        transfers.begin(1, Task::Write, full.as_raw_fd(), CHUNK, 0).expect("begun");
        let error = transfers.finish(1, &mut NoPause).expect_err("it is full");
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{}", transfers.way());
        transfers.begin(1, Task::Write, scratch.descriptor(), CHUNK, 0).expect("begun");
        transfers.finish(1, &mut NoPause).expect("written");
    }
}

#[test]
fn reading_past_the_end_is_an_error_and_leaves_what_was_read() {
    let scratch = Scratch::create(&std::env::temp_dir()).expect("a folder");
    for mut transfers in ways() {
        transfers.buffer(0).fill(5);
        transfers.begin(0, Task::Write, scratch.descriptor(), 8192, 0).expect("begun");
        transfers.finish(0, &mut NoPause).expect("written");
        transfers.begin(0, Task::Read, scratch.descriptor(), CHUNK, 0).expect("begun");
        let error = transfers.finish(0, &mut NoPause).expect_err("the file is shorter");
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        assert!(transfers.buffer(0)[..8192].iter().all(|byte| *byte == 5));
    }
}

#[test]
fn what_was_not_read_does_not_look_as_if_it_had_been() {
    let nothing = File::open("/dev/null").expect("a device of Linux");
    for mut transfers in ways() {
        transfers.buffer(0).fill(5);
        transfers.begin(0, Task::Read, nothing.as_raw_fd(), CHUNK, 0).expect("begun");
        assert!(transfers.finish(0, &mut NoPause).is_err(), "there is nothing to read");
        assert!(transfers.buffer(0).iter().step_by(PAGE_BYTES).all(|byte| *byte == !5));
    }
}

#[test]
fn requests_in_flight_are_waited_for_before_the_buffers_go() {
    let scratch = Scratch::create(&std::env::temp_dir()).expect("a folder");
    for mut transfers in ways() {
        transfers.begin(0, Task::Write, scratch.descriptor(), CHUNK, 0).expect("begun");
        drop(transfers);
    }
}

#[test]
fn a_wish_for_io_uring_is_never_fulfilled_by_threads() {
    match Transfers::open(Wish::IoUring, 2, CHUNK) {
        Ok(transfers) => assert_eq!(transfers.way(), "io_uring"),
        Err(_) => {
            let other = Transfers::open(Wish::Auto, 2, CHUNK).expect("threads");
            assert_eq!(other.way(), "threads");
        }
    }
}
