//! The thread that writes: all that was appended meanwhile in one write, and one sync for all.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zmsg_core::{Error, ErrorKind, Result};

use crate::error::is_full;
use crate::frame::{self, HEAD, Head, Mark};
use crate::header::Header;
use crate::intake::Intake;
use crate::sabotage::Sabotage;
use crate::segment::{Live, Spare};
use crate::shared::{Shared, locked};
use crate::stats::add;
use crate::table::Entry;
use crate::{Lock, SyncPolicy};

/// How long after a full disk the next segment is tried again.
const FULL_RETRY: Duration = Duration::from_millis(250);

/// How long to wait for those who were acknowledged together to append again: at most as long as
/// the sync took that they shared, and no longer than waking them takes.
const GATHER_LEAST: Duration = Duration::from_micros(20);
const GATHER_EACH: Duration = Duration::from_micros(2);

/// The owner of the live segment.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    live: Live,
    spares: VecDeque<Spare>,
    spares_made: u64,
    /// When to try again to allocate a segment.
    retry: Option<Instant>,
    /// Frames that are not synced, kept to be written anew if the file fails.
    unsynced: Vec<u8>,
    /// How many bytes of those are written.
    written: usize,
    /// When the first of those was taken.
    since: Option<Instant>,
    /// The last sequence that was handed to the system, if only in part.
    attempted: u64,
    /// The file failed, and is neither written nor synced again.
    distrusted: Option<io::Error>,
    /// The end of the file says up to where it is synced.
    marked: bool,
    /// Who was just acknowledged and may append again: worth a moment, so that they share a sync.
    gathering: Option<Gathering>,
    /// An empty buffer, to be swapped for a full one.
    empty: Vec<u8>,
    _lock: Box<dyn Lock>,
}

/// A wait for the next group.
#[derive(Debug, Clone, Copy)]
struct Gathering {
    records: usize,
    until: Instant,
}

/// What failed.
#[derive(Debug)]
enum Fault {
    /// A file: another one may do.
    File(io::Error),
    /// The directory: what has which name after a power cut is unknown from here on.
    Directory(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, live: Live, lock: Box<dyn Lock>) -> Self {
        let attempted = shared.progress.written();
        Self {
            shared,
            live,
            spares: VecDeque::new(),
            spares_made: 0,
            retry: None,
            unsynced: Vec::new(),
            written: 0,
            since: None,
            attempted,
            distrusted: None,
            marked: false,
            gathering: None,
            empty: Vec::new(),
            _lock: lock,
        }
    }

    /// Works until the log is closed, or fails.
    pub(crate) fn run(mut self) {
        let last_words = LastWords(Arc::clone(&self.shared));
        let end = match self.work() {
            Ok(()) => Error::closed("wal"),
            Err(error) => {
                tracing::error!(%error, dir = %self.shared.dir.display(), "the log failed");
                error
            }
        };
        locked(&self.shared.intake).refusal = Some(end.clone());
        let (shared, attempted) = (Arc::clone(&self.shared), self.attempted);
        // The lock of the directory goes before anybody hears that the log is closed.
        drop(self);
        shared.progress.end(end, attempted);
        drop(last_words);
    }

    fn work(&mut self) -> Result<()> {
        loop {
            self.allocate_ahead();
            let closing = self.take();
            let mut result = self.write();
            if result.is_ok() && self.sync_is_due(closing) {
                result = self.sync();
            }
            if let Err(fault) = result {
                self.move_on(fault)?;
            }
            if closing {
                self.finish();
                return Ok(());
            }
        }
    }

