//! The ledger: how far the flushes of a stream have come, shard by shard.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use zmsg_core::{Clock, Error, ErrorKind, Result, Statement, Value};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::{Expect, SqlStore, Step};

use super::catalog::Catalog;
use super::suspicion::Patience;

/// The ledger rows of one stream.
///
/// Each start of a process opens a new stream, so sequence numbers are never used again. The
/// transaction of a flush moves its shard's row from the number before the seal to the one at
/// its end; it takes effect exactly if the row shows that it did.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) store: Arc<dyn SqlStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stream: Uuid,
    pub(crate) catalog: Catalog,
    pub(crate) patience: Patience,
    /// Its rows were made before the first flush.
    rooted: bool,
}

/// Where a flush stands by its ledger row.
#[derive(Debug)]
pub(super) enum Standing {
    /// It did not take effect.
    Pending,
    /// It took effect.
    Applied,
    /// The row shows neither: somebody else moved it.
    Moved(Error),
}

impl Ledger {
    /// `patience` is that of the policy.
    pub(crate) fn of(
        store: Arc<dyn SqlStore>,
        clock: Arc<dyn Clock>,
        stream: Uuid,
        patience: Duration,
    ) -> Self {
        let patience = Patience::new(patience);
        Self { store, clock, stream, catalog: Catalog::default(), patience, rooted: false }
    }

    /// Makes the row of every shard, before anything is accepted: from then on a row that is not
    /// there was taken away, and nothing is flushed from its shard any more.
    ///
    /// # Errors
    /// As the store.
    pub(crate) async fn take_root(&mut self, shards: u16) -> Result<()> {
        let row = |shard: u16| {
            [Value::Uuid(self.stream), Value::Int(shard.into()), number(self.clock.wall())]
        };
        let make = Statement::new(
            format!(
                "INSERT INTO zmsg_ledger (stream, shard, seq, updated_ms) VALUES {} \
                 ON CONFLICT (stream, shard) DO NOTHING",
                vec!["(?, ?, 0, ?)"; shards.into()].join(", ")
            ),
            (0..shards).flat_map(row).collect(),
        );
        self.store.execute(&make).await?;
        self.rooted = true;
        Ok(())
    }

    /// How far each shard of a stream that ended has come, by its row, read under the rows' locks: a
    /// commit that the server is still working on is waited for.
    ///
    /// # Errors
    /// `Corrupted` if the rows are gone, which were made before anything was accepted: the journal is
    /// a copy of one that was done, or the database is another one. Else as the store.
    pub(crate) async fn applied(&mut self) -> Result<HashMap<u16, u64>> {
        let read = Statement::query(
            "UPDATE zmsg_ledger SET seq = seq WHERE stream = ? RETURNING shard, seq",
            vec![Value::Uuid(self.stream)],
        );
        let rows = self.store.execute(&read).await?.rows;
        if rows.is_empty() {
            return Err(Error::new(
                ErrorKind::Corrupted,
                "this database has no ledger rows of the journal: it was written against another \
                 one, or is a copy of a journal that is done",
            )
            .with_context("hint", "name the right database, or move the journal away"));
        }
        self.rooted = true;
        rows.iter().map(|row| Ok((narrow(row.int(0)?)?, narrow(row.int(1)?)?))).collect()
    }

    /// The compare-and-set of a flush.
    pub(super) fn advance(&self, shard: u16, from: u64, to: u64) -> Step {
        let (stream, shard) = (Value::Uuid(self.stream), Value::Int(shard.into()));
        let now = number(self.clock.wall());
        let statement = if from == 0 && !self.rooted {
            // The row is there already if somebody asked for it, see `standing`.
            Statement::new(
                "INSERT INTO zmsg_ledger (stream, shard, seq, updated_ms) VALUES (?, ?, ?, ?) \
                 ON CONFLICT (stream, shard) DO UPDATE \
                 SET seq = excluded.seq, updated_ms = excluded.updated_ms \
                 WHERE zmsg_ledger.seq = 0",
                vec![stream, shard, number(to), now],
            )
        } else {
            Statement::new(
                "UPDATE zmsg_ledger SET seq = ?, updated_ms = ? \
                 WHERE stream = ? AND shard = ? AND seq = ?",
                vec![number(to), now, stream, shard, number(from)],
            )
        };
        Step::must(statement, Expect::Exactly(1), "the ledger is not where this flush began")
    }

