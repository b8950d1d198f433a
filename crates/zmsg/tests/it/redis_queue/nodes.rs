//! Nodes that share a queue in Redis hear of each other's tasks at once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use zmsg::redis::redis::cmd;
use zmsg::store::{Outcome, SqlStore, Step, StepError};
use zmsg::{Result, Zmsg, sql};

use super::{NAMESPACE, Raw, Rig, close, like, likes, open};
use crate::between::{Around, Between};
use crate::servers::Servers;
use crate::support::eventually;

/// Transactions of one table wait until the gate is closed for good.
#[derive(Debug)]
struct Held(Semaphore);

#[async_trait]
impl Around for Held {
    async fn execute_all(
        &self,
        inner: &dyn SqlStore,
        steps: Vec<Step>,
    ) -> Result<Vec<Outcome>, StepError> {
        if steps.iter().any(|step| step.statement.text.contains("held_rows")) {
            drop(self.0.acquire().await);
        }
        inner.execute_all(steps).await
    }
}

/// How many nodes listen for the word of others.
async fn listeners(raw: &Raw) -> u64 {
    let mut ask = cmd("PUBSUB");
    let channels: Vec<String> = raw.ask(ask.arg("CHANNELS").arg("*wake*")).await;
    let Some(channel) = channels.first() else { return 0 };
    let mut ask = cmd("PUBSUB");
    let (_, heard): (String, u64) = raw.ask(ask.arg("NUMSUB").arg(channel)).await;
    heard
}

/// How often somebody has told others.
async fn told(raw: &Raw) -> u64 {
    let mut ask = cmd("INFO");
    let said: String = raw.ask(ask.arg("commandstats")).await;
    let line = said.lines().find_map(|line| line.strip_prefix("cmdstat_publish:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// The only worker of the node that writes is busy. That a node which was told looks at once is shown where
/// queues are tested, with polls that are far apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_hear_of_each_others_tasks_and_run_those_of_a_busy_one() {
    const ROUNDS: u32 = 5;
    let Some(rig) = Rig::start() else { return };
    let Some(mut servers) = Servers::ready().await else { return };
    (servers.redis, servers.namespace) = (rig.redis.url(), NAMESPACE.into());
    let mut config = servers.config();
    config.queue = rig.config("none").queue;
    (config.queue.task_timeout, config.queue.lease) =
        (Duration::from_secs(100), Duration::from_secs(120));
    let worker = open(config.clone()).await;
    worker.sql_exec(sql("CREATE TABLE held_rows (n INTEGER)", ())).await.unwrap();
    close(worker).await;

    let inner = zmsg::open_store(&config, &TaskTracker::new()).await.unwrap();
    let store = Arc::new(Between { inner, around: Held(Semaphore::new(0)) });
    let mut busy = config.clone();
    busy.queue.workers = 1;
    let writer = Zmsg::builder(busy).store(store.clone()).open().await.unwrap();
    let hold = sql("INSERT INTO held_rows (n) VALUES (?)", (1,));
    let held = writer.cache_and_delay_store("note_1", "x", hold).await.unwrap();
    eventually("its worker is busy", async || {
        writer.stats().await.queue.is_some_and(|queue| queue.leased == 1)
    })
    .await;
    let worker = open(config).await;
    let raw = rig.raw().await;
    eventually("both listen", async || listeners(&raw).await == 2).await;

    let before = told(&raw).await;
    for _ in 0..ROUNDS {
        let receipt = writer.cache_and_delay_store("feed_1", "x", like()).await.unwrap();
        receipt.applied().await.unwrap();
    }
    assert!(told(&raw).await > before, "they were told");
    assert_eq!(likes(&worker).await, i64::from(ROUNDS));
    store.around.0.close();
    held.applied().await.unwrap();
    for node in [writer, worker] {
        close(node).await;
    }
}
