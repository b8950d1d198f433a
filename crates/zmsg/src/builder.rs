//! Opens an engine: from its configuration, with any part replaced by one of the caller's own.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use zmsg_aggregate::{Aggregator, FlushGuard, FlushObserver, FlushPolicy};
use zmsg_bloom::MembershipFilter;
use zmsg_cache::{CachePolicy, LocalCache, RemoteCache, TieredCache};
use zmsg_core::{Backoff, Clock, Error, Key, Result, SystemClock};
use zmsg_idgen::{IdGenerator, NodeLease};
use zmsg_queue::{TaskQueue, Worker, WorkerOptions};
use zmsg_store::{Migrations, Migrator, SqlStore};

use crate::Zmsg;
use crate::apply::Applier;
use crate::assemble;
use crate::close::Closing;
use crate::codec;
use crate::config::{Config, FilterBackend};
use crate::lock::FileLock;
use crate::pending::Pending;
use crate::read::Reader;
use crate::repair::Repairs;
use crate::source::{Source, Sources};
use crate::tasks::{Stage, Tasks};
use crate::upkeep::{FilterUpkeep, InboxUpkeep, ReceiptUpkeep};
use crate::worker::Handler;
use crate::write::{WriteOptions, Writer};
use crate::zmsg::Inner;

/// Builds an engine. Parts that are not given are made from the configuration.
///
/// ```
/// # use std::sync::Arc;
/// # use zmsg::{Config, Zmsg, cache::MemoryRemote, core::SystemClock};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> zmsg::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// let zmsg = Zmsg::builder(Config::embedded(directory.path()))
///     .remote_cache(Arc::new(MemoryRemote::new(Arc::new(SystemClock))))
///     .open()
///     .await?;
/// zmsg.put("greeting", "hello").await?;
/// assert_eq!(zmsg.get("greeting").await?.as_deref(), Some(&b"hello"[..]));
/// # let _ = zmsg.close(std::time::Duration::from_secs(5)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct Builder {
    config: Config,
    clock: Arc<dyn Clock>,
    store: Option<Arc<dyn SqlStore>>,
    local: Option<Arc<dyn LocalCache>>,
    remote: Option<Arc<dyn RemoteCache>>,
    filter: Option<Arc<dyn MembershipFilter>>,
    queue: Option<Arc<dyn TaskQueue>>,
    lease: Option<Arc<dyn NodeLease>>,
}

macro_rules! parts {
    ($($name:ident: $part:ty, $doc:literal;)*) => {$(
        #[doc = $doc]
        pub fn $name(mut self, $name: Arc<$part>) -> Self {
            self.$name = Some($name);
            self
        }
    )*};
}

