//! What waits where: lanes in memory, then what is in the log alone. No I/O, and no await: it lives
//! in one short lock.
//!
//! Items in memory are older than those in the log alone. As soon as one item did not fit, the next
//! ones go to the log alone too, until it has been read to its end; so nothing overtakes anything.
//! And as long as one item that is in the log is pending, so are all behind it: a queue that stops
//! has what is in memory alone in front.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use zmsg_core::Millis;

use super::entry::{Entry, Home};
use super::inbox::Sorter;

/// Everything that is not yet delivered, but for the items themselves that are on their way.
#[derive(Debug)]
pub(super) struct State<T> {
    pub(super) phase: Phase,
    /// All that were ever accepted.
    pub(super) enqueued: u64,
    /// What came out of the inbox and is not in its place.
    pub(super) sorter: Sorter<T>,
    lanes: Vec<Lane<T>>,
    /// In memory, those on their way included.
    pub(super) items: usize,
    pub(super) bytes: usize,
    /// What waits in the lanes is to make room for something that did not fit.
    pub(super) pressed: bool,
    /// Items that come first, cannot be read, and are not buried yet.
    pub(super) unreadable: u64,
    /// Items of a log that failed before they were written.
    pub(super) stranded: u64,
    /// The end of the queue is being written down.
    pub(super) finishing: bool,
    /// Of them, those that are in the log too.
    pub(super) logged: usize,
    /// In the log alone.
    pub(super) on_disk: u64,
    /// The first of them, or the one after the last that was read.
    pub(super) disk_next: u64,
    /// Batches on their way: the lowest sequence of each that is in the log, and how many items.
    flights: HashMap<u64, Flying>,
    next_flight: u64,
    /// Items that come before all others although their sequence is higher.
    pub(super) fronts: u64,
    /// The count of items that are in memory alone.
    next_in_memory: u64,
    /// How long a close may take.
    pub(super) deadline: Option<Duration>,
    /// What the end of the queue found on its way.
    pub(super) leftovers: Vec<Leftover<T>>,
}

/// Items that are delivered in order, among themselves.
#[derive(Debug)]
struct Lane<T> {
    waiting: VecDeque<Entry<T>>,
    bytes: usize,
}

/// Items of a flight that was stopped, by their place in it.
#[derive(Debug)]
pub(super) struct Leftover<T> {
    pub(super) flight: u64,
    /// A call of the handler was dropped.
    pub(super) interrupted: bool,
    pub(super) entries: Arc<Vec<Entry<T>>>,
    pub(super) places: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Flying {
    low: u64,
    since: Millis,
    items: usize,
    /// Of them, those in memory alone.
    alone: usize,
}

/// Where a queue stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Takes items, delivers none.
    Opened,
    /// Takes items and delivers them.
    Running,
    /// Takes items, delivers none until it is resumed.
    Paused,
    /// Takes none; delivers what there is.
    Draining,
    /// Takes none, delivers none.
    Stopped,
}

impl Phase {
    pub(super) fn takes(self) -> bool {
        matches!(self, Self::Opened | Self::Running | Self::Paused)
    }

    pub(super) fn delivers(self) -> bool {
        matches!(self, Self::Running | Self::Draining)
    }
}

/// When a batch is full, or has waited for long enough.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) items: usize,
    pub(super) bytes: usize,
    pub(super) timeout: Duration,
    pub(super) memory_items: usize,
    pub(super) memory_bytes: usize,
}

/// What a lane has for who asks.
#[derive(Debug)]
pub(super) enum Look<T> {
    /// A batch, and the number of its flight.
    Batch(u64, Vec<Entry<T>>),
    /// Nothing before that long, unless more comes.
    After(Duration),
    /// Nothing unless more comes.
    Nothing,
    /// Nothing any more.
    End,
}

impl<T> State<T> {
    pub(super) fn new(lanes: usize) -> Self {
        Self {
            phase: Phase::Opened,
            enqueued: 0,
            sorter: Sorter::default(),
            lanes: (0..lanes).map(|_| Lane { waiting: VecDeque::new(), bytes: 0 }).collect(),
            items: 0,
            bytes: 0,
            logged: 0,
            pressed: false,
            unreadable: 0,
            stranded: 0,
            finishing: false,
            on_disk: 0,
            disk_next: 0,
            flights: HashMap::new(),
            next_flight: 0,
            fronts: 0,
            next_in_memory: 1,
            deadline: None,
            leftovers: Vec::new(),
        }
    }

    pub(super) fn next_in_memory(&mut self) -> u64 {
        self.next_in_memory += 1;
        self.next_in_memory - 1
    }

    /// Whether what comes now has to be in the log, because something before it is.
    pub(super) fn is_logging(&self) -> bool {
        self.logged > 0 || self.on_disk > 0 || self.unreadable > 0
    }

    /// All items that are not yet delivered.
    pub(super) fn pending(&self) -> u64 {
        self.items as u64 + self.on_disk + self.unreadable
    }

