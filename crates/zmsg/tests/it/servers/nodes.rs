//! Several nodes on the same servers.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use zmsg::bloom::FilterState;
use zmsg::{Level, Presence, Zmsg, counter, map, sql};

use super::{Servers, number};
use crate::support::{DEADLINE, eventually, insert};

async fn close(nodes: impl IntoIterator<Item = Zmsg>) {
    for node in nodes {
        let report = node.close(DEADLINE).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_write_of_one_node_is_read_by_another_through_redis() {
    let Some(servers) = Servers::ready().await else { return };
    let (a, b) = (servers.node().await, servers.node().await);
    let receipt = a.cache_and_store("feed_1", "one", insert("feed_1", "one")).await.unwrap();
    assert_eq!(receipt.level(), Level::Database);
    assert!(!receipt.is_degraded());
    assert_eq!(b.get("feed_1").await.unwrap(), Some(Bytes::from("one")));
    let cache = b.stats().await.cache;
    assert_eq!((cache.l2_hits, cache.loads), (1, 0), "it came from Redis: {cache:?}");
    close([a, b]).await;
}

/// The bound that the guarantees page gives: `cache.local.ttl`, until nodes tell each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_is_stale_for_the_ttl_of_its_own_cache_at_most() {
    let Some(servers) = Servers::ready().await else { return };
    let mut config = servers.config();
    config.cache.local_ttl = Duration::from_millis(300);
    let (a, b) = (servers.node().await, super::open(config).await);
    let _ = a.cache_and_store("feed_1", "one", insert("feed_1", "one")).await.unwrap();
    assert_eq!(b.get("feed_1").await.unwrap(), Some(Bytes::from("one")));
    let written = tokio::time::Instant::now();
    let _ = a.cache_and_store("feed_1", "two", insert("feed_1", "two")).await.unwrap();
    assert_eq!(a.get("feed_1").await.unwrap(), Some(Bytes::from("two")), "the writer's own node");
    eventually("the other node shows the new value", async || {
        let found = b.get("feed_1").await.unwrap();
        assert!(
            found == Some(Bytes::from("two")) || written.elapsed() < Duration::from_secs(2),
            "stale for {:?}",
            written.elapsed()
        );
        found == Some(Bytes::from("two"))
    })
    .await;
    close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_node_calls_a_row_of_another_absent() {
    let Some(servers) = Servers::ready().await else { return };
    let (a, b) = (servers.node().await, servers.node().await);
    for node in [&a, &b] {
        eventually("the shared filter is trusted", async || {
            node.stats().await.filter.state == FilterState::Ready
        })
        .await;
    }
    assert_eq!(b.get("feed_none").await.unwrap(), None);
    for round in 0..200 {
        let (writer, reader) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let id = format!("feed_{round}");
        // The caches may remember an absence for a while; the filter must not.
        match round % 3 {
            0 => drop(writer.cache_and_store(&id, "x", insert(&id, "x")).await.unwrap()),
            1 => {
                let delayed = writer.cache_and_delay_store(&id, "x", insert(&id, "x"));
                delayed.await.unwrap().applied().await.unwrap();
            }
            _ => {
                let periodic = writer.cache_and_periodic_store(&id, None, insert(&id, "x"));
                let receipt = periodic.await.unwrap();
                let _ = writer.flush().await.unwrap();
                receipt.applied().await.unwrap();
            }
        }
        assert_ne!(reader.db_hit(&id).await.unwrap(), Presence::Absent, "{id}");
    }
    close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_nodes_count_exactly_and_make_no_id_twice() {
    const NODES: usize = 4;
    const ROUNDS: i64 = 250;
    let Some(servers) = Servers::ready().await else { return };
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(servers.node().await);
    }
    let _ = nodes[0].cache_and_store("feed_1", "x", insert("feed_1", "x")).await.unwrap();
    let mut tasks = JoinSet::new();
    for (number, node) in nodes.iter().cloned().enumerate() {
        tasks.spawn(async move {
            let mut ids = Vec::new();
            for round in 0..ROUNDS {
                ids.push(node.next_id("feed").await.unwrap().to_string());
                let like = counter("feeds", "likes").inc(1).where_eq("id", "feed_1");
                let _ = node.cache_and_periodic_store("feed_1", None, like).await.unwrap();
                let mark = map("feeds", "meta").set(format!("n{number}"), round);
                let mark = mark.where_eq("id", "feed_1");
                let _ = node.cache_and_periodic_store("feed_1", None, mark).await.unwrap();
                if round % 50 == 0 {
                    let like = counter("feeds", "likes").inc(1).where_eq("id", "feed_1");
                    let _ = node.cache_and_delay_store("feed_1", "x", like).await.unwrap();
                    let _ = node.flush().await.unwrap();
                }
            }
            ids
        });
    }
    let mut ids = HashSet::new();
    while let Some(made) = tasks.join_next().await {
        for id in made.unwrap() {
            assert!(ids.insert(id.clone()), "{id} was made twice");
        }
    }
    assert_eq!(ids.len(), NODES * ROUNDS as usize);
    eventually("the queue is empty", async || {
        let queue = nodes[0].stats().await.queue.unwrap();
        queue.pending + queue.leased == 0
    })
    .await;
    close(nodes.drain(1..)).await;
    let _ = nodes[0].flush().await.unwrap();
    let likes = number(&nodes[0], "SELECT likes FROM feeds WHERE id = 'feed_1'").await;
    assert_eq!(likes, (NODES as i64) * (ROUNDS + ROUNDS / 50));
    let marks = nodes[0].sql_exec(sql("SELECT meta::text FROM feeds", ())).await.unwrap();
    let marks: serde_json::Value = serde_json::from_str(marks.rows[0].text(0).unwrap()).unwrap();
    for number in 0..NODES {
        assert_eq!(marks[format!("n{number}")], ROUNDS - 1);
    }
    close(nodes).await;
}

/// A worker of another node ends the task: the node that accepted it must not show the value any
/// longer, and its receipt is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_write_that_another_node_applies_leaves_the_cache_of_the_first() {
    let Some(servers) = Servers::ready().await else { return };
    let mut config = servers.config();
    config.queue.delay = Duration::from_millis(300);
    config.redis.url = None;
    let a = super::open(config.clone()).await;
    let shown = a.cache_and_delay_store("feed_1", "one", insert("feed_1", "one")).await.unwrap();
    assert_eq!(a.get("feed_1").await.unwrap(), Some(Bytes::from("one")), "shown on accept");
    let b = super::open(config).await;
    shown.applied().await.unwrap();
    let _ = b.cache_and_store("feed_1", "two", insert("feed_1", "two")).await.unwrap();
    eventually("the first node shows what was written last", async || {
        a.get("feed_1").await.unwrap() == Some(Bytes::from("two"))
    })
    .await;
    close([a, b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_nodes_open_at_once_on_an_empty_database() {
    let Some(servers) = Servers::ready().await else { return };
    let config = servers.config();
    let mut opening = JoinSet::new();
    for _ in 0..8 {
        let config = config.clone();
        opening.spawn(async move { super::open(config).await });
    }
    let nodes = opening.join_all().await;
    let mut numbers = HashSet::new();
    for node in &nodes {
        numbers.insert(node.stats().await.ids.node);
    }
    assert_eq!(numbers.len(), 8, "each node has a number of its own");
    close(nodes).await;
}