impl Builder {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            clock: Arc::new(SystemClock),
            store: None,
            local: None,
            remote: None,
            filter: None,
            queue: None,
            lease: None,
        }
    }

    parts! {
        store: dyn SqlStore, "The database. A SQLite store needs the functions of `zmsg::aggregate::sqlite_functions`.";
        local: dyn LocalCache, "The cache in this process (L1).";
        remote: dyn RemoteCache, "The cache that nodes share (L2).";
        filter: dyn MembershipFilter, "The membership filter.";
        queue: dyn TaskQueue, "The task queue of the delayed route.";
        lease: dyn NodeLease, "Where the node number of ids comes from.";
    }

    /// The cache that nodes share (L2); the same as [`remote`](Self::remote).
    pub fn remote_cache(self, remote: Arc<dyn RemoteCache>) -> Self {
        self.remote(remote)
    }

    /// The clocks.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the engine: locks the directory, opens the store and its tables, starts the loops.
    ///
    /// # Errors
    /// As for [`Zmsg::open`].
    pub async fn open(self) -> Result<Zmsg> {
        let Self { config, clock, store, local, remote, filter, queue, lease } = self;
        config.validate()?;
        if store.is_some() && filter.is_none() {
            check_filter_of_a_given_store(&config)?;
        }
        let locks = Arc::new(locks(&config, store.is_none())?);
        let tracker = TaskTracker::new();
        let tasks = Arc::new(Tasks::new(tracker.clone(), Arc::clone(&locks)));

        let store = match store {
            Some(store) => store,
            None => assemble::store(&config).await?,
        };
        if config.store.migrate {
            Migrator::new(Arc::clone(&store), Migrations::zmsg(store.dialect())).up().await?;
        }
        let local = local.unwrap_or_else(|| assemble::local(&config));
        let remote = remote.unwrap_or_else(assemble::remote);
        let filter = filter.map_or_else(|| assemble::filter(&config), Ok)?;
        let queue = queue.map_or_else(|| assemble::queue(&config, &store, &clock), Ok)?;
        let lease = lease.map_or_else(|| assemble::lease(&config), Ok)?;

        let cache = TieredCache::new(
            local,
            remote,
            cache_policy(&config),
            Arc::clone(&clock),
            tracker.clone(),
        );
        let sources = Arc::new(Sources::new(Arc::clone(&store), Arc::clone(&filter))?);
        for source in &config.sources {
            sources.register(Source::from(source.clone()))?;
        }
        let repairs = Repairs::new(Arc::clone(&queue), Arc::clone(&clock));
        let applier = Arc::new(Applier::new(
            Arc::clone(&store),
            cache.clone(),
            Arc::clone(&filter),
            repairs,
            config.periodic.on_missing,
        ));
        let aggregator = Aggregator::open(
            Arc::clone(&store),
            flush_policy(&config),
            Arc::clone(&clock),
            Arc::new(FollowFlushes(Arc::clone(&applier))),
            tracker.clone(),
        )
        .await?;
        let ids = assemble::ids(&config, lease, &clock).await?;
        let pending = Arc::new(Pending::default());
        let writer = Arc::new(Writer {
            applier,
            cache: cache.clone(),
            aggregator,
            queue,
            pending,
            sources: Arc::clone(&sources),
            clock,
            tracker,
            options: write_options(&config),
            _locks: Arc::clone(&locks),
        });
        let filter_upkeep = FilterUpkeep::new(
            filter,
            Arc::clone(&sources),
            Arc::clone(&store),
            config.filter.capacity,
        );
        start_loops(&tasks, &config, &writer, &store, &filter_upkeep, &ids);

        let deadline = config.shutdown_deadline;
        let closing = Arc::new(Closing { tasks, store, deadline, locks, once: OnceLock::new() });
        let reader = Reader::new(cache, Arc::clone(&sources));
        let closed = AtomicBool::new(false);
        let inner = Inner { closed, reader, writer, sources, filter_upkeep, ids, closing };
        Ok(Zmsg { inner: Arc::new(inner) })
    }
}

/// The filter learns of keys before their flush, and the caches forget them after it: their
/// cached rows are older than the tables then.
#[derive(Debug)]
struct FollowFlushes(Arc<Applier>);

#[async_trait::async_trait]
impl FlushObserver for FollowFlushes {
    async fn flushing(&self, keys: &[Key]) -> Result<FlushGuard> {
        Ok(Box::new(self.0.announce(keys).await?))
    }

    async fn flushed(&self, keys: &[Key]) {
        for key in keys {
            self.0.invalidate(key).await;
        }
    }
}

/// The directory, and the database file unless the caller brought the store: alone if a filter
/// of this process has to know of every write to it.
fn locks(config: &Config, own_store: bool) -> Result<Vec<FileLock>> {
    let mut locks = vec![FileLock::directory(&config.directory)?];
    if let Some(path) = config.sqlite_path().filter(|_| own_store) {
        let alone = config.filter.backend == FilterBackend::Local;
        locks.push(FileLock::database(&path, alone)?);
    }
    Ok(locks)
}

