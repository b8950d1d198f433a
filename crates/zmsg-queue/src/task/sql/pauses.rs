//! Queues that rest: a row of `zmsg_paused_queues` each, which every lease looks for.

use zmsg_core::{Result, Statement};
use zmsg_sqlbuilder::Dialect;

use super::SqlTaskQueue;

const PAUSE_POSTGRES: &str = "\
INSERT INTO zmsg_paused_queues (queue, paused_ms)
VALUES (?, coalesce(?::bigint, floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint))
ON CONFLICT (queue) DO NOTHING";

const PAUSE_SQLITE: &str = "\
INSERT INTO zmsg_paused_queues (queue, paused_ms) VALUES (?, ?) ON CONFLICT (queue) DO NOTHING";

/// Tells the other nodes in the same statement: whoever lets a queue go on, such as a command that ends
/// at once, need not run the wake-ups.
const RESUME_POSTGRES: &str = "\
WITH gone AS (DELETE FROM zmsg_paused_queues WHERE queue = ? RETURNING queue)
SELECT queue FROM gone WHERE pg_notify('zmsg_tasks', '') IS NOT NULL";

const RESUME_SQLITE: &str = "DELETE FROM zmsg_paused_queues WHERE queue = ? RETURNING queue";

const FIND: &str = "SELECT 1 FROM zmsg_paused_queues WHERE queue = ?";

impl SqlTaskQueue {
    pub(super) async fn begin_pause(&self, queue: &str) -> Result<bool> {
        let text = match self.store.dialect() {
            Dialect::Postgres => PAUSE_POSTGRES,
            Dialect::Sqlite => PAUSE_SQLITE,
        };
        self.change(Statement::new(text, vec![queue.into(), self.now().bind])).await
    }

    pub(super) async fn end_pause(&self, queue: &str) -> Result<bool> {
        let text = match self.store.dialect() {
            Dialect::Postgres => RESUME_POSTGRES,
            Dialect::Sqlite => RESUME_SQLITE,
        };
        let ended = self.open()?.execute(&Statement::query(text, vec![queue.into()])).await?;
        let went_on = !ended.rows.is_empty();
        if went_on {
            self.changes.tell();
        }
        Ok(went_on)
    }

    pub(super) async fn finds_pause(&self, queue: &str) -> Result<bool> {
        Ok(self.fetch_one(Statement::query(FIND, vec![queue.into()])).await?.is_some())
    }
}
