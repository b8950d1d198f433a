//! Loops that keep the filter seeded, the inbox short and the receipts answered.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use zmsg_bloom::{FilterStats, MembershipFilter};
use zmsg_core::{Backoff, Clock, Error, ErrorKind, Key, Result, Statement, Value};
use zmsg_queue::{TaskQueue, TaskState, inbox_purge};
use zmsg_store::SqlStore;

use crate::pending::Pending;
use crate::source::{SourceOrigin, Sources};

/// Keys fetched at once while seeding.
const SEED_PAGE: i64 = 10_000;

/// How often the loops look around.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// Seeds the filter from the sources' keys, and again when it is over-filled or distrusted.
#[derive(Debug, Clone)]
pub(crate) struct FilterUpkeep {
    filter: Arc<dyn MembershipFilter>,
    sources: Arc<Sources>,
    store: Arc<dyn SqlStore>,
    capacity: u64,
    wanted: Arc<Notify>,
}

impl FilterUpkeep {
    pub(crate) fn new(
        filter: Arc<dyn MembershipFilter>,
        sources: Arc<Sources>,
        store: Arc<dyn SqlStore>,
        capacity: u64,
    ) -> Self {
        Self { filter, sources, store, capacity, wanted: Arc::default() }
    }

    /// Asks for a rebuild: a source has been added, or rows came about behind zmsg's back.
    pub(crate) fn wants_rebuild(&self) {
        self.wanted.notify_one();
    }

    pub(crate) fn stats(&self) -> FilterStats {
        self.filter.stats()
    }

    /// Seeds once at start, then whenever it is wanted. A failed attempt leaves the filter
    /// saying "maybe" and is repeated.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let mut failures = 0;
        let mut wanted = true;
        loop {
            if wanted {
                match self.rebuild().await {
                    Ok(()) => failures = 0,
                    Err(error) => {
                        failures += 1;
                        tracing::warn!(%error, "the filter could not be seeded; it rules nothing out");
                    }
                }
            }
            let pause = if failures > 0 { backoff.delay(failures) } else { LOOK_AROUND };
            wanted = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = self.wanted.notified() => true,
                () = tokio::time::sleep(pause) => failures > 0 || self.filter.stats().wants_rebuild,
            };
        }
    }

    /// Builds a new generation from every guarded source and switches to it.
    async fn rebuild(&self) -> Result<()> {
        let FilterStats { inserted, .. } = self.filter.stats();
        // Twice what is known leaves room to grow until the next rebuild.
        let expected = self.capacity.max(inserted.saturating_mul(2));
        let rebuild = self.filter.begin_rebuild(expected).await?;
        let guarded = self.sources.guarded();
        for source in &guarded {
            let mut after = String::new();
            while let Some(keys) = self.page(source, &after).await? {
                self.filter.seed(&rebuild, &keys).await?;
                let Some(last) = keys.last() else { break };
                after = last.to_string();
            }
        }
        self.filter.finish_rebuild(rebuild).await?;
        guarded.iter().for_each(|source| source.set_seeded());
        Ok(())
    }

    /// The next keys of a source in order, or `None` after the last.
    async fn page(&self, source: &SourceOrigin, after: &str) -> Result<Option<Vec<Key>>> {
        let Some(sql) = source.keys_sql() else { return Ok(None) };
        let sql = format!(
            "WITH zmsg_keys(k) AS ({sql}) SELECT DISTINCT k FROM zmsg_keys WHERE k > ? ORDER BY k LIMIT ?"
        );
        let query = Statement::query(sql, vec![after.into(), SEED_PAGE.into()]);
        let rows =
            self.store.fetch(&query).await.map_err(|error| {
                error.with_context("source", source.prefix()).during("filter.seed")
            })?;
        let key = |value: &Value| match value {
            Value::Text(text) => Key::new(text),
            _ => Err(Error::invalid_input("a source's keys are text")
                .with_context("source", source.prefix())),
        };
        let keys = rows.iter().map(|row| key(row.at(0)?)).collect::<Result<Vec<_>>>()?;
        Ok(Some(keys).filter(|keys| !keys.is_empty()))
    }
}

/// Forgets inbox rows that no retry can reach any more.
#[derive(Debug)]
pub(crate) struct InboxUpkeep {
    pub(crate) store: Arc<dyn SqlStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retention: Duration,
}

const PURGE_ROWS: u32 = 1_000;
const PURGE_EVERY: Duration = Duration::from_secs(60);

impl InboxUpkeep {
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<()> {
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(PURGE_EVERY) => {}
            }
            if let Err(error) = self.purge().await {
                tracing::warn!(%error, "old inbox rows could not be removed; it is tried again");
            }
        }
    }

    async fn purge(&self) -> Result<()> {
        let retention = u64::try_from(self.retention.as_millis()).unwrap_or(u64::MAX);
        let before = self.clock.wall().saturating_sub(retention);
        let statement = inbox_purge(before, self.store.dialect(), PURGE_ROWS);
        while self.store.execute(&statement).await?.changed == u64::from(PURGE_ROWS) {}
        Ok(())
    }
}

/// Answers receipts of tasks that another process carried out, or that were dropped.
#[derive(Debug)]
pub(crate) struct ReceiptUpkeep {
    pub(crate) pending: Arc<Pending>,
    pub(crate) queue: Arc<dyn TaskQueue>,
    pub(crate) store: Arc<dyn SqlStore>,
}

impl ReceiptUpkeep {
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<()> {
        // Only what was pending at two looks in a row is asked for: the rest settles by itself.
        let mut seen = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK_AROUND) => {}
            }
            let now = self.pending.ids();
            for id in now.iter().filter(|id| seen.contains(*id)).take(100) {
                if let Err(error) = self.look(*id).await {
                    tracing::debug!(%error, "a receipt could not be answered; it is tried again");
                    break;
                }
            }
            seen = now;
        }
    }

    async fn look(&self, id: zmsg_core::TaskId) -> Result<()> {
        match self.queue.state(id).await? {
            Some(TaskState::Dead { cause }) => {
                let error =
                    Error::new(ErrorKind::InvalidData, "the delayed write is a dead letter")
                        .with_context("dead letter", id)
                        .with_context("cause", cause);
                self.pending.settle(id, Err(error));
            }
            Some(_) => {}
            None => {
                let query =
                    Statement::query("SELECT 1 FROM zmsg_inbox WHERE id = ?", vec![id.0.into()]);
                let applied = !self.store.fetch(&query).await?.is_empty();
                let outcome = if applied {
                    Ok(())
                } else {
                    Err(Error::new(ErrorKind::Closed, "the delayed write was dropped")
                        .with_context("task", id))
                };
                self.pending.settle(id, outcome);
            }
        }
        Ok(())
    }
}
