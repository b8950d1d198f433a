//! A write before it is sent: what every route is told in the same words.

use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use zmsg_core::{Error, ErrorKind, Key, Receipt, Result, Task};

use super::delay::Delayed;
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
}

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
    pub fn delay(mut self, delay: Duration) -> Self {
        match &mut self.request {
            Ok(request) if matches!(request.route, Route::Delay { .. }) => {
                request.delay = Some(delay);
            }
            Ok(_) => {
                self.request = Err(Error::new(
                    ErrorKind::Unsupported,
                    "only a delayed write has a delay; use cache_and_delay_store",
                ));
            }
            Err(_) => {}
        }
        self
    }

    async fn send(self) -> Result<Receipt> {
        let Request { route, key, value, task, ttl, delay } = self.request?;
        let writer = self.zmsg.writer()?;
        let task =
            || task.ok_or_else(|| Error::new(ErrorKind::Unexpected, "this route needs a task"));
        match route {
            Route::CacheOnly => writer.cache_only(&key, value.unwrap_or_default(), ttl).await,
            Route::CacheDel => writer.del(&key).await,
            Route::Store => writer.store(key, value, task()?, ttl).await,
            Route::Delay { deletes } => {
                let task = task()?;
                writer.delay(Delayed { key, value, task, ttl, delay, deletes }).await
            }
            Route::Periodic => writer.periodic(&key, value, task()?, ttl).await,
        }
    }
}

impl<'a> IntoFuture for Write<'a> {
    type Output = Result<Receipt>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
