//! Node leases in a database, for the processes of many machines.

mod options;
mod statements;
mod view;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use zmsg_core::{Backoff, Error, ErrorKind, Result, Row, Statement, UnixMillis, Value};
use zmsg_store::{SqlStore, Step};

pub use self::options::SqlLeaseOptions;
pub use self::view::{HeldNode, held_nodes};

use self::statements::Statements;
use crate::lease::millis;
use crate::{Layout, Lease, NodeLease, Reserve};

/// How often a starter looks for a node before it says that every node is held.
const ATTEMPTS: u32 = 5;

/// How far a process's clock may stray from the database's before it is said.
const STRAY_NOTICE_MS: u64 = 5_000;

/// Nodes in the table `zmsg_node` of a [`SqlStore`], one row each.
///
/// The rows of a [cluster](SqlLeaseOptions::cluster) are made by whoever leases its first node,
/// together with the layout of its ids. A lease ends when it was not renewed for
/// [`lease`](SqlLeaseOptions::lease), by the database's clock; no other clock is asked. What
/// became of a request whose answer was lost does not matter: a node that was leased to nobody's
/// knowledge is free again when its lease ends.
///
/// - Floors lie at or above the database's present, too. So a ceiling that was forgotten, by a
///   standby that took over without the last commits, does no harm if these were of less than
///   `lease + grace - reserve_ahead`, no acquisition was among them and the clocks agree. To depend
///   on none of that, let the database commit synchronously to its standby.
/// - On PostgreSQL, the commits of leases wait for the disk even where `synchronous_commit` is off.
/// - On SQLite, for the processes of one machine: the file has to be on a local disk.
///
/// Migrations make the tables: [`Migrations::zmsg`](zmsg_store::Migrations::zmsg).
#[derive(Debug)]
pub struct SqlLease {
    store: Arc<dyn SqlStore>,
    options: SqlLeaseOptions,
    statements: Statements,
}

/// What an attempt to lease a node came to.
#[derive(Debug)]
enum Found {
    Node(Lease),
    /// No node was free, those that others were choosing at that moment included.
    Nothing(Pool),
    /// The cluster had no nodes yet, and has some now.
    Seeded,
}

/// What was found of a cluster.
#[derive(Debug)]
struct Pool {
    layout: String,
    nodes: u64,
    /// When the first lease ends, from now; negative in the past.
    first_end_ms: i64,
}

impl SqlLease {
    /// The most bits of node that a layout may have here: each node is a row.
    pub const NODE_BITS_MAX: u8 = 16;

    /// Leases in this store's tables.
    ///
    /// # Errors
    /// `InvalidConfig` for options out of range.
    pub fn new(store: Arc<dyn SqlStore>, options: SqlLeaseOptions) -> Result<Self> {
        options.validate()?;
        let statements = Statements::new(store.dialect());
        Ok(Self { store, options, statements })
    }

