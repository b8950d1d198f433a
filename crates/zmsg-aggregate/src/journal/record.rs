//! An operation as the journal keeps it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zmsg_core::{Condition, Error, ErrorKind, Ident, Key, OnMissing, Result, Statement, TableName};

use crate::algebra::{Affine, Fold};
use crate::buffer::{Folding, Incoming, Target, Work};

/// The first byte of every record: raised when the rest changes its meaning. A journal outlives
/// the version of zmsg that wrote it.
const VERSION: u8 = 1;

/// An operation that was read back.
#[derive(Debug)]
pub(super) struct Record {
    /// The shard that it was folded in: there it has to be folded again.
    pub(super) shard: u16,
    pub(super) key: Option<Key>,
    pub(super) incoming: Incoming,
}

#[derive(Serialize)]
struct Written<'a> {
    shard: u16,
    key: Option<&'a str>,
    batch_key: Option<&'a str>,
    work: WrittenWork<'a>,
}

#[derive(Serialize)]
enum WrittenWork<'a> {
    /// The commonest of all, without a text in between.
    Counter(WrittenTarget<'a>, i128, i128),
    /// Any other fold, by the codec that its dead letters use.
    Fold(WrittenTarget<'a>, String),
    Statement(&'a Statement),
}

#[derive(Serialize)]
struct WrittenTarget<'a> {
    table: &'a TableName,
    column: &'a Ident,
    condition: &'a Condition,
    on_missing: OnMissing,
}

// The same shapes, owned: what is written by one is read by the other.

#[derive(Deserialize)]
struct ReadBack {
    shard: u16,
    key: Option<String>,
    batch_key: Option<String>,
    work: ReadWork,
}

#[derive(Deserialize)]
enum ReadWork {
    Counter(ReadTarget, i128, i128),
    Fold(ReadTarget, String),
    Statement(Statement),
}

#[derive(Deserialize)]
struct ReadTarget {
    table: TableName,
    column: Ident,
    condition: Condition,
    on_missing: OnMissing,
}

/// The record of an operation.
pub(super) fn encode(shard: u16, key: Option<&Key>, incoming: &Incoming) -> Result<Vec<u8>> {
    let work = match &incoming.work {
        Work::Fold(folding) => {
            let target = written(folding);
            match &folding.fold {
                Fold::Counter(map) => WrittenWork::Counter(target, map.factor(), map.offset()),
                fold => WrittenWork::Fold(target, fold.encode()),
            }
        }
        Work::Statement(statement) => WrittenWork::Statement(statement),
    };
    let record =
        Written { shard, key: key.map(Key::as_str), batch_key: incoming.batch_key.name(), work };
    let mut bytes = Vec::with_capacity(128);
    bytes.push(VERSION);
    postcard::to_extend(&record, bytes).map_err(|cause| {
        Error::new(ErrorKind::Unexpected, "could not encode an operation for the journal")
            .with_source(cause)
    })
}

/// The operation of a record.
///
/// # Errors
/// `Corrupted` if it was written by a later version, or not by zmsg at all: its checksum holds, so
/// the disk is not to blame.
pub(super) fn decode(bytes: &[u8]) -> Result<Record> {
    let Some((&VERSION, body)) = bytes.split_first() else {
        return Err(unreadable("the version is not known"));
    };
    let ReadBack { shard, key, batch_key, work } = postcard::from_bytes(body)
        .map_err(|cause| unreadable("it is no record").with_source(cause))?;
    let work = match work {
        ReadWork::Counter(target, factor, offset) => {
            let map = Affine::new(factor, offset)
                .ok_or_else(|| unreadable("the counter is out of its bounds"))?;
            Work::Fold(read(target, Fold::Counter(map))?)
        }
        ReadWork::Fold(target, fold) => {
            let fold = Fold::decode(&fold);
            let fold = fold.map_err(|cause| unreadable("it is no fold").with_source(cause))?;
            Work::Fold(read(target, fold)?)
        }
        ReadWork::Statement(statement) => Work::Statement(Arc::new(statement)),
    };
    let key = key.map(Key::new).transpose();
    let key = key.map_err(|cause| unreadable("its key is none").with_source(cause))?;
    Ok(Record { shard, key, incoming: Incoming::again(batch_key, work) })
}

/// Reads any bytes as an operation of the journal: the shard that it was folded in.
///
/// # Errors
/// `Corrupted` for what is no record.
///
/// # Panics
/// If an operation that was read is another one once it is written and read again.
#[cfg(feature = "testing")]
pub fn check_journal_record(bytes: &[u8]) -> Result<u16> {
    let read = decode(bytes)?;
    let written = encode(read.shard, read.key.as_ref(), &read.incoming)?;
    let again = decode(&written)?;
    assert_eq!(format!("{read:?}"), format!("{again:?}"));
    assert_eq!(encode(again.shard, again.key.as_ref(), &again.incoming)?, written);
    Ok(read.shard)
}

fn written(folding: &Folding) -> WrittenTarget<'_> {
    let Target { table, condition } = &*folding.target;
    WrittenTarget { table, column: &folding.column, condition, on_missing: folding.on_missing }
}

fn read(target: ReadTarget, fold: Fold) -> Result<Folding> {
    let ReadTarget { table, column, condition, on_missing } = target;
    Folding::of_target(Target { table, condition }, column, fold, on_missing)
}

