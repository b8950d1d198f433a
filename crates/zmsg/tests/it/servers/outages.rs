//! Servers that go away and come back under an engine.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use zmsg::{Zmsg, counter, sql};
use zmsg_testbed::private::{PostgresOptions, PrivatePostgres, PrivateRedis, RedisOptions};

use super::{Servers, number};
use crate::support::{DEADLINE, eventually, insert};

/// An engine on the shared PostgreSQL and a Redis of its own, which may be killed.
async fn on_own_redis() -> Option<(Servers, PrivateRedis, Zmsg)> {
    let redis = PrivateRedis::start(RedisOptions::new())?;
    let mut servers = Servers::ready().await?;
    servers.redis = redis.url();
    let zmsg = servers.node().await;
    Some((servers, redis, zmsg))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_reads_come_from_the_store_and_writes_say_so() {
    let Some((_servers, redis, zmsg)) = on_own_redis().await else { return };
    let receipt = zmsg.cache_and_store("feed_1", "one", insert("feed_1", "one")).await.unwrap();
    assert!(!receipt.is_degraded());
    redis.kill();
    let receipt = zmsg.cache_and_store("feed_1", "two", insert("feed_1", "two")).await.unwrap();
    assert!(receipt.is_degraded(), "the receipt says that Redis was not told");
    assert_eq!(zmsg.get("feed_1").await.unwrap(), Some(Bytes::from("two")));
    let _ = zmsg
        .sql_exec(sql("UPDATE feeds SET data = 'three' WHERE id = 'feed_1'", ()).keys(["feed_1"]))
        .await
        .unwrap();
    let _ = zmsg.cache_and_store("feed_2", "x", insert("feed_2", "x")).await.unwrap();
    eventually("a read goes to the store", async || {
        zmsg.get("feed_1").await.unwrap() == Some(Bytes::from("three"))
    })
    .await;
    let stats = zmsg.stats().await;
    assert!(stats.cache.l2_errors > 0 && stats.repairs_queued >= 1, "{stats:?}");
    let _ = zmsg.close(DEADLINE).await.unwrap();
}

/// A Redis that kept its memory comes back with a value that a write replaced meanwhile: another
/// node must not read it for longer than it takes to repair it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_missed_is_repaired_within_two_seconds_of_its_return() {
    let Some((servers, redis, zmsg)) = on_own_redis().await else { return };
    let _ = zmsg.cache_and_store("feed_1", "one", insert("feed_1", "one")).await.unwrap();
    redis.pause();
    let receipt = zmsg.cache_and_store("feed_1", "two", insert("feed_1", "two")).await.unwrap();
    assert!(receipt.is_degraded());
    redis.resume();
    let back = Instant::now();
    let other = servers.node().await;
    eventually("the other node reads the new value", async || {
        let found = other.get("feed_1").await.unwrap();
        other.del("feed_none").await.ok();
        found == Some(Bytes::from("two"))
    })
    .await;
    assert!(back.elapsed() < Duration::from_secs(8), "{:?}", back.elapsed());
    for node in [zmsg, other] {
        let _ = node.close(DEADLINE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_opens_without_redis_and_finds_it_later() {
    let Some((servers, redis, first)) = on_own_redis().await else { return };
    let _ = first.close(DEADLINE).await.unwrap();
    redis.kill();
    let zmsg = servers.node().await;
    let _ = zmsg.cache_and_store("feed_1", "one", insert("feed_1", "one")).await.unwrap();
    assert_eq!(zmsg.get("feed_1").await.unwrap(), Some(Bytes::from("one")));
    redis.restart();
    eventually("writes reach Redis again", async || {
        let write = zmsg.cache_and_store("feed_1", "two", insert("feed_1", "two")).await;
        !write.unwrap().is_degraded()
    })
    .await;
    let _ = zmsg.close(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_restarts_loses_no_accepted_operation() {
    let (Some(postgres), Some(redis)) =
        (PrivatePostgres::start(PostgresOptions::new()), zmsg_testbed::redis())
    else {
        return;
    };
    let config = super::config(&postgres.url(), redis.url(), &redis.namespace());
    let zmsg = super::open(config).await;
    let _ = zmsg.cache_and_store("feed_1", "x", insert("feed_1", "x")).await.unwrap();
    let like = || counter("feeds", "likes").inc(1).where_eq("id", "feed_1");
    for round in 0..300 {
        let _ = zmsg.cache_and_periodic_store("feed_1", None, like()).await.unwrap();
        if round == 100 {
            postgres.kill();
            assert!(zmsg.flush().await.is_err(), "the database is away");
        }
        if round == 200 {
            postgres.restart();
        }
    }
    eventually("the flush succeeds", async || zmsg.flush().await.is_ok()).await;
    assert_eq!(number(&zmsg, "SELECT likes FROM feeds").await, 300);
    let report = zmsg.close(DEADLINE).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}
