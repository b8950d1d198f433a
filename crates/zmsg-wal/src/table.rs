//! The segments of an open log, as readers and removal see them.

use std::sync::Mutex;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};

use crate::header::{HEADER, Header};
use crate::shared::locked;

/// A segment and how far it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) header: Header,
    /// Where its last frame ends.
    pub(crate) end: u64,
}

impl Entry {
    pub(crate) fn new(header: Header, end: u64) -> Self {
        Self { header, end }
    }
}

/// The segments in order; the last one is live.
#[derive(Debug)]
pub(crate) struct Table {
    entries: Mutex<Vec<Entry>>,
    version: AtomicU64,
}

/// Where a sequence is to be looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot {
    pub(crate) entry: Entry,
    pub(crate) version: u64,
    /// The last sequence of it that counts, if another segment follows.
    pub(crate) upto: u64,
    /// The first sequence of the segment after it, if there is one.
    pub(crate) after: Option<u64>,
}

impl Table {
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        Self { entries: Mutex::new(entries), version: AtomicU64::new(0) }
    }

    /// Changes when a segment comes or goes.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    pub(crate) fn push(&self, entry: Entry) {
        let mut entries = locked(&self.entries);
        entries.push(entry);
        self.version.fetch_add(1, Release);
    }

    /// The live segment grew.
    pub(crate) fn grow(&self, end: u64) {
        if let Some(live) = locked(&self.entries).last_mut() {
            live.end = end;
        }
    }

    /// The segment that has `seq`, or the one after the place where it would be. A segment that was
    /// begun because the one before could no longer be trusted repeats sequences of it: the later
    /// one counts.
    pub(crate) fn find(&self, seq: u64) -> Option<Spot> {
        let entries = locked(&self.entries);
        let index = entries.iter().rposition(|entry| entry.header.first_seq <= seq).unwrap_or(0);
        let entry = *entries.get(index)?;
        let next = entries.get(index + 1).map(|next| next.header);
        let upto = next.map_or(u64::MAX, |next| next.synced_through);
        let after = next.map(|next| next.first_seq);
        Some(Spot { entry, version: self.version.load(Acquire), upto, after })
    }

    /// The first segment, if all its records are below `seq` and another follows.
    pub(crate) fn first_below(&self, seq: u64) -> Option<Entry> {
        let entries = locked(&self.entries);
        let (first, next) = (entries.first()?, entries.get(1)?);
        (next.header.synced_through < seq).then_some(*first)
    }

    pub(crate) fn remove_first(&self) {
        let mut entries = locked(&self.entries);
        if entries.len() > 1 {
            entries.remove(0);
        }
        self.version.fetch_add(1, Release);
    }

    /// The first segment could not be removed after all.
    pub(crate) fn put_back(&self, first: Entry) {
        locked(&self.entries).insert(0, first);
        self.version.fetch_add(1, Release);
    }

    /// How many segments, and their bytes.
    pub(crate) fn size(&self) -> (usize, u64) {
        let entries = locked(&self.entries);
        (entries.len(), entries.iter().map(|entry| entry.end).sum())
    }
}

/// A segment without a record.
pub(crate) const EMPTY: u64 = HEADER as u64;
