//! What a flush and a close report.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use zmsg_core::{Error, ErrorKind, Result};

use crate::flush::Landing;
use crate::lane::Lane;

/// What a flush did. What another flush did at the same time is not in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// Seals that took effect: transactions.
    pub seals: u64,
    /// Operations in them.
    pub ops: u64,
    /// Statements that applied them.
    pub statements: u64,
    /// Rows that these changed.
    pub rows_changed: u64,
    /// Groups that went to the dead letters.
    pub dead_lettered: u64,
}

/// What was still pending when an aggregator was closed.
#[derive(Debug, Clone, Default)]
pub struct CloseReport {
    /// Operations that have not taken effect.
    pub ops: u64,
    /// Statements that would apply them.
    pub slots: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// The shards that they are in.
    pub shards: Vec<u16>,
    /// Why the last attempt failed.
    pub error: Option<Error>,
    /// The directory of the journal that holds them, for the next start; `None` if they are lost.
    pub journal: Option<PathBuf>,
}

impl FlushReport {
    pub(crate) fn add(&mut self, landing: &Landing) {
        self.seals += 1;
        self.ops += landing.ops;
        self.statements += landing.statements;
        self.rows_changed += landing.rows;
        self.dead_lettered += landing.kept;
    }

    /// Waits for all of these and adds them up, or gives the first failure.
    pub(crate) async fn gather(flushes: Vec<JoinHandle<Result<Self>>>) -> Result<Self> {
        let mut sum = Self::default();
        let mut failure = None;
        for flushed in join_all(flushes).await {
            match flushed.unwrap_or_else(|died| Err(not_finished(died))) {
                Ok(report) => sum.merge(report),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(sum), Err)
    }

    fn merge(&mut self, other: Self) {
        self.seals += other.seals;
        self.ops += other.ops;
        self.statements += other.statements;
        self.rows_changed += other.rows_changed;
        self.dead_lettered += other.dead_lettered;
    }
}

fn not_finished(died: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Unexpected, "a flush ended before it was done").with_source(died)
}

impl CloseReport {
    /// True if nothing is pending: every operation took effect or is in the dead letters.
    pub fn is_complete(&self) -> bool {
        self.ops == 0
    }

    pub(crate) fn of(lanes: &[Arc<Lane>], error: Option<Error>) -> Self {
        let mut report = Self::default();
        for lane in lanes {
            let load = lane.shard.load();
            if load.ops == 0 {
                continue;
            }
            report.ops += load.ops;
            report.slots += load.slots;
            report.bytes += u64::try_from(load.bytes).unwrap_or_default();
            report.shards.push(lane.shard.index);
        }
        report.error = error.filter(|_| report.ops > 0);
        report
    }
}
