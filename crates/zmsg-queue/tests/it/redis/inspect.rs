//! What an inspector shows of a queue in Redis besides what all do.

use zmsg_core::{Clock as _, Error, ErrorKind, SystemClock, TaskId};
use zmsg_queue::{Act, NewTask, Stage, TaskInspector, TaskQueue};
use zmsg_redis::redis::cmd;

use super::{LEASE, kept, tasks};

#[tokio::test]
async fn the_numbers_of_the_day_are_shown() {
    let Some((_server, _redis, queue)) = kept() else { return };
    queue.enqueue_all(tasks(3)).await.unwrap();
    let leased = queue.lease("default", 3, LEASE).await.unwrap();
    assert!(queue.complete(&leased[0]).await.unwrap());
    assert!(queue.bury(&leased[1], &Error::invalid_input("no")).await.unwrap());
    let summary = queue.summary("default").await.unwrap();
    assert_eq!((summary.processed_today, summary.failed_today), (Some(2), Some(1)));
}

#[tokio::test]
async fn an_id_that_is_in_several_queues_is_acted_upon_in_the_one_that_is_named() {
    let Some((_server, _redis, queue)) = kept() else { return };
    let id = TaskId::generate();
    for name in ["a", "b"] {
        let task = NewTask::new(id, "save", name.to_owned()).queue(name);
        queue.enqueue(task).await.unwrap();
    }
    for refusal in [queue.delete(None, id).await, queue.run_now(None, id).await] {
        let error = refusal.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains("name the queue"), "{error}");
    }
    assert_eq!(queue.delete(Some("b"), id).await.unwrap(), Act::Done);
    assert_eq!(queue.payload(None, id).await.unwrap().unwrap(), "a");
}

#[tokio::test]
async fn what_asynq_keeps_for_its_result_is_listed_run_again_and_deleted() {
    let Some((_server, redis, queue)) = kept() else { return };
    let all = tasks(2);
    queue.enqueue_all(all.clone()).await.unwrap();
    // As asynq leaves a task that is done and has a retention.
    for task in &all {
        let key = format!("asynq:{{default}}:t:{}", task.id.0);
        let id = task.id.0.to_string();
        let _: u64 = redis.query(cmd("HSET").arg(key).arg("state").arg("completed")).await.unwrap();
        let _: u64 =
            redis.query(cmd("LREM").arg("asynq:{default}:pending").arg(1).arg(&id)).await.unwrap();
        let _: u64 = redis.query(cmd("ZREM").arg("zmsg:{default}:due").arg(&id)).await.unwrap();
        let until = SystemClock.wall() / 1_000 + 3_600;
        let _: u64 = redis
            .query(cmd("ZADD").arg("asynq:{default}:completed").arg(until).arg(&id))
            .await
            .unwrap();
    }
    assert_eq!(queue.summary("default").await.unwrap().at(Stage::Completed), 2);
    let first = queue.tasks("default", Stage::Completed, None, 1).await.unwrap().remove(0);
    let rest = queue.tasks("default", Stage::Completed, Some(first.place()), 9).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(queue.run_now(None, first.id).await.unwrap(), Act::Done);
    assert_eq!(queue.delete(None, rest[0].id).await.unwrap(), Act::Done);
    assert_eq!(queue.summary("default").await.unwrap().at(Stage::Completed), 0);
    assert_eq!(queue.lease("default", 9, LEASE).await.unwrap()[0].id, first.id);
}

/// A task whose message cannot be read is shown, and can be got rid of.
#[tokio::test]
async fn a_task_that_is_no_message_is_shown_and_deleted() {
    let Some((_server, redis, queue)) = kept() else { return };
    let all = tasks(2);
    queue.enqueue_all(all.clone()).await.unwrap();
    for task in &all {
        let key = format!("asynq:{{default}}:t:{}", task.id.0);
        let _: u64 = redis.query(cmd("HSET").arg(key).arg("msg").arg("\u{1}\u{2}")).await.unwrap();
    }
    let shown = queue.tasks("default", Stage::Pending, None, 9).await.unwrap();
    assert!(shown.iter().all(|task| task.kind == "unreadable"), "{shown:?}");
    assert_eq!(queue.delete(None, all[0].id).await.unwrap(), Act::Done);
    assert_eq!(queue.archive(None, all[1].id).await.unwrap(), Act::Done);
    assert_eq!(queue.dead_letters(None, None, 9).await.unwrap()[0].id, all[1].id);
}