    /// Puts an item behind all others of its lane. True if who waits for the lane has to look: it
    /// was empty, or is full now.
    pub(super) fn push(&mut self, lane: usize, entry: Entry<T>, cut: &Cut) -> bool {
        self.items += 1;
        self.bytes += entry.bytes as usize;
        self.logged += usize::from(entry.is_logged());
        let lane = &mut self.lanes[lane];
        let was_full = lane.is_full(cut);
        lane.bytes += entry.bytes as usize;
        lane.waiting.push_back(entry);
        lane.waiting.len() == 1 || (!was_full && lane.is_full(cut))
    }

    /// An item went to the log alone.
    pub(super) fn spill(&mut self, seq: u64) {
        if self.on_disk == 0 {
            self.disk_next = seq;
        }
        self.on_disk += 1;
    }

    /// The next batch of a lane, if it is time for one.
    pub(super) fn look(&mut self, lane: usize, cut: &Cut, now: Millis) -> Look<T> {
        if self.phase == Phase::Stopped {
            return Look::End;
        }
        let Some(oldest) = self.lanes[lane].waiting.front() else {
            let over = self.phase == Phase::Draining && self.on_disk == 0 && self.unreadable == 0;
            return if over { Look::End } else { Look::Nothing };
        };
        if !self.phase.delivers() {
            return Look::Nothing;
        }
        let waited = Duration::from_millis(now.saturating_sub(oldest.at));
        let memory_full = self.items >= cut.memory_items || self.bytes >= cut.memory_bytes;
        let pressed = memory_full || self.pressed;
        let due = self.phase == Phase::Draining || waited >= cut.timeout || pressed;
        if due || self.lanes[lane].is_full(cut) {
            return self.take(lane, cut, now);
        }
        Look::After(cut.timeout.saturating_sub(waited))
    }

    fn take(&mut self, lane: usize, cut: &Cut, now: Millis) -> Look<T> {
        self.pressed = false;
        let lane = &mut self.lanes[lane];
        let mut bytes = 0;
        let fits = lane.waiting.iter().take(cut.items).take_while(|entry| {
            bytes += entry.bytes as usize;
            bytes <= cut.bytes
        });
        let count = fits.count().max(1);
        let entries: Vec<_> = lane.waiting.drain(..count).collect();
        lane.bytes -= entries.iter().map(|entry| entry.bytes as usize).sum::<usize>();
        let low = low_of(entries.iter());
        let since = entries.first().map_or(now, |entry| entry.at);
        let flight = self.next_flight;
        self.next_flight += 1;
        let alone = entries.iter().filter(|entry| !entry.is_logged()).count();
        self.flights.insert(flight, Flying { low, since, items: count, alone });
        Look::Batch(flight, entries)
    }

    /// How many more items, of so many bytes each, make a batch of a lane full.
    pub(super) fn lacks(&self, lane: usize, cut: &Cut, item_bytes: usize) -> usize {
        let lane = &self.lanes[lane];
        let bytes = cut.bytes.saturating_sub(lane.bytes).div_ceil(item_bytes.max(1));
        cut.items.saturating_sub(lane.waiting.len()).min(bytes)
    }

    /// Whether there is anything in a lane.
    pub(super) fn has_more(&self, lane: usize) -> bool {
        !self.lanes[lane].waiting.is_empty()
    }

    /// Items of a flight were delivered or buried; `low` is the lowest in the log of those left.
    pub(super) fn settle(&mut self, flight: u64, settled: Settled, low: u64) {
        self.items -= settled.items;
        self.bytes -= settled.bytes;
        self.fronts -= settled.fronts;
        self.logged -= settled.logged;
        let Some(flying) = self.flights.get_mut(&flight) else { return };
        flying.items -= settled.items;
        flying.alone -= settled.items - settled.logged;
        flying.low = low;
        if flying.items == 0 {
            self.flights.remove(&flight);
        }
    }

    /// Everything in the log below this was delivered; `end` if all of it was.
    pub(super) fn delivered_below(&self, first: u64, end: u64) -> u64 {
        if self.fronts > 0 {
            // They lie behind what comes after them.
            return first;
        }
        let flying = self.flights.values().map(|flying| flying.low);
        let lanes = self.lanes.iter().filter(|_| self.logged > 0);
        let waiting = lanes.map(|lane| low_of(lane.waiting.iter()));
        let disk = if self.on_disk > 0 { self.disk_next } else { u64::MAX };
        flying.chain(waiting).fold(disk.min(end), u64::min)
    }

    /// When the oldest item that is in memory was enqueued.
    pub(super) fn oldest(&self) -> Option<Millis> {
        let waiting =
            self.lanes.iter().filter_map(|lane| lane.waiting.front()).map(|entry| entry.at);
        waiting.chain(self.flights.values().map(|flying| flying.since)).min()
    }

    /// How many items are on their way.
    pub(super) fn in_flight(&self) -> usize {
        self.flights.values().map(|flying| flying.items).sum()
    }

    /// How many of those are in memory alone, but for those of flights that were stopped.
    pub(super) fn alone_in_flight(&self) -> usize {
        let stopped = |number| self.leftovers.iter().any(|leftover| leftover.flight == number);
        let flying = self.flights.iter().filter(|(number, _)| !stopped(**number));
        flying.map(|(_, flying)| flying.alone).sum()
    }

