//! The filters that nodes share, for programs that write rows behind zmsg's back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use zmsg_bloom::shared::{Cause, FilterRegistry, FilterRow};
use zmsg_core::{Backoff, Error, ErrorKind, ErrorStatus, Result, Row, Statement, Value};
use zmsg_sqlbuilder::{Dialect, outline};
use zmsg_store::{Expect, Notifications, Outcome, SqlStore, Step, StepError, StoreStats};

use crate::filter_state::SqlFilterRegistry;

/// How often a transaction starts again because a filter was trusted anew.
const ATTEMPTS: u32 = 16;

/// After which time no lease is left that was taken before: the longest one, of a second, and a
/// quarter more, as the nodes themselves wait. The nodes' own lease is not known here.
const GRACE: Duration = Duration::from_millis(1_270);

/// What a wait says that somebody else has overtaken.
const CHANGED: &str = "the state of a shared filter changed";

/// What a transaction says that met a trusted filter.
const TRUSTED: &str = "a shared filter is trusted that was not told of the rows";

/// Takes the trust from every filter that nodes share in this database, and says how many there are.
///
/// For programs that write rows of guarded tables without an engine. They call it before the first
/// row **and** after the last one, also if they failed in between: when it returns, nobody calls a
/// key absent by what a filter knew before. It waits for that, a second and a half where a
/// filter was trusted.
///
/// Nodes build their filters anew by themselves, from a second after the call on. One that is
/// built between the two calls does not know the rows that are committed after it has read their
/// table, and calls them absent until the second call: who cannot have that writes through
/// [`BehindFilters`].
///
/// It does not touch caches: what they hold, "there is no such row" included, they hold for its
/// time. Nor does it reach the filter of a single process, which is in that process's memory:
/// the lock of its database file ([`FileLock::database`](crate::FileLock::database)) keeps others
/// from writing.
///
/// A database without zmsg's tables has no filter.
///
/// # Errors
/// What the store says, after a few attempts. A filter may be trusted still.
///
/// # Cancel safety
/// A dropped call has taken the trust from some filters, and has not waited until all nodes know.
pub async fn distrust_filters(store: &Arc<dyn SqlStore>) -> Result<u64> {
    let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let mut failures = 0;
    loop {
        match distrust_all(store).await {
            Err(error) if error.status() != ErrorStatus::Permanent && failures < 8 => {
                failures += 1;
                tokio::time::sleep(backoff.delay(failures)).await;
            }
            told => return told.map_err(|error| error.during("filters.distrust")),
        }
    }
}

async fn distrust_all(store: &Arc<dyn SqlStore>) -> Result<u64> {
    if !has_filters(&**store).await? {
        return Ok(0);
    }
    let query = Statement::query("SELECT name FROM zmsg_filter_state", vec![]);
    let rows = store.fetch(&query).await?;
    try_join_all(rows.iter().map(|row| distrust(store, row))).await?;
    Ok(rows.len() as u64)
}

async fn distrust(store: &Arc<dyn SqlStore>, row: &Row) -> Result<()> {
    let name = row.text(0)?;
    let registry = SqlFilterRegistry::new(Arc::clone(store), name);
    for _ in 0..ATTEMPTS {
        let Some(row) = take_trust(&registry).await? else { continue };
        if row.settled || settle(&**store, name, &registry, row).await? {
            return Ok(());
        }
    }
    Err(Error::new(ErrorKind::Unavailable, "a shared filter is built anew all the time")
        .temporary()
        .with_context("filter", name))
}

/// Names no generation any more; `None` if somebody else changed the state first.
async fn take_trust(registry: &SqlFilterRegistry) -> Result<Option<FilterRow>> {
    let row = registry.read().await?;
    if row.generations().next().is_none() {
        return Ok(Some(row));
    }
    let taken = FilterRow {
        version: row.version + 1,
        settled: row.settled && row.trusted.is_none() && row.retiring.is_none(),
        trusted: None,
        building: None,
        retiring: None,
        cause: Cause::Distrusted,
        covers: Vec::new(),
        beat: row.beat,
    };
    Ok(registry.swap(row.version, &taken).await?.then_some(taken))
}

