//! When the buffer is flushed, and what it may hold.

use std::time::Duration;

use zmsg_core::{Backoff, Error, OnMissing, Result};

/// When the buffer is flushed, and what it may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlushPolicy {
    /// Everything is flushed this often. Default 1 s.
    pub interval: Duration,
    /// A shard with so many operations is flushed at once. Default 10,000.
    pub ops_max: u64,
    /// A shard with so many slots, that is statements to come, is flushed at once. Default 5,000.
    pub slots_max: u64,
    /// A shard is flushed when its oldest operation is this old, should `interval` be longer.
    /// Default 5 s.
    pub age_max: Duration,
    /// What all shards together may hold, in bytes, what is being flushed included; beyond it
    /// operations are refused with `Overloaded`. From half of it on, everything is flushed at
    /// once. Default 64 MiB.
    pub bytes_max: u64,
    /// The delays between attempts of a flush that failed. Default 50 ms, doubling to 5 s.
    pub retry: Backoff,
    /// For how long an operation is tried alone that the database stops each time because it runs
    /// for too long, while others take effect; then it is a dead letter. Ten times as long while
    /// nothing else takes effect. Default 30 s.
    pub patience: Duration,
    /// What becomes of an operation without a row that says nothing of its own. Default
    /// [`OnMissing::DeadLetter`].
    pub on_missing: OnMissing,
}

impl Default for FlushPolicy {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            ops_max: 10_000,
            slots_max: 5_000,
            age_max: Duration::from_secs(5),
            bytes_max: 64 << 20,
            retry: Backoff::new(Duration::from_millis(50), Duration::from_secs(5)),
            patience: Duration::from_secs(30),
            on_missing: OnMissing::DeadLetter,
        }
    }
}

impl FlushPolicy {
    pub(crate) fn check(&self) -> Result<()> {
        let zero = [
            ("interval", self.interval.is_zero()),
            ("ops_max", self.ops_max == 0),
            ("slots_max", self.slots_max == 0),
            ("age_max", self.age_max.is_zero()),
            ("bytes_max", self.bytes_max == 0),
        ];
        match zero.iter().find(|(_, zero)| *zero) {
            Some((setting, _)) => Err(Error::invalid_config("the setting must be above zero")
                .with_context("setting", setting)),
            None => Ok(()),
        }
    }
}
