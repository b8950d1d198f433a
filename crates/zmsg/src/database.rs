//! The database and the Redis of a configuration, for programs that work on them without an engine.

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

/// Opens the Redis that a configuration names, as an engine would, and nothing else of it.
///
/// Its connections are driven on `connections`, which end after
/// [`close`](zmsg_redis::Redis::close). A server that is away is no error here: calls fail.
///
/// # Errors
/// `InvalidConfig` if `redis.url` is missing or the settings of `redis` can never work.
///
/// # Panics
/// Outside of a tokio runtime.
#[cfg(feature = "redis")]
pub fn open_redis(config: &Config, connections: &TaskTracker) -> Result<zmsg_redis::Redis> {
    let missing = || zmsg_core::Error::invalid_config("redis.url is missing");
    assemble::redis(config, connections)?.ok_or_else(missing)
}