/// A store that the caller brought may be shared, whatever the configuration says of its own.
fn check_filter_of_a_given_store(config: &Config) -> Result<()> {
    if config.filter.backend == FilterBackend::Local && !config.filter.single_node {
        return Err(Error::invalid_config(
            "a local filter on a store of your own would call the rows of other processes absent: \
             set filter.single_node to true if this is the only process, set filter.backend to \
             none, or bring a filter",
        ));
    }
    Ok(())
}

fn start_loops(
    tasks: &Tasks,
    config: &Config,
    writer: &Arc<Writer>,
    store: &Arc<dyn SqlStore>,
    filter_upkeep: &FilterUpkeep,
    ids: &IdGenerator,
) {
    let handler = Handler {
        applier: Arc::clone(&writer.applier),
        pending: Arc::clone(&writer.pending),
        clock: Arc::clone(&writer.clock),
        tracker: writer.tracker.clone(),
    };
    let worker = Worker::new(
        Arc::clone(&writer.queue),
        Arc::new(handler),
        Arc::clone(&writer.clock),
        writer.tracker.clone(),
        worker_options(config),
    );
    let token = tasks.token(Stage::Workers);
    tasks.spawn(Stage::Workers, "queue worker", async move { worker.run(token).await.map(|_| ()) });

    let flusher = writer.aggregator.flusher();
    tasks.spawn(Stage::Flusher, "flusher", flusher.run(tasks.token(Stage::Flusher)));

    let upkeep = tasks.token(Stage::Upkeep);
    tasks.spawn(Stage::Upkeep, "filter upkeep", filter_upkeep.clone().run(upkeep.clone()));
    let inbox = InboxUpkeep {
        store: Arc::clone(store),
        clock: Arc::clone(&writer.clock),
        retention: config.queue.inbox_retention,
    };
    tasks.spawn(Stage::Upkeep, "inbox upkeep", inbox.run(upkeep.clone()));
    let receipts = ReceiptUpkeep {
        pending: Arc::clone(&writer.pending),
        queue: Arc::clone(&writer.queue),
        store: Arc::clone(store),
        clock: Arc::clone(&writer.clock),
    };
    tasks.spawn(Stage::Upkeep, "receipt upkeep", receipts.run(upkeep));

    tasks.spawn(Stage::Lease, "lease keeper", ids.keeper().run(tasks.token(Stage::Lease)));
}

fn cache_policy(config: &Config) -> CachePolicy {
    let cache = &config.cache;
    CachePolicy {
        ttl: cache.ttl,
        local_ttl: cache.local_ttl,
        negative_ttl: cache.negative_ttl,
        jitter: cache.jitter,
        hold: cache.hold,
        waiters_max: cache.waiters_max,
        load_timeout: cache.load_timeout,
        ..CachePolicy::default()
    }
}

fn flush_policy(config: &Config) -> FlushPolicy {
    let periodic = &config.periodic;
    FlushPolicy {
        interval: periodic.interval,
        ops_max: periodic.ops_max,
        bytes_max: periodic.bytes_max.0,
        age_max: periodic.age_max,
        on_missing: periodic.on_missing,
        ..FlushPolicy::default()
    }
}

fn worker_options(config: &Config) -> WorkerOptions {
    let queue = &config.queue;
    WorkerOptions {
        queue: codec::QUEUE.to_owned(),
        concurrency: queue.workers,
        lease: queue.lease,
        task_timeout: queue.task_timeout,
        backoff: Backoff::new(queue.retry_base, queue.retry_cap),
        poll_max: Duration::from_secs(1),
        drain: config.shutdown_deadline / 2,
    }
}

fn write_options(config: &Config) -> WriteOptions {
    WriteOptions {
        delay: config.queue.delay,
        attempts_max: config.queue.attempts_max,
        fallback_to_store: config.queue.fallback_to_store,
    }
}
