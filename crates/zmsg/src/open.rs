//! From parts to a running engine: wires them, starts the loops.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use zmsg_aggregate::{Aggregator, FlushObserver, FlushPolicy, Flushing};
use zmsg_cache::{CachePolicy, LocalCache, RemoteCache, TieredCache};
use zmsg_core::{Backoff, Clock, Key, Result};
use zmsg_idgen::{IdGenerator, NodeLease};
use zmsg_queue::{ServedQueue, TaskHandler, Worker, WorkerOptions};
use zmsg_store::SqlStore;

use crate::Zmsg;
use crate::apply::Applier;
use crate::assemble::{self, Filter, NamedQueue, Queues, Servers};
use crate::close::Closing;
use crate::config::Config;
use crate::flush_notes::{FlushNotes, Leftovers};
use crate::journal;
use crate::lock::FileLock;
use crate::members::Member;
use crate::read::Reader;
use crate::receipts::ReceiptUpkeep;
use crate::repair::{Repairs, run_while_reachable};
use crate::seal::CLOCKS_APART;
use crate::source::{Source, Sources};
use crate::tasks::{Stage, Tasks};
use crate::upkeep::{FilterUpkeep, InboxUpkeep};
use crate::worker::Handler;
use crate::write::{DelayMax, WriteOptions, Writer};
use crate::zmsg::Inner;

/// Every part of an engine, picked.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) config: Config,
    /// Other nodes may share the database.
    pub(crate) shared: bool,
    /// The store was opened from the configuration.
    pub(crate) own_store: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) locks: Arc<Vec<FileLock>>,
    pub(crate) store: Arc<dyn SqlStore>,
    pub(crate) local: Arc<dyn LocalCache>,
    pub(crate) remote: Arc<dyn RemoteCache>,
    pub(crate) filter: Filter,
    pub(crate) queues: Queues,
    pub(crate) lease: Arc<dyn NodeLease>,
    pub(crate) servers: Servers,
    /// Among the engines of a server's database.
    pub(crate) member: Option<Member>,
}

impl Parts {
    /// Wires the parts and starts the loops.
    pub(crate) async fn open(self) -> Result<Zmsg> {
        let tracker = TaskTracker::new();
        let tasks = Arc::new(Tasks::new(tracker.clone(), Arc::clone(&self.locks)));
        let cache = TieredCache::new(
            Arc::clone(&self.local),
            Arc::clone(&self.remote),
            cache_policy(&self.config),
            Arc::clone(&self.clock),
            tracker.clone(),
        );
        let sources = self.sources()?;
        let ids = assemble::ids(&self.config, Arc::clone(&self.lease), &self.clock).await?;
        let writer = self.writer(&cache, &sources, tracker).await?;
        let filter_upkeep = FilterUpkeep::new(
            &self.filter,
            Arc::clone(&sources),
            Arc::clone(&self.store),
            self.config.filter.capacity,
        );
        start_loops(&tasks, &self, &writer, &filter_upkeep, &ids);
        let recovery = writer.aggregator.recovery(journal::PATIENCE);
        let journals = self.config.uses_directory(self.shared).then(|| self.config.journal_root());
        let Self { config, own_store, store, filter, queues, locks, servers, member, .. } = self;
        if let Some(keeper) = filter.keeper() {
            let token = tasks.token(Stage::Upkeep);
            tasks.spawn(Stage::Upkeep, "filter keeper", keeper.run(token));
        }
        for wake_ups in queues.wake_ups {
            // After the workers: they give tasks back while they stop, and others hear of it.
            let token = tasks.token(Stage::Upkeep);
            tasks.spawn(Stage::Upkeep, wake_ups.name(), wake_ups.run(token));
        }
        if let Some(member) = member.as_ref().filter(|_| cache.has_remote()) {
            let (store, applier) = (member.store(), Arc::clone(&writer.applier));
            let leftovers = Leftovers { store, applier, member: member.id() };
            leftovers.invalidate_all().await;
            let token = tasks.token(Stage::Upkeep);
            tasks.spawn(Stage::Upkeep, "leftovers", leftovers.run(token));
        }
        if let Some(member) = member.clone() {
            let token = tasks.token(Stage::Lease);
            tasks.spawn(Stage::Lease, "member keeper", member.run(token));
        }

        let (deadline, once) = (config.shutdown_deadline, OnceLock::new());
        let own_store = own_store.then(|| Arc::new(config));
        let closing =
            Arc::new(Closing { tasks, store, own_store, servers, member, deadline, locks, once });
        let reader = Reader::new(cache, Arc::clone(&sources));
        let closed = AtomicBool::new(false);
        let inner = Inner {
            closed,
            reader,
            writer,
            sources,
            filter_upkeep,
            ids,
            closing,
            recovery,
            journals,
        };
        let zmsg = Zmsg { inner: Arc::new(inner) };
        // The loops run: a flush has to tell the filter. Nobody else has the handle yet.
        zmsg_core::fail_point!("zmsg::open::loops_started");
        if let Err(error) = zmsg.inner.recover().await {
            let _ = zmsg.close(None).await;
            return Err(error);
        }
        zmsg_core::fail_point!("zmsg::open::recovered");
        Ok(zmsg)
    }

