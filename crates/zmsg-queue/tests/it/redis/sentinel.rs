//! A queue on a Redis that sentinels watch.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use zmsg_queue::{Enqueued, TaskQueue};
use zmsg_testbed::private::{PrivateSentinels, until};

use super::calls::each_call;
use super::cluster::answered;
use super::faults::Working;
use super::{LEASE, connect, queue_over, tasks};

const BOUND: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_survive_a_failover_and_the_worker_goes_on_by_itself() {
    let Some(group) = PrivateSentinels::start(&[]) else { return };
    let queue = queue_over(connect(&group.url()));
    each_call(&queue, "other").await.unwrap();
    let all: Vec<_> = tasks(30).into_iter().map(|task| task.queue("waits")).collect();
    queue.enqueue_all(all.clone()).await.unwrap();
    let leased = queue.lease("waits", 5, LEASE).await.unwrap();
    let working = Working::over(connect(&group.url())).await;

    let (master, replica) = (&group.master, &group.replica);
    assert!(until(BOUND, || replica.has_data_of(master)), "it follows");
    let killed = Instant::now();
    master.kill();
    working.fails().await;
    assert!(until(BOUND, || replica.ask("ROLE").contains("master")), "it is made master");
    println!("promoted after {:?}", killed.elapsed());
    working.work("a failover by sentinels").await;

    for task in &leased {
        assert!(answered(async || queue.complete(task).await).await);
    }
    let rest = answered(async || queue.lease("waits", 99, LEASE).await).await;
    let seen: BTreeSet<_> = leased.iter().chain(&rest).map(|task| task.id).collect();
    assert_eq!(seen, all.iter().map(|task| task.id).collect());
    assert_eq!(queue.enqueue(all[29].clone()).await.unwrap(), Enqueued::Duplicate);
    each_call(&queue, "another").await.unwrap();
    // The old master comes back with what it had, and is not gone back to.
    master.restart();
    assert!(until(BOUND, || master.ask("ROLE").contains("slave")), "it follows in its turn");
    working.work("the old master's return").await;
    working.stop().await;
}
