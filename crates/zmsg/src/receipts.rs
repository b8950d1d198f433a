//! Answers receipts of delayed writes that this process cannot answer by itself.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zmsg_core::{Clock, Error, ErrorKind, Result, Statement, TaskId, Value};
use zmsg_queue::{TaskQueue, TaskState};

use crate::apply::Applier;
use crate::pending::Pending;

/// Answers receipts of tasks that another process carried out, or that were dropped.
#[derive(Debug)]
pub(crate) struct ReceiptUpkeep {
    pub(crate) pending: Arc<Pending>,
    pub(crate) queue: Arc<dyn TaskQueue>,
    pub(crate) applier: Arc<Applier>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Other nodes may carry out our tasks: then it is looked for them soon and often.
    pub(crate) shared: bool,
}

/// Receipts that are looked up by one query.
const PAGE: usize = 100;

/// Pages of one round, at most: the rest has its turn in the next.
const PAGES: usize = 20;

/// How long after its due time a task is left to settle by itself.
const OVERDUE: Duration = Duration::from_secs(2);

/// The same where other nodes carry tasks out, and how often it is looked for them there.
const OVERDUE_SHARED: Duration = Duration::from_millis(50);
const LOOK_SHARED: Duration = Duration::from_millis(50);
const LOOK_ALONE: Duration = Duration::from_secs(1);

impl ReceiptUpkeep {
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let (overdue, pause) =
            if self.shared { (OVERDUE_SHARED, LOOK_SHARED) } else { (OVERDUE, LOOK_ALONE) };
        let mut after = None;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            let late = self.pending.overdue(self.ago(OVERDUE), None, usize::MAX);
            let late: HashSet<TaskId> = late.into_iter().collect();
            for _ in 0..PAGES {
                let ids = self.pending.overdue(self.ago(overdue), after, PAGE);
                if let Err(error) = self.look(&ids, &late).await {
                    tracing::debug!(%error, "receipts could not be answered; it is tried again");
                    break;
                }
                // Round and round, so that tasks which take long hide no others.
                after = ids.last().copied().filter(|_| ids.len() == PAGE);
                if after.is_none() {
                    break;
                }
            }
        }
    }

    fn ago(&self, past: Duration) -> u64 {
        let past = u64::try_from(past.as_millis()).unwrap_or(u64::MAX);
        self.clock.wall().saturating_sub(past)
    }

    async fn look(&self, ids: &[TaskId], late: &HashSet<TaskId>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let applied = self.applied(ids).await?;
        for id in ids.iter().filter(|id| applied.contains(&id.0)) {
            self.settle(*id, Ok(())).await;
        }
        // Who is late without having been applied is asked about one by one.
        for id in ids.iter().filter(|id| !applied.contains(&id.0) && late.contains(id)) {
            self.ask(*id).await?;
        }
        Ok(())
    }

    /// Those of these tasks that the inbox remembers.
    async fn applied(&self, ids: &[TaskId]) -> Result<HashSet<Uuid>> {
        // One text whatever the number, so that it stays prepared.
        let places = vec!["?"; PAGE].join(", ");
        let last = ids.last().copied().into_iter().cycle();
        let binds = ids.iter().copied().chain(last).take(PAGE).map(|id| Value::Uuid(id.0));
        let text = format!("SELECT id FROM zmsg_inbox WHERE id IN ({places})");
        let rows = self.applier.fetch(&Statement::query(text, binds.collect())).await?;
        rows.iter().map(|row| uuid(row.at(0)?)).collect()
    }

    async fn ask(&self, id: TaskId) -> Result<()> {
        let outcome = match self.queue.state(id).await? {
            Some(TaskState::Dead { cause }) => {
                Err(Error::new(ErrorKind::InvalidData, "the delayed write is a dead letter")
                    .with_context("dead letter", format!("delayed:{id}"))
                    .with_context("cause", cause))
            }
            Some(_) => return Ok(()),
            None if self.applied(&[id]).await?.contains(&id.0) => Ok(()),
            None => Err(Error::new(ErrorKind::Closed, "the delayed write was dropped")
                .with_context("task", id)),
        };
        self.settle(id, outcome).await;
        Ok(())
    }

    /// The node that ended the task could not take the value out of the cache of this one. Of a task
    /// that is gone without an effect, as after a Redis that forgot it, nobody has taken it out at all.
    async fn settle(&self, id: TaskId, outcome: Result<()>) {
        match self.pending.key(id) {
            Some(key) if outcome.is_err() => drop(self.applier.invalidate(&[key]).await),
            Some(key) if self.shared => self.applier.forget_here(&key),
            _ => {}
        }
        self.pending.settle(id, outcome);
    }
}

/// SQLite gives the bytes of an id, PostgreSQL the id.
fn uuid(value: &Value) -> Result<Uuid> {
    let read = match value {
        Value::Uuid(id) => Some(*id),
        Value::Bytes(bytes) => Uuid::from_slice(bytes).ok(),
        _ => None,
    };
    read.ok_or_else(|| Error::new(ErrorKind::Corrupted, "an inbox row has no id"))
}