    /// Looks for a node a few times: others may hold the lock of every free row for the moment of
    /// their own attempts, or their transactions may be in the way.
    async fn look_for_node(&self, want: &Reserve) -> Result<Lease> {
        let backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(200));
        let mut attempts = 0;
        loop {
            let found = self.attempt(want).await;
            attempts += 1;
            let last = attempts >= ATTEMPTS;
            match found {
                Ok(Found::Node(lease)) => return Ok(lease),
                Ok(Found::Nothing(pool)) if last => return Err(self.every_node_is_held(&pool)),
                Err(error) if last || !error.is_temporary() => return Err(error),
                Ok(Found::Seeded) => {}
                Ok(Found::Nothing(_)) | Err(_) => {
                    tokio::time::sleep(backoff.delay(attempts)).await;
                }
            }
        }
    }

    async fn attempt(&self, want: &Reserve) -> Result<Found> {
        let owner = Uuid::new_v4();
        let statement = self.statements.acquire(&self.options, want, owner)?;
        let Some(row) = self.request(statement).await? else {
            return self.inspect(&want.layout).await;
        };
        let (epoch, ceiling_ms) = (stored(&row, 1)?, stored(&row, 2)?);
        self.notice_stray(want, stored(&row, 3)?);
        Ok(Found::Node(Lease {
            node: u32::try_from(stored(&row, 0)?).unwrap_or(u32::MAX),
            epoch,
            owner,
            floor_ms: ceiling_ms.saturating_sub(millis(want.ahead)),
            ceiling_ms,
            valid_for: self.options.lease,
        }))
    }

    /// Looks why there was no node, and makes the nodes of a cluster that has none yet.
    async fn inspect(&self, layout: &Layout) -> Result<Found> {
        let Some(pool) = self.pool().await? else {
            self.seed(layout).await?;
            return Ok(Found::Seeded);
        };
        if pool.layout != layout.to_string() {
            return Err(Error::invalid_config(
                "the node leases were made for another layout of ids",
            )
            .with_context("cluster", &self.options.cluster)
            .with_context("stored", pool.layout)
            .with_context("configured", layout));
        }
        if pool.nodes != u64::from(layout.nodes()) {
            return Err(Error::new(ErrorKind::Corrupted, "rows of zmsg_node have vanished")
                .with_context("cluster", &self.options.cluster)
                .with_context("nodes", layout.nodes())
                .with_context("rows", pool.nodes));
        }
        Ok(Found::Nothing(pool))
    }

    async fn pool(&self) -> Result<Option<Pool>> {
        let state = self.statements.state(&self.options);
        let rows = self.store.fetch(&state).await.map_err(|error| self.of_the_store(error))?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Pool {
            layout: row.text(0)?.to_owned(),
            nodes: stored(row, 1)?,
            first_end_ms: row.at(2)?.as_int().unwrap_or(0),
        }))
    }

    async fn seed(&self, layout: &Layout) -> Result<()> {
        let steps = self.statements.seed(&self.options, layout).map(Step::any).into();
        let seeded = self.store.execute_all(steps).await;
        seeded.map(drop).map_err(|failed| self.of_the_store(failed.into()))
    }

    /// Runs a statement that returns one row or none.
    async fn request(&self, statement: Statement) -> Result<Option<Row>> {
        let outcome = self.store.execute(&statement).await;
        let outcome = outcome.map_err(|error| self.of_the_store(error))?;
        Ok(outcome.rows.into_iter().next())
    }

    /// Whatever the store calls a conflict is about its transactions; here that word is kept for
    /// leases.
    fn of_the_store(&self, error: Error) -> Error {
        let error = match error.kind() {
            ErrorKind::Conflict => {
                let status = error.status();
                Error::new(ErrorKind::Unavailable, "others were at work on the id nodes")
                    .with_status(status)
                    .with_source(error)
            }
            _ => error,
        };
        error.with_context("cluster", &self.options.cluster)
    }

    /// Bounds a call in time. What was given up or got no answer may still take effect, and that
    /// does no harm: it is enough to say that trying again may help.
    async fn bounded<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let patience = self.options.request_timeout;
        let result = tokio::time::timeout(patience, call).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "the database of the id nodes did not answer")
                .with_context("cluster", &self.options.cluster)
                .with_context("waited", format!("{patience:?}"))
                .temporary())
        });
        result.map_err(|error| if error.is_outcome_unknown() { error.temporary() } else { error })
    }

    fn every_node_is_held(&self, pool: &Pool) -> Error {
        Error::new(ErrorKind::Conflict, "every node is held")
            .temporary()
            .with_context("cluster", &self.options.cluster)
            .with_context("nodes", pool.nodes)
            .with_context("first_lease_ends_in_ms", pool.first_end_ms.max(0))
    }

    fn not_ours(&self, lease: &Lease) -> Error {
        Error::new(ErrorKind::Conflict, "the lease of the node is no longer ours")
            .with_context("cluster", &self.options.cluster)
            .with_context("node", lease.node)
            .with_context("epoch", lease.epoch)
    }

    /// Ids are unique whatever the clocks show, but they tell the time of whichever is ahead.
    fn notice_stray(&self, want: &Reserve, database_ms: UnixMillis) {
        if want.from_ms.abs_diff(database_ms) > STRAY_NOTICE_MS {
            let cluster = &self.options.cluster;
            tracing::warn!(
                cluster,
                ours_ms = want.from_ms,
                database_ms,
                "the clocks of this process and of the database differ"
            );
        }
    }
}

#[async_trait]
impl NodeLease for SqlLease {
    async fn acquire(&self, want: Reserve) -> Result<Lease> {
        if want.layout.node_bits() > Self::NODE_BITS_MAX {
            return Err(Error::invalid_config("a database leases nodes of at most 16 bits")
                .with_context("layout", want.layout));
        }
        self.bounded(self.look_for_node(&want)).await
    }

    async fn extend(&self, lease: &Lease, ceiling_ms: UnixMillis) -> Result<Lease> {
        let statement = self.statements.extend(&self.options, lease, ceiling_ms)?;
        let extended = self.bounded(self.request(statement)).await?;
        let row = extended.ok_or_else(|| self.not_ours(lease))?;
        let (ceiling_ms, valid_for) = (stored(&row, 0)?, self.options.lease);
        Ok(Lease { ceiling_ms, valid_for, ..lease.clone() })
    }

    async fn release(&self, lease: Lease, last_issued_ms: UnixMillis) -> Result<()> {
        let ceiling_ms = lease.ceiling_after(last_issued_ms);
        let statement = self.statements.release(&self.options, &lease, ceiling_ms)?;
        let released = self.bounded(self.request(statement)).await?;
        released.map(drop).ok_or_else(|| self.not_ours(&lease))
    }
}

/// A number of the table, none of which is ever negative.
fn stored(row: &Row, index: usize) -> Result<u64> {
    let value = row.at(index)?.as_int();
    value.and_then(|value| u64::try_from(value).ok()).ok_or_else(|| {
        let column = row.columns().get(index).map_or("?", String::as_str);
        Error::new(ErrorKind::Corrupted, "a row of zmsg_node cannot be read")
            .with_context("column", column)
            .with_context("value", format!("{:?}", row.values().get(index).unwrap_or(&Value::Null)))
    })
}
