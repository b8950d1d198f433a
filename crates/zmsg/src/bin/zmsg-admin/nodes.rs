//! The node numbers of ids that processes hold by leases in the database.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use zmsg::core::Statement;
use zmsg::idgen::{HeldNode, held_nodes};
use zmsg::store::SqlStore;

use crate::database::Database;

/// Holders reserve time for some seconds beyond their lease at most, whatever their options.
const AHEAD_NOTICE: Duration = Duration::from_secs(60);

#[derive(Debug, Subcommand)]
pub(crate) enum Nodes {
    /// Show the node numbers that are held, and by whom.
    List {
        #[command(flatten)]
        database: Database,
        /// How many.
        #[arg(long, default_value_t = 1024)]
        limit: u32,
    },
    /// End a lease: of a process that is gone, so that its number need not wait for the lease's end.
    ///
    /// Ids stay unique also if the process is alive: whoever leases the number next starts above
    /// the time that was reserved. A process that is alive loses its number and leases another.
    Free {
        #[command(flatten)]
        database: Database,
        /// The cluster, as listed.
        cluster: String,
        /// The number of the node, as listed.
        node: u32,
    },
}

pub(crate) async fn run(action: Nodes) -> Result<()> {
    match action {
        Nodes::List { database, limit } => {
            let opened = database.open().await?;
            let nodes = held_nodes(&*opened.store, limit).await;
            let nodes =
                nodes.context("could not read the nodes; `migrate up` makes their tables")?;
            if nodes.is_empty() {
                println!("no node is held");
            }
            for node in &nodes {
                println!("{}", line(node));
            }
            opened.close().await
        }
        Nodes::Free { database, cluster, node } => {
            let opened = database.open().await?;
            if !free(&*opened.store, &cluster, node).await? {
                bail!("nobody holds node {node} of cluster {}", cluster.escape_debug());
            }
            println!("freed: {}  {node}", cluster.escape_debug());
            opened.close().await
        }
    }
}

/// The ceiling stays: it is what keeps the next holder's ids apart from those of this one.
async fn free(store: &dyn SqlStore, cluster: &str, node: u32) -> Result<bool> {
    let text = "UPDATE zmsg_node SET lease_until_ms = 0 \
                WHERE cluster = ? AND node = ? AND lease_until_ms <> 0";
    let statement = Statement::new(text, vec![cluster.into(), i64::from(node).into()]);
    let freed = store.execute(&statement).await;
    Ok(freed.context("could not free the node; `migrate up` makes the tables")?.changed == 1)
}

fn line(node: &HeldNode) -> String {
    let HeldNode { cluster, node, epoch, holder, held_for, lease_left, reserved } = node;
    let ahead = *reserved > *lease_left + AHEAD_NOTICE;
    format!(
        "{}  {node}  {}  epoch {epoch}  held for {}  lease left {}  reserved ahead {}{}",
        cluster.escape_debug(),
        holder.escape_debug(),
        short(*held_for),
        short(*lease_left),
        short(*reserved),
        if ahead { "  FAR AHEAD: a holder's clock is or was" } else { "" }
    )
}

/// Two units at most: `2h 3m`.
fn short(span: Duration) -> String {
    let whole = humantime::format_duration(Duration::from_secs(span.as_secs())).to_string();
    whole.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_is_reserved_far_beyond_the_lease_is_marked() {
        let node = |reserved| HeldNode {
            cluster: "zmsg".to_owned(),
            node: 3,
            epoch: 12,
            holder: "host\u{1b}[2J process 7".to_owned(),
            held_for: Duration::from_millis(93_784_999),
            lease_left: Duration::from_secs(29),
            reserved: Duration::from_secs(reserved),
        };
        assert_eq!(
            line(&node(49)),
            "zmsg  3  host\\u{1b}[2J process 7  epoch 12  held for 1day 2h  lease left 29s  reserved ahead 49s"
        );
        assert!(
            line(&node(90))
                .ends_with("reserved ahead 1m 30s  FAR AHEAD: a holder's clock is or was")
        );
    }
}
