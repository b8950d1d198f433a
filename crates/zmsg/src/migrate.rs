//! The application's own migrations: `load_dir("schema").migrate()`.

use std::path::PathBuf;
use std::sync::Arc;

use zmsg_core::Result;
use zmsg_store::migrate::{Report, Status};
use zmsg_store::{Migrations, Migrator, SqlStore};

use crate::upkeep::FilterUpkeep;

/// A directory of migrations: `<version>_<name>/up.sql` and `down.sql`, or flat files.
#[derive(Debug, Clone)]
pub struct SchemaDir {
    dir: PathBuf,
    store: Arc<dyn SqlStore>,
    filter: FilterUpkeep,
}

/// The set's name in the table of applied migrations.
const SET: &str = "app";

impl SchemaDir {
    pub(crate) fn new(dir: PathBuf, store: Arc<dyn SqlStore>, filter: FilterUpkeep) -> Self {
        Self { dir, store, filter }
    }

    /// Applies what is pending, each file in a transaction of its own.
    ///
    /// Two runners at once apply each file once; an interrupted run resumes.
    ///
    /// # Errors
    /// `InvalidInput` naming a file that was edited after it was applied, or one that is missing;
    /// what the database says of a statement, naming its file.
    pub async fn migrate(&self) -> Result<Report> {
        let migrator = self.migrator()?;
        self.filter.behind_its_back(migrator.up()).await
    }

    /// Takes the newest `steps` back.
    ///
    /// # Errors
    /// As for [`migrate`](Self::migrate); `InvalidInput` for a migration without a way down.
    pub async fn rollback(&self, steps: usize) -> Result<Report> {
        let migrator = self.migrator()?;
        self.filter.behind_its_back(migrator.down(steps)).await
    }

    /// What is applied, pending, edited or missing.
    ///
    /// # Errors
    /// As for [`migrate`](Self::migrate), for what cannot be read.
    pub async fn status(&self) -> Result<Vec<Status>> {
        self.migrator()?.status().await
    }

    fn migrator(&self) -> Result<Migrator> {
        let migrations = Migrations::load_dir(&self.dir, SET)?;
        Ok(Migrator::new(Arc::clone(&self.store), migrations))
    }
}
