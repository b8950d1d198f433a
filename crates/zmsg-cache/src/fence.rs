//! What is under way for a key in this process: writers, and the one load that may fill L1.
//!
//! All changes of L1 happen here, under the lock of the key's stripe; reads of L1 take no lock.
//!
//! Each flight is a generation of its key. Whatever changes the key **detaches** the flight: it
//! still answers those who already wait for it, but it fills nothing, and later readers begin a
//! flight of their own, which sees the change. This is finer than a counter per stripe: a write of
//! one key never refuses the fill of another.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use zmsg_core::{Error, Key, Result};

use crate::flight::{Flight, Lead, Waiter};
use crate::front::{Front, GENERATIONS};
use crate::{Entry, LocalCache};

/// L1, and the bookkeeping that keeps stale values out of it.
pub(crate) struct Fence {
    local: Arc<dyn LocalCache>,
    front: Front,
    stripes: Box<[Mutex<Stripe>]>,
    flights: AtomicUsize,
}

/// The keys of a stripe for which something is under way.
type Stripe = HashMap<Key, Slot>;

#[derive(Default)]
struct Slot {
    /// Mutations under way: writers that hold the key, sets, invalidations.
    writers: u32,
    /// There was more than one at a time since the first of them came: which of their values is
    /// the newest is unknown, so none is kept.
    contended: bool,
    /// The load that may fill.
    flight: Option<Arc<Flight>>,
}

/// What a read has to do after L1 missed.
pub(crate) enum Turn {
    /// Nothing: L1 was filled a moment ago.
    Hit(Option<Bytes>),
    /// Wait for a load under way.
    Follow(Waiter),
    /// Run the load, and wait for it too.
    Lead(Lead, Waiter),
}

/// How many may load and wait.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) waiters_max: usize,
    pub(crate) flights_max: usize,
}

/// What became of an entry that was offered to L1.
#[derive(Debug)]
pub(crate) enum Kept {
    Yes,
    /// None was offered.
    Nothing,
    /// The key was written meanwhile, by somebody else.
    Refused,
    TooLarge(Error),
}

/// Keys that share a generation of the front share a stripe too.
const STRIPES: usize = 1024;
const _: () = assert!(GENERATIONS.is_multiple_of(STRIPES));

impl Fence {
    pub(crate) fn new(local: Arc<dyn LocalCache>, front: Front) -> Self {
        Self {
            local,
            front,
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            flights: AtomicUsize::new(0),
        }
    }

    /// Joins the load of a key or begins one. `fresh` looks at L1 once more: a load that landed
    /// since the caller looked is not repeated.
    pub(crate) fn turn(
        self: &Arc<Self>,
        key: &Key,
        epoch: u32,
        bounds: Bounds,
        fresh: impl FnOnce() -> Option<Option<Bytes>>,
    ) -> Result<Turn> {
        let mut stripe = self.stripe(key);
        let flight = stripe.get(key).and_then(|slot| slot.flight.as_ref());
        // A flight of an earlier epoch may have seen what the epoch was ended for.
        if let Some(flight) = flight.filter(|flight| flight.epoch() == epoch).cloned() {
            let waiter = flight.join(bounds.waiters_max)?;
            drop(stripe);
            flight.share();
            return Ok(Turn::Follow(waiter));
        }
        if let Some(value) = fresh() {
            return Ok(Turn::Hit(value));
        }
        if self.flights.fetch_add(1, Relaxed) >= bounds.flights_max {
            self.flights.fetch_sub(1, Relaxed);
            return Err(Error::overloaded("flights_max"));
        }
        let flight = Arc::new(Flight::new(epoch));
        let waiter = flight.waiter();
        stripe.entry(key.clone()).or_default().flight = Some(Arc::clone(&flight));
        drop(stripe);
        Ok(Turn::Lead(Lead::new(Arc::clone(self), key.clone(), flight), waiter))
    }

    /// Begins a mutation: L1 forgets the key and nothing fills it until the mutation is left. The
    /// flight under way is detached then, when what it may have missed has happened.
    pub(crate) fn enter(self: &Arc<Self>, key: &Key) -> Passage {
        let mut stripe = self.stripe(key);
        let slot = stripe.entry(key.clone()).or_default();
        slot.writers += 1;
        slot.contended |= slot.writers > 1;
        self.forget(key);
        drop(stripe);
        Passage { fence: Arc::clone(self), key: key.clone(), left: false }
    }

