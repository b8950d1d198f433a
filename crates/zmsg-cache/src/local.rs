//! L1: the cache inside this process.

use std::fmt;

use bytes::Bytes;
use zmsg_core::{Error, Key, Millis, Result};

/// What L1 keeps under a key.
///
/// The cache itself neither reads nor enforces `deadline` and `epoch`: [`TieredCache`] does, on
/// every read, so that no backend's idea of time matters.
///
/// [`TieredCache`]: crate::TieredCache
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value; `None` if the key is known to be absent.
    pub value: Option<Bytes>,
    /// The entry is a miss from this moment on, by [`Clock::coarse`](zmsg_core::Clock::coarse).
    pub deadline: Millis,
    /// The entry is a miss unless this is the cache's present epoch.
    pub epoch: u32,
}

impl Entry {
    /// What an entry weighs besides its key and its value: the entry, its place in the map and
    /// in the eviction queues, and the headers of its two allocations, in bytes.
    pub const OVERHEAD: u64 = 160;

    /// Bytes that this entry is counted with under `key`. Never zero, not even for an absent key.
    pub fn weight(&self, key: &Key) -> u64 {
        let value = self.value.as_ref().map_or(0, Bytes::len);
        (key.as_str().len() + value) as u64 + Self::OVERHEAD
    }
}

/// A bounded map in memory that may forget anything at any time.
///
/// - A removed, cleared or replaced entry never comes back: once `remove`, `clear` or `insert`
///   returned, `get` gives the entry inserted last, or nothing.
/// - `get` never gives another key's entry, whatever the hashes are.
/// - Entries weigh [`Entry::weight`] at least, and `weight` is at most `capacity` whenever no
///   insert is under way: it is bounded in bytes.
/// - An entry that can never fit is refused with an error, never dropped in silence, and what was
///   under its key before is gone.
/// - A key whose hash another key has as well is cached like any other, or not at all.
/// - No call waits for other threads for longer than a load would take, and none panics for any key
///   or value.
///
/// Once a [`TieredCache`] has it, only that may change it: a change that goes past it is not seen by
/// threads that hold copies of hot values, for up to 100 ms.
///
/// [`TieredCache`]: crate::TieredCache
///
/// Whether `get` allocates is the backend's to say; that of the default one does not.
pub trait LocalCache: fmt::Debug + Send + Sync + 'static {
    /// The entry under `key`, as it was inserted, expired or not.
    fn get(&self, key: &str) -> Option<Entry>;

    /// Puts an entry under a key, in place of the one there, and evicts others if it must.
    ///
    /// The cache counts the length of the value: hand it one that owns its buffer, not a slice
    /// of a larger one.
    ///
    /// # Errors
    /// `InvalidInput` if the entry weighs more than the cache can hold in one place; the earlier
    /// entry under the key is removed then.
    fn insert(&self, key: &Key, entry: Entry) -> Result<()>;

    /// Removes the entry under `key`, if there is one.
    fn remove(&self, key: &str);

    /// Removes every entry.
    fn clear(&self);

    /// The number of entries, expired ones included.
    fn len(&self) -> usize;

    /// True if there is no entry.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What all entries weigh, in bytes.
    fn weight(&self) -> u64;

    /// What the entries may weigh together, in bytes.
    fn capacity(&self) -> u64;

    /// How many entries were turned away or thrown out to stay below the capacity, because the
    /// backend itself had not kept it. Always zero for one that keeps it as it inserts.
    fn shed(&self) -> u64 {
        0
    }
}

/// The error of an entry that can never fit.
pub(crate) fn too_large(key: &Key, weight: u64, entry_max: u64) -> Error {
    Error::invalid_input("value larger than the cache can hold")
        .with_context("key", format!("{key:?}"))
        .with_context("weight", weight)
        .with_context("entry_max", entry_max)
}
