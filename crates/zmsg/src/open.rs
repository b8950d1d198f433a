//! From parts to a running engine: wires them, starts the loops.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use zmsg_aggregate::{Aggregator, FlushGuard, FlushObserver, FlushPolicy};
use zmsg_bloom::MembershipFilter;
use zmsg_cache::{CachePolicy, LocalCache, RemoteCache, TieredCache};
use zmsg_core::{Backoff, Clock, Key, Result};
use zmsg_idgen::{IdGenerator, NodeLease};
use zmsg_queue::{TaskQueue, Worker, WorkerOptions};
use zmsg_store::SqlStore;

use crate::Zmsg;
use crate::apply::Applier;
use crate::assemble;
use crate::close::Closing;
use crate::codec;
use crate::config::Config;
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

/// Every part of an engine, picked.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) locks: Arc<Vec<FileLock>>,
    pub(crate) store: Arc<dyn SqlStore>,
    pub(crate) local: Arc<dyn LocalCache>,
    pub(crate) remote: Arc<dyn RemoteCache>,
    pub(crate) filter: Arc<dyn MembershipFilter>,
    pub(crate) queue: Arc<dyn TaskQueue>,
    pub(crate) lease: Arc<dyn NodeLease>,
}

impl Parts {
    /// Wires the parts and starts the loops.
    pub(crate) async fn open(self) -> Result<Zmsg> {
        let Self { config, clock, locks, store, local, remote, filter, queue, lease } = self;
        let tracker = TaskTracker::new();
        let tasks = Arc::new(Tasks::new(tracker.clone(), Arc::clone(&locks)));

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
        // Less than `close` grants them, so that unfinished tasks are given back in time.
        drain: config.shutdown_deadline / 4,
    }
}

fn write_options(config: &Config) -> WriteOptions {
    WriteOptions {
        delay: config.queue.delay,
        attempts_max: config.queue.attempts_max,
        fallback_to_store: config.queue.fallback_to_store,
    }
}
