//! A batch on its way, until each of its items is delivered or buried.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::time::sleep;

use super::config::{BatchOrder, Encoding};
use super::dead::{Buried, Content, Corpse, DeadLetter, Held, Holder, InMemory};
use super::entry::{Entry, Home};
use super::handler::{Batch, Streams};
use super::inner::Inner;
use super::lane::Stopped;
use super::record::{Spans, item_kind};
use super::state::{Leftover, Settled, low_of};
use super::stats::add;
use super::verdict::{Dead, Part, Rules, Verdict};
use crate::sabotage;

#[derive(Debug)]
pub(super) struct Flight<T> {
    pub(super) number: u64,
    pub(super) lane: usize,
    entries: Arc<Vec<Entry<T>>>,
    /// What is still to be handed over, in order.
    parts: VecDeque<Part>,
    /// Which items are neither delivered nor buried.
    open: Vec<bool>,
    /// What was given up, to be buried at the end.
    dead: Vec<Dead>,
    /// Its last call was dropped.
    pub(super) interrupted: bool,
}

/// What follows from items that are delivered or buried.
struct Settlement {
    spans: Spans,
    settled: Settled,
    /// The lowest sequence in the log of what is left.
    low: u64,
}

impl<T> Flight<T> {
    pub(super) fn new(number: u64, lane: usize, entries: Vec<Entry<T>>) -> Self {
        let mut parts = VecDeque::<Part>::new();
        for (place, entry) in entries.iter().enumerate() {
            // Items that earlier processes tried go with others that had as many tries.
            match parts.back_mut().filter(|part| part.tries == entry.tries) {
                Some(part) => part.items.push(place as u32),
                None => parts.push_back(Part::new(vec![place as u32], entry.tries)),
            }
        }
        if sabotage::swaps_a_batch() {
            parts.iter_mut().for_each(|part| part.items.reverse());
        }
        let open = vec![true; entries.len()];
        Self {
            number,
            lane,
            entries: Arc::new(entries),
            parts,
            open,
            dead: Vec::new(),
            interrupted: false,
        }
    }

    pub(super) fn next(&mut self) -> Option<Part> {
        self.parts.pop_front()
    }

    pub(super) fn go_on(&mut self, verdict: Verdict) {
        self.dead.extend(verdict.dead);
        for part in verdict.again.into_iter().rev() {
            self.parts.push_front(part);
        }
    }

    pub(super) fn batch(&self, part: &Part, streams: Streams) -> Batch<T> {
        let (entries, live) = (Arc::clone(&self.entries), part.items.as_slice().into());
        Batch { entries, live, streams, tries: part.tries }
    }

    fn entry(&self, place: u32) -> &Entry<T> {
        &self.entries[place as usize]
    }

    /// The sequences of items, one by one.
    fn spans<'a>(&self, places: impl IntoIterator<Item = &'a u32>) -> Spans {
        let mut spans = Spans::default();
        for entry in places.into_iter().map(|&place| self.entry(place)) {
            if entry.is_logged() {
                spans.add(entry.seq, entry.seq);
            }
        }
        spans
    }

    /// Takes items out of the flight. `in_line` if its queue is one line.
    fn settle(&mut self, places: &[u32], in_line: bool) -> Settlement {
        let all = places.len() == self.entries.len();
        let whole = if all && in_line { self.whole() } else { None };
        let spans = whole.unwrap_or_else(|| self.spans(places));
        let mut settled = Settled { items: places.len(), ..Settled::default() };
        let mut count = |entry: &Entry<T>| {
            settled.bytes += entry.bytes as usize;
            settled.fronts += u64::from(entry.home == Home::Front);
            settled.logged += usize::from(entry.is_logged());
        };
        if all {
            self.entries.iter().for_each(count);
            self.open.fill(false);
            return Settlement { spans, settled, low: u64::MAX };
        }
        for &place in places {
            count(&self.entries[place as usize]);
            self.open[place as usize] = false;
        }
        let open = self.entries.iter().zip(&self.open).filter(|(_, open)| **open);
        let low = low_of(open.map(|(entry, _)| entry));
        Settlement { spans, settled, low }
    }

    /// The sequences of a whole flight from a queue in one line: all items between are in it.
    fn whole(&self) -> Option<Spans> {
        let in_order = self.entries.iter().all(|entry| entry.home == Home::Log);
        let (first, last) = (self.entries.first()?, self.entries.last()?);
        in_order.then(|| Spans::one(first.seq, last.seq))
    }
}

