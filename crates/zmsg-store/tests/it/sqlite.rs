//! SQLite signs the suite.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;
use zmsg_store::conformance::Harness;
use zmsg_store::{SqlStore, SqliteOptions, SqliteStore};

/// A database file in a folder of its own.
pub(crate) struct Sqlite(TempDir);

impl Sqlite {
    pub(crate) fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("zmsg.db")
    }

    pub(crate) fn options(&self) -> SqliteOptions {
        SqliteOptions { readers: 2, ..SqliteOptions::new(self.path()) }
    }

    pub(crate) async fn store(&self) -> SqliteStore {
        SqliteStore::open(self.options()).await.unwrap()
    }
}

#[async_trait]
impl Harness for Sqlite {
    async fn open(&self) -> Arc<dyn SqlStore> {
        Arc::new(self.store().await)
    }
}

zmsg_store::conformance!(Sqlite::fresh());
