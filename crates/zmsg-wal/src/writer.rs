//! The thread that writes: all that was appended meanwhile in one write, and one sync for all.

mod segments;
mod waiting;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zmsg_core::{Error, ErrorKind, Result};

use crate::frame::ALIGN;
use crate::run::seal_run;
use crate::sabotage::Sabotage;
use crate::segment::{Live, Spare};
use crate::shared::{Shared, locked};
use crate::stats::add;
use crate::{Lock, SyncPolicy};
pub(crate) use segments::salt;
use waiting::Gathering;

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

    /// Writes what was taken, and goes on to the next segment where it does not fit.
    fn write(&mut self) -> Result<(), Fault> {
        // A file that failed under a mark is left when there is something to be written elsewhere.
        if !self.unsynced.is_empty()
            && let Some(error) = self.distrusted.take()
        {
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
            zmsg_core::fail_point!("zmsg-wal::write::before");
            let written = self.live.append(&self.unsynced[begin..begin + run.bytes]);
            if written.is_err() && self.shared.options.sabotaged(Sabotage::AppendAfterTorn) {
                self.live.end += (run.bytes as u64 / 2).next_multiple_of(ALIGN as u64);
                continue;
            }
            written?;
            zmsg_core::fail_point!("zmsg-wal::write::written");
            self.written += run.bytes;
            add(&self.shared.counters.writes, 1);
            self.shared.table.grow(self.live.end);
            self.shared.progress.set_written(last);
        }
        Ok(())
    }

    fn sync_at(&self) -> Option<Instant> {
        match self.shared.options.sync {
            SyncPolicy::Interval(every) => self.since.and_then(|since| since.checked_add(every)),
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
        zmsg_core::fail_point!("zmsg-wal::sync::synced");
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
            self.gathering = Some(Gathering::of(woken, took));
        }
        Ok(())
    }
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