impl<T: Send + Sync + 'static> Inner<T> {
    pub(super) fn rules(&self) -> Rules {
        Rules { tries_max: self.config.tries_max, on_exhausted: self.config.on_exhausted }
    }

    /// Items were delivered.
    pub(super) fn settle(&self, flight: &mut Flight<T>, done: &[u32]) {
        if !done.is_empty() {
            self.forget(flight, done, &self.counters.sent);
        }
    }

    /// Notes a flight as delivered that is not.
    pub(super) fn confirm(&self, flight: &Flight<T>) {
        if let (Some(backlog), Some(spans)) = (&self.backlog, flight.whole()) {
            backlog.done(&spans);
        }
    }

    /// Items need no further delivery: that is written down, and their room is free.
    fn forget(&self, flight: &mut Flight<T>, places: &[u32], counter: &AtomicU64) {
        // With others on their way, or items in front whose place in the log is behind, what lies
        // between the first and the last of a flight need not be of that flight.
        let in_line = self.config.order == BatchOrder::Strict;
        let settlement = flight.settle(places, in_line);
        self.apply(flight.number, settlement, counter);
    }

    fn apply(&self, flight: u64, settlement: Settlement, counter: &AtomicU64) {
        let Settlement { spans, settled, low } = settlement;
        if let Some(backlog) = self.backlog.as_ref().filter(|_| !spans.is_empty()) {
            backlog.done(&spans);
        }
        let (below, idle) = {
            let mut state = self.state();
            state.settle(flight, settled, low);
            // In the lock: a report finds each item in one place.
            add(counter, settled.items as u64);
            // What the end of the queue writes down lies behind all others: it is not passed over.
            let backlog = self.backlog.as_ref().filter(|_| !state.finishing);
            let end = backlog.map(|backlog| backlog.last_seq() + 1);
            let below = |end| match sabotage::trims_undelivered() {
                true => end,
                false => state.delivered_below(self.first, end),
            };
            (end.map(below), self.is_idle(&state))
        };
        if let Some(inbox) = &self.inbox {
            inbox.make_room(settled.items);
        }
        if let (Some(backlog), Some(below)) = (&self.backlog, below) {
            backlog.trim(below, &self.workers);
        }
        self.room.notify_waiters();
        self.refill.notify_one();
        if idle {
            self.idle.notify_waiters();
        }
    }

    /// Tries are kept with the items, so that a process that restarts does not begin anew.
    pub(super) fn note_tries(&self, flight: &Flight<T>, spent: u32, again: &[Part]) {
        for part in again {
            add(&self.counters.retries, part.items.len() as u64);
            let spans = flight.spans(&part.items);
            if let Some(backlog) = &self.backlog
                && part.tries > spent
                && !spans.is_empty()
            {
                backlog.tried(part.tries, &spans);
            }
        }
    }

    /// Buries what was given up. The flight comes back if the queue is stopped meanwhile.
    pub(super) async fn bury(&self, mut flight: Flight<T>) -> Result<(), Flight<T>> {
        if flight.dead.is_empty() {
            return Ok(());
        }
        if let Some(letters) = self.dead.memory() {
            return self.bury_in_memory(flight, letters).await;
        }
        let dead = std::mem::take(&mut flight.dead);
        let places: Vec<_> = dead.iter().map(|dead| dead.place).collect();
        let mut corpses = self.corpses(&flight, dead);
        zmsg_core::fail_point!("zmsg-queue::batch::bury::before");
        if self.keep(&mut corpses).await.is_err() {
            return Err(flight);
        }
        zmsg_core::fail_point!("zmsg-queue::batch::bury::kept");
        self.forget(&mut flight, &places, &self.counters.buried);
        Ok(())
    }

    /// Brings dead letters under the earth, however long it takes to make room for them.
    pub(super) async fn keep(&self, corpses: &mut Vec<Corpse>) -> Result<(), Stopped> {
        if sabotage::drops_letters() {
            return Ok(());
        }
        let mut failures = 0;
        while !self.is_buried(self.dead.bury(corpses).await) {
            failures += 1;
            self.unless_halted(sleep(self.config.backoff.delay(failures))).await?;
        }
        Ok(())
    }

    async fn bury_in_memory(
        &self,
        mut flight: Flight<T>,
        kept: &InMemory<T>,
    ) -> Result<(), Flight<T>> {
        let mut failures = 0;
        while !self.is_buried(Ok(kept.reserve(flight.dead.len()))) {
            failures += 1;
            let pause = sleep(self.config.backoff.delay(failures));
            if self.unless_halted(pause).await.is_err() {
                return Err(flight);
            }
        }
        let dead = std::mem::take(&mut flight.dead);
        let places: Vec<_> = dead.iter().map(|dead| dead.place).collect();
        let (number, settlement) = (flight.number, flight.settle(&places, false));
        let letters = self.letters(flight, dead);
        let dropped = kept.fill_reserved(letters);
        add(&self.counters.dead_dropped, dropped);
        self.apply(number, settlement, &self.counters.buried);
        Ok(())
    }

    fn is_buried(&self, buried: zmsg_core::Result<Buried>) -> bool {
        match buried {
            Ok(Buried::Done { dropped }) => {
                if dropped > 0 {
                    add(&self.counters.dead_dropped, dropped);
                    tracing::error!(dropped, "the oldest dead letters made room for new ones");
                }
                return true;
            }
            Ok(Buried::Full) => tracing::error!("a batch queue waits: its dead letters are full"),
            Err(error) => tracing::error!(%error, "could not keep dead letters: trying again"),
        }
        false
    }

    /// The letters of a queue in memory. They hold their items, and not the rest of the batch, unless
    /// its handler does.
    fn letters(&self, flight: Flight<T>, dead: Vec<Dead>) -> Vec<DeadLetter<T>> {
        let (streams, died_at) = (self.streams, self.clock.wall());
        let letter = |id, dead: Dead, held| {
            let content = Content::Item(held);
            DeadLetter { id, tries: dead.tries, error: dead.error, died_at, content }
        };
        match Arc::try_unwrap(flight.entries) {
            Ok(entries) => {
                let mut entries: Vec<_> = entries.into_iter().map(Some).collect();
                let take = |dead: Dead| {
                    let entry = entries[dead.place as usize].take()?;
                    Some(letter(entry.id(streams), dead, Held::new(entry.item)))
                };
                dead.into_iter().filter_map(take).collect()
            }
            Err(entries) => {
                let share = |dead: Dead| {
                    let at = dead.place as usize;
                    let held = Held(Holder::InBatch(Arc::clone(&entries), at));
                    letter(entries[at].id(streams), dead, held)
                };
                dead.into_iter().map(share).collect()
            }
        }
    }

    fn corpses(&self, flight: &Flight<T>, dead: Vec<Dead>) -> Vec<Corpse> {
        let died_at = self.clock.wall();
        let bury = |dead: Dead| {
            let entry = flight.entry(dead.place);
            let written = self.written(&entry.item);
            let (id, tries) = (entry.id(self.streams), dead.tries);
            Corpse { id, tries, error: dead.error, died_at, written }
        };
        dead.into_iter().map(bury).collect()
    }

    /// An item as a record. It was encoded before, or was read; but the encoding may have changed.
    fn written(&self, item: &T) -> (u8, Vec<u8>) {
        let own = self.config.encoding;
        for encoding in [own, Encoding::Json, Encoding::Postcard] {
            let encode = AssertUnwindSafe(|| self.codec?.encode(encoding, item).ok());
            if let Ok(Some(body)) = std::panic::catch_unwind(encode) {
                return (item_kind(encoding, false), body);
            }
        }
        tracing::error!("an item of a batch queue that was written before cannot be now");
        (item_kind(own, false), Vec::new())
    }

    /// The queue stops before the flight came to its end.
    pub(super) fn leave_behind(&self, flight: Flight<T>) {
        let open = (0..).zip(&flight.open).filter(|(_, open)| **open);
        let places = open.map(|(place, _)| place).collect();
        let Flight { number, entries, interrupted, .. } = flight;
        let leftover = Leftover { flight: number, interrupted, entries, places };
        self.state().leftovers.push(leftover);
    }
}
