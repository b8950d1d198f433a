//! The database that a configuration names.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use zmsg_aggregate::sqlite_functions;
use zmsg_core::{Error, Result};
use zmsg_store::{SqlStore, SqliteOptions, SqliteStore};

use crate::config::{Config, Synchronous};

/// Opens the database. Connections to a server are driven on `connections`.
pub(crate) async fn store(config: &Config, connections: &TaskTracker) -> Result<Arc<dyn SqlStore>> {
    if config.on_postgres() {
        return postgres(config, connections).await;
    }
    let Some(path) = config.sqlite_path() else {
        return Err(Error::invalid_config(
            "store.url: use sqlite:PATH or postgres://USER@HOST/DATABASE",
        ));
    };
    let options = SqliteOptions {
        readers: config.store.readers,
        synchronous: match config.store.synchronous {
            Synchronous::Full => zmsg_store::Synchronous::Full,
            Synchronous::Normal => zmsg_store::Synchronous::Normal,
        },
        functions: sqlite_functions(),
        busy_timeout: config.store.busy_timeout,
        queue_max: config.store.jobs_max,
        ..SqliteOptions::new(path)
    };
    Ok(Arc::new(SqliteStore::open(options).await?))
}

/// A store whose statements may take as long as they need, for migrations; `None` if the engine's
/// own has no bound on them either.
pub(crate) async fn patient(config: &Config) -> Result<Option<Arc<dyn SqlStore>>> {
    if !config.on_postgres() {
        return Ok(None);
    }
    let mut config = config.clone();
    config.store.statement_timeout = Duration::ZERO;
    config.store.connections_max = 2;
    postgres(&config, &TaskTracker::new()).await.map(Some)
}

#[cfg(feature = "postgres")]
async fn postgres(config: &Config, connections: &TaskTracker) -> Result<Arc<dyn SqlStore>> {
    use zmsg_store::{PostgresOptions, PostgresStore, TlsMode};

    let store = &config.store;
    let tls = match (&store.ca_file, store.allow_plaintext) {
        (Some(ca_file), _) => TlsMode::Verified { ca_file: Some(ca_file.clone()) },
        (None, true) => TlsMode::Plaintext,
        (None, false) => TlsMode::Auto,
    };
    let password = super::password(store.password.as_ref(), store.password_file.as_deref())?;
    let options = PostgresOptions {
        password,
        tls,
        connections_max: store.connections_max,
        connect_timeout: store.connect_timeout,
        statement_timeout: store.statement_timeout,
        lock_timeout: store.lock_timeout,
        pooled: store.pooled,
        ..PostgresOptions::new(&store.url)
    };
    Ok(Arc::new(PostgresStore::open(options, connections.clone()).await?))
}

#[cfg(not(feature = "postgres"))]
async fn postgres(_config: &Config, _connections: &TaskTracker) -> Result<Arc<dyn SqlStore>> {
    Err(super::without("store.url", "postgres"))
}
