//! When a flush happens, what it waits for, and what is refused meanwhile.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use zmsg_aggregate::FlushPolicy;
use zmsg_core::{Backoff, ErrorKind, Key, Result};
use zmsg_sqlbuilder::slice;

use crate::database::{Database, like, open};
use crate::flaky::Fault;

const LONG: Duration = Duration::from_secs(3600);

/// Only what a test sets triggers a flush.
fn patient() -> FlushPolicy {
    FlushPolicy { interval: LONG, age_max: LONG, ..FlushPolicy::default() }
}

fn run(db: &Database) -> (CancellationToken, tokio::task::JoinHandle<Result<()>>) {
    let shutdown = CancellationToken::new();
    let flusher = db.tracker.spawn(db.aggregator.flusher().run(shutdown.clone()));
    (shutdown, flusher)
}

#[tokio::test(start_paused = true)]
async fn flushes_when_the_interval_passes() {
    let interval = Duration::from_secs(7);
    let db = open!(FlushPolicy { interval, age_max: LONG, ..FlushPolicy::default() });
    let began = Instant::now();
    let (_shutdown, _flusher) = run(&db);
    let receipt = db.submit(like("a"));
    tokio::task::yield_now().await;
    assert_eq!(db.aggregator.stats().flushes, 0);
    receipt.applied().await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(7));
    assert_eq!(db.likes("a").await, Some(1));
}

#[tokio::test]
async fn flushes_when_a_shard_has_enough_operations() {
    let db = open!(FlushPolicy { ops_max: 50, ..patient() });
    let (_shutdown, _flusher) = run(&db);
    let receipts: Vec<_> = (0..49).map(|_| db.submit(like("a"))).collect();
    tokio::task::yield_now().await;
    assert_eq!(db.aggregator.stats().flushes, 0);
    let last = db.submit(like("a"));
    last.applied().await.unwrap();
    receipts[0].applied().await.unwrap();
    assert_eq!(db.likes("a").await, Some(50));
}

#[tokio::test]
async fn flushes_when_a_shard_has_enough_slots() {
    let db = open!(FlushPolicy { slots_max: 5, ..patient() });
    let (_shutdown, _flusher) = run(&db);
    let ids = ["a", "b", "c", "d", "e"];
    let receipts = ids.map(|id| db.submit(like(id).batch_key("all")));
    receipts[4].applied().await.unwrap();
}

