//! Whoever can write to Redis cannot run SQL thereby, nor drop anything from the caches.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use zmsg::core::{Clock as _, ManualClock, SystemClock};
use zmsg::queue::{LeasedTask, NewTask, TaskQueue as _};
use zmsg::redis::redis::cmd;
use zmsg::{DeadLetter, TaskId, Zmsg};

use super::{QUEUE, Raw, Rig, close, drained, like, likes, open};
use crate::support::eventually;

/// What is signed begins so: version, moment, signature.
const ENVELOPE: usize = 1 + 8 + 32;

/// A true task, as Redis has it. Its engine is closed, and the task no longer in Redis.
async fn captured(rig: &Rig, raw: &Raw) -> LeasedTask {
    let zmsg = rig.engine().await;
    let write = zmsg.cache_and_delay_store("feed_1", "new", like());
    let _ = write.delay(Duration::from_millis(500)).await.unwrap();
    close(zmsg).await;
    let queue = raw.queue();
    let found = Mutex::new(Vec::new());
    eventually("the task is due", async || {
        let leased = queue.lease(QUEUE, 1, Duration::from_secs(60)).await.unwrap();
        let mut found = found.lock().unwrap();
        found.extend(leased);
        !found.is_empty()
    })
    .await;
    let task = found.into_inner().unwrap().remove(0);
    assert!(queue.complete(&task).await.unwrap());
    task
}

fn like_it(task: &LeasedTask) -> NewTask {
    NewTask::new(task.id, task.kind.clone(), task.payload.clone())
        .queue(task.queue.clone())
        .due(SystemClock.wall())
        .attempts_max(10)
}

