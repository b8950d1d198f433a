//! What `cache_and_periodic_store` promises.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use zmsg::{ErrorKind, Level, OnMissing, counter, map, slice, sql};

use crate::support::{Engine, Fault, insert};

fn like(id: &str) -> zmsg::sqlbuilder::OpBuilder {
    counter("feeds", "likes").inc(1).where_eq("id", id)
}

#[tokio::test]
async fn a_thousand_increments_are_one_update() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    for _ in 0..1000 {
        let _ = engine.zmsg.cache_and_periodic_store("feed_1", None, like("feed_1")).await.unwrap();
    }
    assert_eq!(engine.likes("feed_1").await, 0, "folded in memory");
    let before = engine.zmsg.stats().await.periodic;
    let transactions = engine.store.transactions.load(SeqCst);
    engine.zmsg.flush().await.unwrap();
    let after = engine.zmsg.stats().await.periodic;
    assert_eq!(engine.likes("feed_1").await, 1000);
    assert_eq!(engine.store.transactions.load(SeqCst), transactions + 1);
    assert_eq!(after.statements - before.statements, 1, "one UPDATE");
}

#[tokio::test]
async fn a_periodic_receipt_tells_when_the_effect_is_in_the_tables() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    let receipt =
        engine.zmsg.cache_and_periodic_store("feed_1", None, like("feed_1")).await.unwrap();
    assert_eq!(receipt.level(), Level::LocalDisk);
    engine.zmsg.flush().await.unwrap();
    receipt.applied().await.unwrap();
    receipt.wait(Level::Database).await.unwrap();
    assert_eq!(receipt.level(), Level::Database);
}

#[tokio::test]
async fn a_periodic_write_without_a_value_leaves_the_cached_row_until_its_flush() {
    let engine = Engine::open().await;
    engine.zmsg.source("likes", "SELECT likes FROM feeds WHERE 'likes_' || id = ?").unwrap();
    engine.insert("feed_1", "hello").await;
    assert_eq!(engine.get("likes_feed_1").await.as_deref(), Some("0"));
    let op = like("feed_1");
    let _ = engine.zmsg.cache_and_periodic_store("likes_feed_1", None, op).await.unwrap();
    assert_eq!(engine.get("likes_feed_1").await.as_deref(), Some("0"), "as it was");
    engine.zmsg.flush().await.unwrap();
    assert_eq!(engine.get("likes_feed_1").await.as_deref(), Some("1"), "invalidated by the flush");
}

#[tokio::test]
async fn a_periodic_write_with_a_value_shows_it_at_once() {
    let engine = Engine::open().await;
    let value = Some(Bytes::from_static(b"hello"));
    let write = engine.zmsg.cache_and_periodic_store("feed_1", value, insert("feed_1", "hello"));
    let _ = write.await.unwrap();
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("hello"));
    assert_eq!(engine.data("feed_1").await, None);
    engine.zmsg.flush().await.unwrap();
    assert_eq!(engine.data("feed_1").await.as_deref(), Some("hello"));
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("hello"));
}

#[tokio::test]
async fn a_key_that_holds_no_row_yet_is_not_hidden_by_a_negative_entry() {
    let engine = Engine::open().await;
    assert_eq!(engine.get("feed_1").await, None);
    let op = like("feed_1").on_missing(OnMissing::Insert);
    let _ = engine.zmsg.cache_and_periodic_store("feed_1", None, op).await.unwrap();
    engine.zmsg.flush().await.unwrap();
    assert_eq!(engine.likes("feed_1").await, 1);
}

