//! PostgreSQL signs the suite.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;
use zmsg_core::{Statement, Value};
use zmsg_store::conformance::Harness;
use zmsg_store::{PostgresOptions, PostgresStore, SqlStore};
use zmsg_testbed::Database;

/// A database of a test's own.
pub(crate) struct Postgres(pub(crate) Database);

impl Postgres {
    /// None where there is no server and none is required.
    pub(crate) async fn fresh() -> Option<Self> {
        Some(Self(zmsg_testbed::postgres()?.database().await))
    }

    pub(crate) fn options(&self) -> PostgresOptions {
        PostgresOptions { connections_max: 8, ..PostgresOptions::new(self.0.url()) }
    }

    pub(crate) async fn store(&self) -> PostgresStore {
        open(self.options()).await
    }
}

pub(crate) async fn open(options: PostgresOptions) -> PostgresStore {
    PostgresStore::open(options, TaskTracker::new()).await.unwrap()
}

/// A statement that gives no rows.
pub(crate) fn plain(text: &str) -> Statement {
    Statement::new(text, vec![])
}

pub(crate) async fn run(store: &PostgresStore, text: &str) {
    store.execute(&plain(text)).await.unwrap();
}

/// The only value of the only row.
pub(crate) async fn one(store: &PostgresStore, text: &str) -> Value {
    let rows = store.fetch(&Statement::query(text, vec![])).await.unwrap();
    rows[0].at(0).unwrap().clone()
}

/// Waits until something has become true, for half a minute at most.
pub(crate) async fn until<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
}

#[async_trait]
impl Harness for Postgres {
    async fn open(&self) -> Arc<dyn SqlStore> {
        Arc::new(self.store().await)
    }
}

zmsg_store::conformance!(optional: Postgres::fresh().await);
