//! What processes that ended left in their journals, brought into the database.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use zmsg_core::{Backoff, Clock, Error, ErrorKind, Key, Result};
use zmsg_store::SqlStore;
use zmsg_wal::{Log, LogOptions, Reader, RealFs};

use super::open::{OPERATION, blocking, bury};
use super::streams::Done;
use super::{Journal, record, streams};
use crate::aggregator::{Aggregator, Inner};
use crate::deadline::from_now;
use crate::flush::{FlushObserver, Ledger, unpark};
use crate::policy::FlushPolicy;
use crate::sabotage;

/// Brings into the database what ended processes left in their journals.
///
/// - Every operation that was acknowledged as durable and has not taken effect does so, once; what
///   the database refuses goes to the dead letters, as at any flush.
/// - Nobody recovers a stream whose process lives, and two who try the same stream at once apply
///   nothing twice: the first keeps the second out by a lock, and the ledger would do so too.
/// - After an error nothing is lost: it can be tried again, by whoever has the directory.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// Where the operations take effect.
    pub store: Arc<dyn SqlStore>,
    /// How flushes are made; its `retry` says how patiently failures are met.
    pub policy: FlushPolicy,
    /// For the times in ledger and dead letters.
    pub clock: Arc<dyn Clock>,
    /// Who has to know of flushes.
    pub observer: Arc<dyn FlushObserver>,
    /// Where flushes run.
    pub tracker: TaskTracker,
    /// What fails for a while is tried again for so long.
    pub patience: Duration,
}

/// What was recovered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Streams that ended processes had left.
    pub streams: u64,
    /// Operations in them that had not taken effect before.
    pub ops: u64,
    /// Groups of operations that a flush had in the dead letters only to try them from there, and
    /// that have taken effect.
    pub unparked: u64,
    /// Groups of these that went to the dead letters.
    pub dead_lettered: u64,
    /// Bytes at the ends of journals that were cut off: they were never acknowledged as durable.
    pub torn_bytes: u64,
}

/// The rows of a ledger may move once more under a process that was killed: what it sent last is
/// still on its way. Each time they do, the stream is read anew.
const MOVED_MAX: u32 = 5;

/// How long an engine of this process that was dropped may hold its stream, at most.
const LEAVING: Duration = Duration::from_secs(2);

impl Recovery {
    /// Recovers every stream in the directory `root` but that of `own`, oldest first, and removes
    /// each that is done.
    ///
    /// # Errors
    /// `Conflict` if the process of a stream lives; `Corrupted` if a journal is damaged where it was
    /// synced, or its ledger rows are gone; else as the store. Streams that were done before stay
    /// done, the others stay as they are.
    ///
    /// # Cancel safety
    /// Dropping the future leaves some streams recovered; a flush that began goes on.
    pub async fn run(&self, root: &Path, own: &Journal) -> Result<Recovered> {
        let (root, own) = (root.to_owned(), own.dir().map(Path::to_owned));
        let left = blocking(move || streams::left_in(&root, own.as_deref())).await?;
        for done in left.done {
            self.forget(done).await;
        }
        let mut sum = Recovered::default();
        zmsg_core::fail_point!("zmsg-aggregate::recovery::listed");
        for dir in left.streams {
            let done = match self.stream(dir.clone()).await {
                // Only who has found that all of it has taken effect takes a stream away: here a recovery that
                // was dropped, and came to its end all the same.
                Err(error) if matches!(dir.try_exists(), Ok(false)) => {
                    tracing::debug!(%error, stream = %dir.display(), "a stream was recovered meanwhile");
                    continue;
                }
                done => done.map_err(|error| {
                    error.with_context("stream", dir.display()).during("journal.recover")
                })?,
            };
            sum.streams += done.streams;
            sum.ops += done.ops;
            sum.unparked += done.unparked;
            sum.dead_lettered += done.dead_lettered;
            sum.torn_bytes += done.torn_bytes;
        }
        Ok(sum)
    }

    async fn stream(&self, dir: PathBuf) -> Result<Recovered> {
        let (log, found) = self.open(&dir).await?;
        let (stream, mut done) = (found.stream, Recovered { streams: 1, ..Recovered::default() });
        done.torn_bytes = found.torn_bytes;
        zmsg_core::fail_point!("zmsg-aggregate::recovery::opened");
        if sabotage::skips_the_replay() {
            // What was acknowledged is forgotten.
        } else if found.records > 0 {
            self.land(&log, found.first, &mut done).await?;
        } else {
            self.unpark(stream, &mut done).await?;
        }
        let Recovered { ops, unparked, dead_lettered, torn_bytes, .. } = done;
        zmsg_core::fail_point!("zmsg-aggregate::recovery::landed");
        let retired = blocking(move || {
            log.close_blocking()?;
            zmsg_core::fail_point!("zmsg-aggregate::recovery::closed");
            streams::retire(&dir, stream)
        });
        let retired = retired.await?;
        zmsg_core::fail_point!("zmsg-aggregate::recovery::removed");
        self.forget(retired).await;
        tracing::info!(%stream, ops, unparked, dead_lettered, torn_bytes, "a journal was recovered");
        Ok(done)
    }

