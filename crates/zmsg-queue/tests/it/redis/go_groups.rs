//! Groups that Go's asynq has filled are aggregated here, and the reverse.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::TaskId;
use zmsg_queue::{
    GroupRules, GroupWorker, GroupWorkerOptions, NewTask, Stage, TaskGroups as _,
    TaskInspector as _, TaskQueue as _,
};

use super::go::Other;
use super::queue_over;
use crate::groups::Joins;

fn member(payload: &'static str) -> NewTask {
    NewTask::new(TaskId::generate(), "greet", payload).group("mail")
}

fn parts(aggregate: &str) -> BTreeSet<&str> {
    aggregate.strip_prefix("mail: ").expect(aggregate).split(' ').collect()
}

impl Other {
    async fn groups(&self) -> serde_json::Value {
        serde_json::from_str(&self.run("groups", 0).await.concat()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_both_is_aggregated_here() {
    let Some(other) = Other::start().await else { return };
    other.run("group", 4).await;
    other.queue.enqueue(member("rust")).await.unwrap();
    let groups = other.queue.groups("default").await.unwrap();
    assert_eq!((groups[0].group.as_str(), groups[0].tasks), ("mail", 5));
    let listed = other.queue.tasks("default", Stage::Aggregating, None, 9).await.unwrap();
    let names: BTreeSet<_> = listed.iter().filter_map(|task| task.name.as_deref()).collect();
    assert_eq!(names, BTreeSet::from(["mail:1", "mail:3"]));

    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let rules = GroupRules { grace: Duration::from_secs(1), ..GroupRules::default() };
    let options = GroupWorkerOptions { rules, ..GroupWorkerOptions::default() };
    let queue = std::sync::Arc::new(queue_over(other.redis()));
    let worker = GroupWorker::new(queue, Joins::always(), tracker.clone(), options);
    let running = tracker.spawn(worker.run(shutdown.clone()));
    let aggregate = other.leased(1).await.remove(0);
    shutdown.cancel();
    assert_eq!(running.await.unwrap().unwrap().members, 5);
    let payload = String::from_utf8(aggregate.payload.to_vec()).unwrap();
    assert_eq!(parts(&payload), BTreeSet::from(["go0", "go1", "go2", "go3", "rust"]));
    assert!(other.queue.complete(&aggregate).await.unwrap());
    let seen = other.groups().await;
    assert_eq!((&seen["aggregating"], &seen["groups"]), (&0.into(), &serde_json::json!({})));
    // Their ids are free again.
    other.run("group", 4).await;
    assert_eq!(other.groups().await["aggregating"], 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_was_filled_here_is_aggregated_by_asynq() {
    let Some(other) = Other::start().await else { return };
    let tasks = ["a", "b", "c"].map(member);
    other.queue.enqueue_all(tasks.to_vec()).await.unwrap();
    let worked = other.run("aggregate", 1).await;
    let payload = worked[0].strip_prefix("digest ").unwrap();
    assert_eq!(parts(payload), BTreeSet::from(["a", "b", "c"]));
    for task in &tasks {
        assert_eq!(other.queue.state(task.id).await.unwrap(), None);
    }
    let stats = other.queue.stats("default").await.unwrap();
    assert_eq!((stats.pending, stats.leased, stats.dead), (0, 0, 0), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inspector_of_asynq_shows_groups_and_acts_on_their_tasks() {
    let Some(other) = Other::start().await else { return };
    let queue = &other.queue;
    let tasks = ["a", "b", "c", "d"].map(member);
    queue.enqueue_all(tasks.to_vec()).await.unwrap();
    let seen = other.groups().await;
    assert_eq!((&seen["aggregating"], &seen["groups"]["mail"]), (&4.into(), &4.into()), "{seen}");
    let shown = |task: &NewTask| {
        format!("{} {} mail aggregating", task.id.0, String::from_utf8_lossy(&task.payload))
    };
    let listed =
        seen["listed"].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned());
    let mut expected: Vec<_> = tasks.iter().map(shown).collect();
    expected.sort();
    assert_eq!(listed.collect::<Vec<_>>(), expected);

    let id = |at: usize| tasks[at].id.0.to_string();
    other.run_on("run", &id(0)).await;
    other.run_on("archive", &id(1)).await;
    other.run_on("delete", &id(2)).await;
    let summary = queue.summary("default").await.unwrap();
    assert_eq!((summary.pending, summary.aggregating, summary.dead), (1, 1, 1), "{summary:?}");
    // What people do here, asynq sees.
    queue.archive(None, tasks[3].id).await.unwrap();
    let seen = other.groups().await;
    assert_eq!((&seen["aggregating"], &seen["archived"]), (&0.into(), &2.into()), "{seen}");
    assert_eq!(seen["groups"], serde_json::json!({}));
    assert_eq!(other.leased(1).await[0].id, tasks[0].id);
    assert!(queue.retry_dead(tasks[1].id).await.unwrap());
    assert_eq!(other.leased(1).await[0].id, tasks[1].id, "alone, as asynq runs it");
}
