//! Files that were cut, flipped and mixed up: what is damage stops with its place, what is a torn tail
//! is cut, and nothing is ever read that was not written.

use std::path::{Path, PathBuf};

use zmsg_core::{Error, ErrorKind};
use zmsg_wal::testing::{Disk, Sabotage};
use zmsg_wal::{Durability, LogOptions, Record};

use crate::support::{all, open, rarely, small};

const RECORDS: u64 = 20;

fn payload(seq: u64) -> Vec<u8> {
    (0..seq * 7).map(|index| (index + seq) as u8).collect()
}

/// A log in two segments, synced record by record.
fn written(close: bool) -> (Disk, Vec<PathBuf>) {
    let disk = Disk::new();
    let options = LogOptions { segment_bytes: 2048, record_bytes_max: 256, ..small() };
    let options = LogOptions { buffer_bytes_max: 512, ..options };
    let (log, _) = open(disk.fs(), &options).unwrap();
    for seq in 1..=RECORDS {
        let appended = log.append(3, &[&payload(seq)]).unwrap();
        appended.wait(Durability::Synced).wait_blocking().unwrap();
    }
    let killed = disk.copy();
    log.close_blocking().unwrap();
    let disk = if close { disk } else { killed };
    let files = disk.files(".wal");
    assert_eq!(files.len(), 2);
    (disk, files)
}

/// What is read from a damaged log: the good records before the damage, if it opens.
fn read(disk: &Disk) -> Result<Vec<Record>, Error> {
    let (log, recovered) = open(disk.fs(), &small())?;
    let records = all(&log)?;
    assert_eq!(recovered.records, records.len() as u64);
    Ok(records)
}

fn assert_a_prefix(records: &[Record]) {
    for (record, seq) in records.iter().zip(1..) {
        assert_eq!((record.seq, record.kind), (seq, 3));
        assert_eq!(record.payload, payload(seq), "a wrong record");
    }
}

fn assert_damage(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Corrupted, "{error}");
    let named = |name| error.context().any(|(known, _)| known == name);
    assert!(named("file") && named("offset") && named("sequence"), "{error}");
}

#[test]
fn a_cut_of_the_last_segment_at_any_byte_is_a_torn_tail() {
    for close in [false, true] {
        let (disk, files) = written(close);
        let whole = disk.content(&files[1]).unwrap();
        let mut found = RECORDS as usize;
        // The header is synced before the file has its name: without it the file is no torn tail.
        for len in (128..whole.len()).rev() {
            let cut = disk.copy();
            cut.replace(&files[1], whole[..len].to_vec());
            let records = read(&cut).unwrap_or_else(|error| panic!("cut at {len}: {error}"));
            assert_a_prefix(&records);
            assert!(records.len() <= found);
            found = records.len();
        }
        assert!(found < RECORDS as usize);
    }
}

#[test]
fn a_cut_of_an_earlier_segment_is_damage() {
    let (disk, files) = written(false);
    let whole = disk.content(&files[0]).unwrap();
    let frames = (1..=RECORDS as usize).scan(128, |end, seq| {
        *end += (32 + seq * 7).next_multiple_of(8);
        Some(*end)
    });
    let end = frames.take_while(|end| *end <= 2048).last().unwrap();
    for len in 0..end {
        let cut = disk.copy();
        cut.replace(&files[0], whole[..len].to_vec());
        assert_damage(&read(&cut).unwrap_err());
    }
    // What was only allocated is no loss.
    for len in end..=whole.len() {
        let cut = disk.copy();
        cut.replace(&files[0], whole[..len].to_vec());
        assert_eq!(read(&cut).unwrap().len() as u64, RECORDS, "cut at {len}");
    }
}

#[test]
fn a_cut_of_the_last_segment_inside_its_header_is_damage() {
    for close in [false, true] {
        let (disk, files) = written(close);
        let whole = disk.content(&files[1]).unwrap();
        for len in 0..128 {
            let cut = disk.copy();
            cut.replace(&files[1], whole[..len].to_vec());
            assert_damage(&read(&cut).unwrap_err());
        }
    }
}

/// What is read after each flip of a bit.
fn flip(stride: usize, sabotage: Sabotage, mut seen: impl FnMut(Result<Vec<Record>, Error>)) {
    let (disk, files) = written(true);
    for file in &files {
        let whole = disk.content(file).unwrap();
        for bit in (0..whole.len() * 8).step_by(stride) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flipped = disk.copy();
            flipped.replace(file, bytes);
            let options = LogOptions { sabotage, ..small() };
            seen(open(flipped.fs(), &options).and_then(|(log, _)| all(&log)));
        }
    }
}

#[test]
fn any_flipped_bit_of_a_closed_log_is_damage_and_never_a_wrong_record() {
    let (mut damaged, mut flips) = (0, 0);
    flip(1, Sabotage::Nothing, |result| {
        flips += 1;
        match result {
            Ok(records) => {
                assert_a_prefix(&records);
                // Behind every record stands something that says that it was synced.
                assert_eq!(records.len() as u64, RECORDS, "taken for a torn tail");
            }
            Err(error) => {
                assert_damage(&error);
                damaged += 1;
            }
        }
    });
    assert!(damaged > 10_000 && flips >= 20_000, "{damaged} of {flips}");
}

