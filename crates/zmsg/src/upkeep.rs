//! Loops that keep the filter seeded, the inbox short and the receipts answered.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use zmsg_bloom::{FilterState, FilterStats, MembershipFilter, Rebuild};
use zmsg_core::{Backoff, Clock, Error, ErrorKind, ErrorStatus, Key, Result, Statement, Value};
use zmsg_queue::{TaskQueue, TaskState, inbox_purge};
use zmsg_sqlbuilder::Dialect;
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

    /// Runs something that may write rows which the filter was not told of: nothing is absent
    /// from before it until a rebuild that begins after it has ended.
    pub(crate) async fn behind_its_back<T>(&self, work: impl Future<Output = T>) -> T {
        self.filter.distrust();
        let done = work.await;
        self.filter.distrust();
        self.wants_rebuild();
        done
    }

    /// Seeds once at start, then whenever it is wanted. A failed attempt leaves the filter
    /// saying "maybe" and is repeated.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let mut failures = 0;
        let mut wanted = self.filter.stats().state != FilterState::Open;
        loop {
            if wanted {
                let rebuilt = tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return Ok(()),
                    rebuilt = self.rebuild() => rebuilt,
                };
                match rebuilt {
                    Ok(()) => failures = 0,
                    Err(error) => {
                        failures += 1;
                        tracing::warn!(%error, "the filter could not be seeded; it is tried again");
                    }
                }
            }
            let pause = if failures > 0 { backoff.delay(failures) } else { LOOK_AROUND };
            wanted = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = self.wanted.notified() => self.filter.stats().state != FilterState::Open,
                () = tokio::time::sleep(pause) => failures > 0 || self.filter.stats().wants_rebuild,
            };
        }
    }

    /// Builds a new generation from every guarded source and switches to it. A source that
    /// cannot work is left out: its keys stay "maybe", and the others are seeded all the same.
    async fn rebuild(&self) -> Result<()> {
        let FilterStats { inserted, .. } = self.filter.stats();
        // Twice what is known leaves room to grow until the next rebuild.
        let expected = self.capacity.max(inserted.saturating_mul(2));
        let rebuild = self.filter.begin_rebuild(expected).await?;
        let mut seeded = Vec::new();
        for source in self.sources.guarded() {
            match self.seed(&rebuild, &source).await {
                Ok(()) => seeded.push(source),
                Err(error) if error.status() == ErrorStatus::Permanent => {
                    // Before the switch: the new generation does not know its keys.
                    source.set_seeded(false);
                    tracing::error!(source = source.prefix(), %error, "the filter rules no key of this source out");
                }
                Err(error) => return Err(error),
            }
        }
        self.filter.finish_rebuild(rebuild).await?;
        seeded.iter().for_each(|source| source.set_seeded(true));
        Ok(())
    }

    async fn seed(&self, rebuild: &Rebuild, source: &SourceOrigin) -> Result<()> {
        let Some(sql) = source.keys_sql() else { return Ok(()) };
        let mut after: Option<String> = None;
        loop {
            let query = page_query(sql, after.as_deref(), self.store.dialect());
            let rows = self.store.fetch(&query).await.map_err(|error| {
                error.with_context("source", source.prefix()).during("filter.seed")
            })?;
            let Some(last) = rows.last() else { return Ok(()) };
            let mut keys = Vec::with_capacity(rows.len());
            for row in &rows {
                keys.extend(self.key_of(source, row.at(0)?)?);
            }
            self.filter.seed(rebuild, &keys).await?;
            after = last.at(0)?.as_text().map(str::to_owned);
        }
    }

    /// A key that a source's query gave; `None` for one that nobody can ask for.
    fn key_of(&self, source: &SourceOrigin, value: &Value) -> Result<Option<Key>> {
        let wrong = |message: &'static str| {
            Error::invalid_input(message).with_context("source", source.prefix())
        };
        let Value::Text(text) = value else {
            return Err(wrong("a source's keys are text: whole cache keys, prefix included"));
        };
        let Ok(key) = Key::new(text) else { return Ok(None) };
        if source.is_own(&self.sources, text) {
            return Ok(Some(key));
        }
        // A row of zmsg's own table may have been put before a source took its prefix over.
        if self.sources.is_fallback(source) {
            return Ok(None);
        }
        Err(wrong("a source's keys are whole cache keys that the source serves, prefix included")
            .with_context("key", key))
    }
}

/// The next keys in the order of their bytes, whatever the column's own collation.
fn page_query(sql: &str, after: Option<&str>, dialect: Dialect) -> Statement {
    let bytes = match dialect {
        Dialect::Sqlite => "BINARY",
        Dialect::Postgres => "\"C\"",
    };
    let (from, binds) = match after {
        None => ("k IS NOT NULL".to_owned(), vec![SEED_PAGE.into()]),
        Some(after) => (format!("k COLLATE {bytes} > ?"), vec![after.into(), SEED_PAGE.into()]),
    };
    let text = format!(
        "WITH zmsg_keys(k) AS (\n{sql}\n) SELECT k FROM zmsg_keys WHERE {from} \
         ORDER BY k COLLATE {bytes} LIMIT ?"
    );
    Statement::query(text, binds)
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
    pub(crate) clock: Arc<dyn Clock>,
}

/// Receipts that are looked up in one round.
const RECEIPTS: usize = 100;

/// How long after its due time a task is left to settle by itself.
const OVERDUE: Duration = Duration::from_secs(2);

impl ReceiptUpkeep {
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let overdue = u64::try_from(OVERDUE.as_millis()).unwrap_or(u64::MAX);
        let mut after = None;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK_AROUND) => {}
            }
            let before = self.clock.wall().saturating_sub(overdue);
            let ids = self.pending.overdue(before, after, RECEIPTS);
            for id in &ids {
                if let Err(error) = self.look(*id).await {
                    tracing::debug!(%error, "a receipt could not be answered; it is tried again");
                    break;
                }
            }
            // Round and round, so that tasks which take long hide no others.
            after = ids.last().copied().filter(|_| ids.len() == RECEIPTS);
        }
    }

    async fn look(&self, id: zmsg_core::TaskId) -> Result<()> {
        match self.queue.state(id).await? {
            Some(TaskState::Dead { cause }) => {
                let error =
                    Error::new(ErrorKind::InvalidData, "the delayed write is a dead letter")
                        .with_context("dead letter", format!("delayed:{id}"))
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
