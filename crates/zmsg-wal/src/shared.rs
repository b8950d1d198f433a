//! What the handles, the readers and the writer of a log share.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;
use zmsg_core::Error;

use crate::intake::Intake;
use crate::progress::Progress;
use crate::stats::Counters;
use crate::table::Table;
use crate::{Fs, LogOptions, SyncPolicy};

/// The state of an open log.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) options: LogOptions,
    pub(crate) stream: Uuid,
    pub(crate) intake: Mutex<Intake>,
    /// The writer waits here for work.
    pub(crate) work: Condvar,
    pub(crate) progress: Progress,
    pub(crate) table: Table,
    /// Everything below was delivered. Held while the checkpoint is written and segments go.
    pub(crate) delivered_below: Mutex<u64>,
    pub(crate) counters: Counters,
}

impl Shared {
    /// Asks the writer for a sync of everything up to `seq`.
    pub(crate) fn want_sync(&self, seq: u64) {
        let mut intake = locked(&self.intake);
        intake.sync_wanted = intake.sync_wanted.max(seq);
        self.wake_writer(intake);
    }

    /// Somebody waits for `seq` to be synced.
    pub(crate) fn waits_for_sync(&self, seq: u64) {
        if self.options.sync == SyncPolicy::Os {
            self.want_sync(seq);
        }
    }

    /// Lets the writer look at what changed.
    pub(crate) fn wake_writer(&self, mut intake: MutexGuard<'_, Intake>) {
        let waits = std::mem::take(&mut intake.writer_waits);
        drop(intake);
        if waits {
            self.work.notify_one();
        }
    }

    /// No more records; the writer writes and syncs what there is, and ends.
    pub(crate) fn stop(&self) {
        let mut intake = locked(&self.intake);
        intake.refusal.get_or_insert_with(|| Error::closed("wal"));
        self.wake_writer(intake);
    }
}

/// A lock of ours is never held over code that may leave it half done.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
