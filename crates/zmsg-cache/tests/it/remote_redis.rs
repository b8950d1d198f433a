//! `RedisCache` signs the suite of L2, on one server and on a cluster; and what it does about
//! bytes that it did not write, values that are too large, and servers that stand still.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::task::TaskTracker;
use zmsg_cache::conformance::{RemoteHarness, remote};
use zmsg_cache::{HoldToken, RedisCache, RemoteCache};
use zmsg_core::{ErrorKind, Key, Level, Result};
use zmsg_redis::redis::{FromRedisValue, cmd};
use zmsg_redis::{Redis, RedisOptions};
use zmsg_testbed::private::{PrivateRedis, RedisOptions as PrivateOptions};

use crate::support::{bytes, key, some};

const LONG: Duration = Duration::from_secs(60);

/// A client with a deadline that a busy machine does not miss.
pub(crate) fn open(url: &str, namespace: Option<String>) -> Redis {
    let mut options = RedisOptions::from_url(url).unwrap();
    options.deadline = Duration::from_secs(2);
    options.namespace = namespace.unwrap_or(options.namespace);
    Redis::open(options, &TaskTracker::new()).unwrap()
}

fn shared() -> Option<RedisCache> {
    let server = zmsg_testbed::redis()?;
    Some(RedisCache::new(open(server.url(), Some(server.namespace()))))
}

#[derive(Debug)]
struct Shared;

#[async_trait]
impl RemoteHarness for Shared {
    async fn cache(&self) -> Arc<dyn RemoteCache> {
        match shared() {
            Some(cache) => Arc::new(connected(cache).await),
            // Said on stderr. The suite is signed by the one that it was written with.
            None => Arc::new(zmsg_cache::MemoryRemote::new(Arc::new(zmsg_core::SystemClock))),
        }
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// A fill after a look.
pub(crate) async fn fill(
    cache: &RedisCache,
    key: &Key,
    value: Option<&Bytes>,
    ttl: Duration,
) -> Result<bool> {
    let since = cache.get(key).await?.at;
    cache.fill(key, value, ttl, since).await
}

/// Holds are short in the suite: connecting is not to take of their time.
async fn connected(cache: RedisCache) -> RedisCache {
    fill(&cache, &key("warm"), None, LONG).await.unwrap();
    cache
}

zmsg_cache::remote_conformance!(Shared);

/// Runs these promises one after the other on one cluster, which takes seconds to start.
macro_rules! in_turn {
    ($harness:expr, [$($promise:ident),* $(,)?]) => {$( remote::$promise($harness).await; )*};
}

#[derive(Debug)]
pub(crate) struct Cluster(pub(crate) Vec<PrivateRedis>);

#[async_trait]
impl RemoteHarness for Cluster {
    async fn cache(&self) -> Arc<dyn RemoteCache> {
        let url = format!("redis+cluster://127.0.0.1:{}", self.0[0].port());
        Arc::new(connected(RedisCache::new(open(&url, None))).await)
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

impl Cluster {
    pub(crate) async fn start() -> Option<Self> {
        let options = PrivateOptions::new().without_password().directive("cluster-enabled yes");
        let nodes = (0..3).map(|_| PrivateRedis::start(options.clone()));
        let nodes = nodes.collect::<Option<Vec<_>>>()?;
        let created = Command::new("redis-cli")
            .args(["--cluster", "create", "--cluster-yes"])
            .args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())))
            .output()
            .expect("redis-cli lies beside redis-server");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        for node in &nodes {
            let asked = open(&node.url(), None);
            until(async || {
                let info: String =
                    asked.query(cmd("CLUSTER").arg("INFO")).await.unwrap_or_default();
                info.contains("cluster_state:ok")
            })
            .await;
        }
        Some(Self(nodes))
    }
}

/// Waits until it is so.
pub(crate) async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let began = std::time::Instant::now();
    while !condition().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(began.elapsed() < Duration::from_secs(20), "it did not become true");
    }
}

