//! Work that is finished even if nobody waits for it any longer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::connector::Connector;

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Work that its caller does while it waits, and that goes on as a task beside the callers if this
/// is dropped after the work began. The usual case costs no task.
pub(super) struct Finished<T: Send + 'static> {
    work: Option<Work<T>>,
    begun: bool,
    connector: Arc<Connector>,
}

impl<T: Send + 'static> Finished<T> {
    pub(super) fn new(
        work: impl Future<Output = T> + Send + 'static,
        connector: &Arc<Connector>,
    ) -> Self {
        Self { work: Some(Box::pin(work)), begun: false, connector: Arc::clone(connector) }
    }
}

impl<T: Send + 'static> Future for Finished<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // While it is polled the work is nowhere else: if it panics nobody goes on with it.
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            (self.work, self.begun) = (Some(work), true);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Finished<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take().filter(|_| self.begun) {
            self.connector.beside(async move {
                let _ = work.await;
            });
        }
    }
}
