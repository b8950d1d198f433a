//! A Redis that goes away under the queue, and comes back.

use std::time::Duration;

use tokio::time::Instant;
use zmsg::redis::redis::cmd;
use zmsg::{ErrorKind, Level, Zmsg};

use super::{Rig, close, drained, like, likes, number, remembered};
use crate::support::{eventually, insert};

async fn is_up(zmsg: &Zmsg) -> bool {
    zmsg.stats().await.redis.is_some_and(|redis| redis.up)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_a_delayed_write_fails_and_shows_nothing() {
    let Some(rig) = Rig::start() else { return };
    let zmsg = rig.engine().await;
    rig.redis.kill();
    eventually("the engine knows", async || !is_up(&zmsg).await).await;
    let error = zmsg.cache_and_delay_store("feed_1", "new", like()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_temporary(), "{error}");
    assert_eq!(zmsg.get("feed_1").await.unwrap().as_deref(), Some(&b"old"[..]));
    assert_eq!((likes(&zmsg).await, remembered(&zmsg).await), (0, 0));
    let report = zmsg.close(Duration::from_secs(20)).await.unwrap();
    assert!(!report.is_clean() && report.lost_queued == 0, "it cannot tell what waits: {report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_the_fallback_writes_now_and_once() {
    let Some(rig) = Rig::start() else { return };
    let zmsg = rig.with(|config| config.queue.fallback_to_store = true).await;
    rig.redis.kill();
    for _ in 0..5 {
        let write = zmsg.cache_and_delay_store("feed_1", "new", like());
        let receipt = write.delay(Duration::from_secs(1)).await.unwrap();
        assert_eq!(receipt.level(), Level::Database);
        receipt.applied().await.unwrap();
    }
    assert_eq!((likes(&zmsg).await, remembered(&zmsg).await), (5, 5));
    rig.redis.restart();
    eventually("Redis is back", async || is_up(&zmsg).await).await;
    drained(&zmsg).await;
    assert_eq!((likes(&zmsg).await, remembered(&zmsg).await), (5, 5));
    close(zmsg).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_redis_is_back_what_waited_is_done_by_itself() {
    let Some(rig) = Rig::start() else { return };
    let zmsg = rig.engine().await;
    let mut receipts = Vec::new();
    for _ in 0..5 {
        let write = zmsg.cache_and_delay_store("feed_1", "new", like());
        receipts.push(write.delay(Duration::from_millis(300)).await.unwrap());
    }
    rig.redis.kill();
    // Long enough for a worker that backs off to sleep past the return.
    eventually("all is due, and Redis away for long", async || {
        !is_up(&zmsg).await && zmsg.stats().await.redis.unwrap().calls.refused > 20
    })
    .await;
    assert_eq!(likes(&zmsg).await, 0);
    rig.redis.restart();
    let back = Instant::now();
    for receipt in receipts {
        receipt.applied().await.unwrap();
    }
    assert!(back.elapsed() < Duration::from_secs(8), "{:?}", back.elapsed());
    assert_eq!((likes(&zmsg).await, remembered(&zmsg).await), (5, 5));
    let write = zmsg.cache_and_delay_store("feed_1", "new", like());
    let receipt = write.delay(Duration::from_secs(1)).await.unwrap();
    assert_eq!(receipt.level(), Level::Redis, "and new ones are taken");
    receipt.applied().await.unwrap();
    drained(&zmsg).await;
    close(zmsg).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_redis_forgot_answers_its_receipt_and_is_shown_no_longer() {
    let Some(rig) = Rig::start() else { return };
    let zmsg = rig.engine().await;
    let write = zmsg.cache_and_delay_store("feed_1", "new", like());
    let receipt = write.delay(Duration::from_secs(1)).await.unwrap();
    assert_eq!(zmsg.get("feed_1").await.unwrap().as_deref(), Some(&b"new"[..]));
    let raw = rig.raw().await;
    let _: String = raw.ask(&cmd("FLUSHALL")).await;
    let error = receipt.applied().await.unwrap_err();
    assert!(error.to_string().contains("was dropped"), "{error}");
    assert_eq!(zmsg.get("feed_1").await.unwrap().as_deref(), Some(&b"old"[..]));
    let receipt = zmsg.cache_and_delay_store("feed_1", "new", like()).await.unwrap();
    receipt.applied().await.unwrap();
    drained(&zmsg).await;
    assert_eq!((likes(&zmsg).await, remembered(&zmsg).await), (1, 1));
    close(zmsg).await;
}

/// The queue and L2 are in the same Redis: what L2 missed must not depend on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_missed_is_removed_there_on_its_return_and_never_written() {
    let Some(rig) = Rig::start() else { return };
    let zmsg = rig.engine().await;
    let _ = zmsg.cache_and_store("feed_1", "one", insert("feed_1", "one")).await.unwrap();
    let raw = rig.raw().await;
    let in_redis = async || -> Option<Vec<u8>> {
        let found: Vec<String> = raw.ask(cmd("KEYS").arg("app:v1:*feed_1")).await;
        let key = found.first()?;
        raw.ask(cmd("GET").arg(key)).await
    };
    let holds = |value: Option<Vec<u8>>, text: &str| {
        value.is_some_and(|value| value.windows(text.len()).any(|part| part == text.as_bytes()))
    };
    assert!(holds(in_redis().await, "one"));
    rig.redis.pause();
    let receipt = zmsg.cache_and_store("feed_1", "two", insert("feed_1", "two")).await.unwrap();
    assert!(receipt.is_degraded());
    let noted = "SELECT count(*) FROM zmsg_tasks WHERE queue = 'zmsg_repair'";
    eventually("the repair is noted where Redis does not matter", async || {
        number(&zmsg, noted).await == 1
    })
    .await;
    rig.redis.resume();
    eventually("the old value is gone", async || !holds(in_redis().await, "one")).await;
    eventually("the repair is done", async || number(&zmsg, noted).await == 0).await;
    assert!(!holds(in_redis().await, "one"), "and did not come back");
    assert_eq!(zmsg.get("feed_1").await.unwrap().as_deref(), Some(&b"two"[..]));
    close(zmsg).await;
}
