//! What is wrong with the servers and the directory of a configuration, and which promise suffers.
//!
//! Collectors ask for facts; judges are pure functions from facts to findings.

mod finding; // start here
mod postgres;
mod postgres_verdict;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redis_verdict;
mod directory;
mod directory_verdict;
#[cfg(test)]
mod on_servers;

use std::time::Duration;

use zmsg_core::Result;

use crate::Config;
use crate::assemble::Servers;
use crate::config::Synchronous;

pub use finding::{Diagnosis, Finding, Promise, Severity};

/// How long connections may take to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Looks at the servers and the directory that a configuration names.
///
/// Nothing is changed: a file of a few bytes is written to the directory and removed. A server that
/// cannot be reached is a finding. An engine may run on the same configuration meanwhile.
///
/// # Errors
/// `InvalidConfig` for a configuration that no engine would take.
///
/// # Cancel safety
/// Dropping the future ends the connections.
pub async fn examine(config: &Config) -> Result<Diagnosis> {
    config.validate()?;
    let servers = Servers::of(config)?;
    let tasks = servers.connections();
    let mut diagnosis = Diagnosis::default();
    if config.on_postgres() {
        postgres::examine(config, tasks, &mut diagnosis).await;
    } else {
        sqlite(config, &mut diagnosis);
    }
    #[cfg(feature = "redis")]
    if config.redis.url.is_some() {
        redis::examine(&servers.redis("redis.url")?, config, tasks, &mut diagnosis).await?;
    }
    if config.uses_directory(config.database_is_shared()) {
        directory::examine(config, tasks, &mut diagnosis).await;
    }
    // What hangs at a server must not keep the answer back.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, servers.close()).await;
    diagnosis.sort();
    Ok(diagnosis)
}

fn sqlite(config: &Config, diagnosis: &mut Diagnosis) {
    diagnosis.looked_at(format!("SQLite: {}", config.store.url));
    if config.store.synchronous == Synchronous::Normal {
        diagnosis.add(
            Finding::warning("sqlite", "commits are acknowledged before they are on the disk")
                .weakens(Promise::Committed)
                .change("store.synchronous: full"),
        );
    }
}