fn unreadable(message: &'static str) -> Error {
    Error::new(ErrorKind::Corrupted, "an operation of the journal cannot be read")
        .with_context("because", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::law::sequence_of_tasks;

    #[test]
    fn an_operation_is_read_back_as_it_was_in_2_000_sequences() {
        let key = Key::new("feed_1").unwrap();
        for seed in 0..2_000 {
            for task in sequence_of_tasks(seed) {
                let Ok(incoming) = Incoming::of(task, OnMissing::Insert) else { continue };
                let key = Some(&key).filter(|_| seed % 2 == 0);
                let bytes = encode(7, key, &incoming).unwrap();
                let back = decode(&bytes).unwrap();
                assert_eq!((back.shard, back.key.as_ref()), (7, key));
                assert_eq!(back.incoming.batch_key, incoming.batch_key);
                assert_eq!(format!("{:?}", back.incoming.work), format!("{:?}", incoming.work));
                assert_eq!(encode(7, key, &back.incoming).unwrap(), bytes, "seed {seed}");
            }
        }
    }

    /// Operations of every kind, for the corpus: one of each seed.
    fn operations() -> std::collections::BTreeMap<String, Vec<u8>> {
        let mut random = fastrand::Rng::with_seed(3);
        let mut made = std::collections::BTreeMap::new();
        for seed in 0..12 {
            let tasks = sequence_of_tasks(seed).into_iter();
            let mut whole = tasks.filter_map(|task| Incoming::of(task, OnMissing::Insert).ok());
            let Some(incoming) = whole.nth(seed as usize % 5) else { continue };
            let key = Key::new(format!("feed_{seed}")).unwrap();
            let bytes = encode(3, Some(&key).filter(|_| seed % 2 == 0), &incoming).unwrap();
            for number in 0..3 {
                made.insert(format!("changed-{seed}-{number}"), change(&mut random, &bytes));
            }
            made.insert(format!("good-{seed}"), bytes);
        }
        made.insert("another-version".to_owned(), b"\x02".to_vec());
        made.insert("long-lengths".to_owned(), [&b"\x01\x03"[..], &[0xff; 9], &[1; 30]].concat());
        made.insert("deep".to_owned(), deep());
        made
    }

    /// A fold whose text nests further than any reader may follow.
    fn deep() -> Vec<u8> {
        let op = zmsg_sqlbuilder::map("feeds", "meta").set("k", "deep").where_eq("id", 1);
        let task = zmsg_core::IntoTask::into_task(op).unwrap();
        let bytes = encode(3, None, &Incoming::of(task, OnMissing::Insert).unwrap()).unwrap();
        // The text of the fold begins with a bracket, and its length, in one byte, stands before it.
        let begin = bytes.iter().position(|byte| *byte == b'[').unwrap();
        let value = bytes.windows(6).position(|part| part == b"\"deep\"").unwrap();
        let end = begin + usize::from(bytes[begin - 1]);
        let nested = [[b'['; 300], [b']'; 300]].concat();
        let text = [&bytes[begin..value], &nested, &bytes[value + 6..end]].concat();
        let length = [(text.len() & 127) as u8 | 128, (text.len() >> 7) as u8];
        [&bytes[..begin - 1], &length, &text, &bytes[end..]].concat()
    }

    fn change(random: &mut fastrand::Rng, bytes: &[u8]) -> Vec<u8> {
        let mut changed = bytes.to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..changed.len().max(1));
            match random.u8(..4) {
                0 => changed.truncate(at.max(1)),
                1 => changed[at] ^= 1 << random.u8(..8),
                2 => changed[at] = random.choice([0, 1, 0x7f, 0x80, 0xff]).unwrap(),
                _ => drop(changed.splice(at..at, [0xff; 9])),
            }
        }
        changed
    }

    /// `fuzz/` has a target that begins with the same files.
    #[test]
    fn records_of_the_corpus_and_near_it_are_operations_or_damage() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/journal_record");
        let dir = std::path::Path::new(dir);
        if !dir.exists() {
            std::fs::create_dir_all(dir).unwrap();
            for (name, bytes) in operations() {
                std::fs::write(dir.join(name), bytes).unwrap();
            }
        }
        let mut random = fastrand::Rng::with_seed(4);
        let (mut read, mut refused) = (0, 0);
        let mut check = |name: &str, bytes: &[u8]| {
            let mut result = Ok(0);
            let used = allocation_counter::measure(|| result = check_journal_record(bytes));
            let max = (1 << 20) + 64 * bytes.len() as u64;
            assert!(used.bytes_max < max, "{name}: {} bytes at a time", used.bytes_max);
            match result {
                Ok(_) => read += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupted, "{name}: {error}");
                    refused += 1;
                }
            }
        };
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let (name, bytes) = (path.display().to_string(), std::fs::read(&path).unwrap());
            check(&name, &bytes);
            for _ in 0..1_000 {
                check(&name, &change(&mut random, &bytes));
            }
        }
        assert!(read > 300 && refused > 1_000, "{read} read, {refused} refused");
    }

    /// The bytes of version 1: a journal outlives the zmsg that wrote it.
    #[test]
    fn records_of_version_1_stay_readable() {
        let counter = b"\x01\x03\x01\x06feed_1\x00\x00\x00\x05feeds\x05likes\x00\x01\x02id\x04\x06feed_1\x00\x02\x02";
        let record = decode(counter).unwrap();
        assert_eq!((record.shard, record.key.unwrap().as_str()), (3, "feed_1"));
        let Work::Fold(folding) = record.incoming.work else { panic!("another work") };
        assert_eq!(folding.fold, Fold::decode(r#"[1,"counter","1","1"]"#).unwrap());
    }

    #[test]
    fn what_is_no_record_is_damage_and_no_panic() {
        for bytes in [&b""[..], b"\x02", b"\x01", b"\x01\xff\xff\xff\xff\xff\xff", &[1; 64]] {
            assert_eq!(decode(bytes).unwrap_err().kind(), ErrorKind::Corrupted, "{bytes:?}");
        }
    }
}
