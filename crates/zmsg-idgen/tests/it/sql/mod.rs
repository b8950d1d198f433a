//! Leases in a database, on every database that there is.

mod child;
mod kept;
mod leases;
mod outage;
mod postgres;
mod processes;
mod stopped;

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio_util::task::TaskTracker;
use zmsg_core::{Row, Statement, Value};
use zmsg_idgen::{Layout, Reserve, SqlLease, SqlLeaseOptions};
use zmsg_store::{
    Migrations, Migrator, PostgresOptions, PostgresStore, SqlStore, SqliteOptions, SqliteStore,
};

/// A database of a test's own, with zmsg's tables.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) store: Arc<dyn SqlStore>,
    _with: With,
}

/// What goes with the database.
#[derive(Debug)]
enum With {
    Folder { _folder: TempDir },
    Server { _database: zmsg_testbed::Database },
    Nothing,
}

impl Database {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("zmsg.db").display());
        Self::with_tables(url, With::Folder { _folder: folder }).await
    }

    /// One on the server of the tests, if there is one.
    pub(crate) async fn postgres() -> Option<Self> {
        let database = zmsg_testbed::postgres()?.database().await;
        let url = database.url().to_owned();
        Some(Self::with_tables(url, With::Server { _database: database }).await)
    }

    /// One that is there already, and stays.
    pub(crate) async fn at(url: &str) -> Self {
        Self::with_tables(url.to_owned(), With::Nothing).await
    }

    async fn with_tables(url: String, with: With) -> Self {
        let store = open(&url).await;
        let migrations = Migrations::zmsg(store.dialect());
        Migrator::new(Arc::clone(&store), migrations).up().await.unwrap();
        Self { url, store, _with: with }
    }

    /// Leases as another process would open them.
    pub(crate) fn leases(&self, options: SqlLeaseOptions) -> SqlLease {
        SqlLease::new(Arc::clone(&self.store), options).unwrap()
    }

    /// Runs a statement by hand, as an operator would.
    pub(crate) async fn run(&self, text: &str, binds: Vec<Value>) -> Vec<Row> {
        self.store.execute(&Statement::query(text, binds)).await.unwrap().rows
    }

    /// Ends the lease of a node at once, unknown to its holder.
    pub(crate) async fn expire(&self, node: u32) {
        let text = "UPDATE zmsg_node SET lease_until_ms = 1 WHERE node = ?";
        self.run(text, vec![Value::Int(node.into())]).await;
    }

    /// A number of the one row that a query returns.
    pub(crate) async fn number(&self, query: &str) -> i64 {
        self.run(query, vec![]).await[0].int(0).unwrap()
    }
}

/// Opens a database by its URL, in whatever process.
pub(crate) async fn open(url: &str) -> Arc<dyn SqlStore> {
    let Some(path) = url.strip_prefix("sqlite:") else {
        let few = PostgresOptions { connections_max: 4, ..PostgresOptions::new(url) };
        return Arc::new(PostgresStore::open(few, TaskTracker::new()).await.unwrap());
    };
    let busy_timeout = Duration::from_secs(30);
    let patient = SqliteOptions { busy_timeout, ..SqliteOptions::new(path) };
    Arc::new(SqliteStore::open(patient).await.unwrap())
}

/// Two nodes.
pub(crate) fn two_nodes() -> Layout {
    Layout::new(Layout::EPOCH_2021_MS, 44, 1, 18).unwrap()
}

pub(crate) fn want(layout: Layout) -> Reserve {
    Reserve { layout, from_ms: 0, ahead: Duration::from_secs(10) }
}

/// Makes a test of each function, on each database.
macro_rules! on_every_database {
    ($($name:ident,)*) => {
        mod sqlite {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::sql::Database::sqlite().await).await;
            }
        )*}

        mod postgres {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(database) = $crate::sql::Database::postgres().await else { return };
                super::$name(database).await;
            }
        )*}
    };
}
use on_every_database;