    /// The step that makes the commit of its transaction wait for the disk where the server would
    /// not by itself: an answer that a crash takes back is none.
    pub(super) fn durable(&self) -> Option<Step> {
        match self.store.dialect() {
            Dialect::Sqlite => None,
            Dialect::Postgres => Some(Step::any(Statement::query(
                "SELECT set_config('synchronous_commit', 'on', true) \
                 WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')",
                Vec::new(),
            ))),
        }
    }

    /// The step that lets the statements behind it wait for a lock for a quarter of their time at
    /// most: one that waits fails as such (55P03), and one that is stopped (57014) ran for all of
    /// its time by itself.
    pub(super) fn watchful(&self) -> Option<Step> {
        match self.store.dialect() {
            Dialect::Sqlite => None,
            Dialect::Postgres => Some(Step::any(Statement::query(
                "SELECT set_config('lock_timeout', shorter.wait, true) FROM (\
                   SELECT greatest(1, whole.setting::int / 4)::text AS wait \
                   FROM pg_settings AS whole, pg_settings AS lock \
                   WHERE whole.name = 'statement_timeout' AND whole.setting::int > 0 \
                   AND lock.name = 'lock_timeout' \
                   AND lock.setting::int NOT BETWEEN 1 AND whole.setting::int / 4) AS shorter",
                Vec::new(),
            ))),
        }
    }

    /// Whether the flush took effect, read under the row's lock: a commit that the server is
    /// still working on is waited for, also if it is the first one, whose row nobody else can see
    /// yet.
    ///
    /// # Errors
    /// As the store.
    pub(super) async fn standing(&self, shard: u16, from: u64, to: u64) -> Result<Standing> {
        let (stream, number_of) = (Value::Uuid(self.stream), Value::Int(shard.into()));
        if from == 0 && !self.rooted {
            let now = number(self.clock.wall());
            let begin = Statement::new(
                "INSERT INTO zmsg_ledger (stream, shard, seq, updated_ms) VALUES (?, ?, 0, ?) \
                 ON CONFLICT (stream, shard) DO NOTHING",
                vec![stream.clone(), number_of.clone(), now],
            );
            self.store.execute(&begin).await?;
        }
        let read = Statement::query(
            "UPDATE zmsg_ledger SET seq = seq WHERE stream = ? AND shard = ? RETURNING seq",
            vec![stream, number_of],
        );
        let outcome = self.store.execute(&read).await?;
        let gone = if self.rooted { -1 } else { 0 };
        let seq = outcome.rows.first().map_or(Ok(gone), |row| row.int(0))?;
        match u64::try_from(seq) {
            Ok(seq) if seq == to => Ok(Standing::Applied),
            Ok(seq) if seq == from => Ok(Standing::Pending),
            _ => Ok(Standing::Moved(Error::new(
                ErrorKind::Corrupted,
                "the ledger was moved by somebody else; nothing more is flushed from this shard",
            )
            .with_context("stream", self.stream)
            .with_context("shard", shard)
            .with_context("from", from)
            .with_context("to", to)
            .with_context("found", seq))),
        }
    }

    /// Removes the rows of a stream of which nothing is pending any more.
    pub(crate) async fn forget(&self) -> Result<()> {
        let statement = Statement::new(
            "DELETE FROM zmsg_ledger WHERE stream = ?",
            vec![Value::Uuid(self.stream)],
        );
        self.store.execute(&statement).await.map(drop)
    }
}

fn narrow<T: TryFrom<i64>>(value: i64) -> Result<T> {
    T::try_from(value).map_err(|_| {
        Error::new(ErrorKind::Corrupted, "the ledger holds what zmsg does not write there")
            .with_context("found", value)
    })
}

/// A sequence number or a time as the database holds it.
pub(super) fn number(value: u64) -> Value {
    Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
}
