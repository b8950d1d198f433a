//! The corpus of the decoders, replayed: no panic, no wrong record, no allocation over the limit.
//!
//! `fuzz/` has a target for each decoder and begins with the same files. What a fuzzer finds is put
//! beside them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use zmsg_core::ErrorKind;
use zmsg_wal::testing::{Claim, Disk, RECORD_BYTES_MAX, check_record, check_segment};
use zmsg_wal::{Compression, Durability, Log, LogOptions, Record};

/// Bytes that reading may take at a time, beside some times the file: more than any limit in the
/// corpus, less than what the bombs in it pretend to contain.
const ALLOCATED_MAX: u64 = 1 << 20;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

/// The files of a target; made where there are none.
fn files(target: &str, make: fn() -> BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let dir = corpus(target);
    if !dir.exists() {
        std::fs::create_dir_all(&dir).unwrap();
        for (name, bytes) in make() {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
    }
    let entries = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap());
    let read = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, std::fs::read(entry.path()).unwrap())
    };
    let files: BTreeMap<_, _> = entries.map(read).collect();
    assert!(files.len() >= 20, "{} files in {}", files.len(), dir.display());
    files
}

/// What a record of the corpus contains.
fn payload(seq: u64) -> Vec<u8> {
    format!("{seq}: {}", "like ".repeat(seq as usize * 3 % 40)).into_bytes()
}

/// No record is one that was not written.
fn assert_written(name: &str, records: &[Record]) {
    for record in records {
        assert_eq!(record.kind, 7, "{name}");
        assert_eq!(record.payload, payload(record.seq), "{name}, {}", record.seq);
    }
}

fn measured<T>(name: &str, bytes: &[u8], read: impl FnOnce() -> T) -> T {
    let mut result = None;
    let used = allocation_counter::measure(|| result = Some(read()));
    let max = ALLOCATED_MAX + 32 * bytes.len() as u64;
    assert!(used.bytes_max <= max, "{name}: {} bytes at a time", used.bytes_max);
    result.unwrap()
}

#[test]
fn segments_of_the_corpus_give_what_was_written_or_damage() {
    let (mut whole, mut damaged) = (0, 0);
    for (name, bytes) in files("wal_segment", segments) {
        match measured(&name, &bytes, || check_segment(&bytes)) {
            Ok(records) => {
                assert_written(&name, &records);
                whole += usize::from(!records.is_empty());
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Corrupted), "{name}: {error}");
                damaged += 1;
            }
        }
    }
    assert!(whole >= 4 && damaged >= 4, "{whole} whole, {damaged} damaged");
}

/// The corpus again, each file cut and changed in many places.
#[test]
fn segments_near_those_of_the_corpus_give_what_was_written_or_damage() {
    let mut random = fastrand::Rng::with_seed(20);
    for (name, bytes) in files("wal_segment", segments) {
        for _ in 0..300 {
            let changed = change(&mut random, &bytes);
            if let Ok(records) = measured(&name, &changed, || check_segment(&changed)) {
                assert_written(&name, &records);
            }
        }
    }
}

#[test]
fn records_of_the_corpus_and_near_it_are_read_or_refused() {
    let mut random = fastrand::Rng::with_seed(21);
    let mut read = 0;
    for (name, bytes) in files("wal_record", records) {
        let result = measured(&name, &bytes, || check_record(&bytes));
        if let Err(error) = &result {
            let known = [ErrorKind::Corrupted, ErrorKind::Unsupported].contains(&error.kind());
            assert!(known, "{name}: {error}");
        }
        read += usize::from(result.is_ok());
        for _ in 0..2_000 {
            let changed = change(&mut random, &bytes);
            let _ = measured(&name, &changed, || check_record(&changed));
        }
    }
    assert!(read >= 8, "{read}");
}

