//! The decoders by themselves, for fuzzers and for the corpus that they left.
//!
//! Each function takes any bytes, checks what holds of whatever is read from them, and panics if it does
//! not.

use std::path::Path;

use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result};

use super::Disk;
use crate::codec::Codec;
use crate::frame::{self, HEAD, Head, Rules};
use crate::header::{HEADER, Header};
use crate::reader::record;
use crate::recovery::inspect;
use crate::salvage::salvage;
use crate::verify::verify;
use crate::{LogOptions, Record};

const DIR: &str = "/log";
const SAVED: &str = "/saved";

/// The longest payload of the segment that [`check_record`] supposes.
pub const RECORD_BYTES_MAX: u32 = 4096;

/// Reads bytes as the only segment of a log: its records, or why it is none.
///
/// # Errors
/// `Corrupted` for damage, `Unsupported` for a compression that is not known.
///
/// # Panics
/// If a record is not of its place, or what recovery, verify and salvage make of it contradicts each
/// other.
pub fn check_segment(bytes: &[u8]) -> Result<Vec<Record>> {
    let disk = Disk::new();
    disk.replace(&Path::new(DIR).join("0000000000000001.wal"), bytes.to_vec());
    let verified = verify(DIR, &disk)?;
    let saved = salvage(DIR, SAVED, &disk);
    let found = inspect(&disk, Path::new(DIR), &LogOptions::default())?;
    let Some(tail) = found.end else { return Ok(Vec::new()) };
    let (header, max) = (tail.segment.header, tail.segment.header.record_bytes_max as usize);
    let mut window = tail.segment.window(&disk)?;
    let (mut records, mut unreadable) = (Vec::new(), None);
    let mut expected = header.first_seq;
    tail.segment.scan(&mut window, tail.scan.last, |offset, head, window| {
        assert_eq!(head.seq, expected);
        expected += 1;
        match record(head, window.stored(offset, head)) {
            Ok(record) => {
                assert!(record.payload.len() <= max, "a record of {} bytes", record.payload.len());
                records.push(record);
            }
            Err(error) => unreadable = unreadable.take().or(Some(error)),
        }
        Ok(())
    })?;
    assert!(verified.records() >= tail.scan.records, "verify saw fewer: {verified:?}");
    assert!(saved.is_ok_and(|saved| saved == verified), "salvage found something else");
    assert!(found.recovered.next > tail.scan.last, "{:?}", found.recovered);
    unreadable.map_or(Ok(records), Err)
}

/// Reads bytes as the first frame of a segment whose records have at most [`RECORD_BYTES_MAX`]: as they
/// are, and with right checksums put over them.
///
/// # Errors
/// `Corrupted` for what is no record, `Unsupported` for a compression that is not known; of the bytes
/// with right checksums.
///
/// # Panics
/// If a payload is longer than the limit or than its head says, or is not what is stored.
pub fn check_record(bytes: &[u8]) -> Result<Record> {
    let rules = header().rules();
    let _ = decode(bytes, rules);
    let mut sealed = bytes.to_vec();
    if let Some(head) = sealed.first_chunk().map(Head::read) {
        // What stands behind the frame does not belong to it.
        sealed.truncate(head.frame_len());
        frame::seal(&mut sealed, rules, HEADER as u64, head.synced_through);
    }
    decode(&sealed, rules)
}

fn decode(bytes: &[u8], rules: Rules) -> Result<Record> {
    let flawed = |why| Error::new(ErrorKind::Corrupted, "no frame").with_context("because", why);
    let Some(head_bytes) = bytes.first_chunk::<HEAD>() else { return Err(flawed("it is short")) };
    let head = Head::read(head_bytes);
    head.verify(head_bytes, HEADER as u64, bytes.len() as u64, rules)
        .map_err(|flaw| flawed(flaw.text()))?;
    let frame = bytes.get(..head.frame_len()).ok_or_else(|| flawed("it is short"))?;
    head.verify_all(frame, HEADER as u64, rules).map_err(|flaw| flawed(flaw.text()))?;
    if !head.is_record() {
        return Err(flawed("it is a mark"));
    }
    let stored = &frame[HEAD..HEAD + head.stored_len as usize];
    let record = record(&head, stored)?;
    assert!(record.payload.len() <= RECORD_BYTES_MAX as usize, "{}", record.payload.len());
    assert_eq!((record.seq, record.kind), (head.seq, head.kind));
    if Codec::from_code(head.codec) == Some(Codec::Plain) {
        assert_eq!(record.payload, stored);
    } else {
        assert_eq!(record.payload.len(), head.payload_len as usize);
    }
    Ok(record)
}

/// The segment that the frame is supposed to be in.
fn header() -> Header {
    Header {
        stream: Uuid::from_u128(0x7a6d_7367),
        number: 1,
        first_seq: 1,
        synced_through: 0,
        ceiling: 1 << 32,
        salt: 7,
        record_bytes_max: RECORD_BYTES_MAX,
    }
}