/// Waits until the last lease has ended that was taken before `row`, and says so in the state;
/// false if that has changed meanwhile.
async fn settle(
    store: &dyn SqlStore,
    name: &str,
    registry: &SqlFilterRegistry,
    row: FilterRow,
) -> Result<bool> {
    if store.dialect() == Dialect::Postgres {
        return settle_locked(store, name, row.version).await;
    }
    tokio::time::sleep(GRACE).await;
    let settled = FilterRow { version: row.version + 1, settled: true, ..row };
    registry.swap(settled.version - 1, &settled).await
}

/// Keeps the row locked meanwhile: a node that looks every second whether there is a filter to be
/// built would else always be faster than the wait. Readers are not kept waiting; writers wait
/// for the same moment anyway.
async fn settle_locked(store: &dyn SqlStore, name: &str, version: u64) -> Result<bool> {
    // In slices, since the server measures by a clock that may be set: that costs one of them.
    const SLICE: Duration = Duration::from_millis(100);
    let slices = GRACE.div_duration_f64(SLICE).ceil() as usize + 1;
    let binds = || vec![Value::from(name), i64::try_from(version).unwrap_or(i64::MAX).into()];
    let lock = "SELECT 1 FROM zmsg_filter_state WHERE name = ? AND version = ? FOR UPDATE";
    let settled = "UPDATE zmsg_filter_state SET version = version + 1, settled = TRUE \
                   WHERE name = ? AND version = ?";
    let sleep = || Step::any(Statement::query("SELECT 1 FROM pg_sleep(0.1)", vec![]));
    let lock = Step::must(Statement::query(lock, binds()), Expect::Returns(1), CHANGED);
    let steps = [lock]
        .into_iter()
        .chain((0..slices).map(|_| sleep()))
        .chain([Step::any(Statement::new(settled, binds()))]);
    match store.execute_all(steps.collect()).await {
        Ok(_) => Ok(true),
        Err(failed) if was_refused(&failed, CHANGED) => Ok(false),
        Err(failed) => Err(failed.error),
    }
}

/// Whether the table of filters is there.
async fn has_filters(store: &dyn SqlStore) -> Result<bool> {
    let text = match store.dialect() {
        Dialect::Sqlite => {
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'zmsg_filter_state'"
        }
        Dialect::Postgres => "SELECT 1 WHERE to_regclass('zmsg_filter_state') IS NOT NULL",
    };
    Ok(!store.fetch(&Statement::query(text, vec![])).await?.is_empty())
}

/// Whether a filter of any node has ever been kept in this database.
pub(crate) async fn is_any_known(store: &dyn SqlStore) -> Result<bool> {
    if !has_filters(store).await? {
        return Ok(false);
    }
    let query = Statement::query("SELECT 1 FROM zmsg_filter_state LIMIT 1", vec![]);
    Ok(!store.fetch(&query).await?.is_empty())
}

/// A store for rows that come about behind zmsg's back while nodes run: no filter that they share
/// calls such a row absent, not even between its commit and the next call of [`distrust_filters`].
///
/// Every transaction ends with two steps of its own. One spoils the filters that are being built,
/// which may have read the table already; the other one rolls all of it back if a filter is
/// trusted. The transaction then starts again, after the trust was taken: it may take a second and
/// a half longer, and its work may be done more than once, which nobody sees.
///
/// A statement that may have to run outside of a transaction, such as `CREATE INDEX CONCURRENTLY`
/// or `CALL`, is passed on as it is if [`execute`](SqlStore::execute) is given it alone. For what
/// such statements write, [`distrust_filters`] has to be called afterwards.
#[derive(Debug)]
pub struct BehindFilters {
    store: Arc<dyn SqlStore>,
    has_filters: AtomicBool,
}

impl BehindFilters {
    /// Writes to this store.
    pub fn new(store: Arc<dyn SqlStore>) -> Self {
        Self { store, has_filters: AtomicBool::new(false) }
    }

