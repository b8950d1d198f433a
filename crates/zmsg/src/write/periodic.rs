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

use super::{Writer, refuse_returning};

impl Writer {
    /// Folds `task` into the buffer; shows `value`, if there is one.
    ///
    /// A write without a value leaves the cached row alone until its flush invalidates it.
    pub(crate) async fn periodic(
        &self,
        key: &Key,
        value: Option<Bytes>,
        task: Task,
        ttl: Option<Duration>,
    ) -> Result<Receipt> {
        refuse_returning(&task)?;
        if self.keys_of(Some(key.clone()), &task)?.len() > 1 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a periodic write has one key: write rows of several keys by another route",
            )
            .with_context("key", key));
        }
        let (submitted, shown) = match value {
            None => (self.aggregator.submit(Some(key), task)?, Ok(())),
            Some(value) => self.submit_and_show(key, value, task, ttl).await?,
        };
        let Submitted { settlement, journaled } = submitted;
        let level = journaled.acknowledged().await?;
        zmsg_core::fail_point!("zmsg::periodic::acknowledged");
        let degraded = shown.is_err();
        if let Err(error) = shown {
            tracing::debug!(%key, %error, "an accepted value is not shown");
        }
        let receipt = Receipt::accepted(TaskId::generate(), level, settlement);
        let receipt = receipt.with_degraded(degraded);
        Ok(if journaled.is_pending() { receipt.with_disk(Arc::new(journaled)) } else { receipt })
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
