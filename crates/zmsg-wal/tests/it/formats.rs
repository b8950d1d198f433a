//! The bytes on disk: compression, the golden log of version 1, and arbitrary bytes.

use std::path::Path;

use proptest::prelude::*;
use zmsg_core::ErrorKind;
use zmsg_wal::testing::Disk;
use zmsg_wal::{Compression, Durability, LogOptions, Record, verify};

use crate::support::{DIR, all, open, small};

const CODECS: [Compression; 4] = [
    Compression::None,
    Compression::Lz4,
    Compression::Zstd { level: 3 },
    Compression::Gzip { level: 6 },
];

fn roomy(compression: Compression) -> LogOptions {
    LogOptions {
        compression,
        compress_above: 64,
        segment_bytes: 1 << 20,
        record_bytes_max: 100_000,
        buffer_bytes_max: 400_000,
        ..small()
    }
}

fn appended(compression: Compression, payloads: &[Vec<u8>]) -> Disk {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &roomy(compression)).unwrap();
    for payload in payloads {
        // In parts, as callers do.
        let (one, two) = payload.split_at(payload.len() / 3);
        log.append(5, &[one, two]).unwrap();
    }
    log.close_blocking().unwrap();
    disk
}

fn payloads(disk: &Disk) -> Vec<Vec<u8>> {
    let (log, _) = open(disk.fs(), &small()).unwrap();
    all(&log).unwrap().into_iter().map(|record| record.payload.to_vec()).collect()
}

#[test]
fn compressed_records_come_back_as_they_were_and_take_less_space() {
    let text = b"messages, feeds and counters; ".repeat(2_000);
    let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(5_000).collect();
    let given = [b"short".to_vec(), text.clone(), random, Vec::new()];
    for codec in CODECS {
        let disk = appended(codec, &given);
        assert_eq!(payloads(&disk), given, "{codec:?}");
        let bytes = disk.content(&disk.files(".wal")[0]).unwrap().len();
        assert_eq!(bytes < text.len(), codec != Compression::None, "{codec:?}: {bytes}");
    }
}

#[test]
fn a_log_may_hold_records_of_every_compression() {
    let text = b"the same again ".repeat(100);
    let disk = Disk::new();
    for codec in CODECS {
        let (log, _) = open(disk.fs(), &roomy(codec)).unwrap();
        log.append(5, &[&text]).unwrap();
        log.close_blocking().unwrap();
    }
    assert_eq!(payloads(&disk), vec![text; 4]);
}

/// Writes a record whose payload, once decompressed, is longer or shorter than its head says, under
/// a good checksum.
fn with_a_payload_of(codec: u8, stored: &[u8], payload_len: u32) -> Disk {
    let disk = Disk::new();
    let (log, _) = open(disk.fs(), &roomy(Compression::None)).unwrap();
    log.close_blocking().unwrap();
    let file = disk.files(".wal").remove(0);
    let mut bytes = disk.content(&file).unwrap();
    let frame = zmsg_wal::testing::sealed_frame(&bytes, 1, codec, stored, payload_len);
    bytes.truncate(128);
    bytes.extend_from_slice(&frame);
    disk.replace(&file, bytes);
    disk
}

#[test]
fn a_decompression_bomb_is_refused_before_anything_is_allocated() {
    use std::io::Write as _;
    let bomb = vec![0_u8; 50 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&bomb).unwrap();
    let packed = [
        lz4_flex::block::compress(&bomb),
        zstd::bulk::compress(&bomb, 19).unwrap(),
        gzip.finish().unwrap(),
    ];
    for (codec, packed) in (1..).zip(packed) {
        // Either the length says that it is too long, or it is longer than its length says.
        let honest = with_a_payload_of(codec, &packed[..packed.len().min(90_000)], 50 << 20);
        let (_, recovered) = open(honest.fs(), &small()).unwrap();
        assert_eq!(recovered.records, 0, "its length is over the limit of the segment");
        if packed.len() < 90_000 {
            let lying = with_a_payload_of(codec, &packed, 90_000);
            let (log, recovered) = open(lying.fs(), &small()).unwrap();
            assert_eq!(recovered.records, 1);
            let error = all(&log).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupted, "{error}");
        }
    }
    let shorter = with_a_payload_of(1, &lz4_flex::block::compress(b"four"), 5);
    let (log, _) = open(shorter.fs(), &small()).unwrap();
    assert_eq!(all(&log).unwrap_err().kind(), ErrorKind::Corrupted);
    let unknown = with_a_payload_of(77, b"what", 4);
    let (log, _) = open(unknown.fs(), &small()).unwrap();
    assert_eq!(all(&log).unwrap_err().kind(), ErrorKind::Unsupported);
}

