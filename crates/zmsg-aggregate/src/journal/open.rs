//! The journal of a running process.

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use uuid::Uuid;
use zmsg_core::{DiskSync, Error, ErrorKind, Key, Level, Result};
use zmsg_wal::{Durability, Fs, Log, LogOptions, RealFs, SyncPolicy};

use super::recovery::small;
use super::streams::Done;
use super::{record, streams};
use crate::buffer::Incoming;
use crate::sabotage;

/// The kind of a record that is an operation.
pub(super) const OPERATION: u8 = 1;

/// Where a journal is and how it writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalOptions {
    /// The directory of all streams of an engine; each stream has one of its own in it.
    pub root: PathBuf,
    /// When an operation is synced.
    pub sync: JournalSync,
    /// Bytes that the records of one stream may take; beyond it operations are refused.
    pub bytes_max: u64,
    /// Bytes of one file. What has taken effect is removed by whole files.
    pub segment_bytes: u64,
}

/// When operations of a journal are synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalSync {
    /// Before they are acknowledged; all who wait at the same time share a sync.
    Always,
    /// So often, by a timer. They are acknowledged before that: a power cut may lose what the last
    /// interval brought, and a kill what was not yet handed to the operating system.
    Interval(Duration),
}

/// Keeps operations on the disk until they have taken effect, or does not.
///
/// Cloning it is one reference count.
#[derive(Clone)]
pub struct Journal(Option<Arc<Stream>>);

/// The stream of a running process.
struct Stream {
    log: Log,
    id: Uuid,
    dir: PathBuf,
    /// Operations are acknowledged when they are synced.
    always: bool,
}

/// Where an operation has its place, and how durable that is.
#[derive(Clone)]
pub struct Journaled {
    /// Not more: who keeps a receipt must not keep the journal open.
    stream: Option<Weak<Stream>>,
    seq: u64,
    always: bool,
}

impl Journal {
    /// No journal: what the buffer holds is lost with the process.
    pub fn off() -> Self {
        Self(None)
    }

    /// Begins a stream of its own in `options.root`, which is made if it is not there.
    ///
    /// # Errors
    /// `InvalidConfig` for bounds that cannot be kept together and for a directory that others can
    /// write to; `Unavailable` if the disk fails or is full.
    ///
    /// # Cancel safety
    /// Dropping the future may leave an empty stream behind, which the next recovery removes.
    pub async fn create(options: &JournalOptions) -> Result<Self> {
        Self::create_on(options, RealFs::shared()).await
    }

    /// As [`create`](Self::create), with the files of this file system: one that fails or stands still,
    /// for instance.
    ///
    /// # Errors
    /// As `create`.
    ///
    /// # Cancel safety
    /// As `create`.
    pub async fn create_on(options: &JournalOptions, fs: Arc<dyn Fs>) -> Result<Self> {
        let options = options.clone();
        blocking(move || {
            let begun = Stream::begin(&options, &fs).or_else(|error| {
                if error.kind() != ErrorKind::Unavailable {
                    return Err(error);
                }
                tracing::warn!(%error, "a journal could not be begun: making room for it");
                make_room(&options.root, &fs);
                Stream::begin(&options, &fs)
            });
            Ok(Self(Some(Arc::new(begun?))))
        })
        .await
    }

    /// The id of the stream: that of the log, or a new one.
    pub(crate) fn stream(&self) -> Uuid {
        self.0.as_ref().map_or_else(Uuid::now_v7, |stream| stream.id)
    }

    /// Its directory; `None` if there is no journal.
    pub fn dir(&self) -> Option<&Path> {
        self.0.as_ref().map(|stream| stream.dir.as_path())
    }

    /// The record of an operation, made before any lock is taken.
    pub(crate) fn record(
        &self,
        shard: u16,
        key: Option<&Key>,
        incoming: &Incoming,
    ) -> Result<Vec<u8>> {
        match &self.0 {
            None => Ok(Vec::new()),
            Some(_) => record::encode(shard, key, incoming),
        }
    }

    /// Gives an operation its number, above `last`; it is in the journal then, if there is one.
    /// Called under the lock of its shard, so it never waits.
    ///
    /// # Errors
    /// `Overloaded` at a bound; `Unavailable` once the disk has failed. Nothing was accepted.
    pub(crate) fn append(&self, record: &[u8], last: u64) -> Result<u64> {
        match &self.0 {
            None => Ok(last + 1),
            Some(_) if sabotage::forgets_the_journal() => Ok(last + 1),
            Some(stream) => {
                let seq = stream.log.append(OPERATION, &[record])?.seq();
                zmsg_core::fail_point!("zmsg-aggregate::submit::appended");
                Ok(seq)
            }
        }
    }

    /// What became of the record with this number.
    pub(crate) fn journaled(&self, seq: u64) -> Journaled {
        let always = self.0.as_ref().is_some_and(|stream| stream.always);
        Journaled { stream: self.0.as_ref().map(Arc::downgrade), seq, always }
    }

    /// The last number that was given out.
    pub(crate) fn last(&self) -> u64 {
        self.0.as_ref().map_or(0, |stream| stream.log.last_seq())
    }

