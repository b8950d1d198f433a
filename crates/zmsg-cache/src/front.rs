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

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use bytes::Bytes;
use foldhash::fast::RandomState;
use zmsg_core::Millis;

use crate::Entry;

/// Places of each thread, for all its caches.
const PLACES: usize = 64;

/// Keys share generations: a change of one lets the copies of some others be made anew.
pub(crate) const GENERATIONS: usize = 4096;

/// A larger value is not copied, in bytes: threads times places times this is the bound on memory.
const VALUE_MAX: usize = 4096;

/// So many more reads of a key than of others that would have its place make a copy.
const HOT: u32 = 16;

/// So many reads of others take its place from a key that is no longer read.
const VOTES_MAX: u32 = 2 * HOT;

/// A copy is served so many times, and no longer than this; then L1 is asked again, so that it
/// knows that the key is read, and may forget it.
const SERVED_MAX: u32 = 250;
const SERVED_FOR: Millis = 100;

thread_local! {
    static TABLE: RefCell<[Place; PLACES]> = const { RefCell::new([const { Place::EMPTY }; PLACES]) };
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
        now: Millis,
        local: impl FnOnce() -> Option<Entry>,
    ) -> Option<Entry> {
        let hash = self.hash(key);
        // Before L1 is read: a change that comes in between must be noticed.
        let generation = self.generation(hash).load(Acquire);
        let copy = at_place(hash, |place| place.serve(self.cache, hash, key, generation, now));
        if let Some(Some(entry)) = copy {
            return Some(entry);
        }
        let entry = local()?;
        if generation.is_multiple_of(2) {
            at_place(hash, |place| place.note(self.cache, hash, key, generation, now, &entry));
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

/// Does something at the place of a hash in this thread's table. `None` while the thread ends, or
/// if this is called by the drop of a value that lies there.
fn at_place<T>(hash: u64, act: impl FnOnce(&mut Place) -> T) -> Option<T> {
    // The highest bits: the lowest ones choose the generation.
    let at = (hash >> (u64::BITS - PLACES.ilog2())) as usize;
    TABLE.try_with(|table| Some(act(&mut table.try_borrow_mut().ok()?[at]))).ok()?
}

/// A place in the table: the key that has it, by cache and hash, and its copy once it is hot.
struct Place {
    cache: u64,
    hash: u64,
    votes: u32,
    copy: Option<Copy>,
}

struct Copy {
    key: Box<str>,
    entry: Entry,
    generation: u64,
    served: u32,
    since: Millis,
}

impl Place {
    const EMPTY: Self = Self { cache: 0, hash: 0, votes: 0, copy: None };

    fn serve(
        &mut self,
        cache: u64,
        hash: u64,
        key: &str,
        generation: u64,
        now: Millis,
    ) -> Option<Entry> {
        let copy = self.copy.as_mut()?;
        let is_it = self.hash == hash && self.cache == cache && *copy.key == *key;
        let is_valid = copy.generation == generation
            && copy.served < SERVED_MAX
            && now.wrapping_sub(copy.since) < SERVED_FOR;
        if !is_it || !is_valid {
            return None;
        }
        copy.served += 1;
        self.votes = (self.votes + 1).min(VOTES_MAX);
        Some(copy.entry.clone())
    }

    /// Takes a read of L1 for a vote, and copies what it found if that is hot.
    fn note(
        &mut self,
        cache: u64,
        hash: u64,
        key: &str,
        generation: u64,
        now: Millis,
        entry: &Entry,
    ) {
        if self.hash != hash || self.cache != cache {
            self.votes = self.votes.saturating_sub(1);
            if self.votes == 0 {
                *self = Self { cache, hash, votes: 1, copy: None };
            }
            return;
        }
        self.votes = (self.votes + 1).min(VOTES_MAX);
        if self.votes < HOT {
            return;
        }
        match &mut self.copy {
            // The generation says that nothing has changed.
            Some(copy) if copy.generation == generation && *copy.key == *key => {
                (copy.served, copy.since) = (0, now);
            }
            _ => self.copy = Copy::of(key, entry, generation, now),
        }
    }
}

impl Copy {
    fn of(key: &str, entry: &Entry, generation: u64, now: Millis) -> Option<Self> {
        let value = entry.value.as_deref();
        if value.is_some_and(|value| value.len() > VALUE_MAX) {
            return None;
        }
        let entry = Entry { value: value.map(Bytes::copy_from_slice), ..*entry };
        Some(Self { key: key.into(), entry, generation, served: 0, since: now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &'static str) -> Entry {
        Entry { value: Some(Bytes::from_static(text.as_bytes())), deadline: 1_000, epoch: 0 }
    }

    /// Reads a key so many times; how many of them reached L1.
    fn reads(front: &Front, key: &str, now: Millis, times: u32, local: &Entry) -> u32 {
        let mut asked = 0;
        for _ in 0..times {
            let found = front.get(key, now, || {
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
        assert_eq!(reads(&front, "hot", 0, HOT, &entry("a")), HOT);
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
        assert_eq!(reads(&front, "hot", 0, 9, &entry("b")), 1, "it is still known to be hot");
    }

    #[test]
    fn a_change_between_the_generation_and_the_read_of_l1_keeps_the_copy_from_being_served() {
        let front = Front::new();
        reads(&front, "hot", 0, HOT, &entry("a"));
        drop(front.change(front.hash("hot")));
        // A reader is overtaken: what it found is from before the change.
        let found = front.get("hot", 0, || {
            drop(front.change(front.hash("hot")));
            Some(entry("a"))
        });
        assert_eq!(found, Some(entry("a")));
        assert_eq!(reads(&front, "hot", 0, 1, &entry("b")), 1);
    }

    #[test]
    fn one_cache_never_has_the_copies_of_another_nor_one_key_those_of_another() {
        let (one, mut other) = (Front::new(), Front::new());
        // The same hashes, the same place.
        other.hasher = one.hasher.clone();
        reads(&one, "hot", 0, 2 * HOT, &entry("a"));
        assert_eq!(reads(&other, "hot", 0, 3, &entry("b")), 3);
        let mut place = Place::EMPTY;
        (0..HOT).for_each(|_| place.note(1, 7, "hot", 0, 0, &entry("a")));
        assert!(place.serve(1, 7, "hot", 0, 0).is_some());
        assert!(place.serve(1, 7, "another of the same hash", 0, 0).is_none());
        assert!(place.serve(2, 7, "hot", 0, 0).is_none());
        assert!(place.serve(1, 7, "hot", 2, 0).is_none());
    }

    #[test]
    fn keys_that_are_read_alike_get_no_copies_and_a_hot_one_loses_its_place_in_time() {
        let mut place = Place::EMPTY;
        for turn in 0..1_000 {
            place.note(1, turn % 3, "one of three", 0, 0, &entry("a"));
            assert!(place.copy.is_none());
        }
        (0..100).for_each(|_| place.note(1, 7, "hot", 0, 0, &entry("a")));
        assert!(place.copy.is_some());
        (0..100).for_each(|_| place.note(1, 8, "hotter", 0, 0, &entry("b")));
        assert_eq!(&*place.copy.as_ref().unwrap().key, "hotter");
    }

    #[test]
    fn a_hot_key_keeps_its_place_among_many_that_are_read_less() {
        let mut place = Place::EMPTY;
        (0..HOT).for_each(|_| place.note(1, 7, "hot", 0, 0, &entry("a")));
        for turn in 0..100 {
            assert!(place.serve(1, 7, "hot", 0, 0).is_some(), "{turn}");
            assert!(place.serve(1, 7, "hot", 0, 0).is_some(), "{turn}");
            place.note(1, 100 + turn, "another", 0, 0, &entry("b"));
        }
    }

    #[test]
    fn what_is_absent_is_copied_and_a_large_value_is_not() {
        let front = Front::new();
        let absent = Entry { value: None, deadline: 1, epoch: 3 };
        assert_eq!(reads(&front, "absent", 0, HOT + 9, &absent), HOT);
        let value = Some(Bytes::from(vec![0; VALUE_MAX + 1]));
        assert_eq!(reads(&front, "large", 0, 99, &Entry { value, deadline: 1, epoch: 3 }), 99);
    }
}