/// The files of a log that version 1 wrote: two segments, a checkpoint, all codecs.
fn golden() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn golden_payload(seq: u64) -> Vec<u8> {
    match seq % 4 {
        0 => b"compressible ".repeat(30),
        1 => Vec::new(),
        _ => seq.to_le_bytes().repeat(5),
    }
}

/// Makes the fixture, where there is none: it is kept for ever.
fn make_golden(dir: &Path) {
    let disk = Disk::new();
    let mut killed = disk.copy();
    for codec in CODECS {
        let options = LogOptions { compression: codec, compress_above: 64, ..small() };
        let (log, recovered) = open(disk.fs(), &options).unwrap();
        for seq in recovered.next..recovered.next + 8 {
            let kind = u8::try_from(seq).unwrap();
            log.append(kind, &[&golden_payload(seq)]).unwrap();
        }
        log.sync().wait_blocking().unwrap();
        log.checkpoint(3).unwrap();
        killed = disk.copy();
        log.close_blocking().unwrap();
    }
    std::fs::create_dir_all(dir).unwrap();
    for file in killed.files(".wal").iter().chain(&killed.files("CHECKPOINT")) {
        let bytes = killed.content(file).unwrap();
        std::fs::write(dir.join(file.file_name().unwrap()), bytes).unwrap();
    }
}

#[test]
fn a_log_of_version_1_is_read_for_ever() {
    let dir = golden();
    if !dir.exists() {
        make_golden(&dir);
    }
    let disk = Disk::new();
    for file in std::fs::read_dir(&dir).unwrap() {
        let file = file.unwrap();
        disk.replace(&Path::new(DIR).join(file.file_name()), std::fs::read(file.path()).unwrap());
    }
    assert!(verify(DIR, &disk).unwrap().is_sound());
    let (log, recovered) = open(disk.fs(), &small()).unwrap();
    assert_eq!((recovered.records, recovered.first, recovered.last), (30, 3, 32));
    assert_eq!((recovered.closed, recovered.torn_bytes), (false, 0));
    let records = all(&log).unwrap();
    assert_eq!(records.len(), 32);
    for (seq, Record { seq: found, kind, payload }) in (1..).zip(records) {
        assert_eq!((found, u64::from(kind)), (seq, seq));
        assert_eq!(payload, golden_payload(seq), "{seq}");
    }
}

#[test]
fn a_later_version_is_refused_with_a_clear_message() {
    let disk = appended(Compression::None, &[b"one".to_vec()]);
    let file = disk.files(".wal").remove(0);
    let mut bytes = disk.content(&file).unwrap();
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..124]);
    bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    disk.replace(&file, bytes);
    let error = open(disk.fs(), &small()).unwrap_err();
    assert!(error.to_string().contains("another version"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn what_is_appended_comes_back(
        payloads in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..500)), 0..40),
        codec in 0..4_usize,
    ) {
        let disk = Disk::new();
        let options = LogOptions { compression: CODECS[codec], compress_above: 1, ..small() };
        let (log, _) = open(disk.fs(), &options).unwrap();
        for (kind, payload) in &payloads {
            let appended = log.append(*kind, &[payload]).unwrap();
            appended.wait(Durability::Flushed).wait_blocking().unwrap();
        }
        log.close_blocking().unwrap();
        let (log, _) = open(disk.fs(), &small()).unwrap();
        let found: Vec<_> =
            all(&log).unwrap().into_iter().map(|record| (record.kind, record.payload.to_vec())).collect();
        prop_assert_eq!(found, payloads);
    }

    /// Stands in for a fuzzer: whatever stands behind a good header is read without a panic.
    #[test]
    fn arbitrary_bytes_are_no_record(
        noise in prop::collection::vec(any::<u8>(), 0..3000),
        at in 0..400_usize,
        whole in any::<bool>(),
    ) {
        let disk = appended(Compression::None, &[vec![1; 100], vec![2; 50]]);
        let file = disk.files(".wal").remove(0);
        let mut bytes = if whole { Vec::new() } else { disk.content(&file).unwrap() };
        bytes.truncate(at);
        bytes.extend_from_slice(&noise);
        disk.replace(&file, bytes);
        let _ = verify(DIR, &disk).unwrap();
        if let Ok((log, _)) = open(disk.fs(), &small()) {
            for record in all(&log).unwrap() {
                let expected = if record.seq == 1 { vec![1; 100] } else { vec![2; 50] };
                prop_assert_eq!(record.payload, expected);
            }
        }
    }
}
