//! How a generator deals with time.

use std::time::Duration;

use zmsg_core::{Error, Result};

/// The options of an [`IdGenerator`](crate::IdGenerator). None of them touches uniqueness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdOptions {
    /// How far ahead of the present the ceiling is reserved; raised when a third of it is used.
    /// After a crash, the next holder of the same node starts up to this far ahead of its clock.
    /// Default 10 s, at least 10 ms.
    pub reserve_ahead: Duration,
    /// How far a rate of more than one full sequence per millisecond may run ahead of the time;
    /// from there it waits. Default 5 s.
    pub borrow_max: Duration,
    /// What happens while the wall clock shows less than the last id. Default: go on.
    pub rollback: Rollback,
}

/// What a generator does while the wall clock lies behind its last id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rollback {
    /// It goes on from its last id, at the pace of the monotonic clock. Ids stay unique and
    /// rising; the time they tell is ahead of the wall clock's until that has caught up.
    Continue,
    /// It goes on while the wall clock is at most this far behind; further behind, it waits for
    /// the wall clock, so that the time ids tell is never more than this wrong.
    WaitBeyond(Duration),
}

impl IdOptions {
    /// The least [`reserve_ahead`](Self::reserve_ahead).
    pub const RESERVE_AHEAD_MIN: Duration = Duration::from_millis(10);

    pub(crate) fn validate(&self) -> Result<()> {
        if self.reserve_ahead >= Self::RESERVE_AHEAD_MIN {
            return Ok(());
        }
        Err(Error::invalid_config("ids must be reserved at least 10 ms ahead")
            .with_context("reserve_ahead", format!("{:?}", self.reserve_ahead)))
    }
}

impl Default for IdOptions {
    fn default() -> Self {
        Self {
            reserve_ahead: Duration::from_secs(10),
            borrow_max: Duration::from_secs(5),
            rollback: Rollback::Continue,
        }
    }
}
