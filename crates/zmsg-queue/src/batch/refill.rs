//! Brings items back from the log, in order, as room for them appears.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use tokio::time::sleep;
use zmsg_core::{Error, ErrorKind, Result};
use zmsg_wal::{Reader, Record};

use super::backlog::{Backlog, Known};
use super::dead::Corpse;
use super::entry::{Entry, Home};
use super::handler::ItemId;
use super::inner::Inner;
use super::intake::weight;
use super::lane::{Stopped, text_of};
use super::record::{Spans, TIME_LEN, item_of, split_item};
use super::state::Phase;
use super::stats::add;

/// The most items that are read at once.
const CHUNK: usize = 1_024;

/// Why nothing was read.
enum Unread {
    /// The disk said so; it may say something else the next time.
    Now(Error),
    /// It was not written, and will not be: the log failed, or was closed.
    Never(Error),
}

/// How much may be read.
#[derive(Debug, Clone, Copy)]
struct Room {
    from: u64,
    items: usize,
    bytes: usize,
}

/// What an earlier process left, besides what is in the lanes already.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub(super) known: Known,
    /// Items that come before all others and cannot be read.
    pub(super) unreadable: Vec<Corpse>,
}

/// What was read, and where to go on.
struct Chunk<T> {
    reader: Reader,
    decoded: Decoded<T>,
    next: u64,
}

/// Items with their lanes, and those that are none any more.
pub(super) struct Decoded<T> {
    pub(super) entries: Vec<(usize, Entry<T>)>,
    pub(super) corpses: Vec<Corpse>,
}