/// Has an engine meet such a task: its only dead letter, at the first attempt, and nothing else.
async fn is_buried(rig: &Rig, raw: &Raw, task: NewTask) -> DeadLetter {
    raw.queue().enqueue(task).await.unwrap();
    let zmsg = rig.engine().await;
    let _ = zmsg.cache_only("feed_1", "cached").await.unwrap();
    eventually("the task is a dead letter", async || {
        zmsg.stats().await.queue.is_some_and(|queue| queue.dead == 1)
    })
    .await;
    let mut dead = zmsg.dead_letters().list(10).await.unwrap();
    assert_eq!(likes(&zmsg).await, 0, "its SQL did not run");
    let cached = zmsg.get("feed_1").await.unwrap();
    assert_eq!(cached.as_deref(), Some(&b"cached"[..]), "and its keys stay in the caches");
    assert!(zmsg.dead_letters().drop(dead[0].id).await.unwrap());
    close(zmsg).await;
    dead.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_a_tampered_and_a_replayed_task_are_dead_letters_and_run_nothing() {
    let Some(rig) = Rig::start() else { return };
    let raw = rig.raw().await;
    let task = captured(&rig, &raw).await;

    let unsigned = task.payload.slice(ENVELOPE..);
    let forged = NewTask { payload: unsigned, ..like_it(&task) };
    let dead = is_buried(&rig, &raw, forged).await;
    assert!(dead.cause.contains("without a signature"), "{}", dead.cause);
    assert!(!dead.summary.contains("UPDATE"), "nobody decodes it: {}", dead.summary);

    let mut tampered = task.payload.to_vec();
    let at = tampered.windows(9).position(|part| part == b"likes + 1").unwrap();
    tampered[at + 8] = b'9';
    let tampered = NewTask { payload: Bytes::from(tampered), ..like_it(&task) };
    let dead = is_buried(&rig, &raw, tampered).await;
    assert!(dead.cause.contains("signature of a task is wrong"), "{}", dead.cause);

    let replayed = NewTask { id: TaskId::generate(), ..like_it(&task) };
    let dead = is_buried(&rig, &raw, replayed).await;
    assert!(dead.cause.contains("signature of a task is wrong"), "{}", dead.cause);

    let renamed = NewTask { kind: "zmsg:delete".into(), ..like_it(&task) };
    let dead = is_buried(&rig, &raw, renamed).await;
    assert!(dead.cause.contains("signature of a task is wrong"), "{}", dead.cause);

    // As it was, it is good, once.
    let zmsg = rig.engine().await;
    for _ in 0..2 {
        raw.queue().enqueue(like_it(&task)).await.unwrap();
        eventually("the task was applied", async || likes(&zmsg).await == 1).await;
        drained(&zmsg).await;
    }
    assert_eq!(likes(&zmsg).await, 1);
    close(zmsg).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_of_another_namespace_is_refused_even_with_the_same_secret() {
    let Some(rig) = Rig::start() else { return };
    let raw = rig.raw().await;
    let task = captured(&rig, &raw).await;
    let mut config = rig.config("other");
    config.redis.namespace = "app2".into();
    let other = open(config).await;
    raw.queue().enqueue(like_it(&task).queue("app2:default")).await.unwrap();
    eventually("the task is a dead letter", async || {
        other.stats().await.queue.is_some_and(|queue| queue.dead == 1)
    })
    .await;
    assert_eq!(likes(&other).await, 0);
    let dead = other.dead_letters().list(10).await.unwrap();
    assert!(dead[0].cause.contains("signature of a task is wrong"), "{}", dead[0].cause);
    close(other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_changed_while_it_waits_answers_its_receipt_and_leaves_the_caches() {
    let Some(rig) = Rig::start() else { return };
    let (zmsg, raw) = (rig.engine().await, rig.raw().await);
    let write = zmsg.cache_and_delay_store("feed_1", "new", like());
    let receipt = write.delay(Duration::from_secs(1)).await.unwrap();
    assert_eq!(zmsg.get("feed_1").await.unwrap().as_deref(), Some(&b"new"[..]));
    let key = raw.tasks(QUEUE).await.remove(0);
    let mut message: Vec<u8> = raw.ask(cmd("HGET").arg(&key).arg("msg")).await;
    let at = message.windows(9).position(|part| part == b"likes + 1").unwrap();
    message[at + 8] = b'9';
    let _: u64 = raw.ask(cmd("HSET").arg(&key).arg("msg").arg(message)).await;
    let error = receipt.applied().await.unwrap_err();
    assert!(error.is_outcome_unknown() && error.to_string().contains("signature"), "{error}");
    assert_eq!(likes(&zmsg).await, 0);
    assert_eq!(zmsg.get("feed_1").await.unwrap().as_deref(), Some(&b"old"[..]), "no longer shown");
    close(zmsg).await;
}

async fn writes(zmsg: &Zmsg) {
    let receipt = zmsg.cache_and_delay_store("feed_1", "new", like()).await.unwrap();
    receipt.applied().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_signed_with_the_previous_secret_is_done_and_one_of_a_forgotten_secret_is_not() {
    const NEW: &str = "another secret of the tests, also long enough";
    let Some(rig) = Rig::start() else { return };
    let raw = rig.raw().await;
    let task = captured(&rig, &raw).await;
    let changed = |previous: Option<&'static str>| {
        move |config: &mut zmsg::Config| {
            config.queue.secret = Some(zmsg::Secret::new(NEW));
            config.queue.secret_previous = previous.map(zmsg::Secret::new);
        }
    };
    let zmsg = rig.with(changed(None)).await;
    writes(&zmsg).await;
    raw.queue().enqueue(like_it(&task)).await.unwrap();
    eventually("the task is a dead letter", async || {
        zmsg.stats().await.queue.is_some_and(|queue| queue.dead == 1)
    })
    .await;
    assert_eq!(likes(&zmsg).await, 1);
    close(zmsg).await;

    let zmsg = rig.with(changed(Some(super::SECRET))).await;
    let dead = zmsg.dead_letters().list(10).await.unwrap();
    assert!(zmsg.dead_letters().retry(dead[0].id).await.unwrap(), "nothing of it was lost");
    eventually("the task was applied", async || likes(&zmsg).await == 2).await;
    drained(&zmsg).await;
    close(zmsg).await;
}

/// Its effect may have been forgotten: somebody keeps a copy of a task until the inbox has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_task_that_the_inbox_may_have_forgotten_is_a_dead_letter() {
    let Some(rig) = Rig::start() else { return };
    let raw = rig.raw().await;
    let task = captured(&rig, &raw).await;
    raw.queue().enqueue(like_it(&task)).await.unwrap();
    let week_and_a_day = SystemClock.wall() + 8 * 86_400_000;
    let later = Arc::new(ManualClock::new(week_and_a_day));
    let zmsg = Zmsg::builder(rig.config("engine")).clock(later).open().await.unwrap();
    eventually("the task is a dead letter", async || {
        zmsg.stats().await.queue.is_some_and(|queue| queue.dead == 1)
    })
    .await;
    let dead = zmsg.dead_letters().list(10).await.unwrap();
    assert!(dead[0].cause.contains("queue.inbox_retention"), "{}", dead[0].cause);
    assert_eq!(likes(&zmsg).await, 0);
    close(zmsg).await;
}
