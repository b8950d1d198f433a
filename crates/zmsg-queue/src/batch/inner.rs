//! What the handles of a batch queue and its tasks share.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::Clock;

use super::adaptive::Sizer;
use super::backlog::{Backlog, locked};
use super::breaker::Breaker;
use super::close::BatchCloseReport;
use super::config::BatchConfig;
use super::dead::DeadLetters;
use super::handler::{BatchHandler, Streams};
use super::inbox::Inbox;
use super::record::Codec;
use super::state::{Cut, State};
use super::stats::Counters;

pub(super) type Weigh<T> = Box<dyn Fn(&T) -> usize + Send + Sync>;
/// The hash of an item's key.
pub(super) type KeyOf<T> = Box<dyn Fn(&T) -> u64 + Send + Sync>;

pub(super) struct Inner<T> {
    pub(super) config: BatchConfig,
    /// The most items in memory; fewer than configured, if items of one size reach that bound first.
    pub(super) memory_items: usize,
    pub(super) handler: Box<dyn BatchHandler<T>>,
    pub(super) codec: Option<Codec<T>>,
    pub(super) weigh: Weigh<T>,
    pub(super) key_of: Option<KeyOf<T>>,
    pub(super) clock: Arc<dyn Clock>,

    pub(super) state: Mutex<State<T>>,
    /// Where producers of a queue in memory leave their items; else they take the lock.
    pub(super) inbox: Option<Inbox<T>>,
    pub(super) backlog: Option<Backlog>,
    /// The first record of the log that may be of an item to deliver, when the queue was opened.
    pub(super) first: u64,
    pub(super) streams: Streams,
    pub(super) dead: DeadLetters<T>,
    pub(super) breaker: Mutex<Breaker>,
    pub(super) sizer: Mutex<Sizer>,
    /// What the sizer says.
    pub(super) batch_items: AtomicUsize,
    pub(super) counters: Counters,

    /// One for each lane: items came, or the phase changed.
    pub(super) lanes: Vec<Notify>,
    /// There may be room again.
    pub(super) room: Notify,
    /// Something is in the log alone, or there is room in memory for it.
    pub(super) refill: Notify,
    /// Everything was delivered.
    pub(super) idle: Notify,

    /// Of the lanes and the refill.
    pub(super) workers: TaskTracker,
    pub(super) closing: CancellationToken,
    /// Nothing is begun any more: who waits for something else than a call ends.
    pub(super) halt: CancellationToken,
    /// Calls of the handler are dropped.
    pub(super) give_up: CancellationToken,
    /// Held while dead letters become items again.
    pub(super) retrying: tokio::sync::Mutex<()>,
    pub(super) report: watch::Sender<Option<BatchCloseReport>>,
}

impl<T> Inner<T> {
    /// The state, without what is still in the inbox.
    pub(super) fn state(&self) -> MutexGuard<'_, State<T>> {
        locked(&self.state)
    }

    /// The state, with everything in it that was accepted. Producers feel it: not for every step.
    pub(super) fn whole_state(&self) -> MutexGuard<'_, State<T>> {
        let mut state = self.state();
        self.take_in_posted(&mut state);
        state
    }

    /// Whether nothing waits, in the inbox neither, and nothing is on its way.
    pub(super) fn is_idle(&self, state: &State<T>) -> bool {
        let posted = self.inbox.as_ref().is_some_and(|inbox| inbox.holds_more(&state.sorter));
        state.pending() == 0 && !posted
    }

    /// How many items came out of the inbox.
    pub(super) fn take_in_posted(&self, state: &mut State<T>) -> u64 {
        let Some(inbox) = &self.inbox else { return 0 };
        let (cut, before) = (self.cut(), state.enqueued);
        let mut sorter = std::mem::take(&mut state.sorter);
        inbox.empty(&mut sorter, |entry| {
            state.enqueued += 1;
            state.push(0, entry, &cut);
        });
        state.sorter = sorter;
        state.enqueued - before
    }

    pub(super) fn cut(&self) -> Cut {
        let config = &self.config;
        Cut {
            items: self.batch_items.load(Relaxed),
            bytes: config.batch_bytes_max,
            timeout: config.batch_timeout,
            memory_items: self.memory_items,
            memory_bytes: config.memory_bytes_max,
        }
    }

    pub(super) fn lane_of(&self, item: &T) -> usize {
        match &self.key_of {
            Some(key_of) if self.lanes.len() > 1 => {
                (key_of(item) % self.lanes.len() as u64) as usize
            }
            _ => 0,
        }
    }

    /// Something changed for all.
    pub(super) fn wake_all(&self) {
        self.lanes.iter().for_each(Notify::notify_waiters);
        self.room.notify_waiters();
        self.refill.notify_one();
    }
}

impl<T> fmt::Debug for Inner<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchQueue").field("storage", &self.config.storage).finish_non_exhaustive()
    }
}
