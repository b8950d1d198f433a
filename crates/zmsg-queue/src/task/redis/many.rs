//! Tasks of several queues at a time.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use zmsg_core::Result;

use super::RedisTaskQueue;
use crate::task::many::enqueue_each;
use crate::task::record::{Enqueued, NewTask};

impl RedisTaskQueue {
    /// A script for each queue, all of them under way together: queues may be on different nodes of a
    /// cluster.
    pub(super) async fn enqueue_each_in_its_queue(
        &self,
        tasks: Vec<NewTask>,
    ) -> Vec<Result<Enqueued>> {
        let mut queues: BTreeMap<String, (Vec<usize>, Vec<NewTask>)> = BTreeMap::new();
        for (place, task) in tasks.into_iter().enumerate() {
            let (places, of_queue) = queues.entry(task.queue.clone()).or_default();
            places.push(place);
            of_queue.push(task);
        }
        let calls = queues.into_values().map(async |(places, tasks)| {
            let answers = enqueue_each(self, tasks).await;
            places.into_iter().zip(answers).collect::<Vec<_>>()
        });
        let mut answers: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
        answers.sort_unstable_by_key(|(place, _)| *place);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }
}
