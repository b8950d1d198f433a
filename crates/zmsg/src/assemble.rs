//! From configuration to backends: the only place that picks one.

use std::sync::Arc;
use std::time::Duration;

use zmsg_aggregate::sqlite_functions;
use zmsg_bloom::{FilterOptions, LocalFilter, MembershipFilter, OpenFilter};
use zmsg_cache::{LocalCache, NoRemote, QuickCache, RemoteCache};
use zmsg_core::{Clock, Error, Result};
use zmsg_idgen::{FileLease, FixedLease, IdGenerator, IdOptions, Layout, NodeLease};
use zmsg_queue::{MemoryQueueOptions, MemoryTaskQueue, SqlQueueOptions, SqlTaskQueue, TaskQueue};
use zmsg_store::{SqlStore, SqliteOptions, SqliteStore};

use crate::config::{Config, FilterBackend, LeaseBackend, QueueBackend, Synchronous};

pub(crate) async fn store(config: &Config) -> Result<Arc<dyn SqlStore>> {
    let Some(path) = config.sqlite_path() else {
        return Err(Error::invalid_config("store.url: use sqlite:PATH"));
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

pub(crate) fn local(config: &Config) -> Arc<dyn LocalCache> {
    // Entries of chat messages and rows are near this size; a wrong guess costs a little memory.
    const TYPICAL_ENTRY: u64 = 256;
    let bytes = config.cache.local_bytes_max.0;
    let entries = usize::try_from(bytes / TYPICAL_ENTRY).unwrap_or(usize::MAX);
    Arc::new(QuickCache::new(bytes, entries))
}

pub(crate) fn remote() -> Arc<dyn RemoteCache> {
    Arc::new(NoRemote)
}

pub(crate) fn filter(config: &Config) -> Result<Arc<dyn MembershipFilter>> {
    let filter = &config.filter;
    Ok(match filter.backend {
        FilterBackend::None => Arc::new(OpenFilter),
        FilterBackend::Local => Arc::new(LocalFilter::new(FilterOptions {
            capacity: filter.capacity,
            error_rate: filter.error_rate,
            ..FilterOptions::default()
        })?),
    })
}

pub(crate) fn queue(
    config: &Config,
    store: &Arc<dyn SqlStore>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn TaskQueue>> {
    let tasks_max = config.queue.tasks_max;
    Ok(match config.queue.backend {
        QueueBackend::Memory => {
            let tasks_max = tasks_max as usize;
            let options = MemoryQueueOptions { tasks_max, ..MemoryQueueOptions::default() };
            Arc::new(MemoryTaskQueue::new(Arc::clone(clock), options))
        }
        QueueBackend::Sql => {
            let options = SqlQueueOptions { tasks_max, ..SqlQueueOptions::default() };
            Arc::new(SqlTaskQueue::new(Arc::clone(store), Arc::clone(clock), options)?)
        }
    })
}

pub(crate) fn lease(config: &Config) -> Result<Arc<dyn NodeLease>> {
    let directory = config.directory.join("ids");
    Ok(match config.ids.lease {
        LeaseBackend::File => Arc::new(FileLease::new(directory)),
        LeaseBackend::Fixed => {
            let ceiling = directory.join(format!("fixed-{:04}.ceiling", config.ids.node));
            Arc::new(FixedLease::with_file(config.ids.node.into(), ceiling))
        }
    })
}

pub(crate) async fn ids(
    config: &Config,
    lease: Arc<dyn NodeLease>,
    clock: &Arc<dyn Clock>,
) -> Result<IdGenerator> {
    let ids = &config.ids;
    let layout = Layout::new(ids.epoch_ms, ids.time_bits, ids.node_bits, ids.sequence_bits)?;
    let options = IdOptions {
        reserve_ahead: Duration::from_secs(10),
        borrow_max: ids.borrow_max,
        ..IdOptions::default()
    };
    IdGenerator::start(layout, lease, Arc::clone(clock), options).await
}
