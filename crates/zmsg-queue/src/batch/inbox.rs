//! Where producers leave items of a queue in memory, without meeting each other or the consumer.
//!
//! Each thread has a shard of its own, as far as there are shards, behind a lock that nobody else takes
//! but who empties it. What they share is one number, the next ticket: an item gets its ticket under
//! the lock of its shard, so tickets grow within a shard, and every ticket that was given is in a shard
//! once that lock is free. Who empties the shards puts the items in the order of their tickets, and
//! keeps back those behind a ticket that it has not seen. So the order is that of the tickets: an
//! enqueue that returned before another began is before it.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use zmsg_core::{Clock, Millis};

use super::backlog::locked;
use super::entry::{Entry, Home};

/// A cache line, and the one that is fetched with it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Alone<T>(T);

#[derive(Debug)]
pub(super) struct Inbox<T> {
    shards: Box<[Alone<Mutex<Shard<T>>>]>,
    /// The next ticket.
    tickets: Alone<AtomicU64>,
    marks: Alone<Marks>,
    /// What an item counts for.
    item_bytes: u32,
}

#[derive(Debug)]
struct Shard<T> {
    items: Vec<Entry<T>>,
    /// Behind them, what came last. It goes to them in one piece, because their memory comes from the
    /// consumer: to fetch it line by line, between two locks, would make each item wait for it.
    last: Vec<Entry<T>>,
    /// When the first of all came.
    since: Millis,
    closed: bool,
}

/// Room for so many items is kept.
const SPARE_MAX: usize = 4_096;

/// How many items go together.
const PIECE: usize = 64;

impl<T> Default for Shard<T> {
    fn default() -> Self {
        let last = Vec::with_capacity(PIECE);
        Self { items: Vec::new(), last, since: 0, closed: false }
    }
}

impl<T> Shard<T> {
    /// The time of an item: that of the first one that is still here. So a clock is seldom read, and
    /// no item waits longer than it should; if anything, less.
    #[inline]
    fn time(&mut self, clock: &dyn Clock) -> Millis {
        if self.items.is_empty() && self.last.is_empty() {
            self.since = clock.coarse();
        }
        self.since
    }

    #[inline]
    fn push(&mut self, entry: Entry<T>) {
        self.last.push(entry);
        if self.last.len() == PIECE {
            self.items.append(&mut self.last);
        }
    }
}

/// What producers look at, and others move.
#[derive(Debug)]
struct Marks {
    /// Tickets from this one on have no room yet.
    limit: AtomicU64,
    /// Who gives a ticket from this one on wakes the consumer.
    wake_at: AtomicU64,
}

/// What became of items that got in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Posted {
    /// The ticket of the first; the others follow.
    pub(super) first: u64,
    /// Whether the consumer is to be woken.
    pub(super) wake: bool,
}

/// What was taken out and is not yet in its place.
#[derive(Debug)]
pub(super) struct Sorter<T> {
    /// The ticket of the next item.
    next: u64,
    /// Behind one that was not seen.
    early: Vec<Entry<T>>,
    /// Emptied, for the next time.
    spare: Vec<Entry<T>>,
}

impl<T> Default for Sorter<T> {
    fn default() -> Self {
        Self { next: 1, early: Vec::new(), spare: Vec::new() }
    }
}

