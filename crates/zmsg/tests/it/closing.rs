//! What `close` promises.

use std::time::Duration;

use zmsg::{ErrorKind, QueueBackend, Zmsg, counter};

use crate::support::{DEADLINE, Engine, config, insert};

#[tokio::test]
async fn close_flushes_the_periodic_route_and_reports_it() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    for _ in 0..10 {
        let like = counter("feeds", "likes").inc(1).where_eq("id", "feed_1");
        let _ = engine.zmsg.cache_and_periodic_store("feed_1", None, like).await.unwrap();
    }
    let report = engine.zmsg.close(DEADLINE).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    let config = config(engine.dir.path());
    let reopened = Engine::on(engine.dir, config).await;
    assert_eq!(reopened.likes("feed_1").await, 10);
}

#[tokio::test]
async fn calls_after_close_are_refused() {
    let engine = Engine::open().await;
    let _ = engine.zmsg.close(DEADLINE).await.unwrap();
    let zmsg = &engine.zmsg;
    assert_eq!(zmsg.get("feed_1").await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(zmsg.put("a", "b").await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(zmsg.next_id("feed").await.unwrap_err().kind(), ErrorKind::Closed);
    let delayed = zmsg.cache_and_delay_store("feed_1", "x", insert("feed_1", "x")).await;
    assert_eq!(delayed.unwrap_err().kind(), ErrorKind::Closed);
    assert!(zmsg.close(DEADLINE).await.unwrap().is_clean(), "a second close is harmless");
}

#[tokio::test]
async fn the_report_says_what_waits_in_the_durable_queue() {
    let engine = Engine::open().await;
    let write = engine.zmsg.cache_and_delay_store("feed_1", "x", insert("feed_1", "x"));
    let _ = write.delay(Duration::from_secs(3600)).await.unwrap();
    let report = engine.zmsg.close(DEADLINE).await.unwrap();
    assert_eq!(report.queued, 1);
    assert!(report.is_clean());
}

#[tokio::test]
async fn the_report_says_what_a_memory_queue_lost() {
    let engine = Engine::with(|config| config.queue.backend = QueueBackend::Memory).await;
    let write = engine.zmsg.cache_and_delay_store("feed_1", "x", insert("feed_1", "x"));
    let receipt = write.delay(Duration::from_secs(3600)).await.unwrap();
    assert_eq!(receipt.level(), zmsg::Level::Memory);
    let report = engine.zmsg.close(DEADLINE).await.unwrap();
    assert_eq!(report.lost_queued, 1);
    assert!(!report.is_clean());
}

#[tokio::test]
async fn a_closed_directory_can_be_opened_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let zmsg = Zmsg::open(config(dir.path())).await.unwrap();
        let _ = zmsg.put("greeting", "hello").await.unwrap();
        assert!(zmsg.close(None).await.unwrap().is_clean(), "by the deadline of the configuration");
    }
}

#[tokio::test]
async fn whoever_closes_again_waits_for_the_same_end() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    let like = counter("feeds", "likes").inc(1).where_eq("id", "feed_1");
    let _ = engine.zmsg.cache_and_periodic_store("feed_1", None, like).await.unwrap();
    engine.store.hold_writes().await;
    let impatient = engine.zmsg.close(Duration::MAX);
    assert!(tokio::time::timeout(Duration::from_millis(20), impatient).await.is_err());
    let second = tokio::spawn({
        let zmsg = engine.zmsg.clone();
        async move { zmsg.close(DEADLINE).await.unwrap() }
    });
    engine.store.release_writes();
    let report = second.await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.flushed, 1, "the report of the first close");
}

#[tokio::test]
async fn receipts_are_answered_at_the_end_even_while_a_handle_lives() {
    let engine = Engine::open().await;
    let write = engine.zmsg.cache_and_delay_store("feed_1", "x", insert("feed_1", "x"));
    let receipt = write.delay(Duration::from_secs(3600)).await.unwrap();
    let _ = engine.zmsg.close(DEADLINE).await.unwrap();
    let answer = tokio::time::timeout(DEADLINE, receipt.applied()).await.unwrap();
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_dropped_engine_keeps_its_directory_until_it_has_stopped_writing() {
    let dir = tempfile::tempdir().unwrap();
    let zmsg = Zmsg::open(config(dir.path())).await.unwrap();
    let create =
        zmsg::sql("CREATE TABLE feeds (id TEXT PRIMARY KEY, data TEXT, likes INTEGER)", ());
    zmsg.sql_exec(create).await.unwrap();
    let value = Some(bytes::Bytes::from_static(b"late"));
    let _ = zmsg.cache_and_periodic_store("feed_1", value, insert("feed_1", "late")).await.unwrap();
    drop(zmsg);
    let mut opened = None;
    while opened.is_none() {
        match Zmsg::open(config(dir.path())).await {
            Ok(zmsg) => opened = Some(zmsg),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
        }
        tokio::task::yield_now().await;
    }
    let rows =
        opened.unwrap().sql_exec(zmsg::sql("SELECT data FROM feeds", ())).await.unwrap().rows;
    assert_eq!(rows.len(), 1, "the last flush came before the directory was free");
}
