//! Pauses of queues in Redis, which are asynq's.

use zmsg_core::ErrorKind;
use zmsg_queue::TaskQueue;
use zmsg_redis::redis::cmd;

use super::{LEASE, kept, tasks};

#[tokio::test]
async fn a_pause_in_redis_is_the_key_of_asynq() {
    let Some((_server, redis, queue)) = kept() else { return };
    let value = || async {
        redis.query::<Option<u64>>(cmd("GET").arg("asynq:{default}:paused")).await.unwrap()
    };
    assert!(queue.pause("default").await.unwrap());
    let since = value().await.expect("seconds since 1970");
    assert!(since > 1_700_000_000, "{since}");
    let names: Vec<String> = redis.query(cmd("SMEMBERS").arg("asynq:queues")).await.unwrap();
    assert_eq!(names, ["default"], "tools show a pause also of a queue that was never used");
    assert!(queue.resume("default").await.unwrap());
    assert_eq!(value().await, None);
    let _: () = redis.query(cmd("SET").arg("asynq:{default}:paused").arg(7)).await.unwrap();
    assert!(queue.is_paused("default").await.unwrap());
    assert!(!queue.pause("default").await.unwrap());
    assert_eq!(value().await, Some(7), "the pause is as old as it was");
    assert_eq!(queue.pause("a}b").await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_survives_a_redis_that_is_killed_and_keeps_its_log() {
    let Some((server, _redis, queue)) = kept() else { return };
    queue.enqueue_all(tasks(2)).await.unwrap();
    assert!(queue.pause("default").await.unwrap());
    let restarted = tokio::task::spawn_blocking(move || {
        server.kill();
        server.restart();
        server
    });
    let _server = restarted.await.unwrap();
    let back = async {
        while queue.stats("default").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LEASE, back).await.expect("it is back");
    assert!(queue.is_paused("default").await.unwrap());
    assert!(queue.lease("default", 9, LEASE).await.unwrap().is_empty());
    assert!(queue.resume("default").await.unwrap());
    assert_eq!(queue.lease("default", 9, LEASE).await.unwrap().len(), 2);
}
