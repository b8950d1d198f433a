//! What asynq's tools see of an engine's worker.

use std::time::Duration;

use zmsg::redis::redis::cmd;
use zmsg::{Config, Zmsg, sql};

use super::{NAMESPACE, QUEUE, Raw, Rig, close, drained, like, likes, number, open};
use crate::support::{DEADLINE, Watched, eventually, insert};

/// What stands in the places that tools look at.
async fn shown(raw: &Raw, place: &str) -> Vec<String> {
    raw.ask(cmd("ZRANGE").arg(format!("asynq:{place}")).arg(0).arg(-1)).await
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asynqs_tools_see_an_engines_worker_while_it_is_open() {
    let Some(rig) = Rig::start() else { return };
    let (zmsg, raw) = (rig.engine().await, rig.raw().await);
    eventually("it is shown", async || {
        shown(&raw, "servers").await.len() == 1 && shown(&raw, "workers").await.len() == 1
    })
    .await;
    let key = shown(&raw, "servers").await.remove(0);
    let info: Vec<u8> = raw.ask(cmd("GET").arg(&key)).await;
    assert!(holds(&info, QUEUE.as_bytes()), "with the queue that it works");
    // As after a Redis that was emptied.
    let _: String = raw.ask(&cmd("FLUSHALL")).await;
    eventually("it is shown again", async || shown(&raw, "servers").await == [key.as_str()]).await;
    close(zmsg).await;
    let left: Vec<String> = raw.ask(cmd("KEYS").arg("asynq:[sw]*er*")).await;
    assert_eq!(left, [""; 0], "it has said goodbye");
}

/// What a task carries in Redis.
async fn payload(raw: &Raw, id: zmsg::TaskId) -> Vec<u8> {
    let key = format!("asynq:{{{QUEUE}}}:t:{id}");
    let message: Vec<u8> = raw.ask(cmd("HGET").arg(key).arg("msg")).await;
    let kind = b"zmsg:save";
    let at = message.windows(kind.len()).position(|part| part == kind).unwrap() + kind.len();
    // The tag, the length in seven bits each, itself.
    let length = message[at + 1..].iter().take_while(|byte| **byte >= 0x80).count() + 1;
    let bytes = message[at + 1..=at + length].iter().rev();
    let size = bytes.fold(0, |size, byte| (size << 7) | usize::from(byte & 0x7f));
    message[at + 1 + length..][..size].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_is_shown_as_the_queue_has_it_and_can_be_cancelled() {
    let Some(rig) = Rig::start() else { return };
    let mut config = rig.config("engine");
    (config.queue.retry_base, config.queue.retry_cap) =
        (Duration::from_secs(60), Duration::from_secs(60));
    std::fs::create_dir_all(&config.directory).unwrap();
    let store = Watched::open(&config.directory.join("zmsg.db")).await;
    let zmsg = Zmsg::builder(config).store(store.clone()).open().await.unwrap();
    let create = "CREATE TABLE feeds (id TEXT PRIMARY KEY, data TEXT, likes INTEGER)";
    zmsg.sql_exec(sql(create, ())).await.unwrap();
    let _ = zmsg.cache_and_store("feed_1", "old", insert("feed_1", "old")).await.unwrap();
    let raw = rig.raw().await;

    store.hold_writes().await;
    let write = zmsg.cache_and_delay_store("feed_1", "new", like());
    let receipt = write.delay(Duration::from_millis(300)).await.unwrap();
    let payload = payload(&raw, receipt.id()).await;
    assert_eq!(payload[0], 2, "it is sealed");
    let attempts = async || -> Vec<Vec<u8>> {
        let Some(key) = shown(&raw, "workers").await.pop() else { return Vec::new() };
        raw.ask(cmd("HVALS").arg(key)).await
    };
    eventually("the attempt is shown", async || !attempts().await.is_empty()).await;
    let info = attempts().await.remove(0);
    assert!(holds(&info, &payload), "the payload as the queue has it");
    let at = info.windows(payload.len()).position(|part| part == payload).unwrap();
    let rest = [&info[..at], &info[at + payload.len()..]].concat();
    assert!(!holds(&rest, b"likes"), "and nothing of it opened");

    let key = format!("asynq:{{{QUEUE}}}:t:{}", receipt.id());
    let cancel = cmd("PUBLISH").arg("asynq:cancel").arg(receipt.id().to_string()).clone();
    eventually("it is cancelled, and will be tried again", async || {
        let heard: u64 = raw.ask(&cancel).await;
        let state: String = raw.ask(cmd("HGET").arg(&key).arg("state")).await;
        heard == 1 && state == "retry"
    })
    .await;
    // A transaction that has begun goes on to its end, and the next attempt finds that it did.
    store.release_writes();
    eventually("what was under way is in the table", async || likes(&zmsg).await == 1).await;
    let report = zmsg.close(DEADLINE).await.unwrap();
    assert!(report.is_clean() && report.queued == 1, "{report:?}");
}

/// Its user may work the queue, and neither show itself nor listen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_may_not_be_shown_works_all_the_same() {
    let Some(rig) = Rig::start() else { return };
    let raw = rig.raw().await;
    let keys = format!("~asynq:{{{QUEUE}}}:* ~asynq:queues ~zmsg:* ~{NAMESPACE}:*");
    let mut user = cmd("ACL");
    user.arg("SETUSER").arg("worker").arg("on").arg(">s3cret").arg("+@all").arg("resetchannels");
    let _: String = raw.ask(user.arg(keys.split(' ').collect::<Vec<_>>())).await;
    let url = format!("redis://worker:s3cret@127.0.0.1:{}", rig.redis.port());
    let narrow = |config: &mut Config| {
        config.redis.url = Some(url);
        config.redis.password = None;
    };
    let zmsg = rig.with(narrow).await;
    let receipts = [0, 100].map(Duration::from_millis);
    for delay in receipts {
        let write = zmsg.cache_and_delay_store("feed_1", "new", like()).delay(delay);
        write.await.unwrap().applied().await.unwrap();
    }
    drained(&zmsg).await;
    assert_eq!(number(&zmsg, "SELECT likes FROM feeds").await, 2);
    assert_eq!(shown(&raw, "servers").await, [""; 0]);
    close(zmsg).await;
    let zmsg = open(rig.config("engine")).await;
    eventually("one that may is shown", async || shown(&raw, "servers").await.len() == 1).await;
    close(zmsg).await;
}
