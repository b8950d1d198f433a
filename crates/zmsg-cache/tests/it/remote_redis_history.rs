//! A Redis that comes back with an older copy of its memory: none of it is shown, and what was
//! seen before does not count any more.

use std::time::Duration;

use zmsg_cache::{HoldToken, RedisCache, RemoteCache};
use zmsg_core::Key;
use zmsg_redis::redis::cmd;
use zmsg_redis::{Redis, RedisKey};
use zmsg_testbed::private::{PrivateRedis, RedisOptions};

use crate::remote_redis::{Cluster, at, fill, open, until};
use crate::support::{bytes, key, some};

const LONG: Duration = Duration::from_secs(60);

/// A cache on this server that is connected.
async fn cache_on(server: &PrivateRedis) -> RedisCache {
    let cache = RedisCache::new(open(&server.url(), None));
    until(async || cache.redis().health().is_up()).await;
    cache
}

async fn save(cache: &RedisCache) {
    cache.redis().query::<()>(&cmd("SAVE")).await.unwrap();
}

/// Kills a server and starts it with what it saved; returns when the caches are connected anew.
async fn restart(server: &PrivateRedis, caches: &[&RedisCache]) {
    let connections = |cache: &RedisCache| cache.redis().stats().connections;
    let before: Vec<u64> = caches.iter().map(|cache| connections(cache)).collect();
    server.kill();
    // The clients go on meanwhile, on threads of their own.
    server.restart();
    for (cache, before) in caches.iter().zip(before) {
        let lines = cache.redis().options().connections as u64;
        until(async || connections(cache) >= before + lines).await;
    }
}

async fn is_hit(cache: &RedisCache, key: &Key) -> bool {
    cache.get(key).await.unwrap().entry.is_some()
}

