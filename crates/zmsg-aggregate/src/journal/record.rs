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
        ReadWork::Fold(target, fold) => Work::Fold(read(target, Fold::decode(&fold)?)?),
        ReadWork::Statement(statement) => Work::Statement(Arc::new(statement)),
    };
    let key = key.map(Key::new).transpose()?;
    Ok(Record { shard, key, incoming: Incoming::again(batch_key, work) })
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
