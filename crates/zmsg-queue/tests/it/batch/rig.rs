//! A queue of numbers, and a sink that does what a test says.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use zmsg_core::{Backoff, Clock, Error, ErrorKind, Millis, Result, UnixMillis};
use zmsg_queue::batch::{
    Batch, BatchConfig, BatchHandler, BatchQueue, BatchSize, BatchStorage, ItemId, LogOptions,
    Outcome,
};

/// Long enough for any machine; a test that waits as long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What the sink does with a batch.
#[derive(Debug, Clone)]
pub(crate) enum Do {
    Take,
    Fail(ErrorKind),
    FailItems(Vec<(usize, ErrorKind)>),
    Panic,
    /// Never ends by itself.
    Hang,
    /// Takes it after that long.
    Slow(Duration),
    /// Takes it once so many items were taken.
    After(usize),
    /// Takes it once a batch with that item was handed over.
    Behind(u64),
}

type Rule = Box<dyn Fn(&[u64]) -> Do + Send + Sync>;

/// Remembers what it was given, and what it took.
#[derive(Default)]
pub(crate) struct Sink {
    seen: Mutex<Seen>,
    script: Mutex<VecDeque<Do>>,
    rule: Mutex<Option<Rule>>,
    changed: Notify,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// Every call.
    pub(crate) calls: Vec<Vec<u64>>,
    pub(crate) attempts: Vec<u32>,
    pub(crate) ids: Vec<Vec<ItemId>>,
    /// What was taken, in order.
    pub(crate) taken: Vec<u64>,
    /// Calls that were dropped before their end.
    pub(crate) dropped: usize,
    pub(crate) now: usize,
    pub(crate) most_at_once: usize,
}

impl Sink {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The next calls do these; then all take.
    pub(crate) fn script(&self, script: impl IntoIterator<Item = Do>) {
        self.script.lock().unwrap().extend(script);
    }

    pub(crate) fn rule(&self, rule: impl Fn(&[u64]) -> Do + Send + Sync + 'static) {
        *self.rule.lock().unwrap() = Some(Box::new(rule));
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn taken(&self) -> Vec<u64> {
        self.seen().taken
    }

    pub(crate) fn handler(self: &Arc<Self>) -> impl BatchHandler<u64> + use<> {
        let sink = Arc::clone(self);
        move |batch: Batch<u64>| {
            let sink = Arc::clone(&sink);
            async move { sink.handle(&batch).await }
        }
    }

    async fn handle(&self, batch: &Batch<u64>) -> Result<Outcome> {
        let items: Vec<u64> = batch.iter().copied().collect();
        let what = self.what_to_do(&items);
        self.note(|seen| {
            seen.calls.push(items.clone());
            seen.attempts.push(batch.attempt());
            seen.ids.push(batch.ids().collect());
            seen.now += 1;
            seen.most_at_once = seen.most_at_once.max(seen.now);
        });
        let mut call = Call { sink: self, ended: false };
        let result = self.act(what, &items).await;
        call.ended = true;
        result
    }

    fn what_to_do(&self, items: &[u64]) -> Do {
        let scripted = self.script.lock().unwrap().pop_front();
        let by_rule = || self.rule.lock().unwrap().as_ref().map_or(Do::Take, |rule| rule(items));
        scripted.unwrap_or_else(by_rule)
    }

    async fn act(&self, what: Do, items: &[u64]) -> Result<Outcome> {
        let error = |kind| Error::new(kind, "as the test says");
        match what {
            Do::Take => {}
            Do::Slow(pause) => sleep(pause).await,
            Do::After(count) => drop(self.until_taken(count).await),
            Do::Behind(item) => {
                let handed_over = |seen: &Seen| seen.calls.iter().any(|call| call.contains(&item));
                drop(self.until(handed_over).await);
            }
            Do::Hang => std::future::pending().await,
            Do::Fail(kind) => return Err(error(kind)),
            Do::Panic => panic!("as the test says"),
            Do::FailItems(failed) => {
                let is_failed = |place: &usize| failed.iter().any(|(at, _)| at == place);
                let taken = items.iter().enumerate().filter(|(at, _)| !is_failed(at));
                self.note(|seen| seen.taken.extend(taken.map(|(_, item)| *item)));
                return Ok(Outcome::failed(failed.into_iter().map(|(at, kind)| (at, error(kind)))));
            }
        }
        self.note(|seen| seen.taken.extend_from_slice(items));
        Ok(Outcome::done())
    }

    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.seen.lock().unwrap());
        self.changed.notify_waiters();
    }

    /// Waits for what the sink has seen to be as wished.
    pub(crate) async fn until(&self, wished: impl Fn(&Seen) -> bool) -> Seen {
        let waiting = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                let seen = self.seen();
                if wished(&seen) {
                    return seen;
                }
                changed.await;
            }
        };
        let found = timeout(PATIENCE, waiting).await;
        found.unwrap_or_else(|_| panic!("the sink has seen only {:?}", self.seen()))
    }

    pub(crate) async fn until_taken(&self, count: usize) -> Vec<u64> {
        self.until(|seen| seen.taken.len() >= count).await.taken
    }
}