async fn exists(cache: &RedisCache, key: &Key) -> bool {
    at::<u64>(cache, "EXISTS", key, &[]).await == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_shows_neither_values_nor_absences_nor_what_was_invalidated() {
    let Some(server) = PrivateRedis::start(RedisOptions::new()) else { return };
    let (one, other) = (cache_on(&server).await, cache_on(&server).await);
    let keys = ["value", "absence", "invalidated", "only cached"].map(key);
    let [value, absence, invalidated, only] = &keys;
    fill(&one, value, Some(&bytes("old")), LONG).await.unwrap();
    fill(&one, absence, None, LONG).await.unwrap();
    fill(&one, invalidated, Some(&bytes("old")), LONG).await.unwrap();
    one.set(only, &bytes("old"), LONG).await.unwrap();
    for key in &keys {
        assert!(is_hit(&other, key).await, "both agree on what the server is: {key:?}");
    }
    save(&one).await;
    for key in &keys[..3] {
        one.invalidate(key, LONG).await.unwrap();
    }

    restart(&server, &[&one, &other]).await;
    for key in &keys {
        assert!(exists(&one, key).await, "{key:?}");
        for cache in [&one, &other] {
            assert!(!is_hit(cache, key).await, "{key:?}");
        }
    }
    let many = other.get_many(&keys).await.unwrap();
    assert!(many.iter().all(|found| found.entry.is_none()), "{many:?}");
    assert_eq!(one.stats().unreadable + other.stats().unreadable, 0);
    for key in &keys {
        assert!(fill(&one, key, Some(&bytes("loaded anew")), LONG).await.unwrap(), "{key:?}");
        assert!(is_hit(&other, key).await, "{key:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_of_an_older_copy_publishes_nothing_and_lasts_for_its_time() {
    let Some(server) = PrivateRedis::start(RedisOptions::new()) else { return };
    let cache = cache_on(&server).await;
    let [held, short] = ["held", "short"].map(key);
    let token = HoldToken::generate();
    cache.hold(&held, token, LONG).await.unwrap();
    cache.hold(&short, HoldToken::generate(), Duration::from_secs(3)).await.unwrap();
    save(&cache).await;

    restart(&server, &[&cache]).await;
    assert!(exists(&cache, &held).await);
    let value = some("new");
    assert!(!cache.publish(&held, token, value.as_ref(), LONG).await.unwrap());
    assert!(!fill(&cache, &held, value.as_ref(), LONG).await.unwrap());
    // Another writer meets it, and neither of them publishes.
    let next = HoldToken::generate();
    cache.hold(&held, next, LONG).await.unwrap();
    assert!(!cache.publish(&held, next, value.as_ref(), LONG).await.unwrap());

    until(async || fill(&cache, &short, value.as_ref(), LONG).await.unwrap()).await;
}

/// Puts a value there, as a client would that knows this history.
async fn put(redis: &Redis, key: &RedisKey, history: &str) {
    let end = u64::MAX.to_be_bytes();
    let entry = [b"\x03v", history.as_bytes(), &end, b"its value"].concat();
    redis.query::<()>(cmd("SET").arg(key).arg(entry).arg("PX").arg(60_000)).await.unwrap();
}

/// What the server says of its history now, whatever its connections know.
async fn present(redis: &Redis) -> String {
    let mut history = String::new();
    for (section, name) in [("server", "run_id:"), ("replication", "master_replid:")] {
        let info: String = redis.query(cmd("INFO").arg(section)).await.unwrap();
        let number = info.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        history.push_str(&number[..10]);
    }
    history
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_behind_replaces_no_newer_value_and_publishes_none_as_old() {
    let Some(server) = PrivateRedis::start(RedisOptions::new()) else { return };
    let cache = cache_on(&server).await;
    let [newer, older, written] = ["newer", "older", "written"].map(key);
    let redis = cache.redis().clone();
    let place = |key: &Key| redis.key("c", key.as_str());
    let value = some("loaded");
    put(&redis, &place(&older), "01234567890123456789").await;
    assert!(fill(&cache, &older, value.as_ref(), LONG).await.unwrap());
    assert!(is_hit(&cache, &older).await);

    // A promotion that breaks no connection: for a while the cache does not know of it.
    for master in [("127.0.0.1", "1"), ("NO", "ONE")] {
        redis.query::<()>(cmd("REPLICAOF").arg(master.0).arg(master.1)).await.unwrap();
    }
    put(&redis, &place(&newer), &present(&redis).await).await;
    assert!(!fill(&cache, &newer, value.as_ref(), LONG).await.unwrap());
    // What it published under the older history, a fill would replace by what it loaded before.
    let token = HoldToken::generate();
    cache.hold(&written, token, LONG).await.unwrap();
    let published = cache.publish(&written, token, value.as_ref(), LONG).await.unwrap();
    let mut label = cmd("GETRANGE");
    let label: String = redis.query(label.arg(place(&written)).arg(1).arg(21)).await.unwrap();
    assert_eq!(published, label == format!("v{}", present(&redis).await), "{label}");
    until(async || is_hit(&cache, &newer).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_whose_miss_was_seen_before_a_restart_is_refused() {
    let Some(server) = PrivateRedis::start(RedisOptions::new()) else { return };
    let cache = cache_on(&server).await;
    let key = key("late");
    let since = cache.get(&key).await.unwrap().at;
    // Somebody wrote, and what kept this fill out was forgotten.
    cache.invalidate(&key, LONG).await.unwrap();
    restart(&server, &[&cache]).await;
    let old = some("from before the write");
    assert!(!cache.fill(&key, old.as_ref(), LONG, since).await.unwrap());
    assert!(!is_hit(&cache, &key).await);
    assert!(fill(&cache, &key, some("loaded anew").as_ref(), LONG).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_given_an_older_copy_without_breaking_its_connections_is_noticed() {
    let Some(server) = PrivateRedis::start(RedisOptions::new().without_password()) else { return };
    let Some(copy) = PrivateRedis::start(RedisOptions::new().without_password()) else { return };
    let cache = cache_on(&server).await;
    let asked = |server: &PrivateRedis| open(&server.url(), Some("other".into()));
    let (admin, behind) = (asked(&server), asked(&copy));
    let follow = async |who: &zmsg_redis::Redis, whom: Option<u16>| {
        let mut command = cmd("REPLICAOF");
        match whom {
            Some(port) => command.arg("127.0.0.1").arg(port),
            None => command.arg("NO").arg("ONE"),
        };
        who.query::<()>(&command).await.unwrap();
        until(async || {
            let info: String = who.query(cmd("INFO").arg("replication")).await.unwrap_or_default();
            info.contains(match whom {
                Some(_) => "master_link_status:up",
                None => "role:master",
            })
        })
        .await;
    };
    // A replica attached gives the server a new history once.
    follow(&behind, Some(server.port())).await;
    let key = key("moved");
    until(async || {
        let value = bytes("old");
        cache.set(&key, &value, LONG).await.is_ok() && is_hit(&cache, &key).await
    })
    .await;
    let place = cache.redis().key("c", key.as_str());
    until(async || behind.query::<u64>(cmd("EXISTS").arg(&place)).await.unwrap_or(0) == 1).await;
    follow(&behind, None).await;
    cache.invalidate(&key, LONG).await.unwrap();
    follow(&admin, Some(copy.port())).await;
    follow(&admin, None).await;
    assert!(exists(&cache, &key).await);
    let began = std::time::Instant::now();
    until(async || !is_hit(&cache, &key).await).await;
    until(async || fill(&cache, &key, Some(&bytes("loaded anew")), LONG).await.unwrap()).await;
    assert!(is_hit(&cache, &key).await);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_a_cluster_that_comes_back_with_an_older_copy_shows_nothing_of_it() {
    let Some(cluster) = Cluster::start().await else { return };
    let url = format!("redis+cluster://127.0.0.1:{}", cluster.0[0].port());
    let cache = RedisCache::new(open(&url, None));
    let keys: Vec<Key> = (0..30).map(|n| key(format!("feed_{n}"))).collect();
    let mut seen = Vec::new();
    for key in &keys {
        until(async || cache.get(key).await.is_ok()).await;
        seen.push(cache.get(key).await.unwrap().at);
        assert!(fill(&cache, key, Some(&bytes("old")), LONG).await.unwrap());
    }
    let harmed = &cluster.0[1];
    let node = open(&harmed.url(), None);
    node.query::<()>(&cmd("SAVE")).await.unwrap();
    let kept: usize = node.query(&cmd("DBSIZE")).await.unwrap();
    cache.invalidate_many(&keys, LONG).await.unwrap();

    harmed.kill();
    harmed.restart();
    until(async || cache.get_many(&keys).await.is_ok()).await;
    let found = cache.get_many(&keys).await.unwrap();
    assert!(found.iter().all(|found| found.entry.is_none()), "{found:?}");
    let changed = found.iter().zip(&seen).filter(|(found, seen)| found.at != **seen).count();
    assert!(kept > 0 && changed == kept, "{changed} of {kept}");
    for (key, seen) in keys.iter().zip(seen) {
        let filled = cache.fill(key, some("late").as_ref(), LONG, seen).await.unwrap();
        assert!(!filled, "{key:?}");
    }
}
