//! What a server that is there, but cannot serve, makes of calls.

use std::time::Duration;

use zmsg_core::{ErrorKind, ErrorStatus};
use zmsg_redis::redis::{Pipeline, RedisResult, Value, cmd};
use zmsg_redis::{Redis, Script};
use zmsg_testbed::Proxy;
use zmsg_testbed::private::{PrivateRedis, RedisOptions as PrivateOptions};

use crate::support::{get, open, patient, private, read, returned, set, shared, until, write};

async fn tell(redis: &Redis, words: &[&str]) {
    redis.query::<()>(cmd(words[0]).arg(&words[1..])).await.unwrap();
}

#[tokio::test]
async fn a_key_of_another_type_is_corrupted() {
    let Some(redis) = shared() else { return };
    write(&redis, "a", "one").await.unwrap();
    let push = cmd("RPUSH").arg(redis.key("t", "a")).arg("x").to_owned();
    let error = redis.query::<()>(&push).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Corrupted, ErrorStatus::Permanent));
    assert!(redis.health().is_up());
}

#[tokio::test]
async fn a_pipeline_is_refused_as_the_first_of_its_commands_that_is() {
    let Some(redis) = shared() else { return };
    write(&redis, "a", "one").await.unwrap();
    let mut pipeline = Pipeline::new();
    pipeline.add_command(get(&redis, "a"));
    pipeline.cmd("RPUSH").arg(redis.key("t", "a")).arg("x");
    let error = redis.pipeline::<Value>(&pipeline).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Corrupted, ErrorStatus::Permanent));
    let answers: Vec<RedisResult<Value>> = redis.pipeline(pipeline.ignore_errors()).await.unwrap();
    assert!(answers[0].is_ok() && answers[1].is_err());
}

#[tokio::test]
async fn a_pipeline_that_ignores_errors_still_leaves_a_replica() {
    let Some(server) = private() else { return };
    let redis = open(patient(&server.url()));
    write(&redis, "a", "one").await.unwrap();
    let side = open(patient(&server.url()));
    tell(&side, &["REPLICAOF", "127.0.0.1", "1"]).await;
    let before = redis.stats().connections;
    let mut pipeline = Pipeline::new();
    pipeline.add_command(set(&redis, "a", "two"));
    let refused = redis.pipeline::<Value>(pipeline.ignore_errors()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
    until(async || redis.stats().connections > before).await;
}

#[tokio::test]
async fn a_full_server_is_overloaded_for_writes_and_serves_reads() {
    let Some(server) =
        PrivateRedis::start(PrivateOptions::new().directive("maxmemory-policy noeviction"))
    else {
        return;
    };
    static SET: Script = Script::new("return redis.call('SET', KEYS[1], ARGV[1])");
    let redis = open(patient(&server.url()));
    write(&redis, "small", "one").await.unwrap();
    tell(&redis, &["CONFIG", "SET", "maxmemory", "1mb"]).await;
    let big = "x".repeat(100_000);
    let mut refused = None;
    for n in 0..20 {
        refused = write(&redis, &n.to_string(), &big).await.err();
    }
    let error = refused.expect("it is full");
    assert_eq!((error.kind(), error.status()), (ErrorKind::Overloaded, ErrorStatus::Temporary));
    let error =
        redis.script::<()>(&SET, &[redis.key("t", "a")], &big).await.expect_err("it is full");
    assert_eq!((error.kind(), error.status()), (ErrorKind::Overloaded, ErrorStatus::Temporary));
    assert_eq!(read(&redis, "small").await.unwrap().as_deref(), Some("one"));
    assert!(redis.health().is_up(), "reads still work");
    tell(&redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
    write(&redis, "a", &big).await.unwrap();
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_left_for_the_new_master() {
    let (Some(old), Some(new)) = (
        PrivateRedis::start(PrivateOptions::new().without_password()),
        PrivateRedis::start(PrivateOptions::new().without_password()),
    ) else {
        return;
    };
    let proxy = Proxy::before(&old.url());
    let redis = open(patient(&proxy.url(&old.url())));
    write(&redis, "a", "old").await.unwrap();
    // The address now leads elsewhere, as a name does after a failover; connections stay.
    proxy.set_server(&new.url());
    let mut returns = redis.returns();
    tell(&open(patient(&old.url())), &["REPLICAOF", "127.0.0.1", "1"]).await;
    let error = write(&redis, "a", "new").await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Unavailable, ErrorStatus::Temporary));
    returned(&mut returns).await;
    until(async || write(&redis, "a", "new").await.is_ok()).await;
    assert_eq!(read(&open(patient(&new.url())), "a").await.unwrap().as_deref(), Some("new"));
}

#[tokio::test]
async fn a_server_that_loads_is_unavailable_and_comes_back_by_itself() {
    let Some(server) =
        PrivateRedis::start(PrivateOptions::new().directive("enable-debug-command yes"))
    else {
        return;
    };
    let redis = open(patient(&server.url()));
    let side = open(patient(&server.url())).with_deadline(Duration::from_secs(30));
    for n in 0..200 {
        write(&side, &n.to_string(), &"x".repeat(2000)).await.unwrap();
    }
    for (name, value) in [
        // Each key takes 10 ms to load, and requests are looked at in between.
        ("key-load-delay", "10000"),
        ("loading-process-events-interval-bytes", "1024"),
        ("rdbcompression", "no"),
    ] {
        tell(&side, &["CONFIG", "SET", name, value]).await;
    }
    let reloading = {
        let side = side.clone();
        tokio_util::task::TaskTracker::new()
            .spawn(async move { side.query::<()>(cmd("DEBUG").arg("RELOAD")).await })
    };
    let mut refused = None;
    until(async || {
        refused = read(&redis, "7").await.err();
        refused.is_some()
    })
    .await;
    let error = refused.expect("it loads");
    assert_eq!((error.kind(), error.status()), (ErrorKind::Unavailable, ErrorStatus::Temporary));
    assert!(error.to_string().contains("loading"), "{error}");
    until(async || read(&redis, "7").await.is_ok_and(|value| value.is_some())).await;
    reloading.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_replica_without_its_master_is_unavailable() {
    let Some(server) = private() else { return };
    let redis = open(patient(&server.url()));
    write(&redis, "a", "one").await.unwrap();
    tell(&redis, &["CONFIG", "SET", "replica-serve-stale-data", "no"]).await;
    let side = open(patient(&server.url()));
    tell(&side, &["REPLICAOF", "127.0.0.1", "1"]).await;
    let error = read(&redis, "a").await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Unavailable, ErrorStatus::Temporary));
}
