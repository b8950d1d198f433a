//! The rows of `zmsg_members`.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result, Row, Statement, Value};
use zmsg_store::{SqlStore, Step};

use super::shares::{OWN, Shares};
use super::{BEAT, LEASE};

/// Milliseconds since the Unix epoch by the database's clock.
const NOW: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)";

/// Far beyond a lease: one that ends later was written under a clock that was set back since.
const ABSURD_MS: i64 = 3_600_000;

/// The row of one engine, and a look at those of others.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    store: Arc<dyn SqlStore>,
    id: Uuid,
    holder: String,
    shares: Shares,
}

/// The row of another engine.
#[derive(Debug)]
pub(super) struct Other {
    pub(super) id: Uuid,
    pub(super) holder: String,
    pub(super) shares: Shares,
    pub(super) age: Duration,
    pub(super) marks: i64,
}

impl Rows {
    pub(super) fn new(store: Arc<dyn SqlStore>, id: Uuid, holder: String, shares: Shares) -> Self {
        Self { store, id, holder, shares }
    }

    pub(super) fn id(&self) -> Uuid {
        self.id
    }

    pub(super) fn store(&self) -> Arc<dyn SqlStore> {
        Arc::clone(&self.store)
    }

    pub(super) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Writes the row unless somebody is there who shares something else; false if so.
    pub(super) async fn enter(&self) -> Result<bool> {
        // One after the other: of two that enter at once, the second sees the first. A lock of the
        // table, since it is taken before the transaction has a snapshot.
        let lock = Statement::new("LOCK TABLE zmsg_members IN SHARE ROW EXCLUSIVE MODE", vec![]);
        let gone = format!("DELETE FROM zmsg_members WHERE NOT ({})", live());
        let differs = differs();
        let insert = format!(
            "INSERT INTO zmsg_members \
             (id, holder, cache, filter, since_ms, lease_until_ms, marks) \
             SELECT CAST(? AS uuid), CAST(? AS text), CAST(? AS text), CAST(? AS text), \
             {NOW}, {NOW} + ?, 0 \
             WHERE NOT EXISTS (SELECT 1 FROM zmsg_members WHERE {differs})"
        );
        let mut binds = self.values();
        binds.push(millis(LEASE));
        binds.extend(self.comparison());
        let steps = [lock, Statement::new(gone, vec![]), Statement::new(insert, binds)];
        let outcomes = self.store.execute_all(steps.map(Step::any).into()).await;
        let outcomes = outcomes.map_err(|failed| match failed.error.kind() {
            // There is no such table, and `store.migrate` is off.
            ErrorKind::InvalidInput => {
                Error::invalid_config("zmsg's own tables are not up to date")
                    .with_context("hint", "run `migrate up`, or set store.migrate to true")
                    .with_source(failed.error)
            }
            _ => failed.error.during("members.enter"),
        })?;
        Ok(outcomes.last().is_some_and(|outcome| outcome.changed == 1))
    }

    /// Renews the lease, and says that so many marks more have reached Redis. False if the lease
    /// had ended: others may have entered meanwhile. The row is there again then.
    pub(super) async fn renew(&self, marks: i64) -> Result<bool> {
        let text = format!(
            "UPDATE zmsg_members SET lease_until_ms = {NOW} + ?, marks = marks + ? \
             WHERE id = ? AND {}",
            live()
        );
        let binds = vec![millis(LEASE), marks.into(), self.id.into()];
        if self.store.execute(&Statement::new(text, binds)).await?.changed == 1 {
            return Ok(true);
        }
        let again = format!(
            "INSERT INTO zmsg_members \
             (id, holder, cache, filter, since_ms, lease_until_ms, marks) \
             VALUES (?, ?, ?, ?, {NOW}, {NOW} + ?, 0) \
             ON CONFLICT (id) DO UPDATE SET lease_until_ms = excluded.lease_until_ms"
        );
        let mut binds = self.values();
        binds.push(millis(LEASE));
        self.store.execute(&Statement::new(again, binds)).await?;
        Ok(false)
    }

    /// Somebody who shares something else.
    pub(super) async fn different(&self) -> Result<Option<Other>> {
        let others = self.find(&differs(), self.comparison().into()).await?;
        Ok(others.into_iter().next())
    }

    /// All others.
    pub(super) async fn others(&self) -> Result<Vec<Other>> {
        self.find(&format!("id <> ? AND {}", live()), vec![self.id.into()]).await
    }

    pub(super) async fn leave(&self) -> Result<()> {
        let text = "DELETE FROM zmsg_members WHERE id = ?";
        self.store.execute(&Statement::new(text, vec![self.id.into()])).await.map(drop)
    }

    pub(super) async fn forget_flushes(&self) -> Result<()> {
        let text = "DELETE FROM zmsg_flushes WHERE member = ?";
        self.store.execute(&Statement::new(text, vec![self.id.into()])).await.map(drop)
    }

    async fn find(&self, condition: &str, binds: Vec<Value>) -> Result<Vec<Other>> {
        let text = format!(
            "SELECT id, holder, cache, filter, {NOW} - since_ms, marks FROM zmsg_members \
             WHERE {condition} ORDER BY since_ms, id"
        );
        let rows = self.store.fetch(&Statement::query(text, binds)).await?;
        rows.iter().map(read).collect()
    }

    fn values(&self) -> Vec<Value> {
        let Self { id, holder, shares, .. } = self;
        let Shares { cache, filter } = shares;
        vec![(*id).into(), holder.as_str().into(), cache.as_str().into(), filter.as_str().into()]
    }

    /// The binds of [`differs`].
    fn comparison(&self) -> [Value; 5] {
        let Shares { cache, filter } = &self.shares;
        let text = |text: &String| Value::from(text.as_str());
        [self.id.into(), text(cache), text(cache), text(filter), text(filter)]
    }
}

/// A condition on a row of the table: its lease lasts.
pub(crate) fn live() -> String {
    format!("lease_until_ms > {NOW} AND lease_until_ms < {NOW} + {ABSURD_MS}")
}

/// Somebody else, who is there and shares something else.
fn differs() -> String {
    let same = |column: &str| format!("({column} IN (?, '{OWN}') OR CAST(? AS text) = '{OWN}')");
    format!("id <> ? AND {} AND NOT ({} AND {})", live(), same("cache"), same("filter"))
}

fn read(row: &Row) -> Result<Other> {
    let Value::Uuid(id) = *row.at(0)? else {
        return Err(Error::new(ErrorKind::Unexpected, "the id of a member is no uuid"));
    };
    let age = Duration::from_millis(u64::try_from(row.int(4)?).unwrap_or_default());
    let text = |at| row.text(at).map(str::to_owned);
    let shares = Shares { cache: text(2)?, filter: text(3)? };
    Ok(Other { id, holder: text(1)?, shares, age, marks: row.int(5)? })
}

fn millis(duration: Duration) -> Value {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).into()
}

const _: () = assert!(BEAT.as_millis() * 3 < LEASE.as_millis(), "a beat may be missed");