#[test]
fn the_check_finds_damage_that_was_taken_for_a_torn_tail() {
    let mut torn = 0;
    flip(17, Sabotage::IgnoreProof, |result| {
        torn += usize::from(result.is_ok_and(|records| (records.len() as u64) < RECORDS));
    });
    assert!(torn > 0);
}

#[test]
fn a_flipped_bit_of_a_log_that_was_killed_is_found_up_to_the_last_record() {
    let (disk, files) = written(false);
    let whole = disk.content(&files[1]).unwrap();
    for (at, bit) in (0..1024).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        let flipped = disk.copy();
        flipped.replace(&files[1], bytes);
        match read(&flipped) {
            Ok(records) => {
                assert_a_prefix(&records);
                // The mark behind the last record proves it, unless it is the mark that was hit.
                assert!(records.len() as u64 >= RECORDS - 1);
            }
            Err(error) => assert_damage(&error),
        }
    }
}

#[test]
fn sectors_that_were_zeroed_swapped_or_doubled_give_no_wrong_record() {
    let (disk, files) = written(true);
    let whole = disk.content(&files[0]).unwrap();
    let sectors = whole.len() / 256;
    for one in 0..sectors {
        for other in 0..=sectors {
            let mut bytes = whole.clone();
            let (from, to) = (one * 256, other * 256);
            if other == sectors {
                bytes[from..from + 256].fill(0);
            } else {
                bytes.copy_within(from..from + 256, to);
                if (one + other) % 2 == 0 {
                    bytes[from..from + 256].copy_from_slice(&whole[to..to + 256]);
                }
            }
            let mixed = disk.copy();
            let same = bytes == whole;
            mixed.replace(&files[0], bytes);
            match read(&mixed) {
                Ok(records) => {
                    assert_a_prefix(&records);
                    assert!(same || records.len() as u64 == RECORDS);
                }
                Err(error) => assert_damage(&error),
            }
        }
    }
}

#[test]
fn a_payload_that_contains_frames_of_the_log_proves_nothing() {
    let disk = Disk::new();
    let options = LogOptions { sync: rarely(), ..small() };
    let (log, _) = open(disk.fs(), &options).unwrap();
    for seq in 1..=3 {
        log.append(3, &[&payload(seq)]).unwrap();
    }
    log.sync().wait_blocking().unwrap();
    let file = disk.files(".wal").remove(0);
    // A copy of what is on the disk, as a payload; then the record before it is torn.
    let frames = disk.content(&file).unwrap()[128..400].to_vec();
    log.append(3, &[&payload(4)]).unwrap();
    let last = log.append(3, &[&frames]).unwrap();
    last.wait(Durability::Flushed).wait_blocking().unwrap();
    let torn = disk.copy();
    let mut bytes = torn.content(&file).unwrap();
    let end = 128 + (1..=3).map(|seq| (32 + seq * 7_usize).next_multiple_of(8)).sum::<usize>();
    bytes[end] ^= 1;
    torn.replace(&file, bytes);
    let records = read(&torn).unwrap();
    assert_a_prefix(&records);
    assert_eq!(records.len(), 3);
}

#[test]
fn a_length_over_the_limit_is_refused_before_anything_is_allocated() {
    let (disk, files) = written(true);
    let whole = disk.content(&files[0]).unwrap();
    for len in [257_u32, 1 << 20, 1 << 30, u32::MAX] {
        let mut bytes = whole.clone();
        bytes[128 + 4..128 + 8].copy_from_slice(&len.to_le_bytes());
        let longer = disk.copy();
        longer.replace(&files[0], bytes);
        assert_damage(&read(&longer).unwrap_err());
    }
}

#[test]
fn a_missing_segment_is_damage_at_the_beginning_in_the_middle_and_with_a_checkpoint() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    for _ in 0..60 {
        let appended = log.append(3, &[&[5; 400]]).unwrap();
        appended.wait(Durability::Synced).wait_blocking().unwrap();
    }
    let removed = log.remove_below(12).unwrap();
    assert!(removed > 0);
    log.close_blocking().unwrap();
    let files = disk.files(".wal");
    assert!(files.len() > 3);
    for (index, file) in files.iter().enumerate().take(files.len() - 1) {
        let missing = without(&disk, file);
        let error = read(&missing).unwrap_err();
        assert_damage(&error);
        assert!(error.to_string().contains("missing"), "{index}: {error}");
    }
    let error = read(&without(&disk, Path::new("/log/CHECKPOINT"))).unwrap_err();
    assert_damage(&error);
}

fn without(disk: &Disk, file: &Path) -> Disk {
    let copy = disk.copy();
    copy.fs().remove(file).unwrap();
    copy
}

#[test]
fn a_segment_or_checkpoint_of_another_log_is_refused() {
    let ((one, files), (other, _)) = (written(true), written(true));
    let mixed = one.copy();
    mixed.replace(&files[1], other.content(&files[1]).unwrap());
    assert_damage(&read(&mixed).unwrap_err());
}