    /// Whether there are files that hold nothing at or above this number.
    pub(crate) fn can_remove_below(&self, seq: u64) -> bool {
        self.0.as_ref().is_some_and(|stream| stream.log.can_remove_below(seq))
    }

    /// Removes the files that hold nothing at or above this number: all below it has taken effect.
    pub(crate) async fn remove_below(&self, seq: u64) {
        let Some(stream) = self.0.clone() else { return };
        if let Err(error) = blocking(move || stream.log.remove_below(seq)).await {
            tracing::warn!(%error, "files of the journal stay behind for now");
        }
    }

    /// Ends the stream: syncs it, and removes its files if nothing of it is pending. What it gives then
    /// is to be [buried](bury) when the ledger rows are forgotten.
    pub(crate) async fn end(&self, complete: bool) -> Result<Option<Done>> {
        let Some(stream) = self.0.clone() else { return Ok(None) };
        blocking(move || {
            stream.log.close_blocking()?;
            if complete { streams::retire(&stream.dir, stream.id).map(Some) } else { Ok(None) }
        })
        .await
    }
}

/// Removes the last trace of a stream whose ledger rows are forgotten.
pub(crate) async fn bury(done: Done) {
    if let Err(error) = blocking(move || done.bury()).await {
        tracing::warn!(%error, "an empty directory of the journal stays behind");
    }
}

impl Stream {
    fn begin(options: &JournalOptions, fs: &Arc<dyn Fs>) -> Result<Self> {
        let dir = streams::fresh(&options.root)?;
        match Log::open(&dir, log_options(options), Arc::clone(fs)) {
            Ok((log, recovered)) => {
                let always = options.sync == JournalSync::Always;
                zmsg_core::fail_point!("zmsg-aggregate::open::journal_begun");
                let id = sabotage::stream_of_another().unwrap_or(recovered.stream);
                Ok(Self { log, id, dir, always })
            }
            Err(error) => {
                let _ = std::fs::remove_dir_all(&dir);
                Err(error)
            }
        }
    }
}

/// Gets back what ended processes had allocated ahead, and the files of what is done: on a full disk
/// a stream can be begun then, and the recovery of theirs frees the rest. What cannot be opened is left
/// to that recovery.
fn make_room(root: &Path, fs: &Arc<dyn Fs>) {
    let left = streams::left_in(root, None).unwrap_or_default();
    for dir in left.streams {
        if let Ok((log, _)) = Log::open(&dir, small(), Arc::clone(fs)) {
            let _ = log.close_blocking();
        }
    }
}

impl Journaled {
    /// Waits until the operation may be acknowledged, and says how durable it is then.
    ///
    /// # Errors
    /// Its outcome is unknown if the disk failed, or the journal was closed: it was accepted, and takes
    /// effect unless the process ends before its flush.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing: the operation was accepted.
    pub async fn acknowledged(&self) -> Result<Level> {
        if !self.always {
            return Ok(Level::Memory);
        }
        if sabotage::acknowledges_early() || sabotage::forgets_the_journal() {
            return Ok(Level::LocalDisk);
        }
        self.synced().await.map_err(Error::outcome_unknown)?;
        zmsg_core::fail_point!("zmsg-aggregate::submit::synced");
        Ok(Level::LocalDisk)
    }

    /// Whether the operation comes to the disk later than it is acknowledged.
    pub fn is_pending(&self) -> bool {
        self.stream.is_some() && !self.always
    }

    fn stream(&self) -> Option<Arc<Stream>> {
        self.stream.as_ref().and_then(Weak::upgrade)
    }
}

impl DiskSync for Journaled {
    fn is_synced(&self) -> bool {
        self.stream().is_some_and(|stream| stream.log.stats().synced_seq >= self.seq)
    }

    fn synced(&self) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>> {
        Box::pin(async {
            let Some(stream) = self.stream() else {
                return Err(match &self.stream {
                    Some(_) => Error::closed("journal"),
                    None => Error::new(ErrorKind::Unsupported, "there is no journal"),
                });
            };
            let synced = stream.log.wait(self.seq, Durability::Synced);
            drop(stream);
            synced.await
        })
    }
}

pub(super) fn log_options(options: &JournalOptions) -> LogOptions {
    let defaults = LogOptions::default();
    // A small file still holds what is buffered, and the longest record.
    let buffer = usize::try_from(options.segment_bytes / 2).unwrap_or(usize::MAX);
    let record = u32::try_from(options.segment_bytes / 4).unwrap_or(u32::MAX);
    LogOptions {
        sync: match options.sync {
            JournalSync::Always => SyncPolicy::Always,
            JournalSync::Interval(every) => SyncPolicy::Interval(every),
        },
        segment_bytes: options.segment_bytes,
        bytes_max: options.bytes_max,
        buffer_bytes_max: defaults.buffer_bytes_max.min(buffer),
        record_bytes_max: defaults.record_bytes_max.min(record),
        ..defaults
    }
}

/// Runs file work where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|died| {
        Err(Error::new(ErrorKind::Unexpected, "the journal's work ended early").with_source(died))
    })
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Journal(off)"),
            Some(stream) => write!(f, "Journal({}, {})", stream.id, stream.dir.display()),
        }
    }
}

impl fmt::Debug for Journaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journaled({})", self.seq)
    }
}
