//! The nodes that are held, for people.

use std::time::Duration;

use zmsg_core::{Result, Row, Statement};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::SqlStore;

use super::statements::now;
use super::stored;

/// A node that a process holds, by the database's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldNode {
    /// The cluster that the node belongs to.
    pub cluster: String,
    /// The number of the node.
    pub node: u32,
    /// How many leases the node has had, this one included.
    pub epoch: u64,
    /// What its holder calls itself.
    pub holder: String,
    /// How long ago it was leased.
    pub held_for: Duration,
    /// When the lease ends, if nobody renews it.
    pub lease_left: Duration,
    /// How far the holder's reserved time goes beyond the present. Much more than what is
    /// reserved ahead: its clock, or that of a holder before it, is or was ahead.
    pub reserved: Duration,
}

/// The first `nodes_max` nodes that are held in a database, of all clusters, by cluster and number.
///
/// # Errors
/// Those of the store; `Corrupted` for a row that cannot be read.
///
/// # Cancel safety
/// It only reads.
pub async fn held_nodes(store: &dyn SqlStore, nodes_max: u32) -> Result<Vec<HeldNode>> {
    let query = query(store.dialect(), nodes_max);
    store.fetch(&query).await?.iter().map(read).collect()
}

fn query(dialect: Dialect, nodes_max: u32) -> Statement {
    let text = "SELECT cluster, node, epoch, COALESCE(holder, ''), {now} - acquired_ms, \
                lease_until_ms - {now}, ceiling_ms - {now} FROM zmsg_node \
                WHERE lease_until_ms > {now} \
                ORDER BY cluster, node LIMIT ?";
    Statement::query(text.replace("{now}", now(dialect)), vec![i64::from(nodes_max).into()])
}

fn read(row: &Row) -> Result<HeldNode> {
    // A clock that was set back makes a past of the future, which is no reason to show nothing.
    let span = |index| -> Result<Duration> {
        Ok(Duration::from_millis(u64::try_from(row.int(index)?).unwrap_or(0)))
    };
    Ok(HeldNode {
        cluster: row.text(0)?.to_owned(),
        node: u32::try_from(stored(row, 1)?).unwrap_or(u32::MAX),
        epoch: stored(row, 2)?,
        holder: row.text(3)?.to_owned(),
        held_for: span(4)?,
        lease_left: span(5)?,
        reserved: span(6)?,
    })
}
