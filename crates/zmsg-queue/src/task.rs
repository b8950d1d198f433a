//! Single tasks with a due time, leased to one worker at a time.

mod changes;
mod groups;
mod inbox;
mod inspect;
mod lane;
mod many;
mod memory;
mod periodic;
mod queue; // start here: the contract
mod record;
mod sql;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod wakeups_redis;
mod worker;

pub use groups::{
    ClosedGroup, GroupAggregator, GroupInfo, GroupMember, GroupReport, GroupRules, GroupWorker,
    GroupWorkerOptions, RipeGroups, TaskGroups,
};
pub use inbox::{inbox_purge, inbox_step, is_already_applied};
pub use inspect::{Act, PAGE_MAX, Place, QUEUES_MAX, QueueSummary, Stage, TaskInfo, TaskInspector};
pub use lane::{Lane, LanePlace, OnDead};
pub use memory::{MemoryQueueOptions, MemoryTaskQueue};
pub use periodic::{Agenda, Firing, Missed, PeriodicEntry, PeriodicTask, PeriodicTasks, Schedule};
pub use queue::TaskQueue;
pub use record::{DeadTask, Enqueued, LeasedTask, NewTask, QueueStats, TaskState};
pub(crate) use record::{FAR, pause_until};
#[cfg(feature = "redis")]
pub use redis::{RedisPresence, RedisQueueOptions, RedisSchedulerPresence, RedisTaskQueue};
pub use sql::{QueueClock, SqlQueueOptions, SqlTaskQueue, WakeUps, is_lease_lost};
#[cfg(feature = "redis")]
pub use wakeups_redis::{RedisWakeUps, ToldQueue};
pub use worker::{
    Attempts, Ending, Rate, RunningAttempt, ServedQueue, TaskHandler, Worker, WorkerCounters,
    WorkerOptions, WorkerReport, WorkerStats,
};
