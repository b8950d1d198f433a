//! What a log is like after something failed in it: its room, its marks, and whether it lives.

use std::time::{Duration, Instant};

use zmsg_core::ErrorKind;
use zmsg_wal::testing::{Disk, Fault, FaultKind};
use zmsg_wal::{Durability, Log, LogOptions};

use crate::support::{all, open, rarely, small};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn synced(log: &Log, payload: &[u8]) {
    let appended = log.append(1, &[payload]).unwrap();
    appended.wait(Durability::Synced).wait_blocking().unwrap();
}

fn comes(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "{what} does not come");
        std::thread::yield_now();
    }
}

/// Appends records of 400 bytes until there is no more room, and says why there is none.
fn fill(log: &Log) -> zmsg_core::Error {
    loop {
        match log.append(1, &[&[7; 400]]) {
            Ok(_) => log.sync().wait_blocking().unwrap(),
            Err(error) => return error,
        }
    }
}

/// The bytes that the bound speaks of are those that there are, however often the log moved on.
#[test]
fn the_room_of_a_log_stays_right_while_its_files_fail() {
    let disk = Disk::new();
    let options = LogOptions { bytes_max: 32 << 10, sync: rarely(), ..small() };
    let (log, _) = open(disk.fs(), &options).unwrap();
    let faults = [FaultKind::Sync, FaultKind::ShortWrite, FaultKind::Full];
    let mut moved = 0;
    for round in 0..120 {
        let kind = faults[round % 3];
        for _ in 0..2 {
            let appended = log.append(1, &[&[8; 400]]).unwrap();
            appended.wait(Durability::Flushed).wait_blocking().unwrap();
        }
        disk.fail(Fault { kind, call: 1, times: 1 });
        let last = log.append(1, &[&[8; 400]]).unwrap();
        log.sync().wait_blocking().unwrap();
        moved += disk.heal();
        log.remove_below(last.seq()).unwrap();
    }
    assert!(moved > 60 && log.stats().distrusted > 60, "{moved}, {:?}", log.stats());
    log.remove_below(log.last_seq() + 1).unwrap();
    let refused = fill(&log);
    assert!(refused.to_string().contains("wal.bytes_max"), "{refused}");
    let bytes = log.stats().bytes;
    assert!(bytes <= options.bytes_max && bytes + 432 > options.bytes_max, "{bytes}");
}

#[test]
fn what_was_written_anew_is_proved_by_a_mark_behind_it() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &LogOptions { sync: rarely(), ..small() }).unwrap();
    let appended = log.append(1, &[&[1; 100]]).unwrap();
    appended.wait(Durability::Flushed).wait_blocking().unwrap();
    disk.fail(Fault { kind: FaultKind::Sync, call: 1, times: 1 });
    log.sync().wait_blocking().unwrap();
    assert_eq!(disk.heal(), 1);
    let file = disk.files(".wal").remove(1);
    let end = 128 + 136;
    comes("the mark", || disk.content(&file).unwrap()[end..end + 32] != [0; 32]);
    // So the loss of the only record is seen.
    let killed = disk.copy();
    let mut bytes = killed.content(&file).unwrap();
    bytes[128 + 40] ^= 1;
    killed.replace(&file, bytes);
    let error = open(killed.fs(), &small()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupted, "{error}");
}

/// On a disk that has no byte to spare the mark behind the last record would need one.
#[test]
fn a_mark_that_a_full_disk_has_no_room_for_is_left_out_and_the_log_lives() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    synced(&log, b"first");
    disk.full(true);
    // Room for a record of 400 bytes is refused, smaller ones fill what is left to the last byte.
    let refused = fill(&log);
    assert!(refused.to_string().contains("space on the disk"), "{refused}");
    while log.append(1, &[b""]).is_ok() {
        log.sync().wait_blocking().unwrap();
    }
    // The writer has looked for more space since, so it has passed the place of the mark.
    let before = disk.refusals();
    comes("another look for space", || disk.refusals() > before + 1);
    assert_eq!(log.stats().distrusted, 0, "{:?}", log.stats());
    disk.full(false);
    comes("space", || log.append(1, &[b"more"]).is_ok());
    log.sync().wait_blocking().unwrap();
    assert_eq!(log.stats().distrusted, 0, "{:?}", log.stats());
    let count = log.last_seq();
    log.close_blocking().unwrap();
    let (log, recovered) = open(disk.fs(), &small()).unwrap();
    assert_eq!((recovered.closed, recovered.last), (true, count));
    assert_eq!(all(&log).unwrap().len() as u64, count);
}

