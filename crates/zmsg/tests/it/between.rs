//! A store with something of a test's own around its transactions.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use zmsg::core::Statement;
use zmsg::sqlbuilder::Dialect;
use zmsg::store::{Outcome, SqlStore, Step, StepError, StoreStats};
use zmsg::{Result, Row};

/// What a test does about a transaction.
#[async_trait]
pub(crate) trait Around: fmt::Debug + Send + Sync + 'static {
    async fn execute_all(
        &self,
        inner: &dyn SqlStore,
        steps: Vec<Step>,
    ) -> Result<Vec<Outcome>, StepError>;
}

/// The store, and what is around it.
#[derive(Debug)]
pub(crate) struct Between<A> {
    pub(crate) inner: Arc<dyn SqlStore>,
    pub(crate) around: A,
}

#[async_trait]
impl<A: Around> SqlStore for Between<A> {
    fn dialect(&self) -> Dialect {
        self.inner.dialect()
    }

    async fn fetch(&self, query: &Statement) -> Result<Vec<Row>> {
        self.inner.fetch(query).await
    }

    async fn execute(&self, statement: &Statement) -> Result<Outcome> {
        self.inner.execute(statement).await
    }

    async fn execute_all(&self, steps: Vec<Step>) -> Result<Vec<Outcome>, StepError> {
        self.around.execute_all(&*self.inner, steps).await
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