    fn sources(&self) -> Result<Arc<Sources>> {
        let sources = Sources::new(Arc::clone(&self.store), &self.filter)?;
        for source in &self.config.sources {
            sources.register(Source::from(source.clone()))?;
        }
        Ok(Arc::new(sources))
    }

    async fn writer(
        &self,
        cache: &TieredCache,
        sources: &Arc<Sources>,
        tracker: TaskTracker,
    ) -> Result<Arc<Writer>> {
        let Queues { delayed, in_database, repairs, wake, .. } = &self.queues;
        let applier = Arc::new(Applier::new(
            Arc::clone(&self.store),
            cache.clone(),
            self.filter.clone(),
            Repairs::new(repairs.clone(), Arc::clone(&self.clock), tracker.clone()),
            self.config.periodic.on_missing,
        ));
        let member = self.member.as_ref().filter(|_| cache.has_remote());
        let notes = member.map(|member| FlushNotes::of(member.id()));
        let aggregator = Aggregator::open_with(
            journal::create(&self.config, self.shared).await?,
            Arc::clone(&self.store),
            flush_policy(&self.config),
            Arc::clone(&self.clock),
            Arc::new(FollowFlushes { applier: Arc::clone(&applier), notes }),
            tracker.clone(),
        )
        .await?;
        Ok(Arc::new(Writer {
            applier,
            cache: cache.clone(),
            aggregator,
            delayed: delayed.clone(),
            in_database: in_database.clone(),
            wake: wake.clone(),
            pending: Arc::default(),
            sources: Arc::clone(sources),
            clock: Arc::clone(&self.clock),
            tracker,
            options: write_options(&self.config, self.shared, delayed),
            _locks: Arc::clone(&self.locks),
        }))
    }
}

/// The filter learns of keys before their flush, and the caches forget them after it: their
/// cached rows are older than the tables then.
#[derive(Debug)]
struct FollowFlushes {
    applier: Arc<Applier>,
    /// For those who come after a kill, if there is an L2.
    notes: Option<FlushNotes>,
}

#[async_trait::async_trait]
impl FlushObserver for FollowFlushes {
    async fn flushing(&self, keys: &[Key]) -> Result<Flushing> {
        let flushing = self.applier.announce(keys).await?.into_flushing();
        match &self.notes {
            Some(notes) => notes.note(keys, flushing),
            None => Ok(flushing),
        }
    }

    async fn flushed(&self, keys: &[Key]) {
        self.applier.invalidate(keys).await;
    }
}

