//! What can be seen of a damaged log, and what can be saved.

use std::path::Path;

use zmsg_core::ErrorKind;
use zmsg_wal::testing::Disk;
use zmsg_wal::{Durability, Log, LogOptions, salvage, verify};

use crate::support::{DIR, all, open, rarely, small};

const SAVED: &str = "/saved";

fn written(records: u64) -> Disk {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    for seq in 1..=records {
        let appended = log.append(2, &[&seq.to_le_bytes().repeat(20)]).unwrap();
        appended.wait(Durability::Synced).wait_blocking().unwrap();
    }
    log.close_blocking().unwrap();
    disk
}

#[test]
fn a_sound_log_is_reported_record_by_record() {
    let disk = written(60);
    let verified = verify(DIR, &disk).unwrap();
    assert!(verified.is_sound(), "{verified:?}");
    assert_eq!((verified.records(), verified.segments.len()), (60, 3));
    assert_eq!(verified.segments[2].last_seq, Some(60));
    assert!(verified.stream.is_some());
}

#[test]
fn every_damaged_place_is_named_and_the_rest_is_saved_under_its_sequences() {
    let disk = written(60);
    let files = disk.files(".wal");
    let mut bytes = disk.content(&files[0]).unwrap();
    // The third and the tenth record: 32 + 160 bytes each.
    let place = |seq: usize| 128 + (seq - 1) * 192;
    bytes[place(3) + 50] ^= 1;
    bytes[place(10) + 5] ^= 1;
    disk.replace(&files[0], bytes);
    assert_eq!(open(disk.fs(), &small()).unwrap_err().kind(), ErrorKind::Corrupted);
    let verified = verify(DIR, &disk).unwrap();
    let damage = &verified.segments[0].damage;
    let places: Vec<_> = damage.iter().map(|damage| (damage.seq, damage.offset)).collect();
    assert_eq!(places, [(3, place(3) as u64), (10, place(10) as u64)]);
    assert_eq!(verified.records(), 58);

    assert_eq!(salvage(DIR, SAVED, &disk).unwrap(), verified);
    let (log, recovered) = Log::open(SAVED, small(), disk.fs()).unwrap();
    assert_eq!((recovered.records, recovered.last), (58, 60));
    assert_eq!(Some(recovered.stream), verified.stream);
    assert!(recovered.next > 60);
    let found = all(&log).unwrap();
    let expected: Vec<_> = (1..=60).filter(|seq| *seq != 3 && *seq != 10).collect();
    assert_eq!(found.iter().map(|record| record.seq).collect::<Vec<_>>(), expected);
    for record in found {
        assert_eq!(record.payload, record.seq.to_le_bytes().repeat(20));
    }
    let saved = verify(SAVED, &disk).unwrap();
    assert!(saved.is_sound(), "{saved:?}");
    let again = salvage(DIR, SAVED, &disk).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_segment_without_a_header_is_reported_and_the_others_are_saved() {
    let disk = written(60);
    let files = disk.files(".wal");
    let mut bytes = disk.content(&files[1]).unwrap();
    bytes[40] ^= 1;
    disk.replace(&files[1], bytes);
    let verified = verify(DIR, &disk).unwrap();
    assert_eq!(verified.segments[1].damage.len(), 1);
    assert!(!verified.is_sound() && verified.records() < 60);
    salvage(DIR, SAVED, &disk).unwrap();
    let (log, recovered) = Log::open(SAVED, small(), disk.fs()).unwrap();
    assert_eq!(recovered.records, verified.records());
    assert_eq!(all(&log).unwrap().last().unwrap().seq, 60);
}

#[test]
fn a_copy_of_a_log_whose_headers_are_damaged_gives_no_sequence_out_again() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    for _ in 0..600 {
        let appended = log.append(2, &[]).unwrap();
        appended.wait(Durability::Synced).wait_blocking().unwrap();
    }
    log.close_blocking().unwrap();
    // Of the first segment alone it is known which sequences it had given out.
    for file in &disk.files(".wal")[1..] {
        let mut bytes = disk.content(file).unwrap();
        bytes[40] ^= 1;
        disk.replace(file, bytes);
    }
    let verified = salvage(DIR, SAVED, &disk).unwrap();
    assert!(verified.records() < 200, "{}", verified.records());
    let (log, recovered) = Log::open(SAVED, small(), disk.fs()).unwrap();
    assert_eq!(recovered.records, verified.records());
    assert!(log.append(2, &[]).unwrap().seq() > 600, "{recovered:?}");
}

#[test]
fn a_torn_tail_is_no_damage() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &LogOptions { sync: rarely(), ..small() }).unwrap();
    for _ in 0..3 {
        let appended = log.append(2, &[&[7; 100]]).unwrap();
        appended.wait(Durability::Flushed).wait_blocking().unwrap();
    }
    let torn = disk.copy();
    let file = torn.files(".wal").remove(0);
    let mut bytes = torn.content(&file).unwrap();
    bytes[128 + 136 + 60] ^= 1;
    torn.replace(&file, bytes);
    let verified = verify(DIR, &torn).unwrap();
    assert!(verified.is_sound(), "{verified:?}");
    let (_, recovered) = open(torn.fs(), &small()).unwrap();
    assert_eq!((recovered.records, recovered.torn_bytes), (1, 272));
}

#[test]
fn a_damaged_checkpoint_is_reported_and_left_out_of_the_copy() {
    let disk = written(60);
    let (log, _) = open(disk.fs(), &small()).unwrap();
    log.checkpoint(30).unwrap();
    log.close_blocking().unwrap();
    assert!(verify(DIR, &disk).unwrap().is_sound());
    let path = Path::new(DIR).join("CHECKPOINT");
    let mut bytes = disk.content(&path).unwrap();
    bytes[33] ^= 1;
    disk.replace(&path, bytes);
    assert_eq!(open(disk.fs(), &small()).unwrap_err().kind(), ErrorKind::Corrupted);
    assert!(verify(DIR, &disk).unwrap().checkpoint_damage.is_some());
    salvage(DIR, SAVED, &disk).unwrap();
    let (_, recovered) = Log::open(SAVED, small(), disk.fs()).unwrap();
    assert_eq!((recovered.records, recovered.delivered_below), (60, 0));
}
