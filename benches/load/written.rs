//! Whether every write is in the store: nothing lost, nothing twice.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use zmsg::{Zmsg, sql};

use super::measure::{Measured, Writes};
use super::mix::Kind;

/// How often the queue is asked whether it is empty, and how many times.
const PAUSE: Duration = Duration::from_millis(20);
const LOOKS: usize = 9_000;

/// Waits until no delayed write is left.
pub(super) async fn drained(zmsg: &Zmsg) -> Result<()> {
    for _ in 0..LOOKS {
        let queue = zmsg.stats().await.queue.context("the queue cannot be asked")?;
        if queue.pending + queue.leased == 0 {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("the queue of the delayed route did not become empty")
}

/// What the table does not have as often as it was written.
pub(super) async fn differences(
    zmsg: &Zmsg,
    table: &str,
    measured: &Measured,
) -> Result<Vec<String>> {
    let sum = |column: &str| format!("CAST(COALESCE(SUM({column}), 0) AS BIGINT)");
    let sums = ["stored", "queued", "hits"].map(sum).join(", ");
    let rows = zmsg.sql_exec(sql(format!("SELECT {sums} FROM {table}"), ())).await?.rows;
    let row = rows.first().context("the sums are one row")?;
    let mut differences = Vec::new();
    let kinds = [Kind::CacheAndStore, Kind::CacheAndDelayStore, Kind::CacheAndPeriodicStore];
    for (at, kind) in kinds.into_iter().enumerate() {
        let found = u64::try_from(row.int(at)?).context("a sum is below 0")?;
        differences.extend(difference(kind, found, measured.writes(kind)));
    }
    for dead in zmsg.dead_letters().list(10).await? {
        differences.push(format!("dead letter {}: {} ({})", dead.id, dead.summary, dead.cause));
    }
    Ok(differences)
}

fn difference(kind: Kind, found: u64, Writes { accepted, unknown }: Writes) -> Option<String> {
    if (accepted..=accepted + unknown).contains(&found) {
        return None;
    }
    Some(format!(
        "{kind}: {accepted} writes were accepted, of {unknown} the outcome is unknown, and the store has {found}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_of_unknown_outcome_may_be_there_or_not() {
        let writes = Writes { accepted: 10, unknown: 2 };
        let is_right = |found| difference(Kind::CacheAndStore, found, writes).is_none();
        assert_eq!([9, 10, 11, 12, 13].map(is_right), [false, true, true, true, false]);
    }
}