/// One of what a fuzzer does.
fn change(random: &mut fastrand::Rng, bytes: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for _ in 0..random.usize(1..4) {
        let len = changed.len();
        if len == 0 {
            break;
        }
        let at = random.usize(..len);
        match random.u8(..5) {
            0 => changed.truncate(at),
            1 => changed[at] ^= 1 << random.u8(..8),
            2 => changed[at] = random.choice([0, 1, 0x7f, 0x80, 0xff]).unwrap(),
            3 => {
                let end = len.min(at + random.usize(1..40));
                changed.copy_within(at..end, random.usize(..=len - (end - at)));
            }
            _ => {
                let end = len.min(at + 8);
                let number = random.choice([0, u64::MAX, 1 << 63, 1 << 31, 1 << 20]).unwrap();
                changed[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
            }
        }
    }
    changed
}

const CODECS: [Compression; 4] = [
    Compression::None,
    Compression::Lz4,
    Compression::Zstd { level: 3 },
    Compression::Gzip { level: 6 },
];

fn options(compression: Compression) -> LogOptions {
    LogOptions {
        compression,
        compress_above: 16,
        segment_bytes: 4096,
        record_bytes_max: 512,
        buffer_bytes_max: 2048,
        bytes_max: 1 << 20,
        ..LogOptions::default()
    }
}

/// The first segment of a log of so many records, which was closed, or killed.
fn segment(compression: Compression, records: u64, closed: bool) -> Vec<u8> {
    let disk = Disk::new();
    let (log, _) = Log::open("/log", options(compression), disk.fs()).unwrap();
    for seq in 1..=records {
        let appended = log.append(7, &[&payload(seq)]).unwrap();
        appended.wait(Durability::Synced).wait_blocking().unwrap();
    }
    if closed {
        log.close_blocking().unwrap();
    }
    let copy = disk.copy();
    let bytes = copy.content(&copy.files(".wal")[0]).unwrap();
    drop(log);
    bytes
}

/// Whole segments, segments that were cut and changed, and forged ones.
fn segments() -> BTreeMap<String, Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut made = BTreeMap::new();
    for codec in CODECS {
        let name = format!("{codec:?}").to_lowercase();
        let name = name.split(' ').next().unwrap().to_owned();
        for (kind, records, closed) in
            [("closed", 6, true), ("killed", 4, false), ("empty", 0, true)]
        {
            let bytes = segment(codec, records, closed);
            let cut = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 9);
            made.insert(format!("{kind}-{name}"), bytes[..cut.min(bytes.len())].to_vec());
        }
        let whole = segment(codec, 6, true);
        for number in 0..4 {
            made.insert(format!("changed-{name}-{number}"), change(&mut random, &whole));
        }
        made.insert(format!("head-{name}"), whole[..128].to_vec());
    }
    let whole = segment(Compression::None, 3, true);
    for near in [0, 1, 1 << 62, 1 << 63, u64::MAX - 1, u64::MAX] {
        for (name, at) in [("number", 32), ("first", 40), ("synced", 48), ("ceiling", 56)] {
            let mut bytes = whole.clone();
            bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(near));
            let crc = crc32c::crc32c(&bytes[..124]);
            bytes[124..128].copy_from_slice(&crc.to_le_bytes());
            made.insert(format!("forged-{name}-{near:x}"), bytes);
        }
        let claim = Claim { seq: near, synced_through: near, kind: 1, codec: 255, payload_len: 0 };
        let end = whole.len() - 32;
        let mut bytes = whole.clone();
        bytes[end..].copy_from_slice(&claim.sealed(&whole, end as u64, b""));
        made.insert(format!("forged-mark-{near:x}"), bytes);
    }
    made.insert("nothing".to_owned(), Vec::new());
    made
}

/// The first frame of a segment, by itself: good ones, bombs, and lies.
fn records() -> BTreeMap<String, Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(2);
    let mut made = BTreeMap::new();
    let header = segment(Compression::None, 0, true);
    let text = payload(13);
    let packed = [
        ("plain", text.clone()),
        ("lz4", lz4_flex::block::compress(&text)),
        ("zstd", zstd::bulk::compress(&text, 3).unwrap()),
        ("gzip", gzip(&text)),
    ];
    let bomb = vec![0; 8 << 20];
    let bombs = [
        ("lz4", lz4_flex::block::compress(&bomb)),
        ("zstd", zstd::bulk::compress(&bomb, 19).unwrap()),
        ("gzip", gzip(&bomb)),
    ];
    let frame = |codec: u8, stored: &[u8], payload_len: u32| {
        let claim = Claim { seq: 5, synced_through: 4, kind: 7, codec, payload_len };
        claim.sealed(&header, 128, stored)
    };
    let len = text.len() as u32;
    for (codec, (name, stored)) in (0..).zip(&packed) {
        made.insert(format!("good-{name}"), frame(codec, stored, len));
        made.insert(format!("shorter-{name}"), frame(codec, stored, len - 1));
        made.insert(format!("longer-{name}"), frame(codec, stored, len + 1));
        made.insert(format!("longest-{name}"), frame(codec, stored, RECORD_BYTES_MAX));
        made.insert(format!("too-long-{name}"), frame(codec, stored, u32::MAX));
        made.insert(format!("nothing-{name}"), frame(codec, b"", 0));
        made.insert(format!("cut-{name}"), frame(codec, &stored[..stored.len() / 2], len));
        for number in 0..3 {
            let changed = change(&mut random, &frame(codec, stored, len));
            made.insert(format!("changed-{name}-{number}"), changed);
        }
    }
    for (codec, (name, stored)) in (1..).zip(&bombs) {
        // The limit is met before it is unpacked, or while it is.
        let stored = &stored[..stored.len().min(RECORD_BYTES_MAX as usize)];
        made.insert(format!("bomb-{name}"), frame(codec, stored, RECORD_BYTES_MAX));
    }
    for codec in [4, 77, 255] {
        made.insert(format!("unknown-{codec}"), frame(codec, b"what", 4));
    }
    for seq in [0, 1 << 63, u64::MAX] {
        let claim = Claim { seq, synced_through: u64::MAX, kind: 7, codec: 0, payload_len: 4 };
        made.insert(format!("sequence-{seq:x}"), claim.sealed(&header, 128, b"what"));
    }
    made
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
