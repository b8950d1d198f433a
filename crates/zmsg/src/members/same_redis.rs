//! Whether the Redis of an engine is that of the others: addresses do not tell.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;
use zmsg_core::Result;

use super::{BEAT, Member};

/// So many marks of another have to reach its Redis, and none of them ours, before it counts as
/// another Redis: a flush, a restart and a failover take marks away once.
const PROOF: i64 = 3;

/// How long another that puts no marks is waited for: it was killed, or has no Redis itself now.
const QUIET: Duration = Duration::from_millis(2 * BEAT.as_millis() as u64 + 500);

/// How often Redis is asked that does not answer: its first connection may take a moment.
const ASKS: u32 = 3;

/// How long all of it may take.
const LONGEST: Duration = Duration::from_secs(20);

impl Member {
    /// Puts the own mark, and looks for those of the others. Without an answer of Redis the engine
    /// opens unchecked, as it opens without Redis.
    ///
    /// # Errors
    /// `InvalidConfig` naming a node whose marks do not come to this Redis; what the store says.
    pub(super) async fn check_redis(&self) -> Result<()> {
        if !self.rows.shares().in_redis() {
            return Ok(());
        }
        let put = self.marks.put(self.rows.id()).await;
        let mut renewed = self.renew(put).await?;
        let begun = Instant::now();
        let mut pause = Duration::from_millis(10);
        // The marks that those whose mark was not seen yet had put at the first look.
        let mut missing: HashMap<Uuid, Option<i64>> = HashMap::new();
        let mut unanswered = 0;
        loop {
            let mut others = self.rows.others().await?;
            others.retain(|other| other.shares.in_redis() && missing.get(&other.id) != Some(&None));
            let ids: Vec<Uuid> = others.iter().map(|other| other.id).collect();
            if ids.is_empty() {
                return Ok(());
            }
            let Some(seen) = self.marks.seen(&ids).await else {
                unanswered += 1;
                if unanswered == ASKS {
                    return Ok(());
                }
                continue;
            };
            let mut moved = false;
            let mut waits = false;
            for (other, seen) in others.iter().zip(seen) {
                if seen {
                    missing.insert(other.id, None);
                    continue;
                }
                waits = true;
                let first = missing.entry(other.id).or_insert(Some(other.marks));
                let more = other.marks - first.unwrap_or(other.marks);
                moved |= more > 0;
                if more >= PROOF {
                    return Err(self.refused(
                        "another node is open on this database whose Redis is not the one of this \
                         node: what it puts there is not found here",
                        other,
                    ));
                }
            }
            let patience = if moved { LONGEST } else { QUIET };
            if !waits || begun.elapsed() > patience {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BEAT / 4);
            if renewed.elapsed() > BEAT {
                renewed = self.renew(false).await?;
            }
        }
    }

    async fn renew(&self, put: bool) -> Result<Instant> {
        self.rows.renew(i64::from(put)).await?;
        Ok(Instant::now())
    }
}
