//! How the writer goes from one segment to the next: because it is full, or because it failed.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zmsg_core::{Error, ErrorKind, Result};

use super::{Fault, Writer};
use crate::error::is_full;
use crate::frame::{self, HEAD, Mark};
use crate::header::Header;
use crate::run::{last_seq, seal_run};
use crate::sabotage::Sabotage;
use crate::segment::{Live, Spare};
use crate::shared::locked;
use crate::stats::add;
use crate::table::{EMPTY, Entry};

/// How long after a full disk the next segment is tried again.
const FULL_RETRY: Duration = Duration::from_millis(250);

impl Writer {
    /// Goes on to the next segment.
    pub(super) fn rotate(&mut self) -> Result<(), Fault> {
        // Then a bad record in any segment but the last is damage.
        self.sync()?;
        zmsg_core::fail_point!("zmsg-wal::rotate::synced");
        self.begin(&mut [])
    }

    /// Leaves a file in which something failed: what was not synced is written to a new segment,
    /// synced there, and acknowledged then.
    pub(super) fn move_on(&mut self, fault: Fault) -> Result<()> {
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
        let least = EMPTY + frames.len() as u64;
        let spare = match self.spares.pop_front().filter(|spare| spare.bytes >= least) {
            Some(spare) => spare,
            None => self.allocate(least.max(options.segment_bytes))?,
        };
        let (old, synced) = (self.live.header, shared.progress.synced());
        let header = Header {
            number: old.number + 1,
            first_seq: synced + 1,
            // The last record there is; sequences that a crash skipped are none.
            synced_through: if synced < old.first_seq { old.synced_through } else { synced },
            ceiling: synced + 1 + options.sequences_max(spare.bytes),
            salt: salt(),
            record_bytes_max: options.record_bytes_max,
            stream: shared.stream,
        };
        let mut live = Live::prepare(spare, header)?;
        if let Some(last) = last_seq(frames) {
            self.attempted = last;
            seal_run(frames, &live, synced);
            live.file.write_at(frames, live.end)?;
            live.end += frames.len() as u64;
        }
        if !options.sabotaged(Sabotage::SkipHeaderSync) {
            add(&shared.counters.syncs, 1);
            live.file.sync_data()?;
        }
        zmsg_core::fail_point!("zmsg-wal::rotate::prepared");
        live.rename(fs, dir)?;
        zmsg_core::fail_point!("zmsg-wal::rotate::named");
        if !options.sabotaged(Sabotage::SkipDirSync) {
            fs.sync_dir(dir).map_err(Fault::Directory)?;
        }
        shared.table.push(Entry::new(header, live.end));
        // What was not yet written anywhere was counted when it was accepted.
        let counted = frames.len().saturating_sub(self.written) as u64;
        locked(&shared.intake).used += live.end - counted;
        (self.live, self.marked) = (live, frames.is_empty());
        zmsg_core::fail_point!("zmsg-wal::rotate::begun");
        Ok(())
    }

    /// Says at the end of the file up to where it is synced, so that a later loss of it is seen. The
    /// next record is written over it. Not synced: it is true whenever it arrives.
    pub(super) fn mark(&mut self, mark: Mark) {
        if mark == Mark::Synced && self.live.room() < HEAD as u64 {
            // Beyond what is allocated a full disk would be met. The next segment says it.
            self.marked = true;
            return;
        }
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
        zmsg_core::fail_point!("zmsg-wal::rotate::allocated_ahead");
        let mut intake = locked(&shared.intake);
        match result {
            Ok(spare) => {
                self.spares.push_back(spare);
                (self.retry, intake.full) = (None, None);
                intake.spares += 1;
            }
            Err(error) => {
                let is_news = intake.full.is_none() && is_full(&error);
                self.retry = Some(Instant::now() + FULL_RETRY);
                intake.full = Some(Arc::new(error));
                drop(intake);
                if is_news {
                    tracing::warn!(dir = %shared.dir.display(), "no space for the next segment");
                }
            }
        }
    }

    fn allocate(&mut self, bytes: u64) -> io::Result<Spare> {
        self.spares_made += 1;
        Spare::allocate(&*self.shared.fs, &self.shared.dir, self.spares_made, bytes)
    }

    /// Everything is written and synced: says so, and gives back what is not needed.
    pub(super) fn finish(&mut self) {
        let end = self.live.end + HEAD as u64;
        if self.distrusted.is_none() {
            self.mark(Mark::Closed);
        }
        zmsg_core::fail_point!("zmsg-wal::close::marked");
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
