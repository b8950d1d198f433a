//! Puts a batch queue together.

use std::fmt;
use std::hash::Hash;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3Default;
use zmsg_core::{Clock, Error, Result, SystemClock};
use zmsg_wal::{Fs, LogOptions, RealFs, SyncPolicy};

use super::adaptive::Sizer;
use super::backlog::{Backlog, Pending, items_dir, letters_dir, queued};
use super::breaker::Breaker;
use super::config::{BatchConfig, BatchOrder, BatchStorage, LETTER_HEAD_MAX};
use super::dead::{Bound, DeadLetters, Place, ended_early};
use super::entry::Home;
use super::handler::{BatchHandler, Streams};
use super::inbox::Inbox;
use super::inner::{Inner, KeyOf, Weigh};
use super::intake::weight;
use super::queue::BatchQueue;
use super::record::Codec;
use super::refill::{Decoded, Left};
use super::state::State;
use super::stats::Counters;
use crate::sabotage;

/// Puts a [`BatchQueue`] together.
pub struct BatchQueueBuilder<T> {
    config: BatchConfig,
    weigh: Option<Weigh<T>>,
    key_of: Option<KeyOf<T>>,
    clock: Arc<dyn Clock>,
    tracker: TaskTracker,
    fs: Arc<dyn Fs>,
}

impl<T: Send + Sync + 'static> BatchQueueBuilder<T> {
    pub(super) fn new(config: BatchConfig) -> Self {
        Self {
            config,
            weigh: None,
            key_of: None,
            clock: Arc::new(SystemClock),
            tracker: TaskTracker::new(),
            fs: RealFs::shared(),
        }
    }

    /// What an item of a queue in memory counts for, in bytes; asked when it is enqueued. By default the
    /// size of its type. Items of other queues count for their encoded bytes.
    #[must_use]
    pub fn weigher(mut self, weigh: impl Fn(&T) -> usize + Send + Sync + 'static) -> Self {
        self.weigh = Some(Box::new(weigh));
        self
    }

    /// The key of an item, for [`BatchOrder::ByKey`]: those of one key stay in order.
    #[must_use]
    pub fn ordered_by<K: Hash>(mut self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> Self {
        self.key_of = Some(Box::new(move |item| {
            let mut hasher = Xxh3Default::new();
            key(item).hash(&mut hasher);
            hasher.digest()
        }));
        self
    }

    /// Where its tasks run; closed queues have left it. By default a tracker of its own.
    #[must_use]
    pub fn tracker(mut self, tracker: TaskTracker) -> Self {
        self.tracker = tracker;
        self
    }

    /// Another clock, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another file system, for tests.
    #[must_use]
    pub fn fs(mut self, fs: Arc<dyn Fs>) -> Self {
        self.fs = fs;
        self
    }

    /// Opens the queue, whose log is recovered when this returns. It delivers nothing before
    /// [`start`](BatchQueue::start).
    ///
    /// Needs a tokio runtime, with time.
    ///
    /// # Errors
    /// `InvalidConfig` for fields that cannot be used; `Conflict` if the directory is open elsewhere;
    /// `Corrupted` for damage in the log; `Unsupported` for a log of a later version; `Unavailable` if
    /// the files cannot be used. Nothing runs then, and nothing was changed but for a torn tail.
    ///
    /// # Cancel safety
    /// Dropped, the directory stays locked until recovery has ended.
    pub async fn open(self, handler: impl BatchHandler<T>) -> Result<BatchQueue<T>>
    where
        T: Serialize + DeserializeOwned,
    {
        self.validate()?;
        let dir = self.config.storage.dir().map(Path::to_path_buf);
        let Some(dir) = dir else { return self.build(Box::new(handler), None, None) };
        let (options, fs) = (self.config.log.clone(), Arc::clone(&self.fs));
        let opening = tokio::task::spawn_blocking(move || {
            fs.prepare_dir(&dir).map_err(|error| unusable(&dir, error))?;
            Backlog::open(&items_dir(&dir), options, fs, queued)
        });
        let opened = opening.await.map_err(ended_early)?;
        let opened = opened.map_err(|error| error.during("batch_queue.open"))?;
        self.build(Box::new(handler), Some(opened), Some(Codec::serde()))
    }

    /// Opens a queue in memory alone, whose items need not be written by serde.
    ///
    /// # Errors
    /// `InvalidConfig` for fields that cannot be used, and for a storage with a directory.
    pub fn open_in_memory(self, handler: impl BatchHandler<T>) -> Result<BatchQueue<T>> {
        self.validate()?;
        if self.config.storage.dir().is_some() {
            let why = "storage must be Memory for open_in_memory; open takes the others";
            return Err(Error::invalid_config(why).during("batch_queue.open"));
        }
        self.build(Box::new(handler), None, None)
    }

    fn validate(&self) -> Result<()> {
        self.config.validate()?;
        let by_key = self.config.order == BatchOrder::ByKey;
        let why = match (by_key, self.key_of.is_some()) {
            (true, false) => "order must not be ByKey without ordered_by, which tells the key",
            (false, true) => "order must be ByKey with ordered_by",
            _ => return Ok(()),
        };
        let error = Error::invalid_config(why).with_context("field", "order");
        Err(error
            .with_context("value", format!("{:?}", self.config.order))
            .during("batch_queue.open"))
    }

    fn build(
        self,
        handler: Box<dyn BatchHandler<T>>,
        opened: Option<(Backlog, Pending)>,
        codec: Option<Codec<T>>,
    ) -> Result<BatchQueue<T>> {
        let Self { config, weigh, key_of, clock, tracker, fs } = self;
        let (backlog, found) =
            opened.map_or((None, Pending::default()), |(log, found)| (Some(log), found));
        let memory = Uuid::now_v7();
        let logged = backlog.as_ref().map_or(memory, Backlog::stream);
        let logged = sabotage::renamed_stream().unwrap_or(logged);
        let (lanes, workers) = match config.order {
            BatchOrder::ByKey => (config.in_flight_max, 1),
            BatchOrder::Strict | BatchOrder::Any => (1, config.in_flight_max),
        };
        let sizer = Sizer::new(config.batch_size);
        let bound = Bound { max: config.dead_letters_max, on_full: config.on_dead_full };
        let dead = match (config.storage.dir(), codec) {
            (Some(dir), Some(codec)) => {
                let options = letters_options(&config.log);
                let place = Place { dir: letters_dir(dir), options, fs };
                DeadLetters::on_disk(place, codec, bound)
            }
            _ => DeadLetters::in_memory(bound),
        };
        // Items that all count the same, in one lane, in memory: producers need no common lock.
        let alike = weigh.is_none() && lanes == 1 && config.storage == BatchStorage::Memory;
        let item_bytes = size_of::<T>().max(1);
        let memory_items = match alike {
            true => config.memory_items_max.min(config.memory_bytes_max / item_bytes),
            false => config.memory_items_max,
        };
        let inbox = alike.then(|| Inbox::new(memory_items, weight(item_bytes)));
        let inner = Arc::new(Inner {
            handler,
            codec,
            weigh: weigh.unwrap_or_else(|| Box::new(move |_| item_bytes)),
            key_of,
            clock,
            state: Mutex::new(State::new(lanes)),
            inbox,
            memory_items,
            backlog,
            first: found.first,
            streams: Streams { logged, memory },
            dead,
            breaker: Mutex::new(Breaker::new(config.breaker_failures, config.breaker_backoff)),
            batch_items: AtomicUsize::new(sizer.size()),
            sizer: Mutex::new(sizer),
            counters: Counters::default(),
            lanes: (0..lanes).map(|_| Notify::new()).collect(),
            room: Notify::new(),
            refill: Notify::new(),
            idle: Notify::new(),
            workers: TaskTracker::new(),
            closing: CancellationToken::new(),
            halt: CancellationToken::new(),
            give_up: CancellationToken::new(),
            retrying: tokio::sync::Mutex::new(()),
            report: watch::Sender::new(None),
            config,
        });
        let left = inner.take_over(found);
        for lane in (0..lanes).flat_map(|lane| std::iter::repeat_n(lane, workers)) {
            inner.workers.spawn(Arc::clone(&inner).run_lane(lane));
        }
        if inner.backlog.is_some() {
            inner.workers.spawn(Arc::clone(&inner).run_refill(left));
        }
        tracker.spawn(Arc::clone(&inner).run_close());
        let queue = BatchQueue::new(inner);
        queue.note_recovered(queue.len());
        Ok(queue)
    }
}

