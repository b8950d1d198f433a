//! Copies of hot values for each thread, before L1.
//!
//! Every reader of a value counts itself in and out in one cell of memory, the value's reference
//! count, and in the lock of its shard. Cores hand the line of that cell to one another, so a key
//! that all of them read gets slower with each core. A thread that reads a key often therefore
//! keeps a copy of its own, that no other thread writes to.
//!
//! A copy is fenced by the generation of its key, which works as a sequence lock does (Boehm, "Can
//! seqlocks get along with programming language memory models?", 2012): whoever changes a key in L1
//! makes its generation odd before and even after. A copy is served while the generation is the
//! even one that was read before the value was; so it is never served after a change began.
//!
//! Which keys are hot is voted in each place of a small table: a read of the key that has the place
//! is for it, one of another key against it (Misra and Gries, "Finding repeated elements", 1982).

use std::cell::{Cell, RefCell};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use bytes::Bytes;
use foldhash::fast::RandomState;
use zmsg_core::{Clock, Millis};

use crate::Entry;

/// Places of each thread, for all its caches.
const PLACES: usize = 64;

/// Keys share generations: a change of one lets the copies of some others be made anew.
pub(crate) const GENERATIONS: usize = 4096;

/// A larger value is not copied, in bytes: threads times places times this is the bound on memory.
const VALUE_MAX: usize = 4096;

/// So many more reads of a key than of others that would have its place make it hot.
const HOT: u32 = 16;

/// So many reads of others take its place from a key that is no longer read.
const VOTES_MAX: u32 = 2 * HOT;

/// A copy is served so many times, and no longer than this; then L1 is asked again, so that it
/// knows that the key is read, and may forget it.
const SERVED_MAX: u32 = 250;
const SERVED_FOR: Millis = 100;

thread_local! {
    // Apart from the copies: most reads are of keys that are not hot, and touch nothing else.
    static PLACES_OF_THREAD: [Cell<Place>; PLACES] = const { [const { Cell::new(Place::EMPTY) }; PLACES] };
    static COPIES: RefCell<[Option<Copied>; PLACES]> = const { RefCell::new([const { None }; PLACES]) };
}

/// The generations of one cache's keys.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    /// Tells caches apart in the tables of threads.
    cache: u64,
    generations: Arc<[AtomicU64]>,
    hasher: RandomState,
}

/// A change of a key in L1, under way until it is dropped.
pub(crate) struct Change<'a>(&'a AtomicU64);

impl Front {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            cache: NEXT.fetch_add(1, Relaxed),
            generations: (0..GENERATIONS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::default(),
        }
    }

    /// What tells keys apart here: those with the same lowest bits share a generation.
    pub(crate) fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Begins a change of the key with this hash. Changes of keys that share a generation must not
    /// overlap.
    pub(crate) fn change(&self, hash: u64) -> Change<'_> {
        let generation = self.generation(hash);
        let before = generation.fetch_add(1, AcqRel);
        debug_assert!(before.is_multiple_of(2), "one change at a time");
        Change(generation)
    }

    /// The entry under a key: this thread's copy, or what L1 has.
    pub(crate) fn get(
        &self,
        key: &str,
        clock: &dyn Clock,
        local: impl FnOnce() -> Option<Entry>,
    ) -> Option<Entry> {
        let hash = self.hash(key);
        if vote(hash) { self.get_hot(hash, key, clock, local) } else { local() }
    }

    #[inline(never)]
    fn get_hot(
        &self,
        hash: u64,
        key: &str,
        clock: &dyn Clock,
        local: impl FnOnce() -> Option<Entry>,
    ) -> Option<Entry> {
        let now = clock.coarse();
        // Before L1 is read: a change that comes in between must be noticed.
        let generation = self.generation(hash).load(Acquire);
        let is_of = |copy: &Copied| {
            copy.cache == self.cache && copy.generation == generation && *copy.key == *key
        };
        let copy = with_copy(hash, |copy| {
            copy.as_mut().filter(|copy| is_of(copy)).and_then(|copy| copy.serve(now))
        });
        if let Some(Some(entry)) = copy {
            return Some(entry);
        }
        let entry = local()?;
        // A key that changes between most reads is not copied for each.
        if seen_before(hash, generation) && generation.is_multiple_of(2) {
            with_copy(hash, |copy| match copy {
                Some(copy) if is_of(copy) && copy.entry == entry => {
                    (copy.served, copy.since) = (0, now);
                }
                _ => *copy = Copied::of(self.cache, key, &entry, generation, now),
            });
        }
        Some(entry)
    }

    fn generation(&self, hash: u64) -> &AtomicU64 {
        &self.generations[hash as usize % GENERATIONS]
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Release);
    }
}

