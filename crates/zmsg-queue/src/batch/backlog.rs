//! The log behind a queue: items, and which of them need no further delivery.
//!
//! What was delivered is a record of the same log, so it costs no sync of its own, and a checkpoint is
//! only written when a segment can be removed. A process that stops in between finds both again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::task::TaskTracker;
use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result, UnixMillis};
use zmsg_wal::{Appended, Durability, Fs, Log, LogOptions, Reader, Record};

use super::record::{DONE, Spans, TRIED, item_of, read_tried, write_tried};

/// An open log of a queue.
#[derive(Debug, Clone)]
pub(super) struct Backlog {
    log: Log,
    record_bytes_max: usize,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Delivered, and not written down because the log was full.
    unrecorded: Mutex<Spans>,
    /// Held while segments are removed.
    trimming: Mutex<()>,
    /// Everything below was delivered.
    removable: AtomicU64,
}

/// What an earlier process left.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The first record that may be of an item to deliver.
    pub(super) first: u64,
    /// Items to deliver, and those among them that come before all others.
    pub(super) items: u64,
    pub(super) front: u64,
    /// The records of those that come before all others.
    pub(super) fronts: Vec<Record>,
    pub(super) known: Known,
}

/// What is known of the items that an earlier process left.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Those that need no delivery.
    pub(super) done: Spans,
    /// Tries that were spent, by sequence.
    tries: HashMap<u64, u32>,
    /// Where its records end.
    end: u64,
}

impl Known {
    pub(super) fn tries(&self, seq: u64) -> u32 {
        self.tries.get(&seq).copied().unwrap_or(0)
    }

    /// Whether it says something of a record from here on.
    pub(super) fn reaches(&self, seq: u64) -> bool {
        seq < self.end
    }
}

/// Which kinds of records are items.
pub(super) type IsItem = fn(kind: u8) -> Option<Item>;

/// Where an item belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// Where its record is.
    InOrder,
    /// Before all that are where their records are.
    Front,
}

/// The records of a queue's items.
pub(super) fn queued(kind: u8) -> Option<Item> {
    item_of(kind).map(|(_, front)| if front { Item::Front } else { Item::InOrder })
}

impl Backlog {
    /// Opens the log and looks through what is in it. Blocks on the disk.
    pub(super) fn open(
        dir: &Path,
        options: LogOptions,
        fs: Arc<dyn Fs>,
        is_item: IsItem,
    ) -> Result<(Self, Pending)> {
        let record_bytes_max = options.record_bytes_max as usize;
        let (log, recovered) = Log::open(dir, options, fs)?;
        zmsg_core::fail_point!("zmsg-queue::batch::open::opened");
        let first = recovered.first;
        let mut pending = Pending { first, ..Pending::default() };
        if recovered.records > 0 {
            look_through(&log, &mut pending, is_item)?;
            zmsg_core::fail_point!("zmsg-queue::batch::open::looked_through");
        }
        Ok((Self { log, record_bytes_max, shared: Arc::default() }, pending))
    }

    pub(super) fn stream(&self) -> Uuid {
        self.log.stream()
    }

    /// Appends an item. No I/O.
    pub(super) fn append(&self, kind: u8, at: UnixMillis, body: &[u8]) -> Result<Appended> {
        self.log.append(kind, &[&at.to_le_bytes(), body])
    }

    /// Appends records as they are, all or none. No I/O.
    pub(super) fn append_many(&self, records: &[(u8, &[u8])]) -> Result<Appended> {
        self.log.append_many(records)
    }

    /// Writes down that items need no further delivery. No I/O; not waited for: what is not on the
    /// disk when the process stops is delivered again.
    pub(super) fn done(&self, spans: &Spans) {
        let mut unrecorded = locked(&self.shared.unrecorded);
        unrecorded.extend(spans);
        let mut left = Spans::default();
        for piece in unrecorded.pieces(self.record_bytes_max) {
            let mut payload = Vec::new();
            piece.write(&mut payload);
            // Refused while the log is full, or if it failed: tried again with the next ones.
            if self.log.append(DONE, &[&payload]).is_err() {
                left.extend(&piece);
            }
            zmsg_core::fail_point!("zmsg-queue::batch::done::appended");
        }
        *unrecorded = left;
    }

    /// Writes down how many tries items have had. Best effort.
    pub(super) fn tried(&self, tries: u32, spans: &Spans) {
        for piece in spans.pieces(self.record_bytes_max.saturating_sub(4)) {
            let _ = self.log.append(TRIED, &[&write_tried(tries, &piece)]);
            zmsg_core::fail_point!("zmsg-queue::batch::tried::appended");
        }
    }

    pub(super) fn reader(&self, from: u64) -> Reader {
        self.log.reader(from)
    }

    /// Waits until more can be read from `position` on.
    pub(super) async fn readable(&self, position: u64) -> Result<()> {
        self.log.wait(position, Durability::Flushed).await
    }

    /// Waits until what was appended so far is on the disk.
    pub(super) async fn synced(&self) -> Result<()> {
        self.log.sync().await
    }

