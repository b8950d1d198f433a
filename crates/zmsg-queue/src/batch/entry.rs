//! An item that waits, and what the queue knows of it.

use zmsg_core::Millis;

use super::handler::{ItemId, Streams};

/// An item and where it is from.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) item: T,
    /// In the log, or the count of items that are in memory alone.
    pub(super) seq: u64,
    pub(super) home: Home,
    /// What it counts for in memory; no more than 4 GiB.
    pub(super) bytes: u32,
    /// When it was enqueued, on the coarse clock of this process.
    pub(super) at: Millis,
    /// Tries that earlier processes spent.
    pub(super) tries: u32,
}

/// Where an item would be found by the next process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// Nowhere.
    Memory,
    /// In the log, in its order.
    Log,
    /// In the log, behind items that come after it: it was in memory alone when the queue closed.
    Front,
}

impl<T> Entry<T> {
    pub(super) fn id(&self, streams: Streams) -> ItemId {
        let stream = if self.home == Home::Memory { streams.memory } else { streams.logged };
        ItemId { stream, seq: self.seq }
    }

    pub(super) fn is_logged(&self) -> bool {
        self.home != Home::Memory
    }
}