/// The key that has a place, by its hash: no two caches hash alike.
#[derive(Clone, Copy)]
struct Place {
    hash: u64,
    votes: u32,
    /// The generation in which it was last read from L1 while it was hot.
    seen: u64,
}

impl Place {
    const EMPTY: Self = Self { hash: 0, votes: 0, seen: u64::MAX };

    /// The place after a read of the key with this hash.
    fn after(self, hash: u64) -> Self {
        if self.hash == hash {
            return Self { votes: (self.votes + 1).min(VOTES_MAX), ..self };
        }
        match self.votes.saturating_sub(1) {
            0 => Self { hash, votes: 1, ..Self::EMPTY },
            votes => Self { votes, ..self },
        }
    }
}

/// Takes a read for a vote. Whether the key with this hash is hot.
fn vote(hash: u64) -> bool {
    PLACES_OF_THREAD.with(|places| {
        let place = &places[place_of(hash)];
        let after = place.get().after(hash);
        place.set(after);
        after.hash == hash && after.votes >= HOT
    })
}

/// Notes that the hot key of this place was read from L1 in this generation. Whether it was the last time too.
fn seen_before(hash: u64, generation: u64) -> bool {
    PLACES_OF_THREAD.with(|places| {
        let place = &places[place_of(hash)];
        let before = place.get();
        place.set(Place { seen: generation, ..before });
        before.seen == generation
    })
}

fn place_of(hash: u64) -> usize {
    // The highest bits: the lowest ones choose the generation.
    (hash >> (u64::BITS - PLACES.ilog2())) as usize
}

/// Does something with the copy at the place of a hash. `None` while the thread ends, or if this is
/// called by the drop of a value that lies there.
fn with_copy<T>(hash: u64, act: impl FnOnce(&mut Option<Copied>) -> T) -> Option<T> {
    let act = |copies: &RefCell<[Option<Copied>; PLACES]>| {
        Some(act(&mut copies.try_borrow_mut().ok()?[place_of(hash)]))
    };
    COPIES.try_with(act).ok()?
}

/// A thread's copy of a hot value.
struct Copied {
    /// Whose key it is: caches have copies at the same places.
    cache: u64,
    key: Box<str>,
    entry: Entry,
    generation: u64,
    served: u32,
    since: Millis,
}

impl Copied {
    fn of(cache: u64, key: &str, entry: &Entry, generation: u64, now: Millis) -> Option<Self> {
        let value = entry.value.as_deref();
        if value.is_some_and(|value| value.len() > VALUE_MAX) {
            return None;
        }
        let entry = Entry { value: value.map(Bytes::copy_from_slice), ..*entry };
        Some(Self { cache, key: key.into(), entry, generation, served: 0, since: now })
    }

    fn serve(&mut self, now: Millis) -> Option<Entry> {
        if self.served >= SERVED_MAX || now.wrapping_sub(self.since) >= SERVED_FOR {
            return None;
        }
        self.served += 1;
        Some(self.entry.clone())
    }
}

#[cfg(test)]
mod tests {
    use zmsg_core::ManualClock;

    use super::*;

    fn entry(text: &'static str) -> Entry {
        Entry { value: Some(Bytes::from_static(text.as_bytes())), deadline: 1_000, epoch: 0 }
    }

    fn later(now: Millis) -> ManualClock {
        let clock = ManualClock::new(0);
        clock.advance(now);
        clock
    }

    /// Reads a key so many times; how many of them reached L1.
    fn reads(front: &Front, key: &str, now: Millis, times: u32, local: &Entry) -> u32 {
        let (mut asked, clock) = (0, later(now));
        for _ in 0..times {
            let found = front.get(key, &clock, || {
                asked += 1;
                Some(local.clone())
            });
            assert_eq!(found.as_ref(), Some(local));
        }
        asked
    }

    #[test]
    fn a_key_that_is_read_often_is_served_from_a_copy_and_l1_hears_of_it_now_and_then() {
        let front = Front::new();
        assert_eq!(reads(&front, "hot", 0, HOT + 1, &entry("a")), HOT + 1);
        assert_eq!(reads(&front, "hot", 0, SERVED_MAX, &entry("a")), 0);
        assert_eq!(reads(&front, "hot", 0, 1 + SERVED_MAX, &entry("a")), 1);
        let short = reads(&front, "hot", SERVED_FOR - 1, 2, &entry("a"));
        assert_eq!((short, reads(&front, "hot", SERVED_FOR - 1, 9, &entry("a"))), (1, 0));
        assert_eq!(reads(&front, "hot", 2 * SERVED_FOR - 1, 9, &entry("a")), 1);
    }

