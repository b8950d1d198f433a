//! A write before it is sent: what every route is told in the same words.

use std::future::{IntoFuture, ready};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use zmsg_core::{Error, ErrorKind, Key, Receipt, Result, Task};
use zmsg_queue::{Lane, OnDead};

use super::delay::Delayed;
use super::outbox::no_lane;
use crate::Zmsg;

/// A write that has been described and not yet sent: `.await` sends it.
///
/// # Cancel safety
/// Before the first poll nothing has happened. After it, dropping the future leaves the write
/// whole: it happens entirely or, if it was not accepted yet, not at all.
#[must_use = "a write does nothing until it is awaited"]
#[derive(Debug)]
pub struct Write<'a> {
    zmsg: &'a Zmsg,
    request: Result<Request>,
}

/// What a write was told.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) route: Route,
    pub(crate) key: Key,
    pub(crate) value: Option<Bytes>,
    pub(crate) task: Option<Task>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) delay: Option<Duration>,
    pub(crate) ordered_by: Option<String>,
    pub(crate) on_dead: Option<OnDead>,
}

impl Request {
    pub(crate) fn new(route: Route, key: Key, value: Option<Bytes>, task: Option<Task>) -> Self {
        let (ttl, delay, ordered_by, on_dead) = (None, None, None, None);
        Self { route, key, value, task, ttl, delay, ordered_by, on_dead }
    }
}

/// A write that is being sent.
type Sending<'a> = Pin<Box<dyn Future<Output = Result<Receipt>> + Send + 'a>>;

/// Which way a write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    CacheOnly,
    CacheDel,
    Store,
    Delay { deletes: bool },
    Periodic,
}

impl<'a> Write<'a> {
    pub(crate) fn new(zmsg: &'a Zmsg, request: Result<Request>) -> Self {
        Self { zmsg, request }
    }

    /// How long the value lives in the tiers, instead of the source's or the default TTL.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        if let Ok(request) = &mut self.request {
            request.ttl = Some(ttl);
        }
        self
    }

    /// When a delayed write is due, counted from now, to the millisecond.
    ///
    /// On another route the write fails with `Unsupported`: nothing there waits.
    pub fn delay(self, delay: Duration) -> Self {
        self.of_delayed("delay", |request| request.delay = Some(delay))
    }

    /// Puts a delayed write at the end of a lane: the writes of one lane are applied one after the other, in
    /// the order in which they were accepted, whatever nodes and workers there are.
    ///
    /// - The next has its turn when the one before is in the tables. One that waits for its delay, or to be
    ///   tried again, holds up its lane; so does a dead letter, unless [`on_dead`](Self::on_dead) says
    ///   otherwise.
    /// - `queue.fallback_to_store` is not for it: a write that the queue did not take would overtake those
    ///   that wait, so it fails instead.
    /// - A lane is of its queue. Where that is in Redis, those of [outboxes](crate::Outbox), which are in the
    ///   database, are lanes of their own.
    /// - In Redis a write that is as old as `queue.inbox_retention` is refused, also one that had to wait
    ///   for others of its lane.
    ///
    /// The key has 1 to 255 bytes without NUL. On another route the write fails with `Unsupported`: those
    /// are in order already.
    pub fn ordered_by(self, key: impl Into<String>) -> Self {
        self.of_delayed("ordered_by", |request| request.ordered_by = Some(key.into()))
    }

    /// What becomes of the lane of a delayed write when it is a dead letter: it stands still, or goes on. A
    /// write that was given up because its last attempt took too long may still commit, and so, if the lane
    /// goes on, behind one that came after it.
    ///
    /// On another route the write fails with `Unsupported`, and without
    /// [`ordered_by`](Self::ordered_by) with `InvalidInput`.
    pub fn on_dead(self, on_dead: OnDead) -> Self {
        self.of_delayed("on_dead", |request| request.on_dead = Some(on_dead))
    }

    /// Tells a delayed write what no other has.
    fn of_delayed(mut self, field: &'static str, tell: impl FnOnce(&mut Request)) -> Self {
        match &mut self.request {
            Ok(request) if matches!(request.route, Route::Delay { .. }) => tell(request),
            Ok(_) => {
                let why =
                    "only a delayed write has this: use cache_and_delay_store or del_delay_store";
                let error = Error::new(ErrorKind::Unsupported, why).with_context("field", field);
                self.request = Err(error);
            }
            Err(_) => {}
        }
        self
    }
}

impl Request {
    /// Each route is a future of its own: one for all of them would be as large as the largest.
    fn send(self, zmsg: &Zmsg) -> Sending<'_> {
        let Self { route, key, value, task, ttl, delay, ordered_by, on_dead } = self;
        let task =
            || task.ok_or_else(|| Error::new(ErrorKind::Unexpected, "this route needs a task"));
        match route {
            Route::CacheOnly => Box::pin(async move {
                zmsg.writer()?.cache_only(&key, value.unwrap_or_default(), ttl).await
            }),
            Route::CacheDel => Box::pin(async move { zmsg.writer()?.del(&key).await }),
            Route::Store => {
                Box::pin(async move { zmsg.writer()?.store(key, value, task()?, ttl).await })
            }
            Route::Delay { deletes } => Box::pin(async move {
                let writer = zmsg.writer()?;
                let (task, lane) = (task()?, lane(ordered_by, on_dead)?);
                writer.delay(Delayed { key, value, task, ttl, delay, deletes, lane }).await
            }),
            Route::Periodic => match value {
                None => Box::pin(async move { zmsg.writer()?.periodic(&key, task()?).await }),
                Some(value) => Box::pin(async move {
                    zmsg.writer()?.periodic_shown(&key, value, task()?, ttl).await
                }),
            },
        }
    }
}

/// The lane that a write was told of.
fn lane(ordered_by: Option<String>, on_dead: Option<OnDead>) -> Result<Option<Lane>> {
    match (ordered_by, on_dead) {
        (Some(key), on_dead) => Ok(Some(Lane { key, on_dead: on_dead.unwrap_or_default() })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(no_lane()),
    }
}

impl<'a> IntoFuture for Write<'a> {
    type Output = Result<Receipt>;
    type IntoFuture = Sending<'a>;

    fn into_future(self) -> Self::IntoFuture {
        match self.request {
            Ok(request) => request.send(self.zmsg),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }
}
