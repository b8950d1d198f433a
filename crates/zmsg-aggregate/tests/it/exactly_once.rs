//! Each operation takes effect exactly once, whatever fails between.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use zmsg_aggregate::FlushPolicy;
use zmsg_core::{Backoff, ErrorKind};

use crate::database::{like, open, refusal};
use crate::flaky::Fault;

/// D-Z11: an operation that came while its group was drained was lost.
#[tokio::test]
async fn operations_accepted_during_a_flush_are_neither_lost_nor_doubled() {
    let db = open!();
    let before = db.submit(like("a"));
    db.store.hold();
    let flush = db.tracker.spawn({
        let aggregator = db.aggregator.clone();
        async move { aggregator.flush_all().await }
    });
    db.store.reached(1).await;
    let during: Vec<_> = (0..100).map(|_| db.submit(like("a"))).collect();
    assert_eq!(db.aggregator.stats().pending_ops, 101);
    db.store.release();
    assert_eq!(flush.await.unwrap().unwrap().ops, 1);
    before.applied().await.unwrap();
    assert_eq!(db.likes("a").await, Some(1));
    db.aggregator.flush_all().await.unwrap();
    during[99].applied().await.unwrap();
    assert_eq!(db.likes("a").await, Some(101));
}

/// D-Z9: a group whose flush failed was drained, counted as an error and gone.
#[tokio::test]
async fn a_failed_flush_is_tried_again_and_loses_nothing() {
    let db = open!();
    let receipt = db.submit(like("a"));
    db.store.fail([Fault::Temporary, Fault::Temporary]);
    for _ in 0..2 {
        let error = db.aggregator.flush_all().await.unwrap_err();
        assert!(error.is_temporary(), "{error:?}");
        let _ = db.submit(like("a"));
    }
    assert_eq!(db.aggregator.stats().pending_ops, 3);
    db.aggregator.flush_all().await.unwrap();
    receipt.applied().await.unwrap();
    assert_eq!(db.likes("a").await, Some(3));
    assert_eq!(db.aggregator.stats().retries, 2);
}

/// D-Z10: a commit that failed counted as a success.
#[tokio::test]
async fn a_lost_answer_is_resolved_by_the_ledger() {
    for fault in [Fault::LostBefore, Fault::LostAfter, Fault::Denied] {
        let db = open!();
        for round in 1..=3 {
            let receipt = db.submit(like("a").batch_key("one transaction"));
            let missing = db.submit(like("x").batch_key("one transaction"));
            db.store.fail([fault]);
            while db.aggregator.flush_all().await.is_err() {}
            receipt.applied().await.unwrap();
            assert!(missing.applied().await.is_err(), "{fault:?}");
            assert_eq!(db.likes("a").await, Some(round), "{fault:?}");
        }
        assert_eq!(db.letters().count().await.unwrap(), 3, "{fault:?}");
        assert_eq!(db.aggregator.stats().dead_lettered, 3, "{fault:?}");
    }
}

#[tokio::test]
async fn a_lost_answer_waits_until_the_ledger_can_be_read() {
    let db = open!();
    let receipt = db.submit(like("a"));
    db.store.fail([Fault::LostAfter]);
    db.store.deaf.store(true, SeqCst);
    assert!(db.aggregator.flush_all().await.is_err());
    db.store.deaf.store(false, SeqCst);
    db.aggregator.flush_all().await.unwrap();
    receipt.applied().await.unwrap();
    assert_eq!(db.likes("a").await, Some(1));
}

#[tokio::test]
async fn a_ledger_moved_by_somebody_else_stops_the_shard() {
    let db = open!();
    let _ = db.submit(like("a"));
    db.aggregator.flush_all().await.unwrap();
    db.run("UPDATE zmsg_ledger SET seq = seq + 7", vec![]).await;
    let receipt = db.submit(like("a"));
    let error = db.aggregator.flush_all().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupted);
    assert_eq!(refusal(&receipt).await.kind(), ErrorKind::Corrupted);
    assert_eq!(db.try_submit(like("a")).unwrap_err().kind(), ErrorKind::Corrupted);
    assert_eq!(db.likes("a").await, Some(1));
    // Other shards go on.
    let others: Vec<_> =
        (0..40).filter_map(|n| db.try_submit(like(&format!("n{n}"))).ok()).collect();
    assert!(db.aggregator.flush_all().await.is_err());
    assert!(!others.is_empty() && db.aggregator.stats().pending_ops == 1);
    let report = db.aggregator.close(Duration::from_secs(1)).await.unwrap();
    assert!(!report.is_complete() && report.shards.len() == 1);
}