impl<T: Send + Sync + 'static> Inner<T> {
    /// Reads until the queue is drained or stopped.
    pub(super) async fn run_refill(self: Arc<Self>, left: Left) {
        let Some(backlog) = self.backlog.clone() else { return };
        let Left { known, unreadable } = left;
        let mut known = Arc::new(known);
        if !unreadable.is_empty() && self.bury_unreadable(unreadable, true).await.is_err() {
            return;
        }
        let mut reader = None;
        let mut failures = 0;
        loop {
            let mut changed = pin!(self.refill.notified());
            changed.as_mut().enable();
            let room = match self.room_for_more() {
                Ask::Read(room) => room,
                Ask::Wait => {
                    reader = reader.filter(|_| self.state().on_disk > 0);
                    if self.unless_halted(changed).await.is_err() {
                        return;
                    }
                    continue;
                }
                Ask::End => return,
            };
            let at = reader.take().filter(|at: &Reader| at.position() == room.from);
            let at = at.unwrap_or_else(|| backlog.reader(room.from));
            if !known.reaches(room.from) {
                known = Arc::default();
            }
            match self.unless_halted(self.read(&backlog, at, room, &known)).await {
                Err(Stopped) => return,
                Ok(Ok(chunk)) => {
                    failures = 0;
                    reader = Some(chunk.reader);
                    if self.take_in(chunk.decoded, chunk.next).await.is_err() {
                        return;
                    }
                }
                Ok(Err(Unread::Never(error))) => {
                    self.strand(&error);
                    return;
                }
                Ok(Err(Unread::Now(error))) => {
                    failures += 1;
                    tracing::error!(%error, failures, "could not read the log of a batch queue");
                    let pause = self.config.backoff.delay(failures);
                    if self.unless_halted(sleep(pause)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn room_for_more(&self) -> Ask {
        let (state, config) = (self.state(), &self.config);
        if state.phase == Phase::Stopped || (state.phase == Phase::Draining && state.on_disk == 0) {
            return Ask::End;
        }
        let items = config.memory_items_max.saturating_sub(state.items);
        let bytes = config.memory_bytes_max.saturating_sub(state.bytes);
        // Not one by one: what is read together is cheaper.
        let enough = items >= (config.memory_items_max / 4).clamp(1, CHUNK)
            && bytes >= (config.memory_bytes_max / 4).max(1);
        if state.on_disk == 0 || !(enough || state.items == 0) {
            return Ask::Wait;
        }
        Ask::Read(Room { from: state.disk_next, items: items.min(CHUNK), bytes })
    }

    async fn read(
        self: &Arc<Self>,
        backlog: &Backlog,
        mut reader: Reader,
        room: Room,
        known: &Arc<Known>,
    ) -> std::result::Result<Chunk<T>, Unread> {
        loop {
            let (this, known) = (Arc::clone(self), Arc::clone(known));
            let reading =
                tokio::task::spawn_blocking(move || this.read_chunk(reader, room, &known));
            let chunk = reading.await.map_err(|error| {
                let error =
                    Error::new(ErrorKind::Unexpected, "reading ended early").with_source(error);
                Unread::Now(error)
            })?;
            let unread = |error| match backlog.never_writes(room.from) {
                true => Unread::Never(error),
                false => Unread::Now(error),
            };
            let chunk = chunk.map_err(unread)?;
            if chunk.next > room.from {
                return Ok(chunk);
            }
            // Appended, and not yet written.
            backlog.readable(chunk.reader.position()).await.map_err(Unread::Never)?;
            reader = chunk.reader;
        }
    }

    /// Puts what was read into its lanes, behind what is there.
    async fn take_in(&self, decoded: Decoded<T>, next: u64) -> Result<(), Stopped> {
        zmsg_core::fail_point!("zmsg-queue::batch::refill::read");
        let Decoded { entries, corpses } = decoded;
        let count = (entries.len() + corpses.len()) as u64;
        if !corpses.is_empty() {
            self.bury_unreadable(corpses, false).await?;
        }
        let cut = self.cut();
        let mut state = self.state();
        for (lane, entry) in entries {
            if state.push(lane, entry, &cut) {
                self.lanes[lane].notify_one();
            }
        }
        zmsg_core::fail_point!("zmsg-queue::batch::refill::taken_in");
        state.on_disk -= count;
        state.disk_next = next;
        if state.on_disk == 0 {
            // The end of what is drained, perhaps.
            self.lanes.iter().for_each(tokio::sync::Notify::notify_waiters);
        }
        if state.pending() == 0 {
            self.idle.notify_waiters();
        }
        Ok(())
    }

    /// Items that cannot be read are dead letters, and block nothing.
    async fn bury_unreadable(&self, mut corpses: Vec<Corpse>, fronts: bool) -> Result<(), Stopped> {
        let mut spans = Spans::default();
        corpses.iter().for_each(|corpse: &Corpse| spans.add(corpse.id.seq, corpse.id.seq));
        let buried = corpses.len() as u64;
        self.keep(&mut corpses).await?;
        add(&self.counters.buried, buried);
        if let Some(backlog) = &self.backlog {
            backlog.done(&spans);
        }
        if fronts {
            let mut state = self.state();
            state.unreadable -= buried;
            state.fronts -= buried;
            drop(state);
            self.wake_all();
            self.idle.notify_waiters();
        }
        Ok(())
    }

    /// The log failed before these items were written: nobody can read them.
    fn strand(&self, error: &Error) {
        let mut state = self.state();
        let items = std::mem::take(&mut state.on_disk);
        state.stranded += items;
        drop(state);
        tracing::error!(%error, items, "the log of a batch queue failed: items that were in it alone are lost");
        self.wake_all();
        self.idle.notify_waiters();
    }

    /// Blocks on the disk.
    fn read_chunk(&self, mut reader: Reader, room: Room, known: &Known) -> Result<Chunk<T>> {
        let (mut records, mut bytes, mut next) = (Vec::new(), 0, room.from);
        while records.len() < room.items.max(1) && (bytes < room.bytes || records.is_empty()) {
            let Some(record) = reader.next()? else { break };
            next = record.seq + 1;
            let in_order = item_of(record.kind).is_some_and(|(_, front)| !front);
            if in_order && !known.done.contains(record.seq) {
                bytes += record.payload.len();
                records.push(record);
            }
        }
        Ok(Chunk { reader, decoded: self.decode(&records, Home::Log, known), next })
    }

    pub(super) fn decode(&self, records: &[Record], home: Home, known: &Known) -> Decoded<T> {
        let (mut entries, mut corpses) = (Vec::with_capacity(records.len()), Vec::new());
        for record in records {
            match self.entry_of(record, home, known) {
                Ok(entry) => entries.push(entry),
                Err(error) => corpses.push(self.corpse_of(record, &error)),
            }
        }
        Decoded { entries, corpses }
    }

    /// An item from its record, and its lane.
    fn entry_of(&self, record: &Record, home: Home, known: &Known) -> Result<(usize, Entry<T>)> {
        let (Some(codec), Some((encoding, _))) = (self.codec, item_of(record.kind)) else {
            return Err(Error::new(ErrorKind::Unexpected, "the record is not of an item"));
        };
        let (wall, body) = split_item(&record.payload)?;
        // Code of the user, which must not end the reading.
        let read = AssertUnwindSafe(|| {
            let item = codec.decode(encoding, body)?;
            Ok((self.lane_of(&item), item))
        });
        let (lane, item) = std::panic::catch_unwind(read).unwrap_or_else(|panic| {
            let why = "reading an item of the log panicked";
            Err(Error::new(ErrorKind::InvalidData, why).with_context("panic", text_of(&*panic)))
        })?;
        let age = self.clock.wall().saturating_sub(wall);
        let at = self.clock.coarse().saturating_sub(age);
        let tries = known.tries(record.seq);
        let bytes = weight(body.len());
        Ok((lane, Entry { item, seq: record.seq, home, bytes, at, tries }))
    }

    fn corpse_of(&self, record: &Record, error: &Error) -> Corpse {
        let body = record.payload.get(TIME_LEN..).unwrap_or_default().to_vec();
        let id = ItemId { stream: self.streams.logged, seq: record.seq };
        let (error, died_at) = (error.to_string(), self.clock.wall());
        Corpse { id, tries: 0, error, died_at, written: (record.kind, body) }
    }
}

enum Ask {
    Read(Room),
    Wait,
    End,
}
