//! `queue.backend: outbox`: tasks in the database, and Redis only says that there are some.

use std::time::Duration;

use tokio_util::task::TaskTracker;
use zmsg::redis::redis::cmd;
use zmsg::store::Step;
use zmsg::{Config, Level, QueueBackend};

use super::{Rig, close, drained, like, likes, remembered};
use crate::support::eventually;

fn outbox(config: &mut Config) {
    config.queue.backend = QueueBackend::Outbox;
    config.queue.secret = None;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_outbox_tasks_are_in_the_database_and_a_redis_that_is_away_stops_none() {
    let Some(rig) = Rig::start() else { return };
    let zmsg = rig.with(outbox).await;
    let raw = rig.raw().await;
    let write = || zmsg.cache_and_delay_store("feed_1", "new", like());
    let receipt = write().delay(Duration::from_millis(100)).await.unwrap();
    assert_eq!(receipt.level(), Level::Database);
    let in_redis: Vec<String> = raw.ask(cmd("KEYS").arg("asynq:*")).await;
    assert_eq!(in_redis, [""; 0]);
    receipt.applied().await.unwrap();
    rig.redis.kill();
    for _ in 0..3 {
        write().await.unwrap().applied().await.unwrap();
    }
    drained(&zmsg).await;
    assert_eq!((likes(&zmsg).await, remembered(&zmsg).await), (4, 4));
    close(zmsg).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_in_the_callers_transaction_is_applied_once_its_commit_is_told() {
    let Some(rig) = Rig::start() else { return };
    let zmsg = rig.with(outbox).await;
    let outbox = zmsg.outbox("feed_1", like(), Duration::ZERO).unwrap();
    let statement = || zmsg::core::Statement::query(outbox.text.clone(), outbox.binds.clone());
    let store = zmsg::open_store(&rig.config("engine"), &TaskTracker::new()).await.unwrap();
    let mut rows = 0;
    for _ in 0..2 {
        // The same transaction once more, as after an answer that was lost.
        rows += store.execute_all(vec![Step::any(statement())]).await.unwrap()[0].rows.len();
    }
    assert!(rows >= 1, "it was accepted");
    store.close().await.unwrap();
    zmsg.outbox_committed().unwrap();
    eventually("the task was applied", async || likes(&zmsg).await == 1).await;
    drained(&zmsg).await;
    assert_eq!((likes(&zmsg).await, remembered(&zmsg).await), (1, 1));
    close(zmsg).await;
}
