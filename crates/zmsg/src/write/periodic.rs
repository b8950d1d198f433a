//! The periodic route: folded in memory, flushed in batches.
//!
//! | returns when | lost if the process is killed | this node sees it | in the tables |
//! |---|---|---|---|
//! | in the journal, synced, and folded | nothing: the next start goes on | its value, if it brought one, at return | at the next flush, exactly once |
//! | without a journal: folded | what the buffer held, up to one interval | the same | the same |

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zmsg_aggregate::Submitted;
use zmsg_core::{Error, ErrorKind, Key, Receipt, Result, Task, TaskId};

use super::{Writer, named, refuse_returning};

impl Writer {
    /// Folds `task` into the buffer.
    ///
    /// The cached row stays as it is until its flush invalidates it.
    pub(crate) async fn periodic(&self, key: &Key, task: Task) -> Result<Receipt> {
        self.refuse_periodic(key, &task)?;
        let submitted = self.aggregator.submit(Some(key), task)?;
        acknowledged(submitted).await
    }

    /// Folds `task` into the buffer and shows `value`.
    pub(crate) async fn periodic_shown(
        &self,
        key: &Key,
        value: Bytes,
        task: Task,
        ttl: Option<Duration>,
    ) -> Result<Receipt> {
        self.refuse_periodic(key, &task)?;
        let (submitted, shown) = self.submit_and_show(key, value, task, ttl).await?;
        let receipt = acknowledged(submitted).await?;
        let degraded = shown.is_err();
        if let Err(error) = shown {
            tracing::debug!(%key, %error, "an accepted value is not shown");
        }
        Ok(receipt.with_degraded(degraded))
    }

    /// Refuses what cannot be folded.
    fn refuse_periodic(&self, key: &Key, task: &Task) -> Result<()> {
        refuse_returning(task)?;
        let named = match named(task) {
            None => return self.check_guards(Some(key), task),
            Some(named) => named,
        };
        if named.iter().all(|named| named == key) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            "a periodic write has one key: write rows of several keys by another route",
        )
        .with_context("key", key))
    }

    /// Folds and shows in one step: the flush that applies the task also takes its value out of
    /// the caches, so the value must not come into them after that.
    async fn submit_and_show(
        &self,
        key: &Key,
        value: Bytes,
        task: Task,
        ttl: Option<Duration>,
    ) -> Result<(Submitted, Result<()>)> {
        let mut submitted = None;
        let submit = || {
            let result = self.aggregator.submit(Some(key), task);
            let accepted = result.is_ok();
            submitted = Some(result);
            accepted
        };
        let shown = self.cache.show(key, Some(value), ttl, submit).await;
        match submitted {
            Some(submitted) => Ok((submitted?, shown)),
            // The value was refused before the task was folded, for its TTL.
            None => Err(shown.err().unwrap_or_else(|| Error::closed("cache"))),
        }
    }
}

/// The receipt of what was submitted, once it is as durable as the journal is to make it.
async fn acknowledged(Submitted { settlement, journaled }: Submitted) -> Result<Receipt> {
    let level = journaled.acknowledged().await?;
    zmsg_core::fail_point!("zmsg::periodic::acknowledged");
    let receipt = Receipt::accepted(TaskId::generate(), level, settlement);
    Ok(if journaled.is_pending() { receipt.with_disk(Arc::new(journaled)) } else { receipt })
}