    #[test]
    fn a_copy_is_not_served_from_when_a_change_begins() {
        let front = Front::new();
        reads(&front, "hot", 0, 2 * HOT, &entry("a"));
        let change = front.change(front.hash("hot"));
        assert_eq!(reads(&front, "hot", 0, 9, &entry("a")), 9, "nor is one made meanwhile");
        drop(change);
        assert_eq!(reads(&front, "hot", 0, 9, &entry("b")), 2, "it is still known to be hot");
    }

    #[test]
    fn a_change_between_the_generation_and_the_read_of_l1_keeps_the_copy_from_being_served() {
        let front = Front::new();
        reads(&front, "hot", 0, HOT, &entry("a"));
        // A reader is overtaken: what it found is from before the change.
        let found = front.get("hot", &ManualClock::new(0), || {
            drop(front.change(front.hash("hot")));
            Some(entry("a"))
        });
        assert_eq!(found, Some(entry("a")));
        assert_eq!(reads(&front, "hot", 0, 1, &entry("b")), 1);
    }

    #[test]
    fn a_key_that_changes_between_its_reads_is_not_copied_for_each() {
        let front = Front::new();
        for _ in 0..100 {
            reads(&front, "hot", 0, 1, &entry("a"));
            drop(front.change(front.hash("hot")));
        }
        let copy = with_copy(front.hash("hot"), |copy| copy.as_ref().map(|it| it.cache));
        assert_ne!(copy, Some(Some(front.cache)));
    }

    #[test]
    fn a_value_that_was_changed_past_the_fence_is_seen_when_l1_is_asked_again() {
        let front = Front::new();
        reads(&front, "hot", 0, 2 * HOT, &entry("a"));
        let found = front.get("hot", &later(SERVED_FOR), || Some(entry("b")));
        assert_eq!(found, Some(entry("b")));
        assert_eq!(reads(&front, "hot", SERVED_FOR, 9, &entry("b")), 0);
    }

    #[test]
    fn one_cache_never_has_the_copies_of_another() {
        let (one, mut other) = (Front::new(), Front::new());
        // The same hashes, the same places, the same generations.
        other.hasher = one.hasher.clone();
        reads(&one, "hot", 0, 2 * HOT, &entry("a"));
        assert_eq!(reads(&other, "hot", 0, 3, &entry("b")), 1, "its own, from the next read on");
        assert_eq!(reads(&one, "hot", 0, 3, &entry("a")), 1);
    }

    #[test]
    fn one_key_never_has_the_copy_of_another_of_the_same_hash() {
        let (front, hash, clock) = (Front::new(), 7, ManualClock::new(0));
        for (key, value) in [("one", "a"), ("another", "b"), ("one", "a")] {
            for _ in 0..2 {
                let found = front.get_hot(hash, key, &clock, || Some(entry(value)));
                assert_eq!(found, Some(entry(value)));
            }
            assert_eq!(front.get_hot(hash, key, &clock, || None), Some(entry(value)));
        }
    }

    #[test]
    fn keys_that_are_read_alike_are_not_hot_and_a_hot_one_loses_its_place_in_time() {
        let mut place = Place::EMPTY;
        for turn in 0..1_000 {
            place = place.after(turn % 3);
            assert!(place.votes < HOT);
        }
        place = (0..100).fold(place, |place, _| place.after(7));
        assert_eq!((place.hash, place.votes), (7, VOTES_MAX));
        place = (0..100).fold(place, |place, _| place.after(8));
        assert_eq!(place.hash, 8);
    }

    #[test]
    fn a_hot_key_keeps_its_place_among_many_that_are_read_less() {
        let mut place = (0..HOT).fold(Place::EMPTY, |place, _| place.after(7));
        for turn in 0..1_000 {
            place = place.after(7).after(7).after(100 + turn);
            assert!(place.hash == 7 && place.votes >= HOT, "{turn}");
        }
    }

    #[test]
    fn what_is_absent_is_copied_and_a_large_value_is_not() {
        let front = Front::new();
        let absent = Entry { value: None, deadline: 1, epoch: 3 };
        assert_eq!(reads(&front, "absent", 0, HOT + 9, &absent), HOT + 1);
        let value = Some(Bytes::from(vec![0; VALUE_MAX + 1]));
        assert_eq!(reads(&front, "large", 0, 99, &Entry { value, deadline: 1, epoch: 3 }), 99);
    }
}
