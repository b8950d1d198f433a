//! What a SQL queue is told at its start.

/// The bounds of a [`SqlTaskQueue`](super::SqlTaskQueue), and whose clock it goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlQueueOptions {
    /// Tasks that wait or are leased, over all queues; beyond it `Overloaded`.
    pub tasks_max: u32,
    /// Dead letters over all queues; beyond it the lowest ids are dropped.
    pub dead_max: u32,
    /// By which clock tasks fall due and leases end.
    pub clock: QueueClock,
}

/// By which clock the tasks of a SQL queue fall due and their leases end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QueueClock {
    /// The server's, where the database is one; on SQLite as `Given`.
    #[default]
    Database,
    /// The wall clock that the queue was given: for tests that move time.
    Given,
}

impl Default for SqlQueueOptions {
    fn default() -> Self {
        Self { tasks_max: 1_000_000, dead_max: 100_000, clock: QueueClock::Database }
    }
}
