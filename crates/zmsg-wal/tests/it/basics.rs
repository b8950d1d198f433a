//! Append, wait, read, reopen.

use zmsg_wal::{Durability, Log, LogOptions, RealFs};

#[test]
fn what_is_synced_is_there_when_the_log_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, recovered) =
        Log::open(dir.path().join("log"), LogOptions::default(), RealFs::shared()).unwrap();
    assert_eq!((recovered.next, recovered.records), (1, 0));
    for number in 1..=100_u64 {
        let appended = log.append(7, &[b"n:", &number.to_le_bytes()]).unwrap();
        assert_eq!(appended.seq(), number);
        if number % 10 == 0 {
            appended.wait(Durability::Synced).wait_blocking().unwrap();
        }
    }
    log.close_blocking().unwrap();
    let (log, recovered) =
        Log::open(dir.path().join("log"), LogOptions::default(), RealFs::shared()).unwrap();
    assert_eq!((recovered.first, recovered.last, recovered.records), (1, 100, 100));
    assert_eq!(recovered.next, 101);
    let mut reader = log.reader(1);
    for number in 1..=100_u64 {
        let record = reader.next().unwrap().unwrap();
        assert_eq!((record.seq, record.kind), (number, 7));
        assert_eq!(&record.payload[2..], number.to_le_bytes());
    }
    assert_eq!(reader.next().unwrap(), None);
}
