//! Dead letters of both deferred routes: listed, retried, dropped.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;
use zmsg_core::{Error, Result, TaskId};
use zmsg_queue::TaskQueue;
use zmsg_store::SqlStore;

use crate::Zmsg;
use crate::assemble::NamedQueue;
use crate::codec;
use crate::filter_state::SqlFilterRegistry;
use crate::write::{Writer, lost};

/// The dead letters of an engine.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    periodic: zmsg_aggregate::DeadLetters,
    delayed: Vec<NamedQueue>,
    /// Of a running engine, whose filter and caches have to follow a retry.
    writer: Option<Arc<Writer>>,
}

/// Which dead letter: `periodic:` or `delayed:`, and a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadLetterId {
    /// Of the periodic route.
    Periodic(Uuid),
    /// Of the delayed route.
    Delayed(TaskId),
}

/// A write that the database refused for good, kept until somebody decides.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Its id.
    pub id: DeadLetterId,
    /// What it would have done.
    pub summary: String,
    /// Why it could not.
    pub cause: String,
    /// When it died, milliseconds since the Unix epoch.
    pub at: u64,
}

impl DeadLetters {
    /// The dead letters of a store and a queue, without an engine: for administration.
    pub fn of(store: Arc<dyn SqlStore>, queue: Arc<dyn TaskQueue>) -> Self {
        let delayed = vec![NamedQueue::plain(queue, codec::QUEUE)];
        Self { periodic: zmsg_aggregate::DeadLetters::new(store), delayed, writer: None }
    }

    pub(crate) fn new(zmsg: &Zmsg) -> Self {
        let inner = &zmsg.inner;
        Self {
            periodic: zmsg_aggregate::DeadLetters::new(Arc::clone(&inner.closing.store)),
            delayed: inner.writer.queues().cloned().collect(),
            writer: Some(Arc::clone(&inner.writer)),
        }
    }

    /// The oldest `limit` dead letters of each route, and of each queue.
    ///
    /// # Errors
    /// What the store says.
    pub async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        let periodic = self.periodic.list(None, limit).await?;
        let mut all: Vec<DeadLetter> = periodic
            .into_iter()
            .map(|dead| DeadLetter {
                id: DeadLetterId::Periodic(dead.id),
                summary: dead.summary,
                cause: dead.cause,
                at: dead.created,
            })
            .collect();
        for named in &self.delayed {
            // Of a queue that others use too, those under our name alone.
            let name = named.has_others().then_some(named.name.as_str());
            let delayed = named.queue.dead_letters(name, None, limit).await?;
            all.extend(delayed.into_iter().map(|dead| DeadLetter {
                id: DeadLetterId::Delayed(dead.id),
                summary: named.envelope.summary(&dead),
                cause: dead.cause,
                at: dead.died,
            }));
        }
        Ok(all)
    }

    /// Tries a dead letter again: a periodic one at once, a delayed one through its queue.
    /// False if there is no such dead letter.
    ///
    /// # Errors
    /// What the database says if it refuses again; the dead letter then stays.
    pub async fn retry(&self, id: DeadLetterId) -> Result<bool> {
        match id {
            DeadLetterId::Periodic(id) => self.retry_periodic(id).await,
            DeadLetterId::Delayed(id) => {
                for named in &self.delayed {
                    if named.queue.retry_dead(id).await? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    async fn retry_periodic(&self, id: Uuid) -> Result<bool> {
        let periodic = self.periodic.clone();
        let Some(writer) = self.writer.clone() else {
            return Ok(periodic.retry(id).await?.is_some());
        };
        let tracker = writer.tracker.clone();
        let work = async move {
            let Some(letter) = periodic.find(id).await? else { return Ok(false) };
            let retried = loop {
                let announced = writer.applier.announce(&letter.keys).await?;
                match periodic.retry_checked(id, announced.checks.clone()).await {
                    Err(error) if SqlFilterRegistry::is_refusal(&error) => announced.outdated(),
                    retried => break retried,
                }
            };
            writer.applier.invalidate(&letter.keys).await;
            Ok(retried?.is_some())
        };
        tracker.spawn(work).await.map_err(lost)?
    }

    /// Drops a dead letter for good. False if there is no such dead letter.
    ///
    /// # Errors
    /// What the store says.
    pub async fn drop(&self, id: DeadLetterId) -> Result<bool> {
        match id {
            DeadLetterId::Periodic(id) => self.periodic.drop(id).await,
            DeadLetterId::Delayed(id) => {
                for named in &self.delayed {
                    if named.queue.drop_dead(id).await? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

impl fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Periodic(id) => write!(f, "periodic:{id}"),
            Self::Delayed(id) => write!(f, "delayed:{id}"),
        }
    }
}

impl FromStr for DeadLetterId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = match text.split_once(':') {
            Some(("periodic", id)) => id.parse().ok().map(Self::Periodic),
            Some(("delayed", id)) => id.parse().ok().map(|id| Self::Delayed(TaskId(id))),
            _ => None,
        };
        parsed.ok_or_else(|| {
            Error::invalid_input("a dead letter's id is periodic:UUID or delayed:UUID")
                .with_context("id", text.escape_debug())
        })
    }
}
