//! The application's own migrations: `load_dir("schema").migrate()`.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::task::TaskTracker;
use zmsg_core::Result;
use zmsg_store::migrate::{Report, Status};
use zmsg_store::{Migrations, Migrator, SqlStore};

use crate::assemble;
use crate::config::Config;
use crate::shared_filters::BehindFilters;
use crate::upkeep::FilterUpkeep;
use crate::write::lost;

/// A directory of migrations: `<version>_<name>/up.sql` and `down.sql`, or flat files.
#[derive(Debug, Clone)]
pub struct SchemaDir {
    dir: PathBuf,
    store: Arc<dyn SqlStore>,
    /// Where the engine opened its store from, if it did: a script may take longer than the
    /// statements of an application.
    config: Option<Arc<Config>>,
    filter: FilterUpkeep,
    tracker: TaskTracker,
}

/// The set's name in the table of applied migrations.
const SET: &str = "app";

impl SchemaDir {
    pub(crate) fn new(
        dir: PathBuf,
        store: Arc<dyn SqlStore>,
        config: Option<Arc<Config>>,
        filter: FilterUpkeep,
        tracker: TaskTracker,
    ) -> Self {
        Self { dir, store, config, filter, tracker }
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
        // Every node does this when it starts: what is up to date changes no rows.
        if self.migrator(&self.store)?.plan_up().await?.is_empty() {
            return Ok(Report::default());
        }
        self.run(None).await
    }

    /// Takes the newest `steps` back.
    ///
    /// # Errors
    /// As for [`migrate`](Self::migrate); `InvalidInput` for a migration without a way down.
    pub async fn rollback(&self, steps: usize) -> Result<Report> {
        self.run(Some(steps)).await
    }

    /// What is applied, pending, edited or missing.
    ///
    /// # Errors
    /// As for [`migrate`](Self::migrate), for what cannot be read.
    pub async fn status(&self) -> Result<Vec<Status>> {
        self.migrator(&self.store)?.status().await
    }

    /// Goes up, or so many steps down. A task of its own: the filter has to learn of the end,
    /// whoever waits for it.
    async fn run(&self, down: Option<usize>) -> Result<Report> {
        let schema = self.clone();
        let work = async move {
            let patient = match &schema.config {
                Some(config) => assemble::patient(config).await?,
                None => None,
            };
            let store = patient.as_ref().unwrap_or(&schema.store);
            // A filter of another node may be built while this runs.
            let store: Arc<dyn SqlStore> = Arc::new(BehindFilters::new(Arc::clone(store)));
            let migrator = schema.migrator(&store)?;
            let done = match down {
                None => migrator.up().await,
                Some(steps) => migrator.down(steps).await,
            };
            if let Some(patient) = patient
                && let Err(error) = patient.close().await
            {
                tracing::warn!(%error, "the connections of a migration could not be closed");
            }
            done
        };
        let filter = self.filter.clone();
        let task = async move { Box::pin(filter.behind_its_back(work)).await };
        self.tracker.spawn(task).await.map_err(lost)?
    }

    fn migrator(&self, store: &Arc<dyn SqlStore>) -> Result<Migrator> {
        let migrations = Migrations::load_dir(&self.dir, SET)?;
        Ok(Migrator::new(Arc::clone(store), migrations))
    }
}
