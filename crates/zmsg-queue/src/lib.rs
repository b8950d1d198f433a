//! Task queues: delay, retries, dead letters; in memory, in SQL, and in Redis with the feature `redis`.
//!
//! A [`TaskQueue`] takes tasks that are due at some moment, leases each to one worker at a time,
//! and keeps it until a worker completes or buries it. A [`Worker`] leases, runs and settles
//! them. Delivery is at least once; [`inbox_step`] in the transaction of a task's effect makes
//! that effect happen exactly once. [`PeriodicTasks`] enqueue those that come again and again, each once
//! however many nodes run them.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use zmsg_core::{Clock, SystemClock, TaskId};
//! use zmsg_queue::{MemoryQueueOptions, MemoryTaskQueue, NewTask, TaskQueue};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> zmsg_core::Result<()> {
//! let clock = Arc::new(SystemClock);
//! let queue = MemoryTaskQueue::new(clock.clone(), MemoryQueueOptions::default());
//! let task = NewTask::new(TaskId::generate(), "save", "payload").due(clock.wall());
//! queue.enqueue(task).await?;
//! for task in queue.lease("default", 10, Duration::from_secs(30)).await? {
//!     assert!(queue.complete(&task).await?);
//! }
//! # Ok(())
//! # }
//! ```

mod sabotage;
pub mod task;
pub mod batch;
pub mod outbox;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use task::{Act, PAGE_MAX, Place, QUEUES_MAX, QueueSummary, Stage, TaskInfo, TaskInspector};
pub use task::{Agenda, Firing, Missed, PeriodicEntry, PeriodicTask, PeriodicTasks, Schedule};
pub use task::{
    Attempts, DeadTask, Ending, Enqueued, Lane, LanePlace, LeasedTask, MemoryQueueOptions,
    MemoryTaskQueue, NewTask, OnDead, QueueClock, QueueStats, Rate, RunningAttempt, ServedQueue,
    SqlQueueOptions, SqlTaskQueue, TaskHandler, TaskQueue, TaskState, WakeUps, Worker,
    WorkerCounters, WorkerOptions, WorkerReport, WorkerStats, inbox_purge, inbox_step,
    is_already_applied, is_lease_lost,
};
pub use task::{
    ClosedGroup, GroupAggregator, GroupInfo, GroupMember, GroupReport, GroupRules, GroupWorker,
    GroupWorkerOptions, RipeGroups, TaskGroups,
};
#[cfg(feature = "redis")]
pub use task::{
    RedisPresence, RedisQueueOptions, RedisSchedulerPresence, RedisTaskQueue, RedisWakeUps,
    ToldQueue,
};