#[tokio::test]
async fn a_cluster_keeps_the_same_promises() {
    let Some(cluster) = Cluster::start().await else { return };
    in_turn!(
        &cluster,
        [
            a_filled_value_comes_back_with_its_rest,
            absent_is_something_that_comes_back,
            get_many_answers_in_order,
            a_fill_bounces_off_a_value,
            a_fill_bounces_off_a_hold_until_it_expires,
            the_holder_publishes,
            a_deletion_is_published_as_absent,
            nobody_publishes_on_a_contended_hold,
            a_set_ends_the_hold_of_a_writer,
            an_invalidation_ends_the_hold_of_a_writer,
            a_hold_is_never_shortened,
            many_keys_are_invalidated_as_one_is,
            values_are_bytes_of_any_kind,
        ]
    );
}

/// Sends a command about the place where the cache keeps this key.
pub(crate) async fn at<T: FromRedisValue>(
    cache: &RedisCache,
    name: &str,
    key: &Key,
    args: &[&str],
) -> T {
    let redis = cache.redis();
    redis.query(cmd(name).arg(redis.key("c", key.as_str())).arg(args)).await.unwrap()
}

/// When an entry ended, as it tells it.
const ENDED: &str = "\0\0\0\0\0\0\0\u{1}";

#[tokio::test]
async fn what_others_put_there_is_dropped_and_loaded_anew() {
    let Some(cache) = shared() else { return };
    assert_eq!(cache.level(), Level::Redis);
    let (text, list, eternal) = (key("text"), key("list"), key("eternal"));
    let spoil = async || {
        at::<()>(&cache, "SET", &text, &["{\"not\":\"ours\"}", "PX", "60000"]).await;
        at::<()>(&cache, "DEL", &list, &[]).await;
        at::<()>(&cache, "RPUSH", &list, &["x"]).await;
        cache.set(&eternal, &bytes("value"), LONG).await.unwrap();
        at::<()>(&cache, "PERSIST", &eternal, &[]).await;
        at::<()>(&cache, "SETRANGE", &eternal, &["22", ENDED]).await;
    };
    let keys = [text.clone(), list.clone(), eternal.clone()];
    spoil().await;
    for key in &keys {
        assert_eq!(cache.get(key).await.unwrap().entry, None, "{key:?}");
        assert_eq!(at::<u64>(&cache, "EXISTS", key, &[]).await, 0, "{key:?}");
    }
    assert_eq!(cache.stats().unreadable, 3);
    spoil().await;
    let found = cache.get_many(&keys).await.unwrap();
    assert!(found.iter().all(|found| found.entry.is_none()), "{found:?}");
    // What is no string is not told from nothing, and is replaced.
    assert_eq!(cache.stats().unreadable, 5);
    for (key, found) in keys.iter().zip(found) {
        let anew = bytes("anew");
        assert!(cache.fill(key, Some(&anew), LONG, found.at).await.unwrap(), "{key:?}");
    }
    // A writer does not wait for a reader to clean up.
    spoil().await;
    for key in &keys {
        let token = HoldToken::generate();
        cache.hold(key, token, LONG).await.unwrap();
        assert!(cache.publish(key, token, Some(&bytes("new")), LONG).await.unwrap(), "{key:?}");
    }
}

#[tokio::test]
async fn a_hold_that_someone_made_eternal_keeps_no_fill_out() {
    let Some(cache) = shared() else { return };
    let key = key("eternal");
    cache.invalidate(&key, LONG).await.unwrap();
    assert!(!fill(&cache, &key, None, LONG).await.unwrap());
    at::<()>(&cache, "PERSIST", &key, &[]).await;
    assert!(fill(&cache, &key, None, LONG).await.unwrap());
}