#[tokio::test]
async fn slices_and_maps_fold_in_order() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    let here = |op: zmsg::sqlbuilder::OpBuilder| op.where_eq("id", "feed_1");
    for op in [
        here(slice("feeds", "tags").add("a")),
        here(slice("feeds", "tags").add("b")),
        here(map("feeds", "meta").set("k", 1)),
        here(slice("feeds", "tags").del("a")),
        here(map("feeds", "meta").set("quoted \"key\"", "ü")),
        here(slice("feeds", "tags").add("c")),
        here(map("feeds", "meta").del("k")),
    ] {
        let _ = engine.zmsg.cache_and_periodic_store("feed_1", None, op).await.unwrap();
    }
    engine.zmsg.flush().await.unwrap();
    let row = engine.zmsg.sql_exec(sql("SELECT tags, meta FROM feeds", ())).await.unwrap().rows;
    assert_eq!(row[0].text(0).unwrap(), r#"["b","c"]"#);
    assert_eq!(row[0].text(1).unwrap(), r#"{"quoted \"key\"":"ü"}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_never_loses_or_doubles_what_is_accepted_while_it_runs() {
    let engine = Arc::new(Engine::open().await);
    engine.insert("feed_1", "hello").await;
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move {
                for _ in 0..500 {
                    let write =
                        engine.zmsg.cache_and_periodic_store("feed_1", None, like("feed_1"));
                    let _ = write.await.unwrap();
                }
            })
        })
        .collect();
    while writers.iter().any(|writer| !writer.is_finished()) {
        engine.zmsg.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    engine.zmsg.flush().await.unwrap();
    assert_eq!(engine.likes("feed_1").await, 4000);
}

#[tokio::test]
async fn a_lost_commit_answer_doubles_nothing() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    for fault in [Fault::AnswerLost, Fault::Unavailable, Fault::AnswerLost] {
        let write = engine.zmsg.cache_and_periodic_store("feed_1", None, like("feed_1"));
        let receipt = write.await.unwrap();
        engine.store.fail_next(fault);
        let flushed = engine.zmsg.flush().await;
        assert_eq!(flushed.is_ok(), fault == Fault::AnswerLost, "the ledger tells: {flushed:?}");
        engine.zmsg.flush().await.unwrap();
        receipt.applied().await.unwrap();
    }
    assert_eq!(engine.likes("feed_1").await, 3);
}

#[tokio::test]
async fn a_poisoned_operation_becomes_a_dead_letter_and_holds_nobody_up() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    let good = engine.zmsg.cache_and_periodic_store("feed_1", None, like("feed_1")).await.unwrap();
    let overflow = counter("feeds", "likes").set(i64::MAX).where_eq("id", "feed_2");
    engine.insert("feed_2", "hello").await;
    let _ = engine.zmsg.cache_and_store("feed_2", "hello", overflow).await.unwrap();
    let bad = engine.zmsg.cache_and_periodic_store("feed_2", None, like("feed_2")).await.unwrap();
    engine.zmsg.flush().await.unwrap();
    good.applied().await.unwrap();
    assert_eq!(bad.applied().await.unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(engine.likes("feed_1").await, 1);
    assert_eq!(engine.likes("feed_2").await, i64::MAX);
    assert_eq!(engine.zmsg.dead_letters().list(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_buffer_is_overloaded_and_what_it_holds_is_kept() {
    let engine = Engine::with(|config| config.periodic.bytes_max = zmsg::ByteSize(64 << 10)).await;
    // Flushes would make room meanwhile.
    engine.store.hold_writes().await;
    let mut accepted = 0;
    let refused = loop {
        let id = format!("feed_{accepted}");
        let op = like(&id).on_missing(OnMissing::Insert);
        match engine.zmsg.cache_and_periodic_store(&id, None, op).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 100_000, "the buffer has a bound");
    };
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    engine.store.release_writes();
    engine.zmsg.flush().await.unwrap();
    assert_eq!(engine.count("SELECT count(*) FROM feeds").await, accepted);
    let op = like("feed_0");
    let _ = engine.zmsg.cache_and_periodic_store("feed_0", None, op).await.unwrap();
}

#[tokio::test]
async fn the_interval_flushes_without_being_asked() {
    let engine = Engine::with(|config| config.periodic.interval = Duration::from_millis(20)).await;
    engine.insert("feed_1", "hello").await;
    let receipt =
        engine.zmsg.cache_and_periodic_store("feed_1", None, like("feed_1")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), receipt.applied()).await.unwrap().unwrap();
    assert_eq!(engine.likes("feed_1").await, 1);
}
