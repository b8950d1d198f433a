//! A table with a counter, and the handler whose effect on it must happen once.

use std::sync::Arc;

use zmsg_core::{Error, Result, Statement, TaskId};
use zmsg_queue::{inbox_step, is_already_applied};
use zmsg_store::{SqlStore, Step};

#[derive(Debug, Clone)]
pub(crate) struct Effect {
    pub(crate) store: Arc<dyn SqlStore>,
}

impl Effect {
    pub(crate) async fn new(store: Arc<dyn SqlStore>) -> Self {
        for text in ["CREATE TABLE effects (times INTEGER)", "INSERT INTO effects VALUES (0)"] {
            store.execute(&Statement::new(text, vec![])).await.expect("a table");
        }
        Self { store }
    }

    /// Takes effect, in one transaction with its inbox row.
    pub(crate) async fn apply(&self, id: TaskId) -> Result<()> {
        self.apply_then(id, vec![]).await
    }

    /// As `apply`, with more steps in the same transaction.
    pub(crate) async fn apply_then(&self, id: TaskId, more: Vec<Step>) -> Result<()> {
        let update = Statement::new("UPDATE effects SET times = times + 1", vec![]);
        let mut steps = vec![inbox_step(id, 1_000, self.store.dialect()), Step::any(update)];
        steps.extend(more);
        match self.store.execute_all(steps).await {
            Err(failed) if is_already_applied(&failed) => Ok(()),
            outcome => outcome.map(drop).map_err(Error::from),
        }
    }

    /// How often it took effect.
    pub(crate) async fn times(&self) -> i64 {
        self.number("SELECT times FROM effects").await
    }

    pub(crate) async fn number(&self, query: &str) -> i64 {
        let rows = self.store.fetch(&Statement::query(query, vec![])).await.expect("rows");
        rows[0].int(0).expect("a number")
    }
}
