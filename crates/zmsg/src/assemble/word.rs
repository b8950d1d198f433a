//! What nodes tell of their tasks and workers, past the queue itself.

#[cfg(feature = "redis")]
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use zmsg_core::Result;
use zmsg_queue::{WakeUps, Worker};

/// The loop that tells and hears of tasks of other nodes.
#[derive(Debug)]
pub(crate) enum WakeUpLoop {
    Sql(WakeUps),
    #[cfg(feature = "redis")]
    Redis(zmsg_queue::RedisWakeUps),
}

impl WakeUpLoop {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sql(_) => "wake-ups",
            #[cfg(feature = "redis")]
            Self::Redis(_) => "wake-ups by redis",
        }
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<()> {
        match self {
            Self::Sql(wake_ups) => wake_ups.run(shutdown).await,
            #[cfg(feature = "redis")]
            Self::Redis(wake_ups) => wake_ups.run(shutdown).await,
        }
    }
}

/// What tells all nodes of tasks that were enqueued past their queue.
#[derive(Debug, Clone)]
pub(crate) enum Wake {
    #[cfg(feature = "redis")]
    ByRedis(Arc<zmsg_queue::ToldQueue>),
}

impl Wake {
    pub(crate) fn all(&self) {
        match *self {
            #[cfg(feature = "redis")]
            Self::ByRedis(ref queue) => queue.tell(),
        }
    }
}

/// Where tools look who works, and at what.
#[derive(Debug, Clone)]
pub(crate) enum Board {
    /// As asynq's tools look. A payload stands there as it does in the queue: sealed.
    #[cfg(feature = "redis")]
    Asynq(Arc<zmsg_queue::RedisTaskQueue>),
}

impl Board {
    /// The loop that shows a worker, and hears which of its attempts are to stop.
    #[cfg_attr(not(feature = "redis"), expect(unused_variables, reason = "there is no board"))]
    pub(crate) fn show(
        &self,
        worker: &Worker,
        shutdown: CancellationToken,
    ) -> BoxFuture<'static, Result<()>> {
        match *self {
            #[cfg(feature = "redis")]
            Self::Asynq(ref queue) => {
                let queue = Arc::clone(queue);
                let presence = zmsg_queue::RedisPresence::new(queue, worker, super::host());
                Box::pin(presence.run(shutdown))
            }
        }
    }
}
