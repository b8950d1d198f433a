//! Calls of zmsg's parts, each by itself.

use std::hint::black_box;

use serde_json::json;
use zmsg_aggregate::Fold;
use zmsg_bloom::{FilterOptions, LocalFilter, MembershipFilter as _, Verdict};
use zmsg_core::{CounterOp, Key, MapOp, Number, OpKind};
use zmsg_sqlbuilder::{counter, sql};
use zmsg_wal::{Log, LogOptions, RealFs, SyncPolicy};

use super::{Call, KEYS_OF_FILTER, Names};

const INSERT: &str = "INSERT INTO feeds (id, data) VALUES (?, ?)";

pub(super) fn insert() -> Call {
    Box::new(|| {
        let (id, data) = black_box(("feed_123456789", "hello"));
        black_box(sql(INSERT, (id, data)).statement().unwrap());
    })
}

pub(super) fn upsert() -> Call {
    Box::new(|| {
        let (id, data) = black_box(("feed_123456789", "hello"));
        let upsert = sql(INSERT, (id, data)).on_conflict("id").do_update(["data"]);
        black_box(upsert.statement().unwrap());
    })
}

pub(super) fn operation() -> Call {
    Box::new(|| {
        let id = black_box("feed_123456789");
        black_box(counter("feed_meta", "like_count").inc(1).where_eq("id", id).op().unwrap());
    })
}

pub(super) fn fold_counter() -> Call {
    fold(vec![OpKind::Counter(CounterOp::Inc(Number::Int(1)))])
}

pub(super) fn fold_map() -> Call {
    fold((0..10).map(|n| OpKind::Map(MapOp::Set(format!("user_{n}"), json!(n)))).collect())
}

/// Operations that take turns, each into what was folded before.
fn fold(operations: Vec<OpKind>) -> Call {
    let (mut folded, mut next) = (Fold::of(&operations[0]).ok(), 0);
    Box::new(move || {
        next = (next + 1) % operations.len();
        let operation = Fold::of(black_box(&operations[next])).unwrap();
        folded = folded.take().map(|folded| folded.then(operation).unwrap());
    })
}

pub(super) fn append() -> Call {
    // Room for everything that is appended: no call waits for the disk.
    let options = LogOptions {
        sync: SyncPolicy::Os,
        buffer_bytes_max: 64 << 20,
        segment_bytes: 128 << 20,
        bytes_max: 1 << 30,
        ..LogOptions::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(dir.path(), options, RealFs::shared()).unwrap();
    let record = [7; 256];
    Box::new(move || {
        let _dir = &dir;
        log.append(1, &[black_box(&record)]).unwrap();
    })
}

pub(super) fn check() -> Call {
    let keys: Vec<Key> = (0..KEYS_OF_FILTER).map(zmsg_benches::key).collect();
    let capacity = KEYS_OF_FILTER as u64;
    let options = FilterOptions { capacity, error_rate: 0.01, seed: Some(1) };
    let filter = LocalFilter::new(options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let rebuild = filter.begin_rebuild(0).await.unwrap();
        filter.seed(&rebuild, &keys).await.unwrap();
        filter.finish_rebuild(rebuild).await.unwrap();
    });
    let mut names = Names::new(KEYS_OF_FILTER);
    Box::new(move || assert_eq!(filter.check(black_box(names.next())), Verdict::Maybe))
}
