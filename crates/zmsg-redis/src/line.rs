//! One shared connection, kept up by a task of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use zmsg_core::{Backoff, Error, ErrorKind, Result};

use crate::breaker::Breaker;
use crate::connector::{Connector, Link};
use crate::health::{Monitor, count};
use crate::history::{self, Present};

/// Half a second at most: with an attempt that just began to hang, recovery stays within 2 s of
/// the server's return.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));

/// A connection that lived shorter than this was no success: the next attempt waits.
const LIVED: Duration = Duration::from_secs(1);

/// How often a server is asked whether its history is still the one that the connection began in,
/// for one whose role is changed by hand lets its clients be; and for its time.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// A place for a connection, which is replaced when it breaks.
#[derive(Debug)]
pub(crate) struct Line {
    state: watch::Sender<State>,
    /// Told when the connection broke, and when a new one is wanted.
    attention: Arc<Notify>,
    /// The newest generation that somebody wants to be rid of.
    unwanted: AtomicU64,
}

#[derive(Clone, Debug)]
enum State {
    /// The first attempt is under way: a call may wait for it.
    Connecting,
    Up(Ticket),
    /// The last attempt failed; others follow.
    Down(Error),
    Closed,
}

/// A connection to send a call by.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    pub(crate) link: Link,
    /// For the so-many-th time connected.
    pub(crate) generation: u64,
    /// What is known of the server, if anything is.
    pub(crate) present: Option<Present>,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self {
            state: watch::Sender::new(State::Connecting),
            attention: Arc::new(Notify::new()),
            unwanted: AtomicU64::new(0),
        }
    }

    /// The connection, if there is one now.
    pub(crate) fn ready(&self) -> Option<Ticket> {
        match &*self.state.borrow() {
            State::Up(ticket) => Some(ticket.clone()),
            _ => None,
        }
    }

    /// The connection, as soon as the attempt that is under way has ended.
    ///
    /// # Errors
    /// Why there is none: the last attempt failed, or the line was closed.
    pub(crate) async fn ticket(&self) -> Result<Ticket> {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting)).await;
        match settled.as_deref() {
            Ok(State::Up(ticket)) => Ok(ticket.clone()),
            Ok(State::Down(error)) => Err(error.clone()),
            Ok(State::Connecting | State::Closed) | Err(_) => Err(Error::closed("redis")),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up(..))
    }

    /// Asks for a new connection in place of the present one.
    pub(crate) fn renew_present(&self) {
        let generation = match &*self.state.borrow() {
            State::Up(ticket) => ticket.generation,
            _ => return,
        };
        self.renew(generation);
    }

    /// Asks for a new connection in place of the one of this generation, once for each.
    pub(crate) fn renew(&self, generation: u64) {
        if self.unwanted.fetch_max(generation, Relaxed) < generation {
            self.attention.notify_one();
        }
    }
}

/// What keeps a line up.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) line: Arc<Line>,
    pub(crate) connector: Connector,
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) monitor: Arc<Monitor>,
}

impl Keeper {
    /// Connects, and connects anew whenever the connection broke or is not wanted any more, until
    /// `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let kept = shutdown.run_until_cancelled(self.keep()).await;
        debug_assert!(kept.is_none(), "it goes on for ever");
        self.line.state.send_replace(State::Closed);
    }

    async fn keep(&self) {
        let mut failures = 0;
        let mut generation = 0;
        loop {
            match self.connector.open(Some(Arc::clone(&self.line.attention))).await {
                Ok((link, present)) => {
                    generation += 1;
                    let began = Instant::now();
                    self.up(Ticket { link, generation, present });
                    self.broken(generation).await;
                    if began.elapsed() >= LIVED {
                        failures = 0;
                    } else {
                        failures += 1;
                        sleep(BACKOFF.delay(failures)).await;
                    }
                }
                Err(error) => {
                    failures += 1;
                    self.down(error);
                    sleep(BACKOFF.delay(failures)).await;
                }
            }
        }
    }

    fn up(&self, ticket: Ticket) {
        count(&self.monitor.connections);
        self.line.state.send_replace(State::Up(ticket));
        self.breaker.close();
        self.monitor.came_back();
    }

    /// Returns when the connection is of no use any more; the calls on their way may still end.
    async fn broken(&self, generation: u64) {
        // One connection breaks once, and an earlier one may say so late: what is told without a
        // wish for a new one is found out by asking.
        loop {
            tokio::select! {
                biased;
                () = self.line.attention.notified() => {
                    if self.line.unwanted.load(Relaxed) >= generation || !self.answers().await {
                        break;
                    }
                }
                () = self.changed_its_history() => break,
            }
        }
        self.line.state.send_replace(State::Connecting);
    }

    /// Returns when the server is in another history than when the connection was made.
    async fn changed_its_history(&self) {
        let Some(mut ticket) = self.line.ready() else { return };
        let Some(before) = ticket.present else { return std::future::pending().await };
        loop {
            sleep(ASKED_EVERY).await;
            // One that does not answer is noticed by the calls. A late answer says little of the time.
            let deadline = self.connector.options().deadline;
            let asked = timeout(deadline, history::ask(&mut ticket.link)).await;
            let Ok(Ok(present)) = asked else { continue };
            if present.is_some_and(|present| present.history != before.history) {
                tracing::info!("redis was given another history");
                return;
            }
            ticket.present = present;
            self.line.state.send_replace(State::Up(ticket.clone()));
        }
    }

    async fn answers(&self) -> bool {
        let Some(Ticket { mut link, .. }) = self.line.ready() else { return false };
        let deadline = self.connector.options().deadline;
        let answer = tokio::time::timeout(deadline, crate::connector::ping(&mut link)).await;
        matches!(answer, Ok(Ok(())))
    }

    fn down(&self, error: Error) {
        count(&self.monitor.connect_failures);
        let error = match error.kind() {
            ErrorKind::InvalidConfig | ErrorKind::Unsupported => error,
            _ => Error::new(ErrorKind::Unavailable, "redis cannot be reached")
                .temporary()
                .with_source(error),
        };
        self.monitor.went_down(&error);
        self.line.state.send_replace(State::Down(error));
    }
}