fn start_loops(
    tasks: &Tasks,
    parts: &Parts,
    writer: &Arc<Writer>,
    filter_upkeep: &FilterUpkeep,
    ids: &IdGenerator,
) {
    let Parts { config, store, servers, queues, .. } = parts;
    start_workers(tasks, config, servers, &queues.repairs, writer);

    let flusher = writer.aggregator.flusher();
    tasks.spawn(Stage::Flusher, "flusher", flusher.run(tasks.token(Stage::Flusher)));

    let upkeep = tasks.token(Stage::Upkeep);
    tasks.spawn(Stage::Upkeep, "filter upkeep", filter_upkeep.clone().run(upkeep.clone()));
    let inbox = InboxUpkeep {
        store: Arc::clone(store),
        clock: Arc::clone(&writer.clock),
        retention: inbox_retention(config, &queues.delayed),
    };
    tasks.spawn(Stage::Upkeep, "inbox upkeep", inbox.run(upkeep.clone()));
    let receipts = ReceiptUpkeep {
        pending: Arc::clone(&writer.pending),
        queue: Arc::clone(&writer.delayed.queue),
        applier: Arc::clone(&writer.applier),
        clock: Arc::clone(&writer.clock),
        shared: writer.options.shared,
    };
    tasks.spawn(Stage::Upkeep, "receipt upkeep", receipts.run(upkeep));

    tasks.spawn(Stage::Lease, "lease keeper", ids.keeper().run(tasks.token(Stage::Lease)));
}

/// The workers of every queue that tasks of this engine may stand in.
fn start_workers(
    tasks: &Tasks,
    config: &Config,
    servers: &Servers,
    repairs: &NamedQueue,
    writer: &Arc<Writer>,
) {
    let worker_of = |named: &NamedQueue, options: WorkerOptions| {
        let (writer, NamedQueue { queue, name, envelope, .. }) =
            (Arc::clone(writer), named.clone());
        let handler = Arc::new(Handler {
            applier: Arc::clone(&writer.applier),
            pending: Arc::clone(&writer.pending),
            envelope,
            clock: Arc::clone(&writer.clock),
            tracker: writer.tracker.clone(),
        });
        let options = WorkerOptions { queues: vec![ServedQueue::new(name)], ..options };
        move || {
            let handler = Arc::clone(&handler) as Arc<dyn TaskHandler>;
            let (queue, clock) = (Arc::clone(&queue), Arc::clone(&writer.clock));
            Worker::new(queue, handler, clock, writer.tracker.clone(), options.clone())
        }
    };
    for named in writer.queues() {
        let worker = worker_of(named, worker_options(config))();
        if let Some(board) = &named.board {
            // After the workers: what they still run while they stop is shown, and can be cancelled.
            let shown = board.show(&worker, tasks.token(Stage::Upkeep));
            tasks.spawn(Stage::Upkeep, "worker presence", shown);
        }
        let token = tasks.token(Stage::Workers);
        let run = async move { worker.run(token).await.map(|_| ()) };
        tasks.spawn(Stage::Workers, "queue worker", run);
    }
    if writer.cache.has_remote() {
        let worker = worker_of(repairs, repair_options(config));
        let token = tasks.token(Stage::Workers);
        let run = run_while_reachable(worker, servers.clone(), token);
        tasks.spawn(Stage::Workers, "repair worker", run);
    }
}

/// How long the inbox remembers. What Redis holds is refused once it is as old as the configuration
/// says, by clocks that may be apart.
fn inbox_retention(config: &Config, delayed: &NamedQueue) -> Duration {
    let apart = if delayed.has_others() { CLOCKS_APART } else { Duration::ZERO };
    config.queue.inbox_retention.saturating_add(apart)
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
        concurrency: queue.workers,
        lease: queue.lease,
        task_timeout: queue.task_timeout,
        backoff: Backoff::new(queue.retry_base, queue.retry_cap),
        poll_max: Duration::from_secs(1),
        // Less than `close` grants them, so that unfinished tasks are given back in time.
        drain: config.shutdown_deadline / 4,
        ..WorkerOptions::default()
    }
}

/// Repairs are few, quick to fail while L2 is away, and due as soon as it is back.
fn repair_options(config: &Config) -> WorkerOptions {
    WorkerOptions {
        concurrency: 2,
        backoff: Backoff::new(Duration::from_millis(250), Duration::from_secs(1)),
        ..worker_options(config)
    }
}

fn write_options(config: &Config, shared: bool, delayed: &NamedQueue) -> WriteOptions {
    let delay_max = if delayed.has_others() {
        DelayMax::remembered(config.queue.inbox_retention.saturating_sub(config.retry_span()))
    } else {
        DelayMax::TEN_YEARS
    };
    WriteOptions {
        delay: config.queue.delay,
        delay_max,
        attempts_max: config.queue.attempts_max,
        fallback_to_store: config.queue.fallback_to_store,
        shared,
    }
}
