//! The hint that a queue has something new for those who wait.

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

/// Wakes everybody who asked before the change; a change that nobody waits for is forgotten.
#[derive(Debug, Default)]
pub(super) struct Changes(Notify);

impl Changes {
    /// Tells those who wait.
    pub(super) fn tell(&self) {
        self.0.notify_waiters();
    }

    /// Resolves with the first change after this call, polled or not.
    pub(super) fn next(&self) -> BoxFuture<'_, ()> {
        // `notified` hears `notify_waiters` from its creation on, so a change between this call
        // and the first poll is not lost.
        Box::pin(self.0.notified())
    }
}
