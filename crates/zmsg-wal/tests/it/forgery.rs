//! Numbers that no log can have come to, under good checksums: damage, and never a panic or a number
//! that begins anew.

use std::path::{Path, PathBuf};

use zmsg_core::ErrorKind;
use zmsg_wal::testing::{Claim, Disk};
use zmsg_wal::{Durability, Log, salvage, verify};

use crate::support::{DIR, all, open, small};

const SAVED: &str = "/saved";

/// Where the fields of a header are.
const NUMBER: usize = 32;
const FIRST_SEQ: usize = 40;
const SYNCED_THROUGH: usize = 48;
const CEILING: usize = 56;

/// Around every power of two that could matter, and the usual ones.
const EXTREMES: [u64; 16] = [
    0,
    1,
    2,
    5,
    200,
    (1 << 62) - 9_999,
    1 << 62,
    (1 << 62) + 1,
    (1 << 63) - 2,
    (1 << 63) - 1,
    1 << 63,
    (1 << 63) + 1,
    u64::MAX - 2,
    u64::MAX - 1,
    u64::MAX,
    u64::MAX / 32,
];

/// A killed log of five records in one segment.
fn written() -> (Disk, PathBuf) {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &small()).unwrap();
    for seq in 1..=5_u64 {
        let appended = log.append(1, &[&seq.to_le_bytes()]).unwrap();
        appended.wait(Durability::Synced).wait_blocking().unwrap();
    }
    let killed = disk.copy();
    let file = killed.files(".wal").remove(0);
    (killed, file)
}

/// Puts numbers into the header, and a right checksum over them.
fn with(header: &mut [u8], fields: &[(usize, u64)]) {
    for (at, value) in fields {
        header[*at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    let crc = crc32c::crc32c(&header[..124]);
    header[124..128].copy_from_slice(&crc.to_le_bytes());
}

/// Does everything that can be done with what is there. An error has to be damage.
fn use_all(disk: &Disk) -> Option<Log> {
    let refused = |error: &zmsg_core::Error| {
        assert_eq!(error.kind(), ErrorKind::Corrupted, "{error}");
    };
    verify(DIR, disk).unwrap();
    let salvaged = disk.copy();
    match salvage(DIR, SAVED, &salvaged) {
        Ok(_) => match Log::open(SAVED, small(), salvaged.fs()) {
            Ok((log, _)) => drop(all(&log).unwrap()),
            Err(error) => refused(&error),
        },
        Err(error) => refused(&error),
    }
    let log = match open(disk.fs(), &small()) {
        Ok((log, _)) => log,
        Err(error) => {
            refused(&error);
            return None;
        }
    };
    if let Err(error) = all(&log) {
        refused(&error);
    }
    let next = log.last_seq() + 1;
    let appended = log.append(1, &[b"more"]).unwrap();
    appended.wait(Durability::Synced).wait_blocking().unwrap();
    assert_eq!(appended.seq(), next);
    for below in EXTREMES {
        let _ = log.checkpoint(below);
        let _ = log.can_remove_below(below);
        let _ = log.reader(below).next();
    }
    let _ = log.remove_below(next);
    log.close_blocking().unwrap();
    // It is as good as any: what was appended is found again.
    let (again, recovered) = open(disk.fs(), &small()).unwrap();
    assert_eq!((recovered.last, recovered.next), (next, next + 1));
    Some(again)
}

#[test]
fn a_header_with_any_numbers_is_damage_or_a_log_and_no_panic() {
    let (disk, file) = written();
    let whole = disk.content(&file).unwrap();
    let mut opened = 0;
    for first_seq in EXTREMES {
        for synced_through in EXTREMES {
            for ceiling in EXTREMES {
                let fields =
                    [(FIRST_SEQ, first_seq), (SYNCED_THROUGH, synced_through), (CEILING, ceiling)];
                let mut bytes = whole.clone();
                with(&mut bytes, &fields);
                let forged = disk.copy();
                forged.replace(&file, bytes);
                opened += u64::from(use_all(&forged).is_some());
            }
        }
    }
    assert!(opened > 5, "{opened}");
}

#[test]
fn a_header_that_counts_further_than_a_log_can_have_come_is_damage() {
    let (disk, file) = written();
    let whole = disk.content(&file).unwrap();
    for near in EXTREMES.into_iter().filter(|number| *number >= 1 << 62) {
        for fields in [
            vec![(CEILING, near)],
            vec![(FIRST_SEQ, near), (CEILING, near.saturating_add(1))],
            vec![(FIRST_SEQ, near - 1), (SYNCED_THROUGH, near - 2), (CEILING, near)],
        ] {
            let mut bytes = whole.clone();
            with(&mut bytes, &fields);
            let forged = disk.copy();
            forged.replace(&file, bytes);
            assert!(use_all(&forged).is_none(), "{near}: {fields:?}");
        }
        // A file of that number.
        let mut bytes = whole.clone();
        with(&mut bytes, &[(NUMBER, near)]);
        let forged = disk.copy();
        forged.fs().remove(&file).unwrap();
        forged.replace(&Path::new(DIR).join(format!("{near:016x}.wal")), bytes);
        assert!(use_all(&forged).is_none(), "{near}");
    }
}

#[test]
fn frames_with_any_numbers_are_damage_or_a_torn_tail_and_no_panic() {
    let (disk, file) = written();
    let whole = disk.content(&file).unwrap();
    let end = 128 + 5 * 40;
    for seq in EXTREMES {
        for synced_through in EXTREMES {
            for (kind, codec) in [(1, 0), (1, 255), (2, 255), (9, 255)] {
                let claim = Claim { seq, synced_through, kind, codec, payload_len: 0 };
                for offset in [128, end, end + 64] {
                    let frame = claim.sealed(&whole, offset as u64, b"");
                    let mut bytes = whole.clone();
                    bytes[offset..offset + frame.len()].copy_from_slice(&frame);
                    let forged = disk.copy();
                    forged.replace(&file, bytes);
                    use_all(&forged);
                }
            }
        }
    }
}

#[test]
fn a_frame_with_any_number_that_comes_while_the_log_is_open_is_damage_for_a_reader() {
    let (disk, file) = written();
    let whole = disk.content(&file).unwrap();
    for seq in EXTREMES.into_iter().filter(|seq| *seq > 200) {
        let open_log = disk.copy();
        let (log, _) = open(open_log.fs(), &small()).unwrap();
        let claim = Claim { seq, synced_through: 0, kind: 1, codec: 0, payload_len: 0 };
        let mut bytes = whole.clone();
        let frame = claim.sealed(&whole, 128, b"");
        bytes[128..128 + frame.len()].copy_from_slice(&frame);
        open_log.replace(&file, bytes);
        let error = all(&log).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupted, "{seq}: {error}");
    }
}

#[test]
fn a_checkpoint_with_any_number_is_damage_or_holds_and_no_panic() {
    let (disk, _) = written();
    let path = Path::new(DIR).join("CHECKPOINT");
    let (log, _) = open(disk.fs(), &small()).unwrap();
    log.checkpoint(2).unwrap();
    let whole = disk.content(&path).unwrap();
    let disk = disk.copy();
    for below in EXTREMES {
        let mut bytes = whole.clone();
        bytes[32..40].copy_from_slice(&below.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..44]);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        let forged = disk.copy();
        forged.replace(&path, bytes);
        let log = use_all(&forged);
        assert_eq!(log.is_some(), below <= 200, "{below}");
    }
}
