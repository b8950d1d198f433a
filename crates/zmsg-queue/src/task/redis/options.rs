//! What a queue in Redis is told at its start.

use crate::task::sql::QueueClock;

/// The bounds of a [`RedisTaskQueue`](super::RedisTaskQueue), and whose clock it goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedisQueueOptions {
    /// Tasks that wait or are leased, of each queue; beyond it `Overloaded`.
    pub tasks_max: u32,
    /// Dead letters of each queue; beyond it the oldest are dropped.
    pub dead_max: u32,
    /// By which clock tasks fall due and leases end.
    pub clock: QueueClock,
}

impl Default for RedisQueueOptions {
    fn default() -> Self {
        // asynq keeps 10,000 too; a fleet of both has one bound.
        Self { tasks_max: 1_000_000, dead_max: 10_000, clock: QueueClock::Database }
    }
}
