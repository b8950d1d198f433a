//! Removal that fails half way: nothing is lost, a later call completes it, and what a crash leaves of
//! it is a log that opens.

use std::path::Path;

use zmsg_core::ErrorKind;
use zmsg_wal::testing::{CrashPoint, Disk, Fault, FaultKind, Survival};
use zmsg_wal::{Durability, Log};

use crate::support::{DIR, all, open, small};

/// A log of 40 records in more than three segments, all synced.
fn filled(disk: &Disk) -> Log {
    let (log, _) = open(disk.fs(), &small()).unwrap();
    for _ in 0..40 {
        let appended = log.append(1, &[&[9; 480]]).unwrap();
        appended.wait(Durability::Synced).wait_blocking().unwrap();
    }
    assert!(log.stats().segments > 4);
    log
}

#[test]
fn a_removal_that_fails_half_way_is_completed_by_a_later_call() {
    for kind in [FaultKind::Remove, FaultKind::SyncDir] {
        let disk = Disk::new();
        let log = filled(&disk);
        let segments = log.stats().segments;
        // The first call of either kind is the checkpoint's; the third is of the second segment.
        disk.fail(Fault { kind, call: 3, times: 1 });
        let error = log.remove_below(41).unwrap_err();
        assert_eq!((error.kind(), disk.heal()), (ErrorKind::Unavailable, 1), "{error}");
        // The log lives, reads and takes more.
        assert!(all(&log).is_ok());
        let appended = log.append(1, &[b"more"]).unwrap();
        appended.wait(Durability::Synced).wait_blocking().unwrap();
        let left = log.stats().segments;
        assert!(left > 2 && left < segments, "{kind:?}: {left} of {segments}");
        assert_eq!(log.remove_below(41).unwrap(), left - 1, "{kind:?}");
        assert_eq!((log.stats().segments, disk.files(".wal").len()), (1, 1), "{kind:?}");
        log.close_blocking().unwrap();
        let (_, recovered) = open(disk.fs(), &small()).unwrap();
        assert_eq!((recovered.records, recovered.first), (1, 41));
    }
}

#[test]
fn a_segment_that_somebody_removed_already_is_as_good_as_removed() {
    let disk = Disk::new();
    let log = filled(&disk);
    let segments = log.stats().segments;
    disk.fs().remove(&disk.files(".wal")[1]).unwrap();
    assert_eq!(log.remove_below(41).unwrap(), segments - 1);
}

#[test]
fn a_recovery_passes_over_the_gap_that_a_removal_left_in_what_was_delivered() {
    let disk = Disk::new();
    let log = filled(&disk);
    log.checkpoint(30).unwrap();
    log.close_blocking().unwrap();
    let files = disk.files(".wal");
    // The second one is gone, and the first one, whose removal did not come to the disk, is not.
    disk.fs().remove(&files[1]).unwrap();
    let (log, recovered) = open(disk.fs(), &small()).unwrap();
    assert_eq!((recovered.first, recovered.last, recovered.records), (30, 40, 11));
    let records = all(&log).unwrap();
    assert_eq!(records.last().map(|record| record.seq), Some(40));
    assert!(!disk.files(".wal").contains(&files[0]), "what a removal left is removed");
    log.close_blocking().unwrap();
    assert_eq!(open(disk.fs(), &small()).unwrap().1.records, 11);
}

#[test]
fn a_gap_in_what_was_not_delivered_is_damage_also_where_a_removal_failed() {
    let disk = Disk::new();
    let log = filled(&disk);
    log.checkpoint(3).unwrap();
    log.close_blocking().unwrap();
    disk.fs().remove(&disk.files(".wal")[1]).unwrap();
    assert_eq!(open(disk.fs(), &small()).unwrap_err().kind(), ErrorKind::Corrupted);
}

#[test]
fn a_power_cut_after_a_removal_that_failed_leaves_a_log_that_opens() {
    let disk = Disk::new();
    let log = filled(&disk);
    let begin = disk.journal_len();
    disk.fail(Fault { kind: FaultKind::SyncDir, call: 2, times: 1 });
    log.remove_below(41).unwrap_err();
    assert_eq!(disk.heal(), 1);
    log.remove_below(41).unwrap();
    for after in begin..=disk.journal_len() {
        for seed in 0..40 {
            let survival = Survival::Some { block: 512 };
            let (cut, _) = disk.crash(CrashPoint { after, survival, seed });
            let opened = open(cut.fs(), &small());
            let (log, recovered) = opened.unwrap_or_else(|error| panic!("{after}: {error}"));
            let delivered = recovered.delivered_below == 41;
            assert!(delivered || recovered.records == 40, "{after}: {recovered:?}");
            all(&log).unwrap();
        }
    }
}

#[test]
fn a_checkpoint_beyond_the_last_record_is_refused_by_the_log_and_is_damage_for_a_recovery() {
    let disk = Disk::new();
    let append = |log: &Log| {
        let appended = log.append(1, &[b"one"]).unwrap();
        appended.wait(Durability::Synced).wait_blocking().unwrap();
    };
    let (log, _) = open(disk.fs(), &small()).unwrap();
    (0..3).for_each(|_| append(&log));
    assert_eq!(log.checkpoint(5).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(log.remove_below(5).unwrap_err().kind(), ErrorKind::InvalidInput);
    log.close_blocking().unwrap();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    (0..3).for_each(|_| append(&log));
    log.checkpoint(7).unwrap();
    log.close_blocking().unwrap();
    // The first segment says that the log was closed after record 3.
    disk.fs().remove(&disk.files(".wal")[1]).unwrap();
    let error = open(disk.fs(), &small()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupted, "{error}");
    assert!(error.to_string().contains("a segment after this one is missing"), "{error}");
}

#[test]
fn the_handle_of_a_closed_log_leaves_the_directory_alone() {
    let disk = Disk::new();
    let old = filled(&disk);
    old.close_blocking().unwrap();
    let (new, _) = open(disk.fs(), &small()).unwrap();
    new.checkpoint(2).unwrap();
    let checkpoint = || disk.content(&Path::new(DIR).join("CHECKPOINT")).unwrap();
    let (known, files) = (checkpoint(), disk.files(".wal"));
    assert_eq!(old.checkpoint(20).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(old.remove_below(41).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!((checkpoint(), disk.files(".wal")), (known, files));
}

#[test]
fn the_handle_of_a_failed_log_leaves_the_directory_alone() {
    let disk = Disk::new();
    let old = filled(&disk);
    disk.fail(Fault { kind: FaultKind::Sync, call: 1, times: 2 });
    let lost = old.append(1, &[b"lost"]).unwrap();
    lost.wait(Durability::Synced).wait_blocking().unwrap_err();
    old.close_blocking().unwrap_err();
    disk.heal();
    let (new, _) = open(disk.fs(), &small()).unwrap();
    let files = disk.files(".wal");
    assert_eq!(old.checkpoint(20).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(old.remove_below(40).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(disk.files(".wal"), files);
    assert!(all(&new).unwrap().len() >= 40);
}
