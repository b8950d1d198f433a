//! The store route: now.
//!
//! | returns when | lost if the process is killed | this node sees it | other nodes see it |
//! |---|---|---|---|
//! | committed | nothing | at return | their L1 TTL later, at most |

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zmsg_core::{Key, Receipt, Result, Task, TaskId};
use zmsg_store::Outcome;

use super::{Writer, lost};
use crate::apply::Show;

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
        let steps = self.applier.steps(&task)?;
        let writer = Arc::clone(self);
        let work = async move {
            // What this process still holds for the key was accepted earlier: it goes first.
            writer.aggregator.flush_key(&key).await?;
            let show = Show::Value(value, ttl);
            writer.applier.apply(std::slice::from_ref(&key), steps, show).await?;
            Ok(Receipt::committed(id))
        };
        self.tracker.spawn(work).await.map_err(lost)?
    }

    /// Commits a task that may touch the rows of several keys, whose values are then unknown.
    pub(super) async fn store_steps(
        self: &Arc<Self>,
        keys: Vec<Key>,
        task: Task,
    ) -> Result<Vec<Outcome>> {
        let steps = self.applier.steps(&task)?;
        let writer = Arc::clone(self);
        let work = async move {
            for key in &keys {
                writer.aggregator.flush_key(key).await?;
            }
            Ok(writer.applier.apply(&keys, steps, Show::Nothing).await?)
        };
        self.tracker.spawn(work).await.map_err(lost)?
    }
}