impl<T> Inbox<T> {
    /// For up to `items_max` items of so many bytes each.
    pub(super) fn new(items_max: usize, item_bytes: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let shards = (2 * cores).next_power_of_two().clamp(4, 64);
        let shard = || Alone(Mutex::new(Shard::default()));
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            tickets: Alone(AtomicU64::new(1)),
            marks: Alone(Marks {
                limit: AtomicU64::new((items_max as u64).saturating_add(1)),
                wake_at: AtomicU64::new(1),
            }),
            item_bytes,
        }
    }

    /// Puts an item in; or it comes back.
    #[inline]
    pub(super) fn post(&self, item: T, clock: &dyn Clock) -> Result<Posted, T> {
        let mut shard = self.own_shard();
        let Some((first, limit)) = self.take_tickets(&shard, 1) else { return Err(item) };
        let at = shard.time(clock);
        let entry = self.entry(first, item, at);
        shard.push(entry);
        drop(shard);
        Ok(self.after(first, 1, limit))
    }

    /// Puts in all items or none; then they come back.
    pub(super) fn post_all(&self, items: Vec<T>, clock: &dyn Clock) -> Result<Posted, Vec<T>> {
        let count = items.len() as u64;
        let mut shard = self.own_shard();
        let Some((first, limit)) = self.take_tickets(&shard, count) else { return Err(items) };
        let at = shard.time(clock);
        let shard_now = &mut *shard;
        shard_now.items.append(&mut shard_now.last);
        shard.items.extend((first..).zip(items).map(|(seq, item)| self.entry(seq, item, at)));
        drop(shard);
        Ok(self.after(first, count, limit))
    }

    #[inline]
    fn own_shard(&self) -> MutexGuard<'_, Shard<T>> {
        locked(&self.shards[own_number() & (self.shards.len() - 1)].0)
    }

    /// The first of so many tickets, and the limit that was looked at.
    #[inline]
    fn take_tickets(&self, shard: &Shard<T>, count: u64) -> Option<(u64, u64)> {
        if shard.closed {
            return None;
        }
        let mut first = self.tickets.0.load(Relaxed);
        loop {
            let limit = self.marks.0.limit.load(Relaxed);
            if first.saturating_add(count) > limit {
                return None;
            }
            let next = first + count;
            match self.tickets.0.compare_exchange_weak(first, next, Relaxed, Relaxed) {
                Ok(_) => return Some((first, limit)),
                Err(now) => first = now,
            }
        }
    }

    #[inline]
    fn entry(&self, seq: u64, item: T, at: Millis) -> Entry<T> {
        Entry { item, seq, home: Home::Memory, bytes: self.item_bytes, at, tries: 0 }
    }

    /// What follows from items that are in, once their shard is free again.
    #[inline]
    fn after(&self, first: u64, count: u64, limit: u64) -> Posted {
        let (next, marks) = (first + count, &self.marks.0);
        // Whoever emptied the shard before the items were in it had set the mark before; see `arm`.
        let mark = marks.wake_at.load(Relaxed);
        let wake =
            next > mark && marks.wake_at.compare_exchange(mark, u64::MAX, Relaxed, Relaxed).is_ok();
        Posted { first, wake: wake || next == limit }
    }

    /// What each item counts for.
    pub(super) fn item_bytes(&self) -> usize {
        self.item_bytes as usize
    }

    /// How many more there is room for.
    pub(super) fn room(&self) -> u64 {
        self.marks.0.limit.load(Relaxed).saturating_sub(self.tickets.0.load(Relaxed))
    }

    /// Whether tickets were given that did not come out.
    pub(super) fn holds_more(&self, sorter: &Sorter<T>) -> bool {
        self.tickets.0.load(Relaxed) != sorter.next
    }

    /// So many items have left the queue.
    pub(super) fn make_room(&self, items: usize) {
        self.marks.0.limit.fetch_add(items as u64, Relaxed);
    }

    /// Empties the shards: hands over, in order, what is complete.
    pub(super) fn empty(&self, sorter: &mut Sorter<T>, mut put: impl FnMut(Entry<T>)) {
        for Alone(shard) in &self.shards {
            let mut shard = locked(shard);
            if shard.items.is_empty() && shard.last.is_empty() {
                continue;
            }
            let mut taken = std::mem::replace(&mut shard.items, std::mem::take(&mut sorter.spare));
            taken.append(&mut shard.last);
            drop(shard);
            // Most often there is one producer, and nothing is missing.
            let is_next = sorter.early.is_empty()
                && taken[0].seq == sorter.next
                && taken[taken.len() - 1].seq == sorter.next + taken.len() as u64 - 1;
            if is_next {
                sorter.next += taken.len() as u64;
                taken.drain(..).for_each(&mut put);
            } else {
                sorter.early.append(&mut taken);
            }
            // What a burst needed is not kept for ever, in each shard.
            taken.shrink_to(SPARE_MAX);
            sorter.spare = taken;
        }
        if sorter.early.is_empty() {
            return;
        }
        // Runs of growing tickets: sorting them is merging.
        sorter.early.sort_by_key(|entry| entry.seq);
        let begin = sorter.next;
        let whole =
            (begin..).zip(&sorter.early).take_while(|(seq, entry)| entry.seq == *seq).count();
        sorter.next += whole as u64;
        sorter.early.drain(..whole).for_each(put);
        sorter.early.shrink_to(SPARE_MAX);
    }

    /// The consumer is to be woken when there are `more` items than it has seen. It has to empty the
    /// shards once more after that and before it sleeps: an item that comes into a shard after it was
    /// emptied finds the mark, because it takes the same lock.
    pub(super) fn arm(&self, sorter: &Sorter<T>, more: usize) {
        // Behind a missing ticket nothing counts but that one.
        let more = if sorter.early.is_empty() { more.max(1) } else { 1 };
        self.marks.0.wake_at.store(sorter.next + more as u64 - 1, Relaxed);
    }

    /// Takes no more. What was accepted is in the shards when this returns.
    pub(super) fn close(&self) {
        for Alone(shard) in &self.shards {
            locked(shard).closed = true;
        }
    }
}