#[tokio::test]
async fn flushes_when_half_of_the_buffer_is_taken() {
    let db = open!(FlushPolicy { bytes_max: 100_000, ..patient() });
    let (_shutdown, _flusher) = run(&db);
    let big = slice("feeds", "tags").add("x".repeat(60_000)).where_eq("id", "a");
    db.submit(big).applied().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn flushes_when_the_oldest_operation_is_old() {
    let age_max = Duration::from_secs(3);
    let db = open!(FlushPolicy { age_max, ..patient() });
    let (_shutdown, _flusher) = run(&db);
    let receipt = db.submit(like("a"));
    assert!(timeout(Duration::from_secs(60), receipt.applied()).await.is_err());
    db.clock.advance(3_000);
    receipt.applied().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_flusher_tries_a_failed_flush_again_by_itself() {
    let retry = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    let db = open!(FlushPolicy { retry, ..FlushPolicy::default() });
    db.store.fail([Fault::Temporary; 5]);
    let (_shutdown, _flusher) = run(&db);
    let receipt = db.submit(like("a"));
    receipt.applied().await.unwrap();
    assert_eq!(db.aggregator.stats().retries, 5);
    assert_eq!(db.likes("a").await, Some(1));
}

/// D-Z18: the bound of the buffer only started a flush, and memory grew while the database was
/// slow.
#[tokio::test(start_paused = true)]
async fn a_full_buffer_refuses_at_once_and_recovers() {
    let db = open!(FlushPolicy { bytes_max: 50_000, ..patient() });
    db.store.hold();
    let (_shutdown, _flusher) = run(&db);
    let mut accepted = 0;
    let began = Instant::now();
    let error = loop {
        match db.try_submit(like("a").batch_key(format!("k{accepted}"))) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
        if accepted % 16 == 0 {
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.is_temporary());
    assert_eq!(began.elapsed(), Duration::ZERO, "the caller did not wait");
    let stats = db.aggregator.stats();
    assert!(stats.pending_bytes <= 50_000 && stats.pending_ops == accepted, "{stats:?}");
    assert_eq!(stats.overloaded, 1);
    db.store.release();
    db.aggregator.flush_all().await.unwrap();
    assert_eq!(db.likes("a").await, i64::try_from(accepted).ok());
    assert_eq!(db.aggregator.stats().pending_bytes, 0);
    let _ = db.submit(like("a"));
}

#[tokio::test]
async fn folding_into_a_slot_does_not_count_what_was_overwritten() {
    let db = open!(FlushPolicy { bytes_max: 200_000, ..patient() });
    for n in 0..2_000 {
        let text = format!("{n}{}", "x".repeat(1_000));
        let _ = db.submit(zmsg_sqlbuilder::map("feeds", "meta").set("k", text).where_eq("id", "a"));
    }
    assert!(db.aggregator.stats().pending_bytes < 20_000);
    db.aggregator.flush_all().await.unwrap();
    assert_eq!(db.aggregator.stats().pending_bytes, 0);
}

#[tokio::test]
async fn flush_key_waits_for_what_is_pending_and_for_what_is_in_flight() {
    let db = open!();
    let key = Key::new("feed_a").unwrap();
    let _ = db.submit_for("feed_a", like("a"));
    db.store.hold();
    let all = db.tracker.spawn({
        let aggregator = db.aggregator.clone();
        async move { aggregator.flush_all().await }
    });
    db.store.reached(1).await;
    // Nothing of the key waits in the buffer: it is all in flight.
    {
        let mut flush = std::pin::pin!(db.aggregator.flush_key(&key));
        let early = timeout(Duration::from_millis(20), &mut flush).await;
        assert!(early.is_err(), "it returned before the flush in progress");
        db.store.release();
        flush.await.unwrap();
    }
    assert_eq!(db.likes("a").await, Some(1));
    all.await.unwrap().unwrap();

    let _ = db.submit_for("feed_a", like("a"));
    let _ = db.submit_for("feed_b", like("b"));
    db.aggregator.flush_key(&key).await.unwrap();
    assert_eq!(db.likes("a").await, Some(2));
}

#[tokio::test]
async fn flush_key_of_a_key_without_pending_operations_sends_nothing() {
    let db = open!();
    let _ = db.submit_for("feed_a", like("a"));
    db.aggregator.flush_key(&Key::new("feed_b").unwrap()).await.unwrap();
    assert_eq!(db.store.transactions.load(SeqCst), 0);
    assert_eq!(db.aggregator.stats().pending_ops, 1);
}

#[tokio::test]
async fn the_observer_hears_every_key_before_anybody_who_waits() {
    let db = open!();
    let receipts = ["a", "b", "x"].map(|id| db.submit_for(&format!("feed_{id}"), like(id)));
    db.aggregator.flush_all().await.unwrap();
    for receipt in receipts {
        let _ = receipt.applied().await;
    }
    let mut heard = db.observer.keys.lock().unwrap().clone();
    heard.sort();
    assert_eq!(heard, ["feed_a", "feed_b", "feed_x"]);
}

#[tokio::test]
async fn the_flusher_flushes_the_rest_when_it_is_told_to_stop() {
    let db = open!(patient());
    let (shutdown, flusher) = run(&db);
    let receipt = db.submit(like("a"));
    shutdown.cancel();
    flusher.await.unwrap().unwrap();
    receipt.applied().await.unwrap();
}

#[tokio::test]
async fn close_flushes_the_rest_and_leaves_no_trace() {
    let db = open!(patient());
    let receipt = db.submit(like("a"));
    let report = db.aggregator.close(Duration::from_secs(5)).await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    receipt.applied().await.unwrap();
    assert_eq!(db.likes("a").await, Some(1));
    assert_eq!(db.int("SELECT COUNT(*) FROM zmsg_ledger").await, Some(0));
    assert_eq!(db.try_submit(like("a")).unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn close_reports_what_is_still_pending() {
    let retry = Backoff::new(Duration::from_millis(1), Duration::from_millis(2));
    let db = open!(FlushPolicy { retry, ..patient() });
    for _ in 0..3 {
        let _ = db.submit(like("a"));
    }
    db.store.fail_always(Some(Fault::Temporary));
    let report = db.aggregator.close(Duration::from_millis(300)).await.unwrap();
    assert_eq!((report.ops, report.slots, report.shards.len()), (3, 1, 1));
    assert!(report.error.unwrap().is_temporary());
    assert!(db.store.transactions.load(SeqCst) > 1, "it kept trying");
    // Nothing was given up: a later close still can.
    db.store.fail_always(None);
    let report = db.aggregator.close(Duration::from_secs(30)).await.unwrap();
    assert!(report.is_complete());
    assert_eq!(db.likes("a").await, Some(3));
}

#[tokio::test(start_paused = true)]
async fn close_returns_at_its_deadline_while_the_store_hangs() {
    let db = open!(patient());
    let receipt = db.submit(like("a"));
    db.store.hold();
    let report = db.aggregator.close(Duration::from_secs(2)).await.unwrap();
    assert_eq!(report.ops, 1);
    db.store.release();
    receipt.applied().await.unwrap();
}

#[tokio::test]
async fn what_the_observer_hands_over_is_kept_until_the_outcome_is_known() {
    let db = open!(patient());
    let receipt = db.submit_for("feed_a", like("a"));
    db.store.fail([Fault::Temporary]);
    db.store.hold();
    let flush = db.tracker.spawn({
        let aggregator = db.aggregator.clone();
        async move { aggregator.flush_all().await }
    });
    db.store.reached(1).await;
    assert_eq!(db.observer.guards.load(SeqCst), 1, "handed over before the commit");
    db.store.release();
    flush.await.unwrap().unwrap_err();
    assert_eq!(db.observer.guards.load(SeqCst), 1, "kept over a failed attempt");
    db.aggregator.flush_all().await.unwrap();
    receipt.applied().await.unwrap();
    assert_eq!(db.observer.guards.load(SeqCst), 0, "and not longer");
}

#[tokio::test]
async fn an_observer_that_panics_before_a_flush_loses_nothing() {
    let db = open!(patient());
    let _ = db.submit_for("feed_panic", like("a"));
    let error = db.aggregator.flush_all().await.unwrap_err();
    assert!(error.is_temporary());
    assert_eq!(db.aggregator.stats().pending_ops, 1);
    assert_eq!(db.likes("a").await, None);
}