    /// Forgets the ledger rows of a stream that is done. If that fails, its empty directory stays and
    /// the next recovery tries it again.
    async fn forget(&self, done: Done) {
        let forgotten = match done.stream {
            Some(stream) => self.ledger(stream).forget().await,
            None => Ok(()),
        };
        match forgotten {
            Ok(()) => {
                zmsg_core::fail_point!("zmsg-aggregate::recovery::forgotten");
                bury(done).await;
            }
            Err(error) => {
                tracing::warn!(%error, "the ledger rows of a recovered stream stay for the next start");
            }
        }
    }

    /// What flushes had parked: it was accepted before what is replayed.
    async fn unpark(&self, stream: Uuid, done: &mut Recovered) -> Result<()> {
        let mut attempts = self.attempts();
        let parked = loop {
            match unpark(&self.store, &*self.observer, stream).await {
                Ok(parked) => break parked,
                Err(error) => attempts.again(error).await?,
            }
        };
        done.unparked += parked.applied;
        done.dead_lettered += parked.kept;
        Ok(())
    }

    fn attempts(&self) -> Attempts {
        Attempts { retry: self.policy.retry, until: from_now(self.patience), failures: 0 }
    }

    /// Opens a stream. An engine that was dropped without being closed may still be on its way out.
    async fn open(&self, dir: &Path) -> Result<(Log, zmsg_wal::Recovered)> {
        let deadline = from_now(self.patience.min(LEAVING));
        loop {
            let path = dir.to_owned();
            let opened = blocking(move || Log::open(&path, small(), Arc::new(RealFs))).await;
            match opened {
                Err(error) if error.kind() == ErrorKind::Conflict && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                opened => return opened,
            }
        }
    }

    /// Flushes what lies above the ledger, until nothing does.
    async fn land(&self, log: &Log, first: u64, done: &mut Recovered) -> Result<()> {
        let stream = log.stream();
        let mut moved = 0;
        loop {
            let mut ledger = self.ledger(stream);
            let mut attempts = self.attempts();
            let applied = loop {
                match ledger.applied().await {
                    Ok(applied) => break Arc::new(applied),
                    Err(error) => attempts.again(error).await?,
                }
            };
            zmsg_core::fail_point!("zmsg-aggregate::recovery::ledger_read");
            self.unpark(stream, done).await?;
            let aggregator = Aggregator(Arc::new(Inner::new(
                self.policy.clone(),
                ledger,
                Arc::clone(&self.observer),
                self.tracker.clone(),
                Journal::off(),
                |shard| applied.get(&shard).copied().unwrap_or_default(),
            )));
            let (reader, again) = (log.reader(first), aggregator.clone());
            let told = blocking(move || replay(reader, &again, &applied)).await?;
            // Its process may have ended before it could tell of its last flushes.
            zmsg_core::fail_point!("zmsg-aggregate::recovery::replayed");
            self.observer.flushed(&told).await;
            let report = aggregator.drain(from_now(self.patience)).await;
            let stats = aggregator.stats();
            done.ops += stats.submitted - stats.pending_ops;
            done.dead_lettered += stats.dead_lettered;
            match report.error {
                // Whoever was still at work may have parked what this took for applied.
                None => return self.unpark(stream, done).await,
                Some(_) if aggregator.is_stopped() && moved < MOVED_MAX => moved += 1,
                Some(error) => return Err(error),
            }
        }
    }

    fn ledger(&self, stream: Uuid) -> Ledger {
        Ledger::of(Arc::clone(&self.store), Arc::clone(&self.clock), stream, self.policy.patience)
    }
}

/// Nothing is appended to it any more.
pub(super) fn small() -> LogOptions {
    LogOptions {
        segment_bytes: 1 << 20,
        record_bytes_max: 64 << 10,
        buffer_bytes_max: 128 << 10,
        ..LogOptions::default()
    }
}

/// Attempts at what may fail for a while.
struct Attempts {
    retry: Backoff,
    until: Instant,
    failures: u32,
}

impl Attempts {
    /// Waits for the next attempt, if there is to be one.
    async fn again(&mut self, error: Error) -> Result<()> {
        let passes = error.is_temporary() || error.is_outcome_unknown();
        if !passes || Instant::now() >= self.until {
            return Err(error);
        }
        self.failures += 1;
        tokio::time::sleep(self.retry.delay(self.failures)).await;
        Ok(())
    }
}

/// Folds again what had not taken effect, in the order in which it was accepted; gives the cache keys
/// of what had.
fn replay(mut reader: Reader, to: &Aggregator, applied: &HashMap<u16, u64>) -> Result<Vec<Key>> {
    let mut flushed = HashSet::new();
    while let Some(found) = reader.next()? {
        let seq = found.seq;
        let decoded = match found.kind {
            OPERATION => record::decode(&found.payload),
            _ => Err(Error::new(ErrorKind::Corrupted, "a record of an unknown kind")),
        };
        let record = decoded.map_err(|error| error.with_context("sequence", seq))?;
        let is_new = applied.get(&record.shard).is_none_or(|applied| seq > *applied);
        if is_new || sabotage::ignores_the_ledger() {
            to.accept_again(record.shard, record.incoming, record.key.as_ref(), seq)?;
        } else {
            flushed.extend(record.key);
        }
    }
    Ok(flushed.into_iter().collect())
}
