//! How rows become dead letters, and how those are kept few.

use std::sync::atomic::Ordering::Relaxed;

use zmsg_core::{Error, Result, Row, TaskId};

use super::{SqlTaskQueue, rows};
use crate::task::record::cause_text;

impl SqlTaskQueue {
    /// Makes a dead letter of a leased row that cannot be read, so that it is not handed out
    /// again and somebody can look at it. A row that has no readable id gets a new one.
    pub(super) async fn set_aside(&self, row: &Row, cause: &Error) {
        let Ok(found) = row.at(0) else { return };
        let id = rows::id(row, 0).unwrap_or_else(|_| TaskId::generate());
        tracing::error!(%id, %cause, "a task cannot be read: it is now a dead letter");
        let cause = cause_text(&cause.clone().with_context("id as found", rows::shown(found)));
        let aside = self.texts.set_aside(found.clone(), id, cause, &self.now());
        if let Err(error) = self.change(aside).await {
            // It comes back when its lease has run out.
            tracing::warn!(%id, %error, "could not set a task aside");
        }
    }

    /// True if this burial has to look for dead letters that are too many.
    pub(super) fn is_time_to_trim(&self) -> bool {
        let seldom = if self.room.is_some() { self.options.dead_max / 1024 } else { 0 };
        self.buried.fetch_add(1, Relaxed).is_multiple_of(u64::from(seldom).max(1))
    }

    pub(super) fn note_dropped(&self, dropped: &[Row]) -> Result<()> {
        for row in dropped {
            tracing::warn!(id = %rows::id(row, 0)?, "dropped a dead letter: too many");
        }
        self.dead_dropped.fetch_add(dropped.len() as u64, Relaxed);
        Ok(())
    }
}
