//! The futures of an appended record.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use zmsg_core::Result;

use crate::Durability;
use crate::progress::Place;
use crate::shared::Shared;

/// A record, or a run of them, that the log accepted.
#[derive(Debug, Clone)]
pub struct Appended {
    shared: Arc<Shared>,
    first: u64,
    last: u64,
}

impl Appended {
    pub(crate) fn new(shared: Arc<Shared>, first: u64, last: u64) -> Self {
        Self { shared, first, last }
    }

    /// The sequence of the record; of the last one of a run.
    pub fn seq(&self) -> u64 {
        self.last
    }

    /// The sequence of the first record of a run; those between have no gap.
    pub fn first_seq(&self) -> u64 {
        self.first
    }

    /// Waits until the record, or the whole run, is as durable as that.
    pub fn wait(&self, durability: Durability) -> Durable {
        Durable::new(Arc::clone(&self.shared), self.last, durability)
    }
}

/// Ends when everything up to a sequence is as durable as asked for.
///
/// Nothing depends on it being polled, but for [`SyncPolicy::Os`](crate::SyncPolicy::Os), where
/// the first poll for `Synced` asks for the sync.
///
/// # Errors
/// `outcome_unknown` if a write or a sync failed, and writing anew failed too: the record may be
/// found when the log is opened again, or not. Any other error says that it is not in the log.
/// `Closed` if the log ended before a record of that sequence was appended.
///
/// # Cancel safety
/// Dropping it changes nothing: the record stays appended.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Durable {
    shared: Arc<Shared>,
    seq: u64,
    durability: Durability,
    place: Option<Place>,
}

impl Durable {
    pub(crate) fn new(shared: Arc<Shared>, seq: u64, durability: Durability) -> Self {
        Self { shared, seq, durability, place: None }
    }

    /// Waits with this thread. Not for use inside an async runtime.
    ///
    /// # Errors
    /// As the future.
    pub fn wait_blocking(self) -> Result<()> {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut this = pin!(self);
        loop {
            match this.as_mut().poll(&mut context) {
                Poll::Ready(result) => return result,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}

impl Future for Durable {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        let first = this.place.is_none();
        let polled =
            this.shared.progress.poll(this.seq, this.durability, &mut this.place, context.waker());
        if polled.is_pending() && first && this.durability == Durability::Synced {
            this.shared.waits_for_sync(this.seq);
        }
        polled
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.shared.progress.forget(self.durability, place);
        }
    }
}