/// A small number for each thread, so that few share one.
#[inline]
fn own_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    OWN.with(|own| {
        if own.get() == usize::MAX {
            own.set(NEXT.fetch_add(1, Relaxed) & (usize::MAX >> 1));
        }
        own.get()
    })
}

#[cfg(test)]
mod tests {
    use zmsg_core::SystemClock;

    use super::*;

    fn taken(inbox: &Inbox<u64>, sorter: &mut Sorter<u64>) -> Vec<(u64, u64)> {
        let mut taken = Vec::new();
        inbox.empty(sorter, |entry| taken.push((entry.seq, entry.item)));
        taken
    }

    #[test]
    fn items_come_out_by_their_tickets_and_in_the_order_of_each_producer() {
        let inbox = Inbox::new(1 << 20, 8);
        let mut sorter = Sorter::default();
        let mut all = Vec::new();
        std::thread::scope(|threads| {
            let producers: Vec<_> = (0..6_u64)
                .map(|producer| {
                    let inbox = &inbox;
                    threads.spawn(move || {
                        for item in 0..20_000 {
                            inbox.post(producer << 32 | item, &SystemClock).unwrap();
                        }
                    })
                })
                .collect();
            while !producers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                all.extend(taken(&inbox, &mut sorter));
            }
        });
        all.extend(taken(&inbox, &mut sorter));
        assert!(sorter.early.is_empty());
        assert!(all.iter().map(|(ticket, _)| *ticket).eq(1..=120_000));
        for producer in 0..6 {
            let own = all.iter().filter(|(_, item)| item >> 32 == producer);
            assert!(own.map(|(_, item)| item & 0xffff_ffff).eq(0..20_000));
        }
    }

    #[test]
    fn there_is_never_more_in_it_than_there_is_room_for() {
        let inbox = Inbox::new(10, 8);
        assert!(inbox.post_all((0..11).collect(), &SystemClock).is_err());
        inbox.post_all((0..8).collect(), &SystemClock).unwrap();
        assert_eq!(inbox.room(), 2);
        assert!(inbox.post_all((0..3).collect(), &SystemClock).is_err());
        let posted = inbox.post_all(vec![8, 9], &SystemClock).unwrap();
        assert_eq!((posted.first, posted.wake), (9, true), "full: wakes");
        assert!(inbox.post(10, &SystemClock).is_err());
        inbox.make_room(1);
        assert_eq!(inbox.room(), 1);
        inbox.post(10, &SystemClock).unwrap();
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| assert!(inbox.post(11, &SystemClock).is_err()));
            }
        });
        assert_eq!(taken(&inbox, &mut Sorter::default()).len(), 11);
    }

    #[test]
    fn who_is_to_be_woken_is_woken_once() {
        let inbox = Inbox::new(100, 8);
        let mut sorter = Sorter::default();
        assert!(inbox.post(1, &SystemClock).unwrap().wake, "the first one");
        assert!(!inbox.post(2, &SystemClock).unwrap().wake);
        taken(&inbox, &mut sorter);
        inbox.arm(&sorter, 3);
        let wakes: Vec<_> =
            (0..5).map(|item| inbox.post(item, &SystemClock).unwrap().wake).collect();
        assert_eq!(wakes, [false, false, true, false, false]);
    }

    #[test]
    fn closed_it_takes_no_more_and_keeps_what_it_has() {
        let inbox = Inbox::new(1_000_000, 8);
        let accepted = AtomicU64::new(0);
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    while inbox.post(1, &SystemClock).is_ok() {
                        accepted.fetch_add(1, Relaxed);
                    }
                });
            }
            while accepted.load(Relaxed) < 1_000 {
                std::thread::yield_now();
            }
            inbox.close();
            let now = taken(&inbox, &mut Sorter::default()).len() as u64;
            assert!(now >= accepted.load(Relaxed), "accepted after it was emptied");
        });
    }

    #[test]
    fn what_a_burst_needed_is_not_kept_in_each_shard() {
        let inbox: Inbox<u64> = Inbox::new(50_000, 8);
        let mut sorter = Sorter::default();
        for _ in 0..64 {
            std::thread::scope(|threads| {
                threads.spawn(|| {
                    for item in 0..50_000 {
                        inbox.post(item, &SystemClock).unwrap();
                    }
                });
            });
            assert_eq!(taken(&inbox, &mut sorter).len(), 50_000);
            inbox.make_room(50_000);
        }
        let kept = inbox.shards.iter().map(|shard| locked(&shard.0).items.capacity());
        let kept = kept.max().unwrap().max(sorter.spare.capacity());
        assert!(kept <= 2 * SPARE_MAX, "{kept}");
    }
}
