//! Every file call fails once, and more than once: what is acknowledged is there, and what is refused
//! or unknown says so.

use std::time::Duration;

use zmsg_core::{ErrorKind, Result};
use zmsg_wal::testing::{Disk, Fault, FaultKind};
use zmsg_wal::{Durability, Log, LogOptions};

use crate::support::{all, open, rarely, small};

/// What a run was told of each of its records.
#[derive(Debug, Default)]
struct Told {
    synced: Vec<u64>,
    unknown: Vec<u64>,
    not_written: Vec<u64>,
    delivered_below: u64,
}

/// Appends, waits, removes, closes and opens again, as far as it gets.
fn life(disk: &Disk, told: &mut Told) -> Result<()> {
    for round in 0..2 {
        let (log, _) = open(disk.fs(), &small())?;
        for number in 0..12_u64 {
            let appended = log.append(1, &[&[number as u8; 400]])?;
            let seq = appended.seq();
            match appended.wait(Durability::Synced).wait_blocking() {
                Ok(()) => told.synced.push(seq),
                Err(error) if error.is_outcome_unknown() => told.unknown.push(seq),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                    told.not_written.push(seq);
                }
            }
            if number == 9 {
                let below = told.synced.last().map_or(1, |last| last - 4);
                log.remove_below(below)?;
                told.delivered_below = below;
            }
        }
        if round == 0 {
            log.close_blocking()?;
        }
    }
    Ok(())
}

fn found(disk: &Disk) -> (Vec<u64>, u64) {
    let (log, recovered) = open(disk.fs(), &small()).unwrap();
    let records = all(&log).unwrap();
    (records.iter().map(|record| record.seq).collect(), recovered.delivered_below)
}

/// A file system whose n-th call fails `times` times, for every n.
fn every_call_fails(kind: FaultKind, times: u64) {
    for call in 1.. {
        let disk = Disk::new();
        disk.fail(Fault { kind, call, times });
        let mut told = Told::default();
        let result = life(&disk, &mut told);
        if disk.heal() == 0 {
            assert!(result.is_ok() && call > 20, "{result:?}");
            return;
        }
        // The thread of a log that was left open may still write.
        let (found, below) = loop {
            match open(disk.fs(), &small()) {
                Err(error) if error.kind() == ErrorKind::Conflict => std::thread::yield_now(),
                result => {
                    let (log, _) = result.unwrap();
                    log.close_blocking().unwrap();
                    break found(&disk);
                }
            }
        };
        let context = || format!("{kind:?}, call {call}, {times} times: {told:?}, found {found:?}");
        assert!(below >= told.delivered_below, "{}", context());
        let missing = told.synced.iter().find(|seq| **seq >= below && !found.contains(seq));
        assert_eq!(missing, None, "{}", context());
        let wrong = told.not_written.iter().find(|seq| found.contains(seq));
        assert_eq!(wrong, None, "{}", context());
        assert!(found.is_sorted(), "{}", context());
    }
}

#[test]
fn every_call_that_fails_once_with_an_io_error_loses_nothing_acknowledged() {
    every_call_fails(FaultKind::Eio, 1);
}

#[test]
fn every_call_that_fails_from_then_on_loses_nothing_acknowledged() {
    every_call_fails(FaultKind::Eio, u64::MAX);
}

#[test]
fn every_call_that_finds_the_disk_full_loses_nothing_acknowledged() {
    every_call_fails(FaultKind::Full, 1);
    every_call_fails(FaultKind::Full, 3);
}

#[test]
fn every_write_that_is_cut_short_loses_nothing_acknowledged() {
    every_call_fails(FaultKind::ShortWrite, 1);
    every_call_fails(FaultKind::ShortWrite, 2);
}

#[test]
fn every_sync_that_fails_loses_nothing_acknowledged() {
    every_call_fails(FaultKind::Sync, 1);
    every_call_fails(FaultKind::Sync, 2);
}

#[test]
fn after_a_failed_sync_what_waits_is_written_to_a_new_segment_and_acknowledged_there() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &LogOptions { sync: rarely(), ..small() }).unwrap();
    let appended = log.append_many(&[(1, b"one"), (1, b"two")]).unwrap();
    appended.wait(Durability::Flushed).wait_blocking().unwrap();
    disk.fail(Fault { kind: FaultKind::Sync, call: 1, times: 1 });
    log.sync().wait_blocking().unwrap();
    assert_eq!(disk.heal(), 1);
    assert_eq!((log.stats().distrusted, disk.files(".wal").len()), (1, 2));
    log.append(1, &[b"three"]).unwrap();
    log.close_blocking().unwrap();
    let (log, recovered) = open(disk.fs(), &small()).unwrap();
    assert_eq!((recovered.last, recovered.records, recovered.next), (3, 3, 4));
    let payloads: Vec<_> = all(&log).unwrap().into_iter().map(|record| record.payload).collect();
    assert_eq!(payloads, ["one", "two", "three"]);
}

#[test]
fn if_writing_anew_fails_too_the_outcome_is_unknown_and_the_log_refuses_more() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &LogOptions { sync: rarely(), ..small() }).unwrap();
    let appended = log.append(1, &[b"one"]).unwrap();
    appended.wait(Durability::Flushed).wait_blocking().unwrap();
    disk.fail(Fault { kind: FaultKind::Sync, call: 1, times: 2 });
    let error = log.sync().wait_blocking().unwrap_err();
    assert!(error.is_outcome_unknown(), "{error}");
    let refused = log.append(1, &[b"two"]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(!refused.is_outcome_unknown(), "nothing was accepted: {refused}");
    assert_eq!(log.close_blocking().unwrap_err().kind(), ErrorKind::Unavailable);
    disk.heal();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    assert!(all(&log).unwrap().len() <= 1);
}

#[test]
fn a_full_disk_is_met_before_a_record_is_accepted_and_got_over_when_there_is_space() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    log.append(1, &[b"first"]).unwrap().wait(Durability::Synced).wait_blocking().unwrap();
    // From here on nothing can be allocated; writing where it was allocated succeeds.
    disk.full(true);
    let mut accepted = 1;
    let refused = loop {
        match log.append(1, &[&[7; 400]]) {
            Ok(appended) => appended.wait(Durability::Synced).wait_blocking().unwrap(),
            Err(error) => break error,
        }
        accepted += 1;
    };
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    assert!(refused.to_string().contains("space on the disk"), "{refused}");
    assert!(accepted > 10 && log.stats().disk_full, "what was allocated is used");
    assert_eq!((log.stats().synced_seq, log.stats().distrusted), (accepted, 0));
    disk.full(false);
    while let Err(error) = log.append(1, &[&[7; 400]]) {
        assert!(error.is_temporary());
        std::thread::park_timeout(Duration::from_millis(5));
    }
    log.close_blocking().unwrap();
    assert_eq!(found(&disk).0.len() as u64, accepted + 1);
}

/// A handle is not needed for what was appended to come to the disk.
#[test]
fn a_log_whose_last_handle_is_dropped_writes_and_syncs_what_it_accepted() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &LogOptions { sync: rarely(), ..small() }).unwrap();
    let appended = log.append(1, &[b"one"]).unwrap();
    let ended = Log::wait(&log, u64::MAX, Durability::Synced);
    drop(log);
    appended.wait(Durability::Synced).wait_blocking().unwrap();
    assert_eq!(ended.wait_blocking().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(found(&disk).0, [1]);
}
