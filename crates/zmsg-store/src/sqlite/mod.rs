//! The embedded store: SQLite in this process.
//!
//! One thread writes, a few read, and callers hand them jobs over bounded queues. The threads
//! own the connections, so a dropped future cannot leave a transaction behind: a job runs to its
//! end whether or not anybody still waits for it.

mod error;
mod functions;
mod guard;
mod jobs;
mod options;
mod reader;
mod session;
mod transaction;
mod value;
mod writer;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};
use zmsg_core::{Error, ErrorKind, Result, Row, Statement};
use zmsg_sqlbuilder::Dialect;

pub use self::options::{SqliteOptions, Synchronous};

use self::jobs::{Jobs, ReadJob, WriteJob};
use self::session::Session;
use self::writer::Writer;
use crate::counters::Counters;
use crate::{Outcome, SqlStore, Step, StepError, StoreStats};

/// A SQLite file behind one writer thread and a few reader threads.
///
/// - Jobs run in the order of submission. Those that wait together share one transaction, each
///   in a savepoint of its own: one sync serves them all, and one's failure is its own. A job is
///   acknowledged after the commit.
/// - An acknowledged write is visible to every `fetch` that is called afterwards.
/// - A job that was accepted runs, even if its future was dropped before the writer took it.
/// - A statement may not control transactions, attach files or set pragmas that weaken the
///   connection; `VACUUM` runs by `execute` alone, between transactions.
/// - A double-quoted name that is no column is an error, not a string, and foreign keys are
///   enforced.
///
/// Values are stored by class: booleans as 0 and 1, timestamps as integer microseconds, JSON as
/// text, UUIDs as 16 bytes, and they come back as that class. NaN is refused, since SQLite would
/// make it NULL, and a negative zero comes back as zero from a column of type `REAL`.
///
/// Dropping the store lets the threads finish what was accepted, without waiting for them;
/// [`close`](SqlStore::close) waits.
pub struct SqliteStore {
    shared: Arc<Shared>,
    ended: watch::Receiver<Option<Result<()>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What callers and threads have in common.
#[derive(Debug)]
struct Shared {
    writes: Jobs<WriteJob>,
    reads: Jobs<ReadJob>,
    counters: Arc<Counters>,
}

impl SqliteStore {
    /// Opens a file, creating it if it is not there, and starts the threads.
    ///
    /// # Errors
    /// `InvalidConfig` if the file cannot be created, `Unavailable` if it cannot be opened or is
    /// locked for longer than `busy_timeout`, `Corrupted` if it is not a database, `Unsupported`
    /// if its file system does not support WAL mode.
    ///
    /// # Cancel safety
    /// Dropping the future closes the file again.
    pub async fn open(options: SqliteOptions) -> Result<Self> {
        let shared = Arc::new(Shared {
            writes: Jobs::bounded(options.queue_max),
            reads: Jobs::bounded(options.queue_max),
            counters: Arc::default(),
        });
        let (opened, opening) = oneshot::channel();
        let (ends, ended) = watch::channel(None);
        let for_writer = Arc::clone(&shared);
        let writer = spawn("zmsg-sqlite-writer", move || {
            let guard = AbandonOnExit(Arc::clone(&for_writer));
            let result = serve(&options, for_writer, opened);
            drop(guard);
            ends.send_replace(Some(result));
        })?;
        // Dropped on the way out, also by a caller who gives up, this ends the threads.
        let store = Self { shared, ended, writer: Mutex::new(Some(writer)) };
        opening.await.unwrap_or_else(|_| Err(stopped()))?;
        Ok(store)
    }

    /// What this store has done since it was opened.
    pub fn stats(&self) -> StoreStats {
        self.shared.counters.snapshot()
    }

    async fn submit(&self, steps: Vec<Step>) -> Result<Vec<Outcome>, StepError> {
        let whole = |error| StepError { step: None, error };
        let (reply, answer) = oneshot::channel();
        self.shared.writes.push(WriteJob { steps, reply }).map_err(whole)?;
        answer.await.unwrap_or_else(|_| Err(whole(stopped().outcome_unknown())))
    }
}

#[async_trait]
impl SqlStore for SqliteStore {
    fn stats(&self) -> StoreStats {
        self.shared.counters.snapshot()
    }

    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    async fn fetch(&self, query: &Statement) -> Result<Vec<Row>> {
        let (reply, answer) = oneshot::channel();
        let job = ReadJob { query: query.clone(), reply };
        self.shared.reads.push(job).map_err(|error| error.during("store.fetch"))?;
        let result = answer.await.unwrap_or_else(|_| Err(stopped()));
        result.map_err(|error| error.during("store.fetch"))
    }

    async fn execute(&self, statement: &Statement) -> Result<Outcome> {
        let result = self.submit(vec![Step::any(statement.clone())]).await;
        match result {
            Ok(mut outcomes) => Ok(outcomes.pop().unwrap_or_default()),
            Err(failed) => Err(failed.error.during("store.execute")),
        }
    }

    async fn execute_all(&self, steps: Vec<Step>) -> Result<Vec<Outcome>, StepError> {
        self.submit(steps).await.map_err(|failed| StepError {
            error: failed.error.during("store.execute_all"),
            ..failed
        })
    }

    async fn close(&self) -> Result<()> {
        self.signal();
        let mut ended = self.ended.clone();
        let result = match ended.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Ok(())),
            Err(_) => Err(stopped()),
        };
        // The thread has sent its last word, so this does not wait.
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            return Err(stopped());
        }
        result.map_err(|error| error.during("store.close"))
    }
}

impl SqliteStore {
    fn signal(&self) {
        self.shared.writes.close();
        self.shared.reads.close();
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.signal();
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// If the writer thread ends in any way, nobody may wait for it any longer.
struct AbandonOnExit(Arc<Shared>);

impl Drop for AbandonOnExit {
    fn drop(&mut self) {
        self.0.writes.abandon();
        self.0.reads.abandon();
    }
}

/// Opens all connections, reports, and works until the queues are closed.
fn serve(
    options: &SqliteOptions,
    shared: Arc<Shared>,
    opened: oneshot::Sender<Result<()>>,
) -> Result<()> {
    let started = start(options, &shared);
    let report = started.as_ref().map(drop).map_err(Clone::clone);
    // If nobody waits for the answer, the store was dropped, which closed the queues.
    let _ = opened.send(report.map_err(|error| error.during("store.open")));
    let (session, readers) = started?;
    Writer::new(session, shared, options.group_max).run(readers)
}

fn start(options: &SqliteOptions, shared: &Arc<Shared>) -> Result<(Session, Vec<JoinHandle<()>>)> {
    let session = Session::writer(options, &shared.counters)?;
    let sessions: Result<Vec<Session>> =
        (0..options.readers.max(1)).map(|_| Session::reader(options, &shared.counters)).collect();
    let spawned: Result<Vec<JoinHandle<()>>> = sessions?
        .into_iter()
        .map(|session| {
            let shared = Arc::clone(shared);
            spawn("zmsg-sqlite-reader", move || reader::run(session, shared))
        })
        .collect();
    Ok((session, spawned?))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|cause| {
        Error::new(ErrorKind::Unavailable, "could not start a thread")
            .temporary()
            .with_source(cause)
    })
}

fn stopped() -> Error {
    Error::new(ErrorKind::Unexpected, "a thread of the sqlite store stopped")
}
