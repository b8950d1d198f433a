//! A process that is killed between the commit of a flush and its invalidation.

use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use zmsg::{Zmsg, counter, sql};
use zmsg_testbed::Proxy;

use super::{Servers, number};
use crate::support::{DEADLINE, eventually, insert};

/// Serves the number of likes, which a periodic write changes without a value of its own.
fn likes(zmsg: &Zmsg) {
    let query = "SELECT CAST(likes AS text) FROM feeds WHERE 'like:' || id = ?";
    zmsg.source("like", query).unwrap();
}

/// Not a test of its own: the process that the next tests kill. It flushes when it is told to, and
/// says when it is about to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_flushes_until_it_is_killed() {
    let Ok(servers) = std::env::var("ZMSG_LEFTOVERS") else { return };
    let [postgres, redis, namespace] = servers.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{servers}")
    };
    let zmsg = super::open(super::config(postgres, redis, namespace)).await;
    likes(&zmsg);
    assert_eq!(zmsg.get("like:feed_1").await.unwrap(), Some(Bytes::from("0")));
    let like = counter("feeds", "likes").inc(1).where_eq("id", "feed_1");
    let _ = zmsg.cache_and_periodic_store("like:feed_1", None, like).await.unwrap();
    println!("it is in L2");
    let told = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    told.await.unwrap().unwrap();
    let _ = zmsg.flush().await;
    std::future::pending::<()>().await;
}

async fn child(servers: &Servers, proxy: &Proxy) -> (Child, Lines<BufReader<ChildStdout>>) {
    let Servers { database, redis, namespace } = servers;
    let redis = proxy.url(redis);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["servers::leftovers::child_that_flushes_until_it_is_killed", "--exact"])
        .arg("--nocapture")
        .env("ZMSG_LEFTOVERS", format!("{} {redis} {namespace}", database.url()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("it is in L2") {
            return (child, lines);
        }
    }
    panic!("the child has gone");
}

/// Kills a child after the commit of its flush, while nothing of it reaches Redis. `other` watches
/// the table.
async fn killed_after_its_commit(servers: &Servers, other: &Zmsg) {
    let proxy = Proxy::before(&servers.redis);
    let (mut child, _lines) = child(servers, &proxy).await;
    proxy.black_hole(true);
    child.stdin.as_mut().unwrap().write_all(b"flush\n").await.unwrap();
    eventually("the flush is committed", async || {
        number(other, "SELECT likes FROM feeds").await == 1
    })
    .await;
    child.kill().await.unwrap();
}

/// A node whose L1 does not keep anything for long, and one row with no likes.
async fn first_node(servers: &Servers) -> Zmsg {
    let mut config = servers.config();
    config.cache.local_ttl = Duration::from_millis(50);
    let zmsg = super::open(config).await;
    likes(&zmsg);
    let _ = zmsg.cache_and_store("feed_1", "x", insert("feed_1", "x")).await.unwrap();
    let zero = sql("UPDATE feeds SET likes = 0 WHERE id = ?", ("feed_1",));
    let _ = zmsg.sql_exec(zero.keys(["feed_1"])).await.unwrap();
    zmsg
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_start_reads_what_a_killed_process_had_flushed() {
    let Some(servers) = Servers::ready().await else { return };
    let first = first_node(&servers).await;
    killed_after_its_commit(&servers, &first).await;
    let next = servers.node().await;
    likes(&next);
    assert_eq!(next.get("like:feed_1").await.unwrap(), Some(Bytes::from("1")), "at once");
    for node in [first, next] {
        let _ = node.close(DEADLINE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_living_node_reads_what_a_killed_one_had_flushed_once_its_lease_has_ended() {
    let Some(servers) = Servers::ready().await else { return };
    let first = first_node(&servers).await;
    killed_after_its_commit(&servers, &first).await;
    assert_eq!(first.get("like:feed_1").await.unwrap(), Some(Bytes::from("0")), "of L2");
    eventually("the living node reads the new value", async || {
        first.get("like:feed_1").await.unwrap() == Some(Bytes::from("1"))
    })
    .await;
    eventually("the note is gone", async || {
        number(&first, "SELECT count(*) FROM zmsg_flushes").await == 0
    })
    .await;
    let _ = first.close(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_of_flushes_stay_few_and_go_with_their_node() {
    let Some(servers) = Servers::ready().await else { return };
    let (zmsg, other) = (servers.node().await, servers.node().await);
    let _ = zmsg.cache_and_store("feed_1", "x", insert("feed_1", "x")).await.unwrap();
    for _ in 0..50 {
        let like = counter("feeds", "likes").inc(1).where_eq("id", "feed_1");
        let _ = zmsg.cache_and_periodic_store("feed_1", None, like).await.unwrap();
        let _ = zmsg.flush().await.unwrap();
    }
    let count = "SELECT count(*) FROM zmsg_flushes";
    assert_eq!(number(&other, count).await, 1, "one flush at a time");
    let _ = zmsg.close(DEADLINE).await.unwrap();
    assert_eq!(number(&other, count).await, 0);
    let _ = other.close(DEADLINE).await.unwrap();
}
