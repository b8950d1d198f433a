//! Notes of flushes: the cache keys that have to leave L2, in the transaction of the flush.
//!
//! A process may be killed between the commit of a flush and its invalidations: L2 would be older
//! than the database for as long as its entries live. The note is committed with the flush, and
//! whoever starts next, or is alive, invalidates what the killed one could not ([`Leftovers`]).

mod leftovers;

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;
use zmsg_aggregate::{FlushGuard, Flushing, Hold};
use zmsg_core::{Error, Key, Result, Statement, Value};
use zmsg_store::Step;

pub(crate) use self::leftovers::Leftovers;

/// The notes of an engine.
#[derive(Debug, Clone)]
pub(crate) struct FlushNotes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    member: Uuid,
    seq: AtomicI64,
    slots: Mutex<Slots>,
}

/// There are as many slots as flushes were ever on their way at once: a few.
#[derive(Debug, Default)]
struct Slots {
    free: Vec<i64>,
    made: i64,
}

/// A slot, kept until the keys of its flush have left the caches.
#[derive(Debug)]
struct Slot {
    number: i64,
    notes: Arc<Inner>,
}

/// What a flush keeps, with the slot of its note.
#[derive(Debug)]
struct Noted {
    kept: FlushGuard,
    slot: Slot,
}

const WRITE: &str = "INSERT INTO zmsg_flushes (member, slot, seq, keys) VALUES (?, ?, ?, ?) \
                     ON CONFLICT (member, slot) \
                     DO UPDATE SET seq = excluded.seq, keys = excluded.keys";

impl FlushNotes {
    pub(crate) fn of(member: Uuid) -> Self {
        let (seq, slots) = (AtomicI64::new(0), Mutex::default());
        Self(Arc::new(Inner { member, seq, slots }))
    }

    /// Adds the note to what a flush keeps and does.
    pub(crate) fn note(&self, keys: &[Key], flushing: Flushing) -> Result<Flushing> {
        if keys.is_empty() {
            return Ok(flushing);
        }
        let slot = self.slot();
        let binds = vec![
            self.0.member.into(),
            slot.number.into(),
            self.0.seq.fetch_add(1, Relaxed).into(),
            Value::Bytes(encode(keys)?),
        ];
        // Before the checks, which come last; written anew by each transaction of one flush.
        let mut checks = vec![Step::any(Statement::new(WRITE, binds))];
        checks.extend(flushing.checks);
        Ok(Flushing { guard: Box::new(Noted { kept: flushing.guard, slot }), checks })
    }

    fn slot(&self) -> Slot {
        let mut slots = self.0.slots();
        let number = slots.free.pop().unwrap_or_else(|| {
            slots.made += 1;
            slots.made
        });
        Slot { number, notes: Arc::clone(&self.0) }
    }
}

impl Inner {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        // Nothing panics while it is held.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.notes.slots().free.push(self.number);
    }
}

impl Hold for Noted {
    fn outdated(self: Box<Self>) {
        let Self { kept, slot } = *self;
        kept.outdated();
        drop(slot);
    }
}

fn encode(keys: &[Key]) -> Result<bytes::Bytes> {
    let keys: Vec<&str> = keys.iter().map(Key::as_str).collect();
    postcard::to_stdvec(&keys).map(bytes::Bytes::from).map_err(|cause| {
        Error::invalid_input("cannot encode the keys of a flush").with_source(cause)
    })
}

/// The keys of a note; one that was not written by this is passed over, since keys are all it has.
fn decode(bytes: &[u8]) -> Vec<Key> {
    let keys: Vec<&str> = postcard::from_bytes(bytes).unwrap_or_default();
    keys.into_iter().filter_map(|key| Key::new(key).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number_of(step: &Step) -> Value {
        step.statement.binds[1].clone()
    }

    #[test]
    fn a_slot_is_used_again_when_its_flush_has_ended_and_not_before() {
        let notes = FlushNotes::of(Uuid::new_v4());
        let keys = [Key::new("feed_1").unwrap()];
        let note = || notes.note(&keys, Flushing::unobserved()).unwrap();
        let (first, second) = (note(), note());
        assert_ne!(number_of(&first.checks[0]), number_of(&second.checks[0]));
        let freed = number_of(&first.checks[0]);
        drop(first);
        let third = note();
        assert_eq!(number_of(&third.checks[0]), freed);
        second.guard.outdated();
        assert_eq!(notes.0.slots().free.len(), 1);
    }

    #[test]
    fn keys_read_back_as_they_were_written() {
        let keys = ["feed_1", "a\nb", "ü"].map(|key| Key::new(key).unwrap());
        assert_eq!(decode(&encode(&keys).unwrap()), keys);
        assert_eq!(decode(b"\xff\xff\xff"), Vec::<Key>::new());
    }
}
