//! The engines that are open on a database: what they share in Redis has to be the same.
//!
//! A node without Redis tells L2 nothing of its writes, and a node with another namespace tells a
//! shared filter nothing of its rows. So each engine on PostgreSQL keeps a row that says what it
//! shares, and one that shares something else is refused while the row's lease lasts. Whoever comes
//! second is refused: engines enter one after the other, under a lock of the table.

mod shares;
mod keeper;
mod rows;
mod marks;
mod same_redis;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use zmsg_core::{Error, Result};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::SqlStore;

use crate::assemble::Servers;

use self::marks::Marks;
pub(crate) use self::rows::live;
use self::rows::{Other, Rows};
pub(crate) use self::shares::Shares;

/// How often a row is renewed.
const BEAT: Duration = Duration::from_secs(2);

/// How long a row counts that is not renewed: how long a node that was killed keeps others away
/// that share something else.
const LEASE: Duration = Duration::from_secs(10);

/// How often an engine tries to enter while the row that kept it away is gone each time it looks.
const ATTEMPTS: u32 = 10;

/// What to do about a refusal.
const HINT: &str = "give all nodes of a database the same redis.url, redis.namespace, \
                    cache.remote.backend and filter.backend, and change them while all nodes are \
                    stopped; a node that was killed is forgotten after 10 seconds";

/// This engine among those that are open on its database.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    rows: Rows,
    marks: Marks,
}

impl Member {
    /// Enters, if nobody is there who shares something else. `None` on a database that has no such
    /// rows: a file.
    ///
    /// `store` is the database itself: a row of this table is no row of the application, which a
    /// filter would have to know.
    ///
    /// # Errors
    /// `InvalidConfig` that names both sides; what the store says.
    ///
    /// # Cancel safety
    /// A dropped call may leave a row behind, for as long as its lease.
    pub(crate) async fn enter(
        store: &Arc<dyn SqlStore>,
        servers: &Servers,
        shares: Shares,
        holder: String,
    ) -> Result<Option<Self>> {
        if store.dialect() != Dialect::Postgres {
            return Ok(None);
        }
        let marks = Marks::new(servers, &shares);
        let rows = Rows::new(Arc::clone(store), Uuid::new_v4(), holder, shares);
        let member = Self { rows, marks };
        member.enter_rows().await?;
        if let Err(error) = member.check_redis().await {
            member.leave().await;
            return Err(error);
        }
        Ok(Some(member))
    }

    /// The name of its row.
    pub(crate) fn id(&self) -> Uuid {
        self.rows.id()
    }

    /// The database itself, for rows that are none of the application's.
    pub(crate) fn store(&self) -> Arc<dyn SqlStore> {
        self.rows.store()
    }

    async fn enter_rows(&self) -> Result<()> {
        for _ in 0..ATTEMPTS {
            if self.rows.enter().await? {
                return Ok(());
            }
            if let Some(other) = self.rows.different().await? {
                return Err(self.refused(
                    "another node is open on this database that shares something else with the \
                     others in Redis",
                    &other,
                ));
            }
        }
        Err(Error::invalid_config("nodes come and go that share something else with the others")
            .with_context("hint", HINT))
    }

    fn refused(&self, message: &'static str, other: &Other) -> Error {
        Error::invalid_config(message)
            .with_context("this node", self.rows.shares())
            .with_context("the other node", &other.shares)
            .with_context("which is", &other.holder)
            .with_context("open for", format_args!("{} s", other.age.as_secs()))
            .with_context("hint", HINT)
            .during("zmsg.open")
    }

    /// Removes the notes of its flushes: the caches have followed all of them.
    pub(crate) async fn forget_flushes(&self) {
        if let Err(error) = self.rows.forget_flushes().await {
            tracing::debug!(%error, "others see to the notes of this node");
        }
    }

    /// Removes the row; if that fails, it expires.
    pub(crate) async fn leave(&self) {
        self.marks.remove(self.rows.id()).await;
        if let Err(error) = self.rows.leave().await {
            tracing::debug!(%error, "the row of this node stays until its lease ends");
        }
    }
}