    /// A mutation that is over at once: keeps the entry, unless a writer is at work, who must then
    /// not keep his either. If `still` does not hold any more, nothing happens.
    pub(crate) fn replace(&self, key: &Key, entry: Entry, still: impl FnOnce() -> bool) -> Kept {
        let mut stripe = self.stripe(key);
        if !still() {
            return Kept::Nothing;
        }
        if let Some(slot) = stripe.get_mut(key) {
            slot.flight = None;
            slot.contended |= slot.writers > 0;
            if slot.contended {
                self.forget(key);
                return Kept::Refused;
            }
            stripe.remove(key);
        }
        self.keep(key, entry)
    }

    /// Ends a flight: it fills if it is still the one of its key and nobody writes.
    pub(crate) fn land(&self, key: &Key, flight: &Arc<Flight>, entry: Option<Entry>) -> Kept {
        let mut stripe = self.stripe(key);
        let slot = stripe.get_mut(key);
        let current =
            slot.filter(|slot| slot.flight.as_ref().is_some_and(|f| Arc::ptr_eq(f, flight)));
        let writers = current.map(|slot| {
            slot.flight = None;
            slot.writers
        });
        if writers == Some(0) {
            stripe.remove(key);
        }
        match (entry, writers) {
            (None, _) => Kept::Nothing,
            (Some(entry), Some(0)) => self.keep(key, entry),
            (Some(_), _) => Kept::Refused,
        }
    }

    /// Tells the fence that a flight's lead is gone.
    pub(crate) fn flight_ended(&self) {
        self.flights.fetch_sub(1, Relaxed);
    }

    fn leave(&self, key: &Key, entry: Option<Entry>) -> Kept {
        let mut stripe = self.stripe(key);
        let Some(slot) = stripe.get_mut(key) else {
            debug_assert!(false, "a passage is counted in its slot until it is left");
            return Kept::Refused;
        };
        let contended = slot.contended;
        slot.flight = None;
        slot.writers -= 1;
        if slot.writers == 0 {
            stripe.remove(key);
        }
        match entry {
            Some(entry) if !contended => self.keep(key, entry),
            Some(_) => Kept::Refused,
            None => Kept::Nothing,
        }
    }

    // Called with the stripe locked, as `keep` is: that makes check and change one step, and changes
    // of keys that share a generation come one at a time.
    fn forget(&self, key: &Key) {
        let _change = self.front.change(self.front.hash(key.as_str()));
        self.local.remove(key.as_str());
    }

    fn keep(&self, key: &Key, entry: Entry) -> Kept {
        let _change = self.front.change(self.front.hash(key.as_str()));
        match self.local.insert(key, entry) {
            Ok(()) => Kept::Yes,
            Err(error) => Kept::TooLarge(error),
        }
    }

    fn stripe(&self, key: &Key) -> MutexGuard<'_, Stripe> {
        let index = self.front.hash(key.as_str()) as usize % STRIPES;
        // A backend that panics in `insert` or `remove` leaves the slots as they were.
        self.stripes[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A mutation under way. Dropped, it is left with nothing kept.
pub(crate) struct Passage {
    fence: Arc<Fence>,
    key: Key,
    left: bool,
}

impl Passage {
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Ends the mutation; L1 keeps the entry if this was the only mutation all the time.
    pub(crate) fn leave(mut self, entry: Option<Entry>) -> Kept {
        self.left = true;
        self.fence.leave(&self.key, entry)
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if !self.left {
            self.fence.leave(&self.key, None);
        }
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fence")
            .field("local", &self.local)
            .field("flights", &self.flights.load(Relaxed))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passage").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QuickCache;

    const BOUNDS: Bounds = Bounds { waiters_max: 10, flights_max: 10 };

    fn fence() -> Arc<Fence> {
        Arc::new(Fence::new(Arc::new(QuickCache::new(1 << 20, 100)), Front::new()))
    }

    #[test]
    fn a_load_that_landed_since_the_caller_looked_is_not_repeated() {
        let fence = fence();
        let key = Key::new("feed_1").unwrap();
        let turn = fence.turn(&key, 0, BOUNDS, || Some(Some(Bytes::from_static(b"row"))));
        assert!(matches!(turn, Ok(Turn::Hit(Some(_)))));
    }

    #[test]
    fn nothing_is_kept_for_a_key_when_all_is_over() {
        let fence = fence();
        let key = Key::new("feed_1").unwrap();
        let Ok(Turn::Lead(lead, _)) = fence.turn(&key, 0, BOUNDS, || None) else { panic!() };
        let (one, two) = (fence.enter(&key), fence.enter(&key));
        drop(lead);
        one.leave(None);
        drop(two);
        assert!(fence.stripe(&key).is_empty());
        assert_eq!(fence.flights.load(Relaxed), 0);
    }
}