#[tokio::test]
async fn a_panic_in_the_observer_loses_nothing() {
    let db = open!();
    let receipt = db.submit_for("feed_a", like("a"));
    db.observer.panics.store(true, SeqCst);
    db.aggregator.flush_all().await.unwrap();
    receipt.applied().await.unwrap();
    db.observer.panics.store(false, SeqCst);
    let _ = db.submit_for("feed_a", like("a"));
    db.aggregator.flush_all().await.unwrap();
    assert_eq!(*db.observer.keys.lock().unwrap(), ["feed_a"]);
    assert_eq!(db.likes("a").await, Some(2));
}

#[tokio::test]
async fn a_panic_in_the_store_loses_nothing() {
    let db = open!();
    let receipt = db.submit(like("a"));
    db.store.fail([Fault::Panic]);
    assert_eq!(db.aggregator.flush_all().await.unwrap_err().kind(), ErrorKind::Unexpected);
    db.aggregator.flush_all().await.unwrap();
    receipt.applied().await.unwrap();
    assert_eq!(db.likes("a").await, Some(1));
}

#[tokio::test]
async fn a_flush_goes_on_when_nobody_waits_for_it() {
    let db = open!();
    let receipt = db.submit(like("a"));
    db.store.hold();
    {
        let mut flush = std::pin::pin!(db.aggregator.flush_all());
        tokio::select! {
            biased;
            _ = &mut flush => panic!("the store holds it"),
            () = db.store.reached(1) => {}
        }
    }
    db.store.release();
    receipt.applied().await.unwrap();
    assert_eq!(db.likes("a").await, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn totals_are_exact_under_faults_and_concurrent_flushes() {
    const TASKS: usize = 8;
    const EACH: usize = 400;
    let quick = Backoff::new(Duration::from_millis(1), Duration::from_millis(5));
    let interval = Duration::from_millis(2);
    let db = Arc::new(open!(FlushPolicy { interval, retry: quick, ..FlushPolicy::default() }));
    let shutdown = CancellationToken::new();
    let flusher = db.tracker.spawn(db.aggregator.flusher().run(shutdown.clone()));
    let writers: Vec<_> = (0..TASKS)
        .map(|task| {
            let (db, tracker) = (Arc::clone(&db), db.tracker.clone());
            let writer = async move {
                let mut rng = fastrand::Rng::with_seed(u64::try_from(task).unwrap());
                let faults = [Fault::Temporary, Fault::LostBefore, Fault::LostAfter, Fault::Denied];
                for turn in 0..EACH {
                    let id = ["a", "b", "c", "d", "e"][turn % 5];
                    let _ = db.submit_for(id, like(id));
                    if rng.u8(0..20) == 0 {
                        db.store.fail([faults[rng.usize(0..4)]]);
                        tokio::task::yield_now().await;
                        let _ = db.aggregator.flush_key(&zmsg_core::Key::new(id).unwrap()).await;
                    }
                }
            };
            tracker.spawn(writer)
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    shutdown.cancel();
    let _ = flusher.await.unwrap();
    let report = db.aggregator.close(Duration::from_secs(60)).await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    let total = db.int("SELECT CAST(SUM(likes) AS BIGINT) FROM feeds").await;
    assert_eq!(total, i64::try_from(TASKS * EACH).ok());
    assert_eq!(db.letters().count().await.unwrap(), 0);
    assert_eq!(db.int("SELECT COUNT(*) FROM zmsg_ledger").await, Some(0));
}

/// D-Z12: a recovery that counts twice. Nothing is replayed yet: each start is a new stream whose
/// sequence numbers are its own.
#[tokio::test]
async fn every_start_is_a_stream_of_its_own() {
    let db = open!();
    let _ = db.submit(like("a"));
    db.aggregator.flush_all().await.unwrap();
    let second = zmsg_aggregate::Aggregator::open(
        db.store.clone(),
        FlushPolicy::default(),
        db.clock.clone(),
        db.observer.clone(),
        db.tracker.clone(),
    );
    let second = second.await.unwrap();
    let task = zmsg_core::IntoTask::into_task(like("a")).unwrap();
    let _ = second.submit(None, task).unwrap();
    second.flush_all().await.unwrap();
    assert_eq!(db.likes("a").await, Some(2));
    assert_eq!(db.int("SELECT COUNT(DISTINCT stream) FROM zmsg_ledger").await, Some(2));
}

#[tokio::test]
async fn a_store_that_is_away_for_long_loses_nothing() {
    let db = open!();
    let receipt = db.submit(like("a"));
    db.store.fail_always(Some(Fault::Temporary));
    for _ in 0..10 {
        assert!(db.aggregator.flush_all().await.unwrap_err().is_temporary());
        let _ = db.submit(like("a"));
    }
    db.store.fail_always(None);
    db.aggregator.flush_all().await.unwrap();
    receipt.applied().await.unwrap();
    assert_eq!(db.likes("a").await, Some(11));
}
