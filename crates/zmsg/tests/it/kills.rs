//! A process that is killed, for real: what was acknowledged as durable is there.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use zmsg::{Zmsg, sql};

use crate::support::{DEADLINE, config, eventually, insert};

/// What a killed worker had in hand is handed out again when its lease ends.
fn short_leases(dir: &std::path::Path) -> zmsg::Config {
    let mut config = config(dir);
    config.queue.lease = Duration::from_secs(2);
    config.queue.task_timeout = Duration::from_secs(1);
    config
}

const CHILD_DIR: &str = "ZMSG_TEST_KILL_DIR";

/// Not a test of its own: the process that the next test kills. Prints each acknowledged write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let zmsg = Zmsg::open(short_leases(dir.as_ref())).await.unwrap();
    for n in 0_u64.. {
        let id = zmsg.next_id("feed").await.unwrap();
        let data = format!("value {n}");
        let write = insert(id.as_str(), &data);
        let receipt = if n.is_multiple_of(2) {
            zmsg.cache_and_store(&id, &data, write).await.unwrap()
        } else {
            let later = Duration::from_millis(n % 7);
            zmsg.cache_and_delay_store(&id, &data, write).delay(later).await.unwrap()
        };
        assert_eq!(receipt.level(), zmsg::Level::Database);
        println!("acked {id} {data}");
    }
}

/// Runs the child for `writes` acknowledged writes, kills it, and gives what it acknowledged.
fn killed_after(dir: &std::path::Path, writes: usize) -> Vec<(String, String)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["kills::child_that_writes_until_it_is_killed", "--exact", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acked = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The test runner may put its own words before the first line.
        let Some((_, ack)) = line.split_once("acked ") else { continue };
        let (id, data) = ack.split_once(' ').unwrap();
        acked.push((id.to_owned(), data.to_owned()));
        if acked.len() == writes {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    acked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_no_acknowledged_store_or_delayed_write() {
    let dir = tempfile::tempdir().unwrap();
    let zmsg = Zmsg::open(config(dir.path())).await.unwrap();
    let create = sql("CREATE TABLE feeds (id TEXT PRIMARY KEY, data TEXT, likes INTEGER)", ());
    zmsg.sql_exec(create).await.unwrap();
    let _ = zmsg.close(DEADLINE).await.unwrap();

    let mut acked = Vec::new();
    for round in 1..=5 {
        let path = dir.path().to_owned();
        acked.extend(
            tokio::task::spawn_blocking(move || killed_after(&path, round * 23)).await.unwrap(),
        );
    }
    let ids: std::collections::HashSet<_> = acked.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), acked.len(), "no id was given twice, over five kills");

    let zmsg = Zmsg::open(short_leases(dir.path())).await.unwrap();
    zmsg.source("feed", "SELECT data FROM feeds WHERE id = ?").unwrap();
    eventually("the queue drained", || async {
        let queue = zmsg.stats().await.queue.unwrap();
        queue.pending + queue.leased == 0
    })
    .await;
    for (id, data) in &acked {
        let found = zmsg.get(id).await.unwrap();
        assert_eq!(found.as_deref(), Some(data.as_bytes()), "{id}");
    }
    assert!(zmsg.dead_letters().list(10).await.unwrap().is_empty());
    let _ = zmsg.close(DEADLINE).await.unwrap();
}