    /// What a queue that stopped has in memory alone, in order.
    pub(super) fn alone(&self) -> impl Iterator<Item = &Entry<T>> {
        let left = self.leftovers.iter().flat_map(|leftover| {
            leftover.places.iter().map(|&place| &leftover.entries[place as usize])
        });
        let waiting = self.lanes.iter().flat_map(|lane| &lane.waiting);
        left.chain(waiting).filter(|entry| entry.home == Home::Memory)
    }
}

impl<T> Lane<T> {
    fn is_full(&self, cut: &Cut) -> bool {
        self.waiting.len() >= cut.items || self.bytes >= cut.bytes
    }
}

/// What left a flight.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settled {
    pub(super) items: usize,
    pub(super) bytes: usize,
    pub(super) fronts: u64,
    pub(super) logged: usize,
}

/// The lowest sequence of items that are in the log in their order: that of the first one.
pub(super) fn low_of<'a, T: 'a>(mut entries: impl Iterator<Item = &'a Entry<T>>) -> u64 {
    entries.find(|entry| entry.home == Home::Log).map_or(u64::MAX, |entry| entry.seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64, home: Home) -> Entry<u64> {
        Entry { item: seq, seq, home, bytes: 10, at: 1_000, tries: 0 }
    }

    fn cut() -> Cut {
        Cut {
            items: 3,
            bytes: 1_000,
            timeout: Duration::from_millis(50),
            memory_items: 100,
            memory_bytes: 10_000,
        }
    }

    fn running(seqs: impl IntoIterator<Item = u64>) -> State<u64> {
        let mut state = State::new(1);
        state.phase = Phase::Running;
        for seq in seqs {
            state.push(0, entry(seq, Home::Log), &cut());
        }
        state
    }

    fn taken(look: Look<u64>) -> Vec<u64> {
        let Look::Batch(_, entries) = look else { panic!("no batch: {look:?}") };
        entries.into_iter().map(|entry| entry.seq).collect()
    }

    #[test]
    fn a_batch_is_cut_by_items_by_bytes_and_by_time() {
        let mut state = running(1..=4);
        assert_eq!(taken(state.look(0, &cut(), 1_000)), [1, 2, 3]);
        assert!(
            matches!(state.look(0, &cut(), 1_010), Look::After(left) if left.as_millis() == 40)
        );
        assert_eq!(taken(state.look(0, &cut(), 1_050)), [4]);
        assert!(matches!(state.look(0, &cut(), 1_050), Look::Nothing));

        let narrow = Cut { bytes: 25, ..cut() };
        let mut state = running(1..=3);
        assert_eq!(taken(state.look(0, &narrow, 1_000)), [1, 2]);
        assert!(matches!(state.look(0, &narrow, 1_000), Look::After(_)));
        // One item at least, however large.
        let tiny = Cut { bytes: 5, ..cut() };
        assert_eq!(taken(state.look(0, &tiny, 1_000)), [3]);
    }

    #[test]
    fn full_memory_is_delivered_at_once_and_so_is_the_rest_when_draining() {
        let full = Cut { memory_items: 2, ..cut() };
        let mut state = running(1..=2);
        assert_eq!(taken(state.look(0, &full, 1_000)), [1, 2]);
        let mut state = running(1..=1);
        state.phase = Phase::Draining;
        assert_eq!(taken(state.look(0, &cut(), 1_000)), [1]);
        assert!(matches!(state.look(0, &cut(), 1_000), Look::End));
        state.spill(9);
        assert!(matches!(state.look(0, &cut(), 1_000), Look::Nothing), "more is in the log");
    }

    #[test]
    fn nothing_is_delivered_before_the_start_or_during_a_pause() {
        for phase in [Phase::Opened, Phase::Paused] {
            let mut state = running(1..=9);
            state.phase = phase;
            assert!(matches!(state.look(0, &cut(), 9_000), Look::Nothing));
        }
    }

    #[test]
    fn the_log_is_kept_from_the_lowest_item_that_is_left() {
        let mut state = running(5..=7);
        let Look::Batch(flight, _) = state.look(0, &cut(), 1_000) else { panic!("no batch") };
        state.spill(12);
        assert_eq!(state.delivered_below(1, 20), 5);
        state.settle(flight, Settled { items: 1, bytes: 10, fronts: 0, logged: 1 }, 6);
        assert_eq!(state.delivered_below(1, 20), 6);
        state.settle(flight, Settled { items: 2, bytes: 20, fronts: 0, logged: 2 }, u64::MAX);
        assert_eq!(state.delivered_below(1, 20), 12);
        assert_eq!((state.items, state.bytes, state.pending()), (0, 0, 1));
        state.on_disk = 0;
        assert_eq!(state.delivered_below(1, 20), 20);
        // Behind items in memory alone.
        state.push(0, entry(1, Home::Memory), &cut());
        state.push(0, entry(15, Home::Log), &cut());
        assert_eq!(state.delivered_below(1, 20), 15);
        state.fronts = 1;
        assert_eq!(state.delivered_below(3, 20), 3);
    }
}