    /// Takes what was appended; waits if there is nothing to do. True if the log is to be closed.
    fn take(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut intake = locked(&shared.intake);
        intake.in_flight = 0;
        loop {
            let closing = intake.refusal.is_some();
            if !closing && let Some(until) = self.gathers(&intake) {
                intake.wanted = self.gathering.map_or(0, |gathering| gathering.records);
                intake = wait_until(&shared, intake, Some(until));
                intake.wanted = 0;
                continue;
            }
            if closing || !intake.buffer.is_empty() || self.has_work(&intake) {
                break;
            }
            if !self.marked && self.unsynced.is_empty() && self.distrusted.is_none() {
                drop(intake);
                self.mark(Mark::Synced);
                intake = locked(&shared.intake);
                continue;
            }
            intake = self.wait(&shared, intake);
        }
        let closing = intake.refusal.is_some();
        if !intake.buffer.is_empty() {
            (intake.in_flight, intake.records) = (intake.buffer.len(), 0);
            let taken = std::mem::replace(&mut intake.buffer, std::mem::take(&mut self.empty));
            drop(intake);
            self.keep(taken);
        }
        closing
    }

    fn has_work(&self, intake: &Intake) -> bool {
        let now = Instant::now();
        let wants_spare = intake.spares == 0 && self.retry.is_none_or(|at| at <= now);
        let wants_sync = !self.unsynced.is_empty()
            && (intake.sync_wanted > self.shared.progress.synced()
                || self.sync_at().is_some_and(|at| at <= now));
        wants_spare || wants_sync
    }

    /// Until when to wait for more records of those who were acknowledged together.
    fn gathers(&mut self, intake: &Intake) -> Option<Instant> {
        let Gathering { records, until } = self.gathering?;
        if intake.records >= records || until <= Instant::now() {
            self.gathering = None;
        }
        self.gathering.map(|gathering| gathering.until)
    }

