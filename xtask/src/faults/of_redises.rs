//! What happens to sentinels' masters and to clusters.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::resp::{command, info};
use super::stage::{Stage, last};

/// Scripts that clients called: what a replica is told of is their effect.
const CALLS: &str = "cmdstat_evalsha:calls=";

pub(super) fn failed_over(stage: &mut Stage<'_>) -> Result<String> {
    let group = stage.redises.group()?;
    stage.reached(35)?;
    let before = info(&group.replica, "commandstats", CALLS)?;
    group.master.kill();
    group.failed_over()?;
    stage.reached(60)?;
    // It comes back as a master by its own account, and becomes the replica of the new one.
    group.master.restart();
    stage.reached(85)?;
    let role = command(&group.replica, &["INFO", "replication"])?;
    ensure!(role.contains("role:master"), "the replica is no master");
    let calls = info(&group.replica, "commandstats", CALLS)?.saturating_sub(before);
    ensure!(calls > 0, "nobody came to the new master");
    Ok(format!("{calls} scripts on the new master"))
}

pub(super) fn node_older(stage: &mut Stage<'_>) -> Result<String> {
    let nodes = stage.redises.nodes()?;
    stage.reached(25)?;
    for node in nodes {
        command(node, &["SAVE"])?;
    }
    let mut keys = 0;
    for (percent, node) in [40, 55, 70].into_iter().zip(nodes) {
        stage.reached(percent)?;
        node.kill();
        last(Duration::from_millis(300));
        node.restart();
        let own: u64 = command(node, &["DBSIZE"])?.parse()?;
        ensure!(own > 0, "a node saved nothing");
        keys += own;
    }
    Ok(format!("{keys} keys of before"))
}
