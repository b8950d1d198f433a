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
