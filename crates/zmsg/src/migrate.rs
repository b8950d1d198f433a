//! The application's own migrations: `load_dir("schema").migrate()`.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::task::TaskTracker;
use zmsg_core::Result;
use zmsg_store::migrate::{Report, Status};
use zmsg_store::{Migrations, Migrator, SqlStore};

use crate::upkeep::FilterUpkeep;
use crate::write::lost;

/// A directory of migrations: `<version>_<name>/up.sql` and `down.sql`, or flat files.
#[derive(Debug, Clone)]
pub struct SchemaDir {
    dir: PathBuf,
    store: Arc<dyn SqlStore>,
    filter: FilterUpkeep,
    tracker: TaskTracker,
}

/// The set's name in the table of applied migrations.
const SET: &str = "app";

impl SchemaDir {
    pub(crate) fn new(
        dir: PathBuf,
        store: Arc<dyn SqlStore>,
        filter: FilterUpkeep,
        tracker: TaskTracker,
    ) -> Self {
        Self { dir, store, filter, tracker }
    }

    /// Applies what is pending, each file in a transaction of its own.
    ///
    /// Two runners at once apply each file once; an interrupted run resumes.
    ///
    /// # Errors
    /// `InvalidInput` naming a file that was edited after it was applied, or one that is missing;
    /// what the database says of a statement, naming its file.
    ///
    /// # Cancel safety
    /// Dropping the future only stops waiting: the migration goes on.
    pub async fn migrate(&self) -> Result<Report> {
        let migrator = self.migrator()?;
        // Every node does this when it starts: what is up to date changes no rows.
        if migrator.plan_up().await?.is_empty() {
            return Ok(Report::default());
        }
        self.run(async move { migrator.up().await }).await
    }

    /// Takes the newest `steps` back.
    ///
    /// # Errors
    /// As for [`migrate`](Self::migrate); `InvalidInput` for a migration without a way down.
    pub async fn rollback(&self, steps: usize) -> Result<Report> {
        let migrator = self.migrator()?;
        self.run(async move { migrator.down(steps).await }).await
    }

    /// What is applied, pending, edited or missing.
    ///
    /// # Errors
    /// As for [`migrate`](Self::migrate), for what cannot be read.
    pub async fn status(&self) -> Result<Vec<Status>> {
        self.migrator()?.status().await
    }

    /// A task of its own: the filter has to learn of the end, whoever waits for it.
    async fn run(
        &self,
        work: impl Future<Output = Result<Report>> + Send + 'static,
    ) -> Result<Report> {
        let filter = self.filter.clone();
        let task = async move { filter.behind_its_back(work).await };
        self.tracker.spawn(task).await.map_err(lost)?
    }

    fn migrator(&self) -> Result<Migrator> {
        let migrations = Migrations::load_dir(&self.dir, SET)?;
        Ok(Migrator::new(Arc::clone(&self.store), migrations))
    }
}
