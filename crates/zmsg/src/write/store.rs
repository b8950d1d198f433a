//! The store route: now.
//!
//! | returns when | lost if the process is killed | this node sees it | other nodes see it |
//! |---|---|---|---|
//! | committed | nothing | at return | their L1 TTL later, at most |

use std::sync::Arc;
use std::time::Duration;

use super::{Writer, lost};
use crate::apply::{Applied, Show};
use crate::sabotage;
use bytes::Bytes;
use zmsg_core::{Key, Receipt, Result, Task, TaskId};

impl Writer {
    /// Commits `task`, then shows `value` (or that the row is gone).
    ///
    /// The work runs as a task of its own: a caller that goes away leaves it whole.
    pub(crate) async fn store(
        self: &Arc<Self>,
        key: Key,
        value: Option<Bytes>,
        task: Task,
        ttl: Option<Duration>,
    ) -> Result<Receipt> {
        let id = TaskId::generate();
        let keys = self.keys_of(Some(key), &task)?;
        let applied = self.commit(keys, task, Show::Value(value, ttl)).await?;
        Ok(Receipt::committed(id).with_degraded(applied.degraded))
    }

    /// Commits a task that touches the rows of `keys`.
    pub(super) async fn commit(
        self: &Arc<Self>,
        keys: Vec<Key>,
        task: Task,
        show: Show,
    ) -> Result<Applied> {
        let steps = self.applier.steps(&task)?;
        let writer = Arc::clone(self);
        let work = async move {
            // What this process still holds for the keys was accepted earlier: it goes first.
            for key in &keys {
                writer.aggregator.flush_key(key).await?;
            }
            zmsg_core::fail_point!("zmsg::store::flushed_first");
            Ok(writer.applier.apply(&keys, steps, show).await?)
        };
        if sabotage::acknowledges_before_the_commit() {
            self.tracker.spawn(work);
            return Ok(Applied { outcomes: Vec::new(), degraded: false });
        }
        self.tracker.spawn(work).await.map_err(lost)?
    }
}
