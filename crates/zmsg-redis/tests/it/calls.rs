//! What calls give back.

use bytes::Bytes;
use zmsg_core::ErrorKind;
use zmsg_redis::Health;
use zmsg_redis::redis::{Pipeline, cmd};

use crate::support::{get, open, patient, read, set, shared, until_up, write};

#[tokio::test]
async fn what_is_written_is_read() {
    let Some(redis) = shared() else { return };
    assert_eq!(read(&redis, "a").await.unwrap(), None);
    write(&redis, "a", "one").await.unwrap();
    assert_eq!(read(&redis, "a").await.unwrap().as_deref(), Some("one"));
    assert!(redis.health().is_up());
    let stats = redis.stats();
    assert_eq!((stats.calls, stats.errors, stats.timeouts, stats.refused), (3, 0, 0, 0));
}

#[tokio::test]
async fn many_values_come_back_in_order_and_other_types_as_nothing() {
    let Some(redis) = shared() else { return };
    write(&redis, "a", "one").await.unwrap();
    write(&redis, "b", "two").await.unwrap();
    let list = redis.key("t", "list");
    redis.query::<()>(cmd("RPUSH").arg(&list).arg("x")).await.unwrap();
    redis.query::<()>(cmd("PEXPIRE").arg(&list).arg(60_000)).await.unwrap();
    let [a, b, none] = ["a", "b", "none"].map(|name| redis.key("t", name));
    let found = redis.multi_get(&[b.clone(), none, list, a, b]).await.unwrap();
    let [one, two] = ["one", "two"].map(|text| Some(Bytes::from_static(text.as_bytes())));
    assert_eq!(found, [two.clone(), None, None, one, two]);
    assert!(redis.multi_get(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_pipeline_is_answered_in_order() {
    let Some(redis) = shared() else { return };
    let mut pipeline = Pipeline::new();
    pipeline.add_command(set(&redis, "a", "one"));
    pipeline.add_command(get(&redis, "a"));
    let (set, got): (String, String) = redis.pipeline(&pipeline).await.unwrap();
    assert_eq!((set.as_str(), got.as_str()), ("OK", "one"));
}

#[tokio::test]
async fn another_type_than_asked_for_is_an_error_that_breaks_nothing() {
    let Some(redis) = shared() else { return };
    write(&redis, "a", "text").await.unwrap();
    let error = redis.query::<u64>(&get(&redis, "a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unexpected);
    assert_eq!(read(&redis, "a").await.unwrap().as_deref(), Some("text"));
}

#[tokio::test]
async fn calls_from_many_tasks_share_the_connections() {
    let Some(redis) = shared() else { return };
    write(&redis, "a", "one").await.unwrap();
    let tasks: Vec<_> = (0..256)
        .map(|_| {
            let redis = redis.clone();
            async move {
                for _ in 0..10 {
                    assert_eq!(read(&redis, "a").await.unwrap().as_deref(), Some("one"));
                }
            }
        })
        .collect();
    futures_util::future::join_all(tasks).await;
    assert_eq!(redis.stats().connections, 2);
}

#[tokio::test]
async fn a_call_that_its_caller_left_disturbs_no_other() {
    let Some(redis) = shared() else { return };
    write(&redis, "a", "one").await.unwrap();
    for round in 0..200 {
        let get = get(&redis, "a");
        let left = redis.query::<Option<String>>(&get);
        let _ = futures_util::poll!(Box::pin(left));
        assert_eq!(read(&redis, "a").await.unwrap().as_deref(), Some("one"), "{round}");
    }
}

#[tokio::test]
async fn a_closed_client_refuses_and_its_tasks_end() {
    let Some(server) = zmsg_testbed::redis() else { return };
    let tracker = tokio_util::task::TaskTracker::new();
    let redis = zmsg_redis::Redis::open(patient(server.url()), &tracker).unwrap();
    until_up(&redis).await;
    redis.close();
    tracker.close();
    tracker.wait().await;
    assert!(matches!(redis.health(), Health::Closed));
    assert_eq!(read(&redis, "a").await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn the_tasks_end_with_the_last_clone() {
    // Nobody listens there: the tasks are in the midst of trying.
    let port = zmsg_testbed::private::free_port();
    let tracker = tokio_util::task::TaskTracker::new();
    let options = patient(&format!("redis://127.0.0.1:{port}"));
    let redis = zmsg_redis::Redis::open(options, &tracker).unwrap();
    let other = redis.with_deadline(std::time::Duration::from_secs(5));
    drop(redis);
    assert_eq!(read(&other, "a").await.unwrap_err().kind(), ErrorKind::Unavailable);
    drop(other);
    tracker.close();
    tracker.wait().await;
}

#[tokio::test]
async fn namespaces_and_databases_are_apart() {
    let Some(redis) = shared() else { return };
    let Some(server) = zmsg_testbed::redis() else { return };
    write(&redis, "a", "one").await.unwrap();
    let mut options = patient(server.url());
    options.namespace = format!("{}-other", redis.options().namespace);
    assert_eq!(read(&open(options), "a").await.unwrap(), None);
    let mut options = redis.options().clone();
    options.database = 1;
    assert_eq!(read(&open(options), "a").await.unwrap(), None);
}
