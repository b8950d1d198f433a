//! Readers: while records are appended, across segments, and after removal.

use zmsg_wal::testing::{Disk, Fault, FaultKind};
use zmsg_wal::{Durability, Log, LogOptions, RealFs};

use crate::support::{all, open, rarely, rest, small};

#[test]
fn a_reader_follows_what_is_being_appended() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 64 << 10, buffer_bytes_max: 16 << 10, ..small() };
    let options = LogOptions { bytes_max: 1 << 30, ..options };
    let (log, _) = Log::open(dir.path().join("log"), options, RealFs::shared()).unwrap();
    const RECORDS: u64 = 20_000;
    std::thread::scope(|scope| {
        for from in [1, 7_777] {
            let log = log.clone();
            scope.spawn(move || {
                let mut reader = log.reader(from);
                for seq in from..=RECORDS {
                    let record = loop {
                        if let Some(record) = reader.next().unwrap() {
                            break record;
                        }
                        let next = reader.position();
                        log.wait(next, Durability::Flushed).wait_blocking().unwrap();
                    };
                    assert_eq!(record.seq, seq);
                    assert_eq!(record.payload, seq.to_le_bytes().repeat(seq as usize % 9));
                }
            });
        }
        for seq in 1..=RECORDS {
            let payload = seq.to_le_bytes().repeat(seq as usize % 9);
            while let Err(error) = log.append(1, &[&payload]) {
                assert!(error.is_temporary(), "{error}");
                log.wait(seq - 1, Durability::Flushed).wait_blocking().unwrap();
            }
        }
    });
    assert!(log.stats().segments > 10);
    assert_eq!(log.reader(RECORDS + 1).next().unwrap(), None);
}

#[test]
fn a_reader_goes_on_where_records_were_written_anew_after_a_failed_sync() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &LogOptions { sync: rarely(), ..small() }).unwrap();
    let append = |text: &str| {
        let appended = log.append(1, &[text.as_bytes()]).unwrap();
        appended.wait(Durability::Flushed).wait_blocking().unwrap();
    };
    let mut reader = log.reader(1);
    ["one", "two", "three"].into_iter().for_each(append);
    assert_eq!(reader.next().unwrap().unwrap().payload, "one");
    disk.fail(Fault { kind: FaultKind::Sync, call: 1, times: 1 });
    log.sync().wait_blocking().unwrap();
    append("four");
    let texts: Vec<_> =
        rest(&mut reader).unwrap().into_iter().map(|record| record.payload).collect();
    assert_eq!(texts, ["two", "three", "four"]);
}

#[test]
fn segments_go_when_all_in_them_was_delivered_and_not_before() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    for _ in 0..40 {
        let appended = log.append(1, &[&[1; 400]]).unwrap();
        appended.wait(Durability::Synced).wait_blocking().unwrap();
    }
    let mut behind = log.reader(1);
    assert_eq!(behind.next().unwrap().unwrap().seq, 1);
    let (segments, bytes) = (log.stats().segments, log.stats().bytes);
    assert_eq!(log.remove_below(9).unwrap(), 0, "the first segment has a record to deliver");
    let removed = log.remove_below(30).unwrap();
    assert!(removed > 0 && log.stats().segments == segments - removed);
    assert!(log.stats().bytes < bytes);
    let first = all(&log).unwrap()[0].seq;
    assert!(first > 9 && first <= 30);
    // A reader has its file open; then it goes on with what there is.
    let seen: Vec<_> = rest(&mut behind).unwrap().iter().map(|record| record.seq).collect();
    assert!(seen.is_sorted() && seen.ends_with(&[39, 40]));
    assert_eq!(log.remove_below(41).unwrap(), all_but_the_live_one(segments, removed));
    assert!(log.checkpoint(43).is_err(), "43 was never appended");
    log.checkpoint(5).unwrap();
    log.close_blocking().unwrap();
    let (log, recovered) = open(disk.fs(), &small()).unwrap();
    assert_eq!((recovered.delivered_below, recovered.records, recovered.first), (41, 0, 41));
    assert_eq!(log.append(1, &[b"next"]).unwrap().seq(), 41);
}

fn all_but_the_live_one(before: usize, removed: usize) -> usize {
    before - removed - 1
}

#[test]
fn what_was_delivered_is_not_handed_out_again() {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    for number in 1..=10_u8 {
        log.append(1, &[&[number]]).unwrap();
    }
    log.sync().wait_blocking().unwrap();
    log.checkpoint(7).unwrap();
    log.close_blocking().unwrap();
    let (log, recovered) = open(disk.fs(), &small()).unwrap();
    assert_eq!((recovered.first, recovered.last, recovered.records), (7, 10, 4));
    let seqs: Vec<_> = rest(&mut log.reader(recovered.first)).unwrap();
    assert_eq!(seqs.iter().map(|record| record.seq).collect::<Vec<_>>(), [7, 8, 9, 10]);
}

#[test]
fn opening_a_log_many_times_does_not_pile_up_segments() {
    let disk = Disk::new();
    for _ in 0..50 {
        let (log, recovered) = open(disk.fs(), &small()).unwrap();
        assert_eq!(recovered.next, 1);
        log.close_blocking().unwrap();
    }
    assert_eq!(disk.files(".wal").len(), 1);
    assert_eq!(disk.files(".tmp").len(), 0);
}

#[test]
fn a_reader_sees_every_record_once_while_files_fail_and_segments_go() {
    const RECORDS: u64 = 6_000;
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &LogOptions { bytes_max: 1 << 30, ..small() }).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reader = log.reader(1);
            for seq in 1..=RECORDS {
                let record = loop {
                    if let Some(record) = reader.next().unwrap() {
                        break record;
                    }
                    log.wait(seq, Durability::Flushed).wait_blocking().unwrap();
                };
                assert_eq!((record.seq, &record.payload[..]), (seq, &seq.to_le_bytes()[..]));
                if seq % 100 == 0 {
                    log.remove_below(seq).unwrap();
                }
            }
        });
        for seq in 1..=RECORDS {
            while log.append(1, &[&seq.to_le_bytes()]).is_err() {
                log.wait(seq - 1, Durability::Synced).wait_blocking().unwrap();
            }
            // One fault at a time: a second one during the way out of the first ends the log.
            if seq % 64 == 63 {
                disk.heal();
            } else if seq % 64 == 0 {
                log.wait(seq, Durability::Synced).wait_blocking().unwrap();
                disk.fail(Fault { kind: FaultKind::ShortWrite, call: 1 + seq % 5, times: 1 });
            }
        }
        reader.join().unwrap();
    });
    assert!(log.stats().distrusted > 10, "{:?}", log.stats());
}
