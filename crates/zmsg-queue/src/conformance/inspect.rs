//! The promises of [`TaskInspector`] as tests, for backends that are one:
//! `zmsg_queue::task_inspector_conformance!(MyHarness::new())`.

mod acts;
mod looks;

use std::sync::Arc;

use async_trait::async_trait;

pub use acts::*;
pub use looks::*;

use super::harness::{Harness, Limits};
use zmsg_core::TaskId;

use crate::{Stage, TaskInspector, TaskQueue};

/// A queue that people can look at.
pub trait Inspected: TaskQueue + TaskInspector {}

impl<T: TaskQueue + TaskInspector> Inspected for T {}

/// A backend under test that is an inspector as well.
#[async_trait]
pub trait InspectHarness: Harness {
    /// As [`open`](Harness::open).
    async fn open_inspected(&self, limits: Limits) -> Arc<dyn Inspected>;
}

/// The ids of the first tasks at a stage of the default queue.
async fn listed(queue: &dyn Inspected, stage: Stage) -> Vec<TaskId> {
    let tasks = queue.tasks("default", stage, None, 100).await.expect("tasks");
    tasks.into_iter().map(|task| task.id).collect()
}

/// Makes a `#[tokio::test]` of every promise, as `task_queue_conformance` does.
#[macro_export]
macro_rules! task_inspector_conformance {
    ($harness:expr) => {
        $crate::task_queue_conformance! { @promises $harness,
            queues_are_named_that_have_tasks_or_rest,
            a_summary_counts_each_stage,
            a_summary_tells_how_long_tasks_wait,
            tasks_are_listed_by_stage_in_pages,
            all_that_is_known_of_a_task_is_told,
            payloads_are_shown_when_they_are_asked_for,
            a_task_that_waits_can_be_run_now,
            a_dead_letter_can_be_run_now,
            a_task_that_waits_can_be_archived,
            archived_tasks_are_bounded_like_dead_letters,
            a_task_that_waits_can_be_deleted,
            what_a_worker_holds_is_not_acted_upon,
            what_a_worker_left_is_acted_upon,
            an_act_is_of_the_queue_that_it_names,
            a_closed_inspector_refuses_every_call,
            acts_keep_the_order_of_a_lane,
        }
    };
}
