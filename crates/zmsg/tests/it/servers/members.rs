//! Nodes of one database share the same things in Redis, or do not open.

use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;
use zmsg::{Config, Error, ErrorKind, LeaseBackend, Zmsg, sql};
use zmsg_testbed::private::{PrivateRedis, RedisOptions};

use super::{Servers, number};
use crate::support::{DEADLINE, eventually, insert};

/// What keeps a killed node's row: its lease, and some time to look.
const FORGOTTEN: Duration = Duration::from_secs(15);

fn without_redis(config: &Config) -> Config {
    let mut config = config.clone();
    config.redis.url = None;
    config
}

async fn refused(config: Config) -> Error {
    let error = Zmsg::open(config).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    let text = error.to_string();
    for word in ["this node", "the other node", "process", "redis.namespace", "stopped"] {
        assert!(text.contains(word), "{word} is missing in: {text}");
    }
    error
}

async fn close(zmsg: Zmsg) {
    let report = zmsg.close(DEADLINE).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

/// What was lost without this: the node without Redis, which opened first, knows no filter, and the
/// other one builds one that is not told of its rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_refused_while_another_is_open_that_shares_something_else() {
    let Some(servers) = Servers::ready().await else { return };
    let with = servers.config();
    let without = without_redis(&with);
    let mut elsewhere = with.clone();
    elsewhere.redis.namespace.push_str("-other");
    let directory = tempfile::tempdir().unwrap();
    let mut fixed = with.clone();
    (fixed.ids.lease, fixed.ids.node) = (LeaseBackend::Fixed, 7);
    fixed.directory = directory.path().to_owned();

    let first = super::open(without.clone()).await;
    let text = refused(with.clone()).await.to_string();
    assert!(text.contains(&servers.namespace) && text.contains("none"), "both sides: {text}");
    refused(fixed.clone()).await;
    close(first).await;

    let first = super::open(fixed).await;
    refused(without).await;
    refused(elsewhere).await;
    let second = super::open(with).await;
    for node in [first, second] {
        close(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_different_nodes_that_open_at_once_one_kind_is_open() {
    let Some(servers) = Servers::ready().await else { return };
    close(servers.node().await).await;
    for _ in 0..5 {
        let mut opening = JoinSet::new();
        for turn in 0..6 {
            let with = servers.config();
            let config = if turn % 2 == 0 { without_redis(&with) } else { with };
            opening.spawn(async move { (turn % 2, Zmsg::open(config).await) });
        }
        let mut open = Vec::new();
        for (kind, opened) in opening.join_all().await {
            match opened {
                Ok(zmsg) => open.push((kind, zmsg)),
                Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}"),
            }
        }
        let kinds: Vec<_> = open.iter().map(|(kind, _)| *kind).collect();
        assert!(kinds == [0; 3] || kinds == [1; 3], "open: {kinds:?}");
        for (_, zmsg) in open {
            close(zmsg).await;
        }
    }
}

/// Not a test of its own: the process that the next test kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_is_open_until_it_is_killed() {
    let Ok(postgres) = std::env::var("ZMSG_MEMBER") else { return };
    let mut config = Config::default();
    config.store.url = postgres;
    let _zmsg = Zmsg::open(config).await.unwrap();
    println!("it is open");
    std::future::pending::<()>().await;
}

async fn child(postgres: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["servers::members::child_that_is_open_until_it_is_killed", "--exact", "--nocapture"])
        .env("ZMSG_MEMBER", postgres)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("it is open") {
            return child;
        }
    }
    panic!("the child did not open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_keeps_others_away_for_no_longer_than_its_lease() {
    let Some(servers) = Servers::ready().await else { return };
    let mut child = child(servers.database.url()).await;
    child.kill().await.unwrap();
    let killed = Instant::now();
    refused(servers.config()).await;
    let same = Zmsg::open(without_redis(&servers.config())).await.unwrap();
    close(same).await;
    eventually("the killed node is forgotten", async || {
        let Ok(zmsg) = Zmsg::open(servers.config()).await else { return false };
        close(zmsg).await;
        true
    })
    .await;
    assert!(killed.elapsed() < FORGOTTEN, "{:?}", killed.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_redis_of_the_same_namespace_is_refused() {
    let Some(other) = PrivateRedis::start(RedisOptions::new()) else { return };
    let Some(servers) = Servers::ready().await else { return };
    let first = servers.node().await;
    let mut config = servers.config();
    config.redis.url = Some(other.url());
    refused(config).await;
    let same = servers.node().await;
    for node in [first, same] {
        close(node).await;
    }
}

/// Every one of these takes all marks out of Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_the_same_redis_is_let_in_after_a_flush_and_a_restart() {
    let Some(redis) = PrivateRedis::start(RedisOptions::new().directive("save \"\"")) else {
        return;
    };
    let Some(mut servers) = Servers::ready().await else { return };
    servers.redis = redis.url();
    let mut nodes = vec![servers.node().await];
    redis.kill();
    redis.restart();
    nodes.push(servers.node().await);
    let tracker = Default::default();
    let client = zmsg::redis::RedisOptions::from_url(&redis.url()).unwrap();
    let client = zmsg::redis::Redis::open(client, &tracker).unwrap();
    eventually("the flush is done", async || {
        client.query::<()>(&zmsg::redis::redis::cmd("FLUSHALL")).await.is_ok()
    })
    .await;
    nodes.push(servers.node().await);
    redis.pause();
    nodes.push(servers.node().await);
    redis.resume();
    redis.kill();
    nodes.push(servers.node().await);
    for node in nodes {
        let _ = node.close(DEADLINE).await.unwrap();
    }
}

/// As after an outage of the database that was longer than the lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_row_has_gone_works_on_and_puts_it_back() {
    let Some(servers) = Servers::ready().await else { return };
    let zmsg = servers.node().await;
    let count = "SELECT count(*) FROM zmsg_members";
    let _ = zmsg.sql_exec(sql("DELETE FROM zmsg_members", ()).all_rows()).await.unwrap();
    let _ = zmsg.cache_and_store("feed_1", "one", insert("feed_1", "one")).await.unwrap();
    assert_eq!(zmsg.get("feed_1").await.unwrap(), Some(Bytes::from("one")));
    eventually("the row is back", async || number(&zmsg, count).await == 1).await;
    refused(without_redis(&servers.config())).await;
    let other = servers.node().await;
    close(zmsg).await;
    assert_eq!(number(&other, count).await, 1, "who closes takes its row along");
    close(other).await;
}
