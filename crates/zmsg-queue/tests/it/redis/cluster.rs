//! A queue in a Redis Cluster of six processes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use zmsg_core::Result;
use zmsg_queue::{Act, Stage, TaskInspector, TaskQueue};
use zmsg_testbed::private::{PrivateCluster, until};

use super::calls::each_call;
use super::faults::Working;
use super::{LEASE, connect, queue_over, tasks};

const BOUND: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(5);

/// A key of the queue that workers take when nobody names one.
const PENDING: &str = "asynq:{default}:pending";

/// Asks until the answer is no error.
pub(super) async fn answered<T>(mut call: impl AsyncFnMut() -> Result<T>) -> T {
    let asked = async {
        loop {
            if let Ok(answer) = call().await {
                return answer;
            }
            sleep(LOOK).await;
        }
    };
    timeout(BOUND, asked).await.expect("it answers again")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_of_a_cluster_are_on_all_its_nodes() {
    let Some(cluster) = PrivateCluster::start(3, 1) else { return };
    let queue = queue_over(connect(&cluster.url()));
    let mut owners = BTreeSet::new();
    for name in ["default", "low", "critical", "mail", "images", "reports", "a", "b"] {
        each_call(&queue, name).await.unwrap();
        owners.insert(cluster.owner(&format!("asynq:{{{name}}}:pending")));
    }
    assert_eq!(owners.len(), 3, "{owners:?}");
    // What concerns all queues asks each where it is.
    let all: Vec<_> = ["default", "low", "a"]
        .into_iter()
        .zip(tasks(3))
        .map(|(name, task)| task.queue(name))
        .collect();
    for task in &all {
        queue.enqueue(task.clone()).await.unwrap();
        let leased = queue.lease(&task.queue, 1, LEASE).await.unwrap().remove(0);
        assert!(queue.bury(&leased, &zmsg_core::Error::invalid_input("no")).await.unwrap());
    }
    let dead = queue.dead_letters(None, None, 9).await.unwrap();
    let expected: Vec<_> = all.iter().map(|task| (task.id, task.queue.clone())).collect();
    assert_eq!(dead.into_iter().map(|it| (it.id, it.queue)).collect::<Vec<_>>(), expected);
    // So does an inspector, which finds a task whose queue nobody names.
    assert!(queue.queues().await.unwrap().len() >= 8);
    for task in &all {
        assert_eq!(queue.summary(&task.queue).await.unwrap().at(Stage::Dead), 1);
        let page = queue.tasks(&task.queue, Stage::Dead, None, 9).await.unwrap();
        assert_eq!(page.iter().map(|shown| shown.id).collect::<Vec<_>>(), [task.id]);
        assert_eq!(queue.run_now(None, task.id).await.unwrap(), Act::Done);
        assert_eq!(queue.delete(None, task.id).await.unwrap(), Act::Done);
        assert_eq!(queue.task(None, task.id).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_and_leases_survive_a_replica_that_is_made_primary() {
    let Some(cluster) = PrivateCluster::start(3, 1) else { return };
    let queue = queue_over(connect(&cluster.url()));
    let all = tasks(30);
    queue.enqueue_all(all.clone()).await.unwrap();
    let leased = queue.lease("default", 5, LEASE).await.unwrap();

    let primary = cluster.owner(PENDING);
    let replica = cluster.replica_of(primary);
    assert!(cluster.nodes()[replica].ask("CLUSTER FAILOVER").starts_with("+OK"));
    assert!(until(BOUND, || cluster.owner(PENDING) == replica), "it is made primary");

    for task in &leased {
        assert!(answered(async || queue.extend(task, LEASE).await).await);
        assert!(answered(async || queue.complete(task).await).await);
    }
    let rest = answered(async || queue.lease("default", 99, LEASE).await).await;
    let seen: BTreeSet<_> = leased.iter().chain(&rest).map(|task| task.id).collect();
    assert_eq!(seen, all.iter().map(|task| task.id).collect());
    assert_eq!(rest.len(), 25);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_goes_on_by_itself_when_a_primary_is_killed() {
    let Some(cluster) = PrivateCluster::start(3, 1) else { return };
    let working = Working::over(connect(&cluster.url())).await;
    let primary = cluster.owner(PENDING);
    let replica = cluster.replica_of(primary);
    let [primary, replica] = [primary, replica].map(|at| &cluster.nodes()[at]);
    assert!(until(BOUND, || replica.has_data_of(primary)), "it follows");
    let killed = Instant::now();
    primary.kill();
    let promoted = || replica.ask("ROLE").contains("master");
    assert!(until(BOUND, promoted), "the cluster makes the replica a primary");
    println!("promoted after {:?}", killed.elapsed());
    working.work("a failover of the cluster").await;
    primary.restart();
    working.work("a primary that came back as a replica").await;
    working.stop().await;
}
