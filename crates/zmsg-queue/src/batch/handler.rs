//! What a batch queue delivers to, what it hands over, and what it is told.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;
use zmsg_core::{Error, Result};

use super::entry::Entry;

/// Takes the batches of a queue. Any `Fn(Batch<T>) -> impl Future<Output = Result<Outcome>>` is one.
///
/// - An item is handed over at least once: again after a failure, a time-out, or a crash before the
///   queue had noted its end. A sink that has to be exact tells repeats by [`Batch::ids`].
/// - A call that takes longer than `handler_timeout` is dropped at its next `await`, and its batch
///   tried again.
/// - A call must not block its thread: it could not be dropped, and the runtime's timers may stand
///   still with it. What blocks belongs in `tokio::task::spawn_blocking`.
/// - A panic is a failed try.
/// - `Err` fails the whole batch: [`Unavailable`](zmsg_core::ErrorKind::Unavailable) costs no try and
///   counts for the breaker; an error whose [status](zmsg_core::ErrorStatus) is temporary or unknown
///   costs a try; `InvalidInput` and `InvalidData` will not get better, so the bad item is sought at
///   once.
#[async_trait]
pub trait BatchHandler<T>: Send + Sync + 'static {
    /// Delivers a batch.
    ///
    /// # Errors
    /// As told above.
    async fn handle(&self, batch: Batch<T>) -> Result<Outcome>;
}

#[async_trait]
impl<T, F, R> BatchHandler<T> for F
where
    T: Send + Sync + 'static,
    F: Fn(Batch<T>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Outcome>> + Send + 'static,
{
    async fn handle(&self, batch: Batch<T>) -> Result<Outcome> {
        self(batch).await
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Outcome {
    pub(super) failed: Vec<(usize, Error)>,
}

impl Outcome {
    /// Every item was delivered.
    pub fn done() -> Self {
        Self::default()
    }

    /// Every item was delivered but these, by their place in the batch. Those are tried again by
    /// themselves, or become dead letters at once if their error is `InvalidInput` or `InvalidData`.
    /// A place that the batch does not have is an error of the handler and fails the whole batch.
    pub fn failed(items: impl IntoIterator<Item = (usize, Error)>) -> Self {
        Self { failed: items.into_iter().collect() }
    }
}

/// What names an item, also after a restart where it went through the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId {
    /// The log; or this opening of the queue for an item that is in memory alone.
    pub stream: Uuid,
    /// Its place in there. Grows, with gaps.
    pub seq: u64,
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stream.simple(), self.seq)
    }
}

/// Items on their way, in order. Cheap to clone; the items are shared, not copied.
pub struct Batch<T> {
    pub(super) entries: Arc<Vec<Entry<T>>>,
    pub(super) live: Arc<[u32]>,
    pub(super) streams: Streams,
    pub(super) tries: u32,
}

/// The streams of logged and of other items.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams {
    pub(super) logged: Uuid,
    pub(super) memory: Uuid,
}

impl<T> Batch<T> {
    /// How many items there are; one at least.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// The items.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &T> + DoubleEndedIterator + Clone {
        self.live.iter().map(|&at| &self.entries[at as usize].item)
    }

    /// The item at a place.
    pub fn get(&self, place: usize) -> Option<&T> {
        self.live.get(place).map(|&at| &self.entries[at as usize].item)
    }

    /// The ids of the items, in the same order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = ItemId> + '_ {
        self.live.iter().map(|&at| self.entries[at as usize].id(self.streams))
    }

    /// Which try this is for the items; 1 is the first.
    pub fn attempt(&self) -> u32 {
        self.tries + 1
    }
}

impl<T> Clone for Batch<T> {
    fn clone(&self) -> Self {
        let (entries, live) = (Arc::clone(&self.entries), Arc::clone(&self.live));
        Self { entries, live, streams: self.streams, tries: self.tries }
    }
}

impl<T> fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Items are the user's data.
        f.debug_struct("Batch")
            .field("len", &self.len())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}

impl<T> std::ops::Index<usize> for Batch<T> {
    type Output = T;

    /// # Panics
    /// If the batch has no such place.
    fn index(&self, place: usize) -> &T {
        &self.entries[self.live[place] as usize].item
    }
}
