//! A delayed write takes effect once, whatever Redis, other nodes and the network do.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use zmsg::redis::redis::cmd;
use zmsg::{Level, Zmsg};
use zmsg_testbed::{Proxy, Repeat};

use super::{NAMESPACE, QUEUE, Rig, close, drained, like, likes, number, open, remembered};
use crate::servers::Servers;
use crate::support::{eventually, insert};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_delayed_in_redis_is_shown_at_once_and_applied_once() {
    let Some(rig) = Rig::start() else { return };
    let zmsg = rig.engine().await;
    let write = zmsg.cache_and_delay_store("feed_2", "hello", insert("feed_2", "hello"));
    let receipt = write.delay(Duration::from_secs(1)).await.unwrap();
    assert_eq!(receipt.level(), Level::Redis, "the task is in Redis");
    assert_eq!(zmsg.get("feed_2").await.unwrap().as_deref(), Some(&b"hello"[..]));
    let rows = "SELECT count(*) FROM feeds WHERE id = 'feed_2'";
    assert_eq!(number(&zmsg, rows).await, 0, "and not yet in the table");
    let raw = rig.raw().await;
    assert_eq!(raw.tasks(QUEUE).await.len(), 1);
    assert_eq!(number(&zmsg, "SELECT count(*) FROM zmsg_tasks").await, 0, "nor in the database");
    receipt.wait(Level::Database).await.unwrap();
    receipt.applied().await.unwrap();
    assert_eq!(number(&zmsg, rows).await, 1);
    assert_eq!(remembered(&zmsg).await, 1);
    drained(&zmsg).await;
    assert_eq!(raw.tasks(QUEUE).await, [""; 0]);
    close(zmsg).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_redis_when_an_engine_closes_is_reported_and_done_by_the_next() {
    let Some(rig) = Rig::start() else { return };
    let zmsg = rig.engine().await;
    let write = zmsg.cache_and_delay_store("feed_1", "new", like());
    let _ = write.delay(Duration::from_secs(1)).await.unwrap();
    let report = zmsg.close(crate::support::DEADLINE).await.unwrap();
    assert!(report.is_clean() && report.queued == 1 && report.lost_queued == 0, "{report:?}");
    let zmsg = Zmsg::open(rig.config("engine")).await.unwrap();
    eventually("the task was applied", async || likes(&zmsg).await == 1).await;
    drained(&zmsg).await;
    close(zmsg).await;
}

/// One write, so that Redis knows the scripts: the answer that is lost is then that of an enqueue, and
/// not that it does not know the script.
async fn known_to_redis(zmsg: &Zmsg) {
    let receipt = zmsg.cache_and_delay_store("feed_1", "new", like()).await.unwrap();
    receipt.applied().await.unwrap();
    drained(zmsg).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_of_redis_does_not_double_the_task() {
    let Some(rig) = Rig::start() else { return };
    let proxy = Proxy::before(&rig.redis.url());
    let through = |config: &mut zmsg::Config| config.redis.url = Some(proxy.url(&rig.redis.url()));
    let zmsg = rig.with(through).await;
    known_to_redis(&zmsg).await;
    // The one request that has a task's kind in it is its enqueue.
    proxy.swallow_answer_to("zmsg:save", Repeat::Once);
    let receipt = zmsg.cache_and_delay_store("feed_1", "new", like()).await.unwrap();
    assert_eq!(proxy.counts().swallowed, 1);
    receipt.applied().await.unwrap();
    drained(&zmsg).await;
    assert_eq!((likes(&zmsg).await, remembered(&zmsg).await), (2, 2));
    close(zmsg).await;
}

/// Redis takes the task and nobody hears of it; the fallback writes; then the task comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_was_written_by_the_fallback_and_is_in_redis_too_takes_effect_once() {
    let Some(rig) = Rig::start() else { return };
    let proxy = Proxy::before(&rig.redis.url());
    let zmsg = rig
        .with(|config| {
            config.redis.url = Some(proxy.url(&rig.redis.url()));
            config.queue.fallback_to_store = true;
        })
        .await;
    known_to_redis(&zmsg).await;
    proxy.swallow_answer_to("zmsg:save", Repeat::Always);
    let write = zmsg.cache_and_delay_store("feed_1", "new", like());
    let receipt = write.delay(Duration::from_secs(3)).await.unwrap();
    assert_eq!(receipt.level(), Level::Database, "the fallback wrote it");
    receipt.applied().await.unwrap();
    assert_eq!(likes(&zmsg).await, 2);
    assert!(proxy.counts().swallowed >= 1);
    let raw = rig.raw().await;
    assert_eq!(raw.tasks(QUEUE).await.len(), 1, "and Redis has it all the same");
    proxy.swallow_nothing();
    drained(&zmsg).await;
    assert_eq!((likes(&zmsg).await, remembered(&zmsg).await), (2, 2));
    assert_eq!(zmsg.stats().await.queue.unwrap().dead, 0);
    close(zmsg).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_on_one_redis_and_one_database_apply_every_task_once() {
    const EACH: i64 = 150;
    let Some(rig) = Rig::start() else { return };
    let Some(mut servers) = Servers::ready().await else { return };
    (servers.redis, servers.namespace) = (rig.redis.url(), NAMESPACE.into());
    let config = || {
        let mut config = servers.config();
        config.queue = rig.config("none").queue;
        config
    };
    let (a, b) = (open(config()).await, open(config()).await);
    let mut writes = JoinSet::new();
    for round in 0..EACH {
        for node in [a.clone(), b.clone()] {
            writes.spawn(async move {
                let write = node.cache_and_delay_store("feed_1", format!("{round}"), like());
                let receipt = write.delay(Duration::from_millis(20)).await.unwrap();
                receipt.applied().await.unwrap();
            });
        }
    }
    while let Some(written) = writes.join_next().await {
        written.unwrap();
    }
    drained(&a).await;
    assert_eq!((likes(&a).await, remembered(&a).await), (2 * EACH, 2 * EACH));
    assert_eq!(a.stats().await.queue.unwrap().dead, 0);
    for node in [a, b] {
        close(node).await;
    }
}

/// Both have the same secret, as a careless deployment may have it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_of_two_databases_on_one_redis_never_take_each_others_tasks() {
    let Some(rig) = Rig::start() else { return };
    let a = rig.engine().await;
    let mut config = rig.config("other");
    config.redis.namespace = "app2".into();
    let b = open(config).await;
    let mut receipts = Vec::new();
    for round in 0..20 {
        let writer = if round % 4 == 0 { &b } else { &a };
        receipts.push(writer.cache_and_delay_store("feed_1", "new", like()).await.unwrap());
    }
    for receipt in receipts {
        receipt.applied().await.unwrap();
    }
    drained(&a).await;
    drained(&b).await;
    assert_eq!((likes(&a).await, likes(&b).await), (15, 5));
    for zmsg in [a, b] {
        assert_eq!(zmsg.dead_letters().list(10).await.unwrap().len(), 0);
        close(zmsg).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_an_earlier_configuration_left_in_the_database_are_done() {
    let Some(rig) = Rig::start() else { return };
    let zmsg = rig.with(|config| config.queue.backend = zmsg::QueueBackend::Sql).await;
    let write = zmsg.cache_and_delay_store("feed_1", "new", like());
    let _ = write.delay(Duration::from_secs(1)).await.unwrap();
    close(zmsg).await;
    let zmsg = rig.engine().await;
    eventually("the task was applied", async || likes(&zmsg).await == 1).await;
    close(zmsg).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_beside_a_queue_in_redis_is_worked_from_the_database() {
    let Some(rig) = Rig::start() else { return };
    let zmsg = rig.engine().await;
    let outbox = zmsg.outbox("feed_1", like(), Duration::ZERO).unwrap();
    let statement = zmsg::core::Statement::query(outbox.text, outbox.binds);
    let store = zmsg::open_store(&rig.config("engine"), &TaskTracker::new()).await.unwrap();
    let done = store.execute_all(vec![zmsg::store::Step::any(statement)]).await.unwrap();
    assert_eq!(done[0].rows.len(), 1);
    store.close().await.unwrap();
    eventually("the task was applied", async || likes(&zmsg).await == 1).await;
    close(zmsg).await;
}

/// A queue that the caller brings is as public as one that the configuration names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_in_redis_that_is_brought_is_signed_as_well_or_refused() {
    let Some(rig) = Rig::start() else { return };
    let raw = rig.raw().await;
    let mut config = rig.config("engine");
    config.queue.backend = zmsg::QueueBackend::Sql;
    let secret = config.queue.secret.take();
    let open = async |config| Zmsg::builder(config).queue(Arc::new(raw.queue())).open().await;
    let error = open(config.clone()).await.unwrap_err();
    assert!(error.to_string().contains("queue.secret"), "{error}");
    config.queue.secret = secret;
    let zmsg = open(config).await.unwrap();
    let put = zmsg::sql("INSERT INTO zmsg_data (id, data) VALUES (?, ?)", ("note_1", &b"x"[..]));
    let write = zmsg.cache_and_delay_store("note_1", "x", put).delay(Duration::from_secs(1));
    let receipt = write.await.unwrap();
    let key = raw.tasks(QUEUE).await.remove(0);
    let message: Vec<u8> = raw.ask(cmd("HGET").arg(key).arg("msg")).await;
    let at = message.windows(9).position(|part| part == b"zmsg:save").unwrap() + 9;
    assert_eq!(message[at], 0x12, "the tag of the payload, then its length, then itself");
    let length = message[at + 1..].iter().take_while(|byte| **byte >= 0x80).count() + 1;
    assert_eq!(message[at + 1 + length], 2, "the version of what is signed");
    receipt.applied().await.unwrap();
    close(zmsg).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_that_outlasts_what_the_inbox_remembers_is_refused_and_written_by_no_fallback() {
    let Some(rig) = Rig::start() else { return };
    let zmsg = rig.with(|config| config.queue.fallback_to_store = true).await;
    let week = Duration::from_secs(7 * 86_400);
    let write = zmsg.cache_and_delay_store("feed_1", "new", like()).delay(week);
    let error = write.await.unwrap_err();
    assert_eq!(error.kind(), zmsg::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("queue.inbox_retention"), "{error}");
    assert_eq!(likes(&zmsg).await, 0);
    close(zmsg).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_in_redis_are_those_of_the_engine_and_can_be_tried_again() {
    let Some(rig) = Rig::start() else { return };
    let zmsg = rig.engine().await;
    let mut config = rig.config("other");
    config.redis.namespace = "app2".into();
    let other = open(config).await;
    let refused = || zmsg::sql("INSERT INTO feeds (id, data) VALUES (?, ?)", ("feed_1", "x"));
    for engine in [&zmsg, &other] {
        let receipt = engine.cache_and_delay_store("feed_1", "x", refused()).await.unwrap();
        assert!(receipt.applied().await.is_err());
    }
    let dead = zmsg.dead_letters().list(10).await.unwrap();
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert!(dead[0].summary.contains("INSERT INTO feeds"), "{dead:?}");
    assert_eq!(zmsg.get("feed_1").await.unwrap().as_deref(), Some(&b"old"[..]), "no longer shown");
    let _ =
        zmsg.del_store("feed_1", zmsg::sql("DELETE FROM feeds WHERE id = ?", ("feed_1",))).await;
    assert!(zmsg.dead_letters().retry(dead[0].id).await.unwrap());
    drained(&zmsg).await;
    assert_eq!(number(&zmsg, "SELECT count(*) FROM feeds WHERE data = 'x'").await, 1);
    let dead = other.dead_letters().list(10).await.unwrap();
    assert!(other.dead_letters().drop(dead[0].id).await.unwrap());
    let raw = rig.raw().await;
    let left: Vec<String> = raw.ask(cmd("KEYS").arg("asynq:*:t:*")).await;
    assert_eq!(left, [""; 0]);
    for engine in [zmsg, other] {
        close(engine).await;
    }
}