struct Call<'a> {
    sink: &'a Sink,
    ended: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let dropped = usize::from(!self.ended && !std::thread::panicking());
        self.sink.note(|seen| {
            seen.now -= 1;
            seen.dropped += dropped;
        });
    }
}

/// Waits for a queue to be as wished.
pub(crate) async fn until(queue: &BatchQueue<u64>, wished: impl Fn(&BatchQueue<u64>) -> bool) {
    let waiting = async {
        while !wished(queue) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let found = timeout(PATIENCE, waiting).await;
    found.unwrap_or_else(|_| panic!("the queue stays as it is: {:?}", queue.stats()));
}

/// Batches of up to ten, soon; failures are tried again soon.
pub(crate) fn quick(config: BatchConfig) -> BatchConfig {
    BatchConfig {
        batch_size: BatchSize::Fixed(10),
        batch_timeout: Duration::from_millis(5),
        backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(5)),
        breaker_backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(5)),
        tries_max: 3,
        log: small_log(),
        ..config
    }
}

pub(crate) fn small_log() -> LogOptions {
    LogOptions {
        record_bytes_max: 16 << 10,
        buffer_bytes_max: 64 << 10,
        segment_bytes: 128 << 10,
        bytes_max: 8 << 20,
        ..LogOptions::default()
    }
}

/// Each kind of storage, in a directory.
pub(crate) fn storages(dir: &Path) -> [BatchStorage; 3] {
    let (durable, hybrid) = (dir.join("durable"), dir.join("hybrid"));
    [
        BatchStorage::Durable { dir: durable },
        BatchStorage::Hybrid { dir: hybrid },
        BatchStorage::Memory,
    ]
}

pub(crate) fn with(storage: BatchStorage) -> BatchConfig {
    quick(BatchConfig { storage, ..BatchConfig::memory() })
}

pub(crate) async fn open(config: BatchConfig, sink: &Arc<Sink>) -> BatchQueue<u64> {
    BatchQueue::builder(config).open(sink.handler()).await.unwrap()
}

pub(crate) async fn started(config: BatchConfig, sink: &Arc<Sink>) -> BatchQueue<u64> {
    let queue = open(config, sink).await;
    queue.start().unwrap();
    queue
}

/// A clock that goes with tokio's, which stands still where nothing waits.
#[derive(Debug)]
pub(crate) struct TokioClock(Instant);

impl TokioClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for TokioClock {
    fn wall(&self) -> UnixMillis {
        self.coarse()
    }

    fn coarse(&self) -> Millis {
        1_000_000 + self.0.elapsed().as_millis() as u64
    }
}
