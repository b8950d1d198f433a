//! Loops that keep the filter seeded and the inbox short.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zmsg_bloom::{FilterState, FilterStats, Insertion, MembershipFilter, Rebuild};
use zmsg_core::{Backoff, Clock, Error, ErrorKind, ErrorStatus, Key, Result, Statement, Value};
use zmsg_queue::inbox_purge;
use zmsg_sqlbuilder::Dialect;
use zmsg_store::SqlStore;

use crate::assemble::Filter;
use crate::source::{SourceOrigin, Sources};

/// Keys fetched at once while seeding.
const SEED_PAGE: i64 = 10_000;

/// How often the loops look around.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// How long a node that has rebuilt a shared filter leaves it to others that know other sources.
const COVER_AGAIN: Duration = Duration::from_secs(120);

/// Seeds the filter from the sources' keys, and again when it is over-filled or distrusted.
#[derive(Debug, Clone)]
pub(crate) struct FilterUpkeep {
    filter: Arc<dyn MembershipFilter>,
    sources: Arc<Sources>,
    store: Arc<dyn SqlStore>,
    capacity: u64,
    /// Other nodes share the filter, and rebuild it too.
    shared: bool,
    wanted: Arc<Notify>,
}

impl FilterUpkeep {
    pub(crate) fn new(
        filter: &Filter,
        sources: Arc<Sources>,
        store: Arc<dyn SqlStore>,
        capacity: u64,
    ) -> Self {
        let (shared, filter) = (filter.registry.is_some(), Arc::clone(&filter.filter));
        Self { filter, sources, store, capacity, shared, wanted: Arc::default() }
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
    pub(crate) async fn behind_its_back<T>(
        &self,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let everything = self.distrust().await?;
        let done = work.await;
        drop(everything);
        // Work of several transactions cannot check in each that no rebuild of another node began.
        let told = self.distrust().await;
        self.wants_rebuild();
        told.and(done)
    }

    /// Takes the filter's trust away, on every node; tried for a while, because the work that is
    /// about to begin, or has been done, does not wait for long.
    async fn distrust(&self) -> Result<Insertion> {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut failures = 0;
        loop {
            match self.filter.distrust().await {
                Err(error) if error.status() != ErrorStatus::Permanent && failures < 8 => {
                    failures += 1;
                    tokio::time::sleep(backoff.delay(failures)).await;
                }
                told => return told.map_err(|error| error.during("filter.distrust")),
            }
        }
    }

    /// Seeds once at start, then whenever it is wanted. A failed attempt leaves the filter
    /// saying "maybe" and is repeated.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let mut failures = 0;
        let mut last: Option<Instant> = None;
        let mut wanted = !self.shared && self.is_due(last);
        loop {
            if wanted {
                let rebuilt = tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return Ok(()),
                    rebuilt = self.rebuild() => rebuilt,
                };
                match rebuilt {
                    Ok(()) => {
                        failures = 0;
                        last = Some(Instant::now());
                    }
                    // Another node does it.
                    Err(error) if self.shared && error.kind() == ErrorKind::Conflict => {
                        failures = 0
                    }
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
                // What is asked for here another node may have done.
                () = self.wanted.notified() => !self.shared || self.is_due(None),
                () = tokio::time::sleep(pause) => failures > 0 || self.is_due(last),
            };
            wanted &= self.filter.stats().state != FilterState::Open;
        }
    }

    /// Whether a rebuild is due: the filter says so, or knows nothing of one of our sources.
    ///
    /// Nodes whose sources differ, as while a new version is rolled out, would rebuild it for each
    /// other without end: `last` is when this one did.
    fn is_due(&self, last: Option<Instant>) -> bool {
        let FilterStats { state, wants_rebuild, rebuilding, .. } = self.filter.stats();
        let unknown = || self.sources.guarded().iter().any(|source| source.is_uncovered());
        let rested = last.is_none_or(|last| last.elapsed() > COVER_AGAIN);
        let uncovered = self.shared && rested && state == FilterState::Ready && unknown();
        wants_rebuild || (uncovered && !rebuilding)
    }

    /// Builds a new generation from every guarded source and switches to it. A source that
    /// cannot work is left out: its keys stay "maybe", and the others are seeded all the same.
    async fn rebuild(&self) -> Result<()> {
        let FilterStats { inserted, .. } = self.filter.stats();
        // Twice what is known leaves room to grow until the next rebuild.
        let expected = self.capacity.max(inserted.saturating_mul(2));
        let mut rebuild = self.filter.begin_rebuild(expected).await?;
        let mut seeded = Vec::new();
        for source in self.sources.guarded() {
            match self.seed(&rebuild, &source).await {
                Ok(()) => {
                    rebuild.cover(source.scope());
                    seeded.push(source);
                }
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
