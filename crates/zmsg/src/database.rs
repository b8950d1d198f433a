//! The database of a configuration, for programs that work on it without an engine.

use std::sync::Arc;

use tokio_util::task::TaskTracker;
use zmsg_core::Result;
use zmsg_store::SqlStore;

use crate::assemble;
use crate::config::Config;

/// Opens the database that a configuration names, as an engine would, and nothing else of it.
///
/// Connections to a server are driven on `connections`, which end after
/// [`close`](SqlStore::close). No lock is taken: who writes to a file takes
/// [`FileLock::database`](crate::FileLock::database) first, and who writes to guarded tables takes
/// the trust from the filters with [`distrust_filters`](crate::distrust_filters).
///
/// # Errors
/// `InvalidConfig` for a configuration that no engine would take, or for a database that this build
/// has no backend for; else why the database cannot be opened.
///
/// # Cancel safety
/// Dropping the future opens nothing.
pub async fn open_store(config: &Config, connections: &TaskTracker) -> Result<Arc<dyn SqlStore>> {
    config.validate()?;
    assemble::store(config, connections).await
}