impl<T: Send + Sync + 'static> Inner<T> {
    /// What an earlier process left is to be delivered before anything new.
    fn take_over(&self, found: Pending) -> Left {
        let Pending { first, items, front, fronts, known } = found;
        let Decoded { entries, corpses } = self.decode(&fronts, Home::Front, &known);
        let cut = self.cut();
        let mut state = self.state();
        state.on_disk = items - front;
        state.disk_next = first;
        state.fronts = front;
        state.unreadable = corpses.len() as u64;
        for (lane, entry) in entries {
            state.push(lane, entry, &cut);
        }
        Left { known, unreadable: corpses }
    }
}

/// The log of dead letters is small: its records are single items with a head.
fn letters_options(items: &LogOptions) -> LogOptions {
    let record_bytes_max = items.record_bytes_max.saturating_add(LETTER_HEAD_MAX);
    let buffer_bytes_max = record_bytes_max as usize + (1 << 20);
    let segment_bytes = (2 * buffer_bytes_max + (1 << 20)) as u64;
    LogOptions {
        sync: SyncPolicy::Os,
        record_bytes_max,
        buffer_bytes_max,
        segment_bytes,
        bytes_max: items.bytes_max.max(2 * segment_bytes),
        ..items.clone()
    }
}

fn unusable(dir: &Path, error: std::io::Error) -> Error {
    let why = "the directory of the queue cannot be used";
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied => zmsg_core::ErrorKind::InvalidConfig,
        _ => zmsg_core::ErrorKind::Unavailable,
    };
    Error::new(kind, why).with_context("storage.dir", dir.display()).with_source(error)
}

impl<T> fmt::Debug for BatchQueueBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchQueueBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