    fn wait<'a>(
        &self,
        shared: &'a Shared,
        intake: MutexGuard<'a, Intake>,
    ) -> MutexGuard<'a, Intake> {
        let retry = self.retry.filter(|_| intake.spares == 0);
        let until = [self.sync_at(), retry].into_iter().flatten().min();
        wait_until(shared, intake, until)
    }

    fn keep(&mut self, mut taken: Vec<u8>) {
        self.since.get_or_insert_with(Instant::now);
        if self.unsynced.is_empty() {
            std::mem::swap(&mut self.unsynced, &mut taken);
        } else {
            self.unsynced.extend_from_slice(&taken);
        }
        taken.clear();
        self.empty = taken;
    }

    /// Writes what was taken, and goes on to the next segment where it does not fit.
    fn write(&mut self) -> Result<(), Fault> {
        if let Some(error) = self.distrusted.take() {
            return Err(error.into());
        }
        while self.written < self.unsynced.len() {
            let begin = self.written;
            let run =
                seal_run(&mut self.unsynced[begin..], &self.live, self.shared.progress.synced());
            let Some(last) = run.last else {
                self.rotate()?;
                continue;
            };
            self.attempted = last;
            self.marked = false;
            self.live.append(&self.unsynced[begin..begin + run.bytes])?;
            self.written += run.bytes;
            add(&self.shared.counters.writes, 1);
            self.shared.table.grow(self.live.end);
            self.shared.progress.set_written(last);
        }
        Ok(())
    }

    fn sync_at(&self) -> Option<Instant> {
        match self.shared.options.sync {
            SyncPolicy::Interval(every) => self.since.map(|since| since + every),
            _ => None,
        }
    }

    fn sync_is_due(&self, closing: bool) -> bool {
        if self.unsynced.is_empty() {
            return false;
        }
        closing
            || self.shared.options.sync == SyncPolicy::Always
            || self.unsynced.len() >= self.shared.options.buffer_bytes_max
            || self.sync_at().is_some_and(|at| at <= Instant::now())
            || locked(&self.shared.intake).sync_wanted > self.shared.progress.synced()
    }

    /// Makes everything that is written survive a power cut, and tells those who wait.
    fn sync(&mut self) -> Result<(), Fault> {
        let options = &self.shared.options;
        let begun = Instant::now();
        let written = self.shared.progress.written();
        if options.sabotaged(Sabotage::AcknowledgeBeforeSync) {
            self.shared.progress.set_synced(written);
            std::thread::park_timeout(Duration::from_millis(2));
        }
        if !options.sabotaged(Sabotage::SkipSync) {
            add(&self.shared.counters.syncs, 1);
            match self.live.file.sync_data() {
                Err(_) if options.sabotaged(Sabotage::RetryFailedSync) => {
                    self.live.file.sync_data()?;
                }
                result => result?,
            }
        }
        if self.written == self.unsynced.len() {
            self.unsynced.clear();
            self.since = None;
        } else {
            self.unsynced.drain(..self.written);
        }
        self.written = 0;
        let took = begun.elapsed();
        let woken = self.shared.progress.set_synced(written);
        if woken > 1 && options.sync == SyncPolicy::Always {
            let reach = GATHER_LEAST + GATHER_EACH * u32::try_from(woken).unwrap_or(u32::MAX);
            self.gathering =
                Some(Gathering { records: woken, until: Instant::now() + reach.min(took) });
        }
        Ok(())
    }

    /// Goes on to the next segment.
    fn rotate(&mut self) -> Result<(), Fault> {
        // Then a bad record in any segment but the last is damage.
        self.sync()?;
        self.begin(&mut [])
    }

    /// Leaves a file in which something failed: what was not synced is written to a new segment,
    /// synced there, and acknowledged then.
    fn move_on(&mut self, fault: Fault) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let cause = match fault {
            Fault::File(cause) => cause,
            Fault::Directory(cause) => return Err(dead(cause)),
        };
        add(&shared.counters.distrusted, 1);
        tracing::warn!(error = %cause, file = %self.live.path.display(), "a file of the log failed");
        let mut frames = std::mem::take(&mut self.unsynced);
        let last = last_seq(&frames).unwrap_or_else(|| shared.progress.synced());
        if let Err(Fault::File(again) | Fault::Directory(again)) = self.begin(&mut frames) {
            return Err(dead(again).with_context("before", cause));
        }
        frames.clear();
        (self.unsynced, self.written, self.since) = (frames, 0, None);
        shared.progress.set_synced(last);
        let mut intake = locked(&shared.intake);
        intake.replan(self.live.room(), self.spares.len());
        Ok(())
    }

    /// Begins a segment after what is synced, with those frames in it, all synced before it gets its
    /// name.
    fn begin(&mut self, frames: &mut [u8]) -> Result<(), Fault> {
        let shared = Arc::clone(&self.shared);
        let (fs, dir, options) = (&*shared.fs, &*shared.dir, &shared.options);
        let least = crate::table::EMPTY + frames.len() as u64;
        let spare = match self.spares.pop_front().filter(|spare| spare.bytes >= least) {
            Some(spare) => spare,
            None => self.allocate(least.max(options.segment_bytes))?,
        };
        let synced_through = shared.progress.synced();
        let header = Header {
            number: self.live.header.number + 1,
            first_seq: synced_through + 1,
            synced_through,
            ceiling: synced_through + 1 + options.sequences_max(spare.bytes),
            salt: salt(),
            record_bytes_max: options.record_bytes_max,
            stream: shared.stream,
        };
        let mut live = Live::prepare(spare, header)?;
        if let Some(last) = last_seq(frames) {
            self.attempted = last;
            seal_run(frames, &live, synced_through);
            live.file.write_at(frames, live.end)?;
            live.end += frames.len() as u64;
        }
        if !options.sabotaged(Sabotage::SkipHeaderSync) {
            add(&shared.counters.syncs, 1);
            live.file.sync_data()?;
        }
        live.rename(fs, dir)?;
        if !options.sabotaged(Sabotage::SkipDirSync) {
            fs.sync_dir(dir).map_err(Fault::Directory)?;
        }
        shared.table.push(Entry::new(header, live.end));
        locked(&shared.intake).used += live.end;
        (self.live, self.marked) = (live, true);
        Ok(())
    }

    /// Says at the end of the file up to where it is synced, so that a later loss of it is seen. The
    /// next record is written over it. Not synced: it is true whenever it arrives.
    fn mark(&mut self, mark: Mark) {
        let synced = self.shared.progress.synced();
        let frame = frame::mark(mark, synced, self.live.rules, self.live.end);
        self.marked = true;
        if let Err(error) = self.live.file.write_at(&frame, self.live.end) {
            self.distrusted = Some(error);
        }
    }

    /// Allocates the next segment while the live one is written, so that a full disk is met before
    /// anybody depends on the space.
    pub(crate) fn allocate_ahead(&mut self) {
        let shared = Arc::clone(&self.shared);
        if locked(&shared.intake).spares > 0 || self.retry.is_some_and(|at| at > Instant::now()) {
            return;
        }
        let result = self.allocate(shared.options.segment_bytes);
        let mut intake = locked(&shared.intake);
        match result {
            Ok(spare) => {
                self.spares.push_back(spare);
                (self.retry, intake.full) = (None, None);
                intake.spares += 1;
            }
            Err(error) => {
                if intake.full.is_none() && is_full(&error) {
                    tracing::warn!(dir = %shared.dir.display(), "no space for the next segment");
                }
                self.retry = Some(Instant::now() + FULL_RETRY);
                intake.full = Some(Arc::new(error));
            }
        }
    }

    fn allocate(&mut self, bytes: u64) -> io::Result<Spare> {
        self.spares_made += 1;
        Spare::allocate(&*self.shared.fs, &self.shared.dir, self.spares_made, bytes)
    }

    /// Everything is written and synced: says so, and gives back what is not needed.
    fn finish(&mut self) {
        self.mark(Mark::Closed);
        let end = self.live.end + HEAD as u64;
        if self.distrusted.is_none() {
            // If it does not arrive, sequences are skipped when the log is opened again.
            let _ = self.live.file.sync_data();
            let _ = self.live.file.set_len(end);
        }
        for spare in self.spares.drain(..) {
            let _ = self.shared.fs.remove(&spare.path);
        }
    }
}

