//! The connections: so many at once, and nobody gets one that is not idle.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use zmsg_core::{Error, ErrorKind, Result};

use super::PostgresOptions;
use super::connection::{Connection, Mode};
use super::connector::Connector;
use super::statements::Statements;

/// After so long without work a connection is asked whether it is still there.
const IDLE_UNASKED: Duration = Duration::from_secs(1);

/// A bounded set of connections.
pub(super) struct Pool {
    pub(super) connector: Arc<Connector>,
    options: PostgresOptions,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    idle: Mutex<Vec<Connection>>,
    closed: AtomicBool,
    /// Behind a pooler what was prepared belongs to no connection.
    shared: Arc<Mutex<Statements>>,
}

/// A connection that is in use. Dropped without a word, it is settled first and idle then, or
/// closed.
pub(super) struct Lease {
    connection: Option<Connection>,
    pool: Arc<Pool>,
    permit: Option<OwnedSemaphorePermit>,
    /// It was idle before, so it may have ended unnoticed.
    pub(super) reused: bool,
}

impl Pool {
    pub(super) fn new(options: PostgresOptions, connector: Arc<Connector>) -> Self {
        Self {
            connector,
            permits: Arc::new(Semaphore::new(options.connections_max.clamp(1, 10_000))),
            waiting: AtomicUsize::new(0),
            idle: Mutex::new(Vec::new()),
            closed: AtomicBool::new(false),
            shared: Arc::new(Mutex::new(Statements::bounded(options.statements_max))),
            options,
        }
    }

    /// An idle connection, best one that is in this mode already, or a new one.
    pub(super) async fn take(self: &Arc<Self>, mode: Mode) -> Result<Lease> {
        let permit = self.permit().await?;
        while let Some(connection) = self.pop(mode) {
            let fresh = connection.idle_since.elapsed() < IDLE_UNASKED;
            if !connection.is_closed() && (fresh || connection.answers().await) {
                return Ok(self.lease(connection, permit, true));
            }
        }
        let connection = self.connect().await?;
        Ok(self.lease(connection, permit, false))
    }

    /// A new connection for somebody whose own was lost.
    pub(super) async fn replace(self: &Arc<Self>, lost: Lease) -> Result<Lease> {
        let permit = lost.discard();
        // What was idle beside it was most likely lost with it.
        self.idle().retain(|connection| !connection.is_closed());
        let connection = self.connect().await?;
        match permit {
            Some(permit) => Ok(self.lease(connection, permit, false)),
            None => Err(closed()),
        }
    }

    /// Refuses further work, waits for that in progress and closes the connections.
    pub(super) async fn close(&self) {
        self.closed.store(true, SeqCst);
        let all = u32::try_from(self.options.connections_max.clamp(1, 10_000)).unwrap_or(1);
        // An error means that somebody has closed it already.
        if let Ok(permits) = self.permits.acquire_many(all).await {
            self.permits.close();
            drop(permits);
        }
        self.idle().clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    pub(super) fn options(&self) -> &PostgresOptions {
        &self.options
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        if self.is_closed() {
            return Err(closed());
        }
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait_for_permit().await?,
        };
        if self.is_closed() { Err(closed()) } else { Ok(permit) }
    }

    async fn wait_for_permit(&self) -> Result<OwnedSemaphorePermit> {
        let waiting = Waiting::new(&self.waiting);
        if waiting.before >= self.options.waiters_max {
            return Err(Error::overloaded("postgres.waiters_max"));
        }
        let acquired = Arc::clone(&self.permits).acquire_owned();
        if self.options.acquire_timeout.is_zero() {
            return acquired.await.map_err(|_| closed());
        }
        match timeout(self.options.acquire_timeout, acquired).await {
            Ok(permit) => permit.map_err(|_| closed()),
            Err(_) => Err(Error::overloaded("postgres.connections_max")),
        }
    }

    pub(super) async fn connect(&self) -> Result<Connection> {
        let connected = self.connector.connect().await?;
        let statements = if self.options.pooled {
            Arc::clone(&self.shared)
        } else {
            Arc::new(Mutex::new(Statements::bounded(self.options.statements_max)))
        };
        let connector = Arc::clone(&self.connector);
        let timeout = self.options.statement_timeout;
        Ok(Connection::new(connected, connector, statements, timeout, self.options.pooled))
    }

    /// Puts a connection that nobody uses yet among the idle ones.
    pub(super) fn put(&self, mut connection: Connection) {
        connection.idle_since = Instant::now();
        let mut idle = self.idle();
        if !self.is_closed() {
            idle.push(connection);
        }
    }

    /// The connection used last, of those in this mode if there are any.
    fn pop(&self, mode: Mode) -> Option<Connection> {
        let mut idle = self.idle();
        match idle.iter().rposition(|connection| connection.mode == mode) {
            Some(index) => Some(idle.remove(index)),
            None => idle.pop(),
        }
    }

    fn lease(
        self: &Arc<Self>,
        connection: Connection,
        permit: OwnedSemaphorePermit,
        reused: bool,
    ) -> Lease {
        Lease { connection: Some(connection), pool: Arc::clone(self), permit: Some(permit), reused }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// The connection; there is one until the lease is over.
    pub(super) fn connection(&mut self) -> Result<&mut Connection> {
        self.connection.as_mut().ok_or_else(|| {
            Error::new(ErrorKind::Unexpected, "a connection was given back before its time")
        })
    }

    /// Gives the connection back: it is idle.
    pub(super) fn give_back(mut self) {
        if let Some(connection) = self.connection.take().filter(|it| !it.is_spent()) {
            self.pool.put(connection);
        }
    }

    /// Closes the connection, and keeps the right to another one.
    pub(super) fn discard(mut self) -> Option<OwnedSemaphorePermit> {
        self.connection = None;
        self.permit.take()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Somebody left in the middle: nothing is known about the connection.
        let (Some(connection), permit) = (self.connection.take(), self.permit.take()) else {
            return;
        };
        let pool = Arc::clone(&self.pool);
        self.pool.connector.beside(async move {
            if connection.settle().await && !connection.is_spent() {
                pool.put(connection);
            }
            drop(permit);
        });
    }
}

/// One of those who wait, as long as it exists.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        Self { count, before: count.fetch_add(1, Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Relaxed);
    }
}

pub(super) fn closed() -> Error {
    Error::closed("postgres store")
}
