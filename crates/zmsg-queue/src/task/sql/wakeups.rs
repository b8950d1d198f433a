//! What processes that share a table tell each other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use zmsg_core::{Result, Statement};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::{Notification, Notifications};

use super::postgres::{CHANNEL, TELL};
use super::{SqlTaskQueue, TaskQueue};

/// The loop that tells other processes of the changes of a queue, and the queue of theirs.
///
/// Without it tasks of other processes are found by polling, and that remains the way back if a
/// message is lost. A process that stops between an enqueue and its message costs no more than
/// that.
///
/// The message goes out after the commit, not with it: PostgreSQL lets transactions that notify
/// commit only one after the other, and 16 connections that enqueue with a `NOTIFY` each come to
/// a tenth of what they reach without. What changes within [`PAUSE`](Self::PAUSE) is one message.
pub struct WakeUps {
    queue: Arc<SqlTaskQueue>,
}

impl SqlTaskQueue {
    /// The loop to be run beside the workers of this queue.
    pub fn wake_ups(self: &Arc<Self>) -> WakeUps {
        WakeUps { queue: Arc::clone(self) }
    }
}

impl WakeUps {
    /// How long changes are gathered after a message, until the next.
    pub const PAUSE: Duration = Duration::from_millis(10);

    /// Tells and listens until `shutdown`. On SQLite, whose processes have no such channel, it
    /// returns at once; behind a transaction pooler it tells and does not listen.
    ///
    /// # Errors
    /// `Closed` if the store was closed before it began. A database that is away is waited for.
    ///
    /// # Cancel safety
    /// Dropping the future ends the telling and the listening; polling goes on.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        if self.queue.store.dialect() != Dialect::Postgres {
            return Ok(());
        }
        let heard = self.queue.store.notifications(CHANNEL).await?;
        if heard.is_none() {
            tracing::info!("no notifications here: the tasks of others are found by polling");
        }
        let stopped = async { tokio::join!(self.hear(heard), self.tell_always()) };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            _ = stopped => {}
        }
        // What a stopping worker has given back is for the others to take.
        let last = timeout(Duration::from_secs(1), async {
            tokio::select! {
                biased;
                () = self.queue.untold.notified() => self.tell().await,
                () = std::future::ready(()) => {}
            }
        });
        let _ = last.await;
        Ok(())
    }

    async fn hear(&self, heard: Option<Notifications>) {
        let Some(mut heard) = heard else { return };
        let ours = self.queue.name.to_string();
        while let Some(notification) = heard.next().await {
            match notification {
                Notification::Sent(name) if name == ours => {}
                Notification::Sent(_) | Notification::Missed => self.queue.changes.tell(),
            }
        }
    }

    async fn tell_always(&self) {
        loop {
            self.queue.untold.notified().await;
            self.tell().await;
            sleep(Self::PAUSE).await;
        }
    }

    async fn tell(&self) {
        let binds = vec![CHANNEL.into(), self.queue.name.to_string().into()];
        if let Err(error) = self.queue.store.execute(&Statement::query(TELL, binds)).await {
            tracing::warn!(%error, "could not tell others of a task: they find it by polling");
        }
    }
}

impl fmt::Debug for WakeUps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeUps").field("level", &self.queue.level()).finish_non_exhaustive()
    }
}