    /// Filters come with zmsg's tables, and do not go away.
    async fn has_filters(&self) -> Result<bool> {
        if !self.has_filters.load(Relaxed) && has_filters(&*self.store).await? {
            self.has_filters.store(true, Relaxed);
        }
        Ok(self.has_filters.load(Relaxed))
    }

    /// The **last** steps of a transaction: then one that passed them has written what it writes,
    /// and a filter that is named afterwards is built from a table that has its rows.
    fn last_steps(&self) -> [Step; 2] {
        // Not checked but done: who builds waits for older transactions, so that one which lasts
        // would always find a filter being built.
        let spoil = "UPDATE zmsg_filter_state SET version = version + 1, building = NULL \
                     WHERE building IS NOT NULL";
        let nothing_is_trusted = "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM zmsg_filter_state \
             WHERE trusted IS NOT NULL OR retiring IS NOT NULL OR NOT settled)";
        // A snapshot that is older than the check would see an old state.
        let isolation = match self.dialect() {
            Dialect::Sqlite => "",
            Dialect::Postgres => {
                " AND current_setting('transaction_isolation') IN ('read committed', 'read uncommitted')"
            }
        };
        let check = Statement::query(format!("{nothing_is_trusted}{isolation}"), vec![]);
        let spoil = Statement::new(spoil, vec![]);
        [Step::any(spoil), Step::must(check, Expect::Returns(1), TRUSTED)]
    }
}

#[async_trait]
impl SqlStore for BehindFilters {
    fn dialect(&self) -> Dialect {
        self.store.dialect()
    }

    async fn fetch(&self, query: &Statement) -> Result<Vec<Row>> {
        self.store.fetch(query).await
    }

    async fn execute(&self, statement: &Statement) -> Result<Outcome> {
        if may_have_to_run_alone(&statement.text, self.dialect()) {
            return self.store.execute(statement).await;
        }
        let outcomes = self.execute_all(vec![Step::any(statement.clone())]).await;
        Ok(outcomes.map_err(|failed| failed.error)?.pop().unwrap_or_default())
    }

    async fn execute_all(&self, steps: Vec<Step>) -> Result<Vec<Outcome>, StepError> {
        let of_no_step = |error| StepError { step: None, error };
        if !self.has_filters().await.map_err(of_no_step)? {
            return self.store.execute_all(steps).await;
        }
        for _ in 0..ATTEMPTS {
            let all = steps.iter().cloned().chain(self.last_steps()).collect();
            match self.store.execute_all(all).await {
                Ok(mut outcomes) => {
                    outcomes.truncate(steps.len());
                    return Ok(outcomes);
                }
                Err(failed) if was_refused(&failed, TRUSTED) => {
                    distrust_filters(&self.store).await.map_err(of_no_step)?;
                }
                Err(StepError { step, error }) => {
                    let step = step.filter(|step| *step < steps.len());
                    return Err(StepError { step, error });
                }
            }
        }
        // Not a conflict: that word is about the caller's own steps.
        Err(of_no_step(Error::new(ErrorKind::Unavailable, TRUSTED).temporary()))
    }

    async fn notifications(&self, channel: &str) -> Result<Option<Notifications>> {
        self.store.notifications(channel).await
    }

    fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    async fn close(&self) -> Result<()> {
        self.store.close().await
    }
}

fn was_refused(failed: &StepError, why: &str) -> bool {
    failed.error.kind() == ErrorKind::Conflict && failed.error.message() == why
}

/// Whether the database might refuse a statement in a transaction with others.
fn may_have_to_run_alone(text: &str, dialect: Dialect) -> bool {
    const ROWS: [&str; 9] =
        ["insert", "update", "delete", "merge", "replace", "with", "select", "values", "truncate"];
    // One that cannot be read is refused by the store, with its place.
    let words = outline(text, dialect).unwrap_or_default();
    !words.first().is_some_and(|command| ROWS.contains(&command.as_str()))
}
