//! From configuration to backends: the only place that picks one.

mod store;
mod servers;
mod filter;
mod queues;
mod word;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zmsg_cache::{LocalCache, QuickCache};
use zmsg_core::{Clock, Error, Result};
use zmsg_idgen::{
    FileLease, FixedLease, IdGenerator, IdOptions, Layout, NodeLease, SqlLease, SqlLeaseOptions,
};
use zmsg_store::SqlStore;

use crate::config::{Config, LeaseBackend, LocalBackend, Secret};

pub(crate) use filter::{Filter, filter};
pub(crate) use queues::{NamedQueue, Queues, queues};
#[cfg(feature = "redis")]
pub(crate) use servers::redis;
pub(crate) use servers::{Servers, remote};
pub(crate) use store::{patient, store};
pub(crate) use word::Wake;

/// A password or a key, from where it was said to be.
fn password(given: Option<&Secret>, file: Option<&Path>) -> Result<Option<String>> {
    if let Some(password) = given {
        return Ok(Some(password.expose().to_owned()));
    }
    let Some(file) = file else { return Ok(None) };
    let text = std::fs::read_to_string(file).map_err(|cause| {
        Error::invalid_config("could not read the file of a secret")
            .with_context("file", file.display())
            .with_source(cause)
    })?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

pub(crate) fn local(config: &Config) -> Result<Arc<dyn LocalCache>> {
    // Entries of chat messages and rows are near this size; a wrong guess costs a little memory.
    const TYPICAL_ENTRY: u64 = 256;
    let bytes = config.cache.local_bytes_max.0;
    let entries = usize::try_from(bytes / TYPICAL_ENTRY).unwrap_or(usize::MAX);
    match config.cache.local {
        LocalBackend::Quick => Ok(Arc::new(QuickCache::new(bytes, entries))),
        #[cfg(feature = "stretto")]
        LocalBackend::Stretto => Ok(Arc::new(zmsg_cache::StrettoCache::new(bytes, entries)?)),
        #[cfg(feature = "moka")]
        LocalBackend::Moka => Ok(Arc::new(zmsg_cache::MokaCache::new(bytes))),
        #[cfg(not(feature = "stretto"))]
        LocalBackend::Stretto => Err(without("cache.local.backend", "stretto")),
        #[cfg(not(feature = "moka"))]
        LocalBackend::Moka => Err(without("cache.local.backend", "moka")),
    }
}

/// The configuration names a backend that was not compiled in.
#[cfg(not(all(
    feature = "postgres",
    feature = "redis",
    feature = "stretto",
    feature = "moka",
    feature = "bloomfilter"
)))]
fn without(path: &str, feature: &str) -> Error {
    Error::invalid_config(format!("{path}: this build has no {feature}"))
        .with_context("hint", format!("enable the feature `{feature}` of the crate zmsg"))
}

pub(crate) fn lease(
    config: &Config,
    shared: bool,
    store: &Arc<dyn SqlStore>,
) -> Result<Arc<dyn NodeLease>> {
    let directory = config.directory.join("ids");
    Ok(match config.lease_backend(shared) {
        LeaseBackend::Sql => {
            let cluster = config.ids.cluster.clone();
            let options =
                SqlLeaseOptions { cluster, holder: holder(), ..SqlLeaseOptions::default() };
            Arc::new(SqlLease::new(Arc::clone(store), options)?)
        }
        LeaseBackend::Auto | LeaseBackend::File => Arc::new(FileLease::new(directory)),
        LeaseBackend::Fixed => {
            let ceiling = directory.join(format!("fixed-{:04}.ceiling", config.ids.node));
            Arc::new(FixedLease::with_file(config.ids.node.into(), ceiling))
        }
    })
}

/// This process, for a person who looks at the tables of nodes.
pub(crate) fn holder() -> String {
    let host = host();
    format!("{} process {}", if host.is_empty() { "some host," } else { &host }, std::process::id())
}

/// The name of this machine; nothing where it cannot be told.
fn host() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    host.trim().chars().take(60).collect()
}

pub(crate) async fn ids(
    config: &Config,
    lease: Arc<dyn NodeLease>,
    clock: &Arc<dyn Clock>,
) -> Result<IdGenerator> {
    let ids = &config.ids;
    let layout = Layout::new(ids.epoch_ms, ids.time_bits, ids.node_bits, ids.sequence_bits)?;
    let options = IdOptions {
        // A database on a server may be away for a while; ids go on for as long as this.
        reserve_ahead: Duration::from_secs(if config.on_postgres() { 20 } else { 10 }),
        borrow_max: ids.borrow_max,
        ..IdOptions::default()
    };
    IdGenerator::start(layout, lease, Arc::clone(clock), options).await
}