#[tokio::test]
async fn an_entry_ends_when_it_says_so() {
    let Some(cache) = shared() else { return };
    let [filled, set, published] = ["filled", "set", "published"].map(key);
    fill(&cache, &filled, None, LONG).await.unwrap();
    cache.set(&set, &bytes("x"), LONG).await.unwrap();
    let token = HoldToken::generate();
    cache.hold(&published, token, LONG).await.unwrap();
    assert!(cache.publish(&published, token, Some(&bytes("x")), LONG).await.unwrap());
    for key in [&filled, &set, &published] {
        let at_key = cache.redis().key("c", key.as_str());
        let end: Vec<u8> =
            cache.redis().query(cmd("GETRANGE").arg(at_key).arg(22).arg(29)).await.unwrap();
        let expires: u64 = at(&cache, "PEXPIRETIME", key, &[]).await;
        assert_eq!(u64::from_be_bytes(end.try_into().unwrap()), expires, "{key:?}");
        let left = cache.get(key).await.unwrap().entry.expect("it is there").ttl_left;
        assert!(left <= LONG && left > LONG / 2, "{key:?}: {left:?}");
    }
}

#[tokio::test]
async fn everything_ends_by_itself() {
    let Some(cache) = shared() else { return };
    let forever = Duration::MAX;
    let [filled, set, held, published, invalid] =
        ["filled", "set", "held", "published", "invalid"].map(key);
    fill(&cache, &filled, None, forever).await.unwrap();
    cache.set(&set, &bytes("x"), forever).await.unwrap();
    cache.hold(&held, HoldToken::generate(), forever).await.unwrap();
    let token = HoldToken::generate();
    cache.hold(&published, token, LONG).await.unwrap();
    assert!(cache.publish(&published, token, None, forever).await.unwrap());
    cache.invalidate(&invalid, forever).await.unwrap();
    for key in [&filled, &set, &held, &published, &invalid] {
        assert!(at::<i64>(&cache, "PTTL", key, &[]).await > 0, "{key:?}");
        at::<()>(&cache, "DEL", key, &[]).await;
    }
}

#[tokio::test]
async fn a_value_that_is_too_large_is_not_stored_and_the_bound_is_named() {
    let Some(cache) = shared() else { return };
    let cache = cache.with_value_max(10);
    let (key, big) = (key("big"), bytes("x".repeat(11)));
    for error in [
        fill(&cache, &key, Some(&big), LONG).await.unwrap_err(),
        cache.set(&key, &big, LONG).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("value_max: 10"), "{error}");
    }
    // A publication leaves the hold: the write was committed, and is not to fail for this.
    let token = HoldToken::generate();
    cache.hold(&key, token, LONG).await.unwrap();
    assert!(!cache.publish(&key, token, Some(&big), LONG).await.unwrap());
    assert!(!fill(&cache, &key, None, LONG).await.unwrap());
    assert!(cache.publish(&key, token, some("0123456789").as_ref(), LONG).await.unwrap());
    assert_eq!(cache.stats().too_large, 3);
}

#[tokio::test]
async fn a_fill_that_a_server_comes_to_too_late_is_refused() {
    let Some(server) = PrivateRedis::start(PrivateOptions::new()) else { return };
    let mut options = RedisOptions::from_url(&server.url()).unwrap();
    // One connection: what follows the fill on it is answered after the fill.
    options.connections = 1;
    let redis = Redis::open(options, &TaskTracker::new()).unwrap();
    until(async || redis.health().is_up()).await;
    let cache = RedisCache::new(redis.with_deadline(LONG));
    let key = key("late");
    // The server's time is known, and so is the script.
    fill(&cache, &crate::support::key("other"), None, LONG).await.unwrap();
    let hold = Duration::from_millis(300);
    cache.invalidate(&key, hold).await.unwrap();
    let since = cache.get(&key).await.unwrap().at;
    server.pause();
    let old = bytes("from before the invalidation");
    let mut late = Box::pin(cache.fill(&key, Some(&old), LONG, since));
    assert!(futures_util::poll!(&mut late).is_pending());
    // Past the hold, and past the deadline of a call: its caller would have left.
    let gone = redis.options().deadline + hold * 2;
    assert!(tokio::time::timeout(gone, &mut late).await.is_err());
    server.resume();
    assert!(!late.await.unwrap(), "it came too late");
    assert_eq!(cache.get(&key).await.unwrap().entry, None);
    assert!(fill(&cache, &key, Some(&bytes("loaded anew")), LONG).await.unwrap());
}