fn wait_until<'a>(
    shared: &'a Shared,
    mut intake: MutexGuard<'a, Intake>,
    until: Option<Instant>,
) -> MutexGuard<'a, Intake> {
    intake.writer_waits = true;
    let mut intake = match until {
        None => shared.work.wait(intake).unwrap_or_else(PoisonError::into_inner),
        Some(until) => {
            let time = until.saturating_duration_since(Instant::now());
            let waited = shared.work.wait_timeout(intake, time);
            waited.unwrap_or_else(PoisonError::into_inner).0
        }
    };
    intake.writer_waits = false;
    intake
}

/// What of the frames goes into a segment.
struct Run {
    bytes: usize,
    last: Option<u64>,
}

/// Completes the frames that fit into the segment.
fn seal_run(frames: &mut [u8], live: &Live, synced_through: u64) -> Run {
    let mut run = Run { bytes: 0, last: None };
    while let Some(head) = head_at(frames, run.bytes) {
        let offset = live.end + run.bytes as u64;
        let end = run.bytes + head.frame_len();
        if offset + head.frame_len() as u64 > live.bytes {
            break;
        }
        let Some(frame) = frames.get_mut(run.bytes..end) else { break };
        frame::seal(frame, live.rules, offset, synced_through);
        run = Run { bytes: end, last: Some(head.seq) };
    }
    run
}

fn head_at(frames: &[u8], at: usize) -> Option<Head> {
    frames.get(at..)?.first_chunk().map(Head::read)
}

fn last_seq(frames: &[u8]) -> Option<u64> {
    let (mut at, mut last) = (0, None);
    while let Some(head) = head_at(frames, at) {
        last = Some(head.seq);
        at += head.frame_len();
    }
    last
}

/// Random, so that nobody can write a payload that passes for a record.
pub(crate) fn salt() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1
}

fn dead(cause: io::Error) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the log failed, and could not go on elsewhere: open it anew",
    )
    .with_source(cause)
}

/// Ends the log if its thread panics: nobody may wait for ever.
struct LastWords(Arc<Shared>);

impl Drop for LastWords {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = Error::new(ErrorKind::Unexpected, "the writer of the log panicked");
            locked(&self.0.intake).refusal = Some(error.clone());
            self.0.progress.end(error, u64::MAX);
        }
    }
}
