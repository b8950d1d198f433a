//! How far the log has come, and who waits for more.

use std::collections::BTreeMap;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire},
};
use std::sync::{Mutex, OnceLock};
use std::task::{Poll, Waker};

use zmsg_core::{Error, ErrorKind, Result};

use crate::Durability;
use crate::shared::locked;

/// The sequences that were written and synced, and the wakers of those who wait.
#[derive(Debug)]
pub(crate) struct Progress {
    written: AtomicU64,
    synced: AtomicU64,
    end: OnceLock<End>,
    waiting: Mutex<Waiting>,
}

/// Why there is no more progress.
#[derive(Debug, Clone)]
struct End {
    error: Error,
    /// No later record was handed to the system, not even in part.
    attempted: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    flushed: BTreeMap<Place, Waker>,
    synced: BTreeMap<Place, Waker>,
}

/// The sequence that is waited for, and the number of who waits.
pub(crate) type Place = (u64, u64);

impl Waiting {
    fn of(&mut self, durability: Durability) -> &mut BTreeMap<Place, Waker> {
        match durability {
            Durability::Synced => &mut self.synced,
            _ => &mut self.flushed,
        }
    }
}

impl Progress {
    /// Everything up to `seq` is on the disk.
    pub(crate) fn starting_at(seq: u64) -> Self {
        Self {
            written: AtomicU64::new(seq),
            synced: AtomicU64::new(seq),
            end: OnceLock::new(),
            waiting: Mutex::default(),
        }
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Acquire)
    }

    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Acquire)
    }

    pub(crate) fn set_written(&self, seq: u64) {
        self.written.fetch_max(seq, AcqRel);
        self.wake(Durability::Flushed, seq);
    }

    /// Returns how many waited for it.
    pub(crate) fn set_synced(&self, seq: u64) -> usize {
        self.written.fetch_max(seq, AcqRel);
        self.synced.fetch_max(seq, AcqRel);
        self.wake(Durability::Flushed, seq);
        self.wake(Durability::Synced, seq)
    }

    /// Nothing comes any more: everybody is woken.
    pub(crate) fn end(&self, error: Error, attempted: u64) {
        let _ = self.end.set(End { error, attempted });
        self.wake(Durability::Flushed, u64::MAX);
        self.wake(Durability::Synced, u64::MAX);
    }

    /// The error that ended the log, if one did.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.end.get().map(|end| end.error.clone())
    }

    /// Whether a record has come so far, or can no longer.
    fn reached(&self, seq: u64, durability: Durability) -> Option<Result<()>> {
        // In this order: what came before the end counts.
        let end = self.end.get();
        let reached = match durability {
            Durability::Buffered => true,
            Durability::Flushed => self.written() >= seq,
            Durability::Synced => self.synced() >= seq,
        };
        if reached {
            return Some(Ok(()));
        }
        let End { error, attempted } = end?;
        if error.kind() == ErrorKind::Closed {
            return Some(Err(error.clone()));
        }
        Some(Err(if seq <= *attempted {
            error.clone().outcome_unknown().with_context("sequence", seq)
        } else {
            error.clone().with_context("not written", seq)
        }))
    }

    /// Registers `waker` unless the record has come so far.
    pub(crate) fn poll(
        &self,
        seq: u64,
        durability: Durability,
        place: &mut Option<Place>,
        waker: &Waker,
    ) -> Poll<Result<()>> {
        if let Some(result) = self.reached(seq, durability) {
            return Poll::Ready(result);
        }
        let mut waiting = locked(&self.waiting);
        // Between the look above and the lock it may have come; whoever comes later sees us.
        if let Some(result) = self.reached(seq, durability) {
            return Poll::Ready(result);
        }
        let place = *place.get_or_insert_with(|| {
            waiting.next += 1;
            (seq, waiting.next)
        });
        match waiting.of(durability).get_mut(&place) {
            Some(known) => known.clone_from(waker),
            None => {
                waiting.of(durability).insert(place, waker.clone());
            }
        }
        Poll::Pending
    }

    /// Nobody waits there any more.
    pub(crate) fn forget(&self, durability: Durability, place: Place) {
        // Dropped after the lock is free: a waker may run code of its own.
        let _waker = locked(&self.waiting).of(durability).remove(&place);
    }

    fn wake(&self, durability: Durability, seq: u64) -> usize {
        let ready = {
            let mut waiting = locked(&self.waiting);
            let waiting = waiting.of(durability);
            if waiting.is_empty() {
                return 0;
            }
            let later = match seq.checked_add(1) {
                Some(next) => waiting.split_off(&(next, 0)),
                None => BTreeMap::new(),
            };
            std::mem::replace(waiting, later)
        };
        let count = ready.len();
        for waker in ready.into_values() {
            waker.wake();
        }
        count
    }
}
