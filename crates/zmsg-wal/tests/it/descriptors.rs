//! A process that has few descriptors, or none to spare: that is no failure of the disk.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use zmsg_wal::{Durability, Log, LogOptions, RealFs, salvage, verify};

use crate::support::{all, small};

/// Where the child's log is; this program is the child if it is set.
const CHILD: &str = "ZMSG_WAL_TEST_FEW_DESCRIPTORS";

/// How many a child has.
const DESCRIPTORS: usize = 40;

/// More than that.
const SEGMENTS: usize = 120;

/// Runs one of the children below, which panics if it does not find what it is to find.
fn child(name: &str, dir: &Path) {
    let script = format!("ulimit -n {DESCRIPTORS}; exec \"$0\" \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args([&format!("descriptors::{name}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{said}");
}

fn options() -> LogOptions {
    LogOptions { bytes_max: 1 << 30, ..small() }
}

fn open(dir: &Path) -> Log {
    Log::open(dir, options(), RealFs::shared()).unwrap().0
}

#[test]
fn a_log_of_more_segments_than_a_process_may_have_files_open_is_opened_verified_and_saved() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir.path().join("log"));
    while log.stats().segments < SEGMENTS {
        let appended = log.append(1, &[&[5; 480]]).unwrap();
        appended.wait(Durability::Synced).wait_blocking().unwrap();
    }
    log.close_blocking().unwrap();
    child("child_with_few_descriptors", dir.path());
}

#[test]
fn child_with_few_descriptors() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let log = open(&dir.join("log"));
    let records = all(&log).unwrap().len() as u64;
    assert_eq!(records, log.last_seq());
    log.close_blocking().unwrap();
    assert!(verify(dir.join("log"), &RealFs).unwrap().is_sound());
    let saved = salvage(dir.join("log"), dir.join("saved"), &RealFs).unwrap();
    assert_eq!(saved.records(), records);
    assert_eq!(all(&open(&dir.join("saved"))).unwrap().len() as u64, records);
}

#[test]
fn a_process_without_a_descriptor_to_spare_goes_on_when_it_has_one_again() {
    let dir = tempfile::tempdir().unwrap();
    child("child_without_descriptors", dir.path());
}

/// Every descriptor there is.
fn take_all() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

fn comes(mut condition: impl FnMut() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

#[test]
fn child_without_descriptors() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let log = open(&dir.join("log"));
    let segment = |number: u64| dir.join("log").join(format!("{number:016x}.wal"));
    let append = || log.append(1, &[&[5; 480]]).unwrap();
    append().wait(Durability::Synced).wait_blocking().unwrap();
    // The next segment is there, and its name is to be made to last.
    let held = take_all();
    let mut last = append();
    comes(|| {
        if log.stats().written_seq == last.seq() && !segment(2).exists() {
            last = append();
        }
        segment(2).exists()
    });
    drop(held);
    last.wait(Durability::Synced).wait_blocking().unwrap();

    log.checkpoint(last.seq()).unwrap();
    let held = take_all();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            comes(|| !segment(1).exists());
            drop(held);
        });
        assert_eq!(log.remove_below(last.seq()).unwrap(), 1);
    });
    append().wait(Durability::Synced).wait_blocking().unwrap();
    log.close_blocking().unwrap();
}