/// A mark is nothing that anybody waits for: its file is left when there is something to be written.
#[test]
fn a_mark_that_fails_on_a_full_disk_does_not_end_the_log() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    synced(&log, b"first");
    disk.full(true);
    // Into the last segment that was allocated, and not to its end.
    comes("the last segment", || {
        synced(&log, &[7; 400]);
        log.stats().segments == 2
    });
    comes("the full disk", || log.stats().disk_full);
    synced(&log, &[7; 400]);
    // The record, then the mark behind it.
    disk.fail(Fault { kind: FaultKind::ShortWrite, call: 2, times: 1 });
    synced(&log, &[7; 400]);
    comes("the mark", || disk.hits() == 1);
    let before = disk.refusals();
    comes("another look for space", || disk.refusals() > before + 1);
    disk.heal();
    disk.full(false);
    comes("space", || !log.stats().disk_full);
    synced(&log, b"elsewhere");
    assert_eq!(log.stats().distrusted, 1);
    let count = log.last_seq();
    log.close_blocking().unwrap();
    let (log, recovered) = open(disk.fs(), &small()).unwrap();
    assert_eq!((recovered.last, recovered.records), (count, count));
    assert_eq!(all(&log).unwrap().len() as u64, count);
}

/// Which names survive is unknown then: the log says so and ends, and everything acknowledged is there.
#[test]
fn a_directory_that_cannot_be_synced_while_segments_change_ends_the_log_and_loses_nothing() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    synced(&log, b"first");
    disk.fail(Fault { kind: FaultKind::SyncDir, call: 1, times: 1 });
    let mut acknowledged = 1;
    let error = loop {
        let appended = match log.append(1, &[&[7; 400]]) {
            Ok(appended) => appended,
            Err(error) => break error,
        };
        match appended.wait(Durability::Synced).wait_blocking() {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), disk.heal()), (ErrorKind::Unavailable, 1), "{error}");
    assert!(acknowledged > 5);
    assert_eq!(log.close_blocking().unwrap_err().kind(), ErrorKind::Unavailable);
    let (log, recovered) = open(disk.fs(), &small()).unwrap();
    assert!(recovered.last >= acknowledged);
    assert_eq!(all(&log).unwrap().len() as u64, recovered.last);
}

#[test]
fn a_writer_that_panics_leaves_nobody_waiting_and_says_that_the_outcome_is_unknown() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    synced(&log, b"first");
    disk.fail(Fault { kind: FaultKind::Panic, call: 1, times: 1 });
    let lost = log.append(1, &[b"lost"]).unwrap();
    let error = lost.wait(Durability::Synced).wait_blocking().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unexpected, "{error}");
    assert!(error.is_outcome_unknown(), "{error}");
    assert_eq!(log.append(1, &[b"more"]).unwrap_err().kind(), ErrorKind::Unexpected);
    assert_eq!(log.close_blocking().unwrap_err().kind(), ErrorKind::Unexpected);
    disk.heal();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    assert_eq!(all(&log).unwrap()[0].payload, "first");
}

#[test]
fn a_reader_says_so_where_a_segment_is_gone_or_is_no_longer_what_it_was() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    (0..12).for_each(|_| synced(&log, &[7; 400]));
    assert_eq!(log.stats().segments, 2);
    let file = disk.files(".wal").remove(0);
    let whole = disk.content(&file).unwrap();
    let mut bytes = whole.clone();
    bytes[128 + 60] ^= 1;
    disk.replace(&file, bytes);
    let error = all(&log).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupted, "{error}");
    disk.replace(&file, whole);
    assert_eq!(all(&log).unwrap().len(), 12);
    disk.fs().remove(&file).unwrap();
    let error = all(&log).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    // What is elsewhere can be read.
    assert!(log.reader(12).next().unwrap().is_some());
}