    /// Waits until what was appended so far has left the memory of this process.
    pub(super) async fn flushed(&self) -> Result<()> {
        self.log.wait(self.log.last_seq(), Durability::Flushed).await
    }

    /// Whether the log failed before it wrote this record: it never will.
    pub(super) fn never_writes(&self, seq: u64) -> bool {
        let failure =
            self.log.checkpoint(0).err().filter(|error| error.kind() != ErrorKind::Closed);
        failure.is_some() && self.log.stats().written_seq < seq
    }

    pub(super) fn last_seq(&self) -> u64 {
        self.log.last_seq()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.log.stats().bytes
    }

    /// Removes segments below `below` in the background, if there are any.
    pub(super) fn trim(&self, below: u64, tracker: &TaskTracker) {
        if !self.log.can_remove_below(below) {
            return;
        }
        self.shared.removable.fetch_max(below, SeqCst);
        let this = self.clone();
        tracker.spawn_blocking(move || this.remove());
    }

    fn remove(&self) {
        // One at a time; whoever comes next finds nothing to do, or what came meanwhile.
        let _alone = locked(&self.shared.trimming);
        let below = self.shared.removable.load(SeqCst);
        zmsg_core::fail_point!("zmsg-queue::batch::trim::before");
        if self.log.can_remove_below(below)
            && let Err(error) = self.log.remove_below(below)
        {
            tracing::warn!(%error, "could not remove delivered segments of a batch queue");
        }
        zmsg_core::fail_point!("zmsg-queue::batch::trim::trimmed");
    }

    /// The last word: everything below was delivered. Blocks on the disk.
    pub(super) fn finish(&self, below: u64) -> Result<()> {
        let alone = locked(&self.shared.trimming);
        let removed = self.log.remove_below(below).map(drop);
        drop(alone);
        // What a full log refused before there was room.
        if !locked(&self.shared.unrecorded).is_empty() {
            self.done(&Spans::default());
        }
        removed
    }

    pub(super) async fn close(&self) -> Result<()> {
        self.log.close().await
    }
}

/// Finds what is to be delivered: reads records and notes what they say.
fn look_through(log: &Log, pending: &mut Pending, is_item: IsItem) -> Result<()> {
    let first = pending.first;
    let mut reader = log.reader(first);
    let (mut items, mut front) = (Spans::default(), Spans::default());
    while let Some(record) = reader.next()? {
        match (record.kind, is_item(record.kind)) {
            (_, Some(Item::Front)) => front.add(record.seq, record.seq),
            (_, Some(Item::InOrder)) => items.add(record.seq, record.seq),
            (DONE, _) => pending.known.done.extend(&Spans::read(&record.payload)?),
            (TRIED, _) => note_tries(&record, first, pending)?,
            _ => return Err(unknown(&record)),
        }
    }
    let left = |spans: &Spans| -> u64 {
        let open =
            |(first, last)| (first..=last).filter(|&seq| !pending.known.done.contains(seq)).count();
        spans.iter().map(open).sum::<usize>() as u64
    };
    let fronts = fronts_of(log, &pending.known.done, &front)?;
    let (items, front) = (left(&items), left(&front));
    pending.fronts = fronts;
    let Known { done, tries, end } = &mut pending.known;
    tries.retain(|&seq, _| !done.contains(seq));
    *end = log.last_seq() + 1;
    (pending.items, pending.front) = (items + front, front);
    Ok(())
}

/// The records of the items that come before all others, which fit into memory: they come from there.
fn fronts_of(log: &Log, done: &Spans, front: &Spans) -> Result<Vec<Record>> {
    let mut fronts = Vec::new();
    let mut open =
        front.iter().flat_map(|(first, last)| first..=last).filter(|&seq| !done.contains(seq));
    let Some(first) = open.next() else { return Ok(fronts) };
    let mut reader = log.reader(first);
    while let Some(record) = reader.next()? {
        if front.contains(record.seq) && !done.contains(record.seq) {
            fronts.push(record);
        }
    }
    Ok(fronts)
}

fn note_tries(record: &Record, first: u64, pending: &mut Pending) -> Result<()> {
    let (tries, spans) = read_tried(&record.payload)?;
    for (from, to) in spans.iter() {
        // A batch is in one piece of the log, so this is no longer than that piece.
        for seq in from.max(first)..=to.min(record.seq) {
            pending.known.tries.insert(seq, tries);
        }
    }
    Ok(())
}

/// A record of a later version, or of something else than a queue.
fn unknown(record: &Record) -> Error {
    let why = "the log holds records that this version of the queue does not know";
    Error::new(ErrorKind::Unsupported, why)
        .with_context("kind", record.kind)
        .with_context("sequence", record.seq)
        .during("batch_queue.open")
}

/// The directory of the items of a queue.
pub(super) fn items_dir(dir: &Path) -> PathBuf {
    dir.join("items")
}

/// The directory of the dead letters of a queue.
pub(super) fn letters_dir(dir: &Path) -> PathBuf {
    dir.join("dead")
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
