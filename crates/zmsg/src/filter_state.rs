//! The state of a shared filter, in the database that the rows live in.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use zmsg_bloom::shared::{Cause, FilterRegistry, FilterRow, SharedGeneration};
use zmsg_core::{Error, ErrorKind, Result, Row, Statement, Value};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::{SqlStore, Step, StepError};

/// What a refused guard says.
const REFUSED: &str = "the shared filter changed while the write was on its way";

/// How often it is looked whether older transactions have ended.
const LOOK: Duration = Duration::from_millis(20);

/// The row of `zmsg_filter_state` with this name.
#[derive(Debug)]
pub(crate) struct SqlFilterRegistry {
    store: Arc<dyn SqlStore>,
    name: String,
}

impl SqlFilterRegistry {
    pub(crate) fn new(store: Arc<dyn SqlStore>, name: impl Into<String>) -> Self {
        Self { store, name: name.into() }
    }

    /// The **last** step of a write whose keys were added under `version`: it rolls the
    /// transaction back if the state has changed since. It has an outcome of its own, which is
    /// empty.
    ///
    /// Last, because then a transaction that passed it has written what it writes, and PostgreSQL
    /// knows it by its id, which is what a rebuild waits for. Transactions that only read, a dump
    /// of many hours for instance, keep no rebuild waiting. A transaction whose snapshot is older
    /// than the guard would see an old version, so one that is not `READ COMMITTED` is refused.
    pub(crate) fn guard(&self, version: u64) -> Step {
        let text = match self.store.dialect() {
            Dialect::Sqlite => "SELECT 1 FROM zmsg_filter_state WHERE name = ? AND version = ?",
            Dialect::Postgres => {
                "SELECT 1 FROM zmsg_filter_state WHERE name = ? AND version = ? \
                 AND current_setting('transaction_isolation') IN ('read committed', 'read uncommitted')"
            }
        };
        let query = Statement::query(text, vec![self.name.as_str().into(), number(version)]);
        Step::check(query, REFUSED)
    }

    /// Whether a batch was rolled back by its guard: nothing is wrong with the write, which starts
    /// again with a new insertion.
    pub(crate) fn was_refused(failed: &StepError) -> bool {
        Self::is_refusal(&failed.error)
    }

    /// Whether an error is that of a guard.
    pub(crate) fn is_refusal(error: &Error) -> bool {
        error.kind() == ErrorKind::Conflict && error.message() == REFUSED
    }

    async fn find(&self) -> Result<Option<FilterRow>> {
        let text = "SELECT version, trusted, building, retiring, settled, cause, covers, beat \
                    FROM zmsg_filter_state WHERE name = ?";
        let query = Statement::query(text, vec![self.name.as_str().into()]);
        self.store.fetch(&query).await?.first().map(decode).transpose()
    }

    async fn make(&self) -> Result<()> {
        let row = FilterRow::default();
        let text = "INSERT INTO zmsg_filter_state \
                    (name, version, settled, cause, covers, beat) VALUES (?, ?, ?, ?, '', 0) \
                    ON CONFLICT (name) DO NOTHING";
        let binds = vec![
            self.name.as_str().into(),
            number(row.version),
            row.settled.into(),
            row.cause.as_str().into(),
        ];
        self.store.execute(&Statement::new(text, binds)).await?;
        Ok(())
    }

    /// Waits until all transactions have ended that had an id when this was called.
    async fn postgres_transactions_ended(&self) -> Result<()> {
        // The next id is what a new transaction is given: the upper end of a snapshot will not do,
        // because it is the id after the last one that *ended*.
        let query = Statement::query("SELECT pg_current_xact_id()::text", vec![]);
        let outcomes = self.store.execute_all(vec![Step::any(query)]).await?;
        let next = transaction_id(outcomes.first().and_then(|outcome| outcome.rows.first()))?;
        let text = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text";
        let query = Statement::query(text, vec![]);
        while transaction_id(self.store.fetch(&query).await?.first())? < next {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

#[async_trait]
impl FilterRegistry for SqlFilterRegistry {
    async fn read(&self) -> Result<FilterRow> {
        if let Some(row) = self.find().await? {
            return Ok(row);
        }
        self.make().await?;
        let missing = || Error::new(ErrorKind::Unexpected, "the state of the filter disappeared");
        self.find().await?.ok_or_else(|| missing().with_context("name", &self.name))
    }

    async fn swap(&self, version: u64, row: &FilterRow) -> Result<bool> {
        let text = "UPDATE zmsg_filter_state SET version = ?, trusted = ?, building = ?, \
                    retiring = ?, settled = ?, cause = ?, covers = ? \
                    WHERE name = ? AND version = ?";
        let generation = |named: &Option<SharedGeneration>| {
            Value::from(named.as_ref().map(SharedGeneration::as_str))
        };
        let binds = vec![
            number(row.version),
            generation(&row.trusted),
            generation(&row.building),
            generation(&row.retiring),
            row.settled.into(),
            row.cause.as_str().into(),
            row.covers.join("\n").into(),
            self.name.as_str().into(),
            number(version),
        ];
        Ok(self.store.execute(&Statement::new(text, binds)).await?.changed == 1)
    }

    async fn beat(&self, building: &SharedGeneration) -> Result<()> {
        let text = "UPDATE zmsg_filter_state SET beat = beat + 1 WHERE name = ? AND building = ?";
        let binds = vec![self.name.as_str().into(), building.as_str().into()];
        self.store.execute(&Statement::new(text, binds)).await?;
        Ok(())
    }

    async fn older_transactions_ended(&self) -> Result<()> {
        match self.store.dialect() {
            // One writes at a time: the swap before this call came after all that passed a guard
            // of the version before it, and is seen by nobody before they are.
            Dialect::Sqlite => Ok(()),
            Dialect::Postgres => self.postgres_transactions_ended().await,
        }
    }
}

fn decode(row: &Row) -> Result<FilterRow> {
    let generation = |at| Ok::<_, Error>(row.at(at)?.as_text().map(SharedGeneration::from_text));
    let count = |at| Ok::<_, Error>(u64::try_from(row.int(at)?).unwrap_or_default());
    Ok(FilterRow {
        version: count(0)?,
        trusted: generation(1)?,
        building: generation(2)?,
        retiring: generation(3)?,
        settled: row.int(4)? != 0,
        cause: Cause::from_text(row.text(5)?),
        covers: row.text(6)?.lines().map(str::to_owned).collect(),
        beat: count(7)?,
    })
}

fn transaction_id(row: Option<&Row>) -> Result<u64> {
    let id = row.and_then(|row| row.text(0).ok()).and_then(|text| text.parse().ok());
    id.ok_or_else(|| Error::new(ErrorKind::Unexpected, "the database told no transaction id"))
}

/// A version as a bind; there are not so many that they leave the column's range.
fn number(version: u64) -> Value {
    Value::Int(i64::try_from(version).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
