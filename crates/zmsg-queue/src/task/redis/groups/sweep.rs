//! What is left of tasks in groups where others have aggregated them: what zmsg counts of them, and the names of
//! their groups.

use zmsg_core::Result;
use zmsg_redis::redis::cmd;

use crate::task::redis::RedisTaskQueue;
use crate::task::redis::keys::Keys;
use crate::task::redis::scripts;

/// Entries that one sweep looks at.
const SWEEP: usize = 128;

/// A sweep comes with one of so many tasks that join groups. It looks at two for each of them, so that no more
/// entries outlive their tasks than there are others.
const SWEPT_EVERY: usize = 64;

/// So many sweeps when the queue is full, before that is said.
const SWEEPS_WHEN_FULL: usize = 8;

impl RedisTaskQueue {
    /// Forgets some tasks that others have aggregated; how many. Asked for when the queue is full.
    pub(in crate::task::redis) async fn sweep_grouped(&self, keys: &Keys) -> Result<u64> {
        self.sweep_times(keys, SWEEPS_WHEN_FULL).await
    }

    async fn sweep_times(&self, keys: &Keys, times: usize) -> Result<u64> {
        let mut dropped = 0;
        for _ in 0..times {
            let sample = self.sample(keys).await?;
            let gone = self.sweep(keys, &sample).await?;
            self.forget_groups(keys).await?;
            if gone == 0 {
                break;
            }
            dropped += gone;
        }
        Ok(dropped)
    }

    /// The same now and then, when so many tasks have joined groups.
    pub(in crate::task::redis) async fn sweep_grouped_at_times(&self, keys: &Keys, joined: usize) {
        let one_more = fastrand::usize(..SWEPT_EVERY) < joined % SWEPT_EVERY;
        let sweeps = joined / SWEPT_EVERY + usize::from(one_more);
        if sweeps == 0 {
            return;
        }
        match self.sweep_times(keys, sweeps).await {
            Ok(dropped) => tracing::debug!(dropped, "swept tasks that others have aggregated"),
            // The tasks are accepted: a later enqueue sweeps.
            Err(error) => {
                tracing::debug!(%error, "could not sweep tasks that others have aggregated")
            }
        }
    }

    async fn sample(&self, keys: &Keys) -> Result<Vec<String>> {
        let mut ask = cmd("ZRANDMEMBER");
        self.redis.query(ask.arg(keys.grouped()).arg(SWEEP)).await
    }

    /// Takes away some names of groups that nothing waits in. A sweep can put one back that asynq has taken
    /// away, of a group whose members stand in a closed set; nobody closes such a group again.
    async fn forget_groups(&self, keys: &Keys) -> Result<()> {
        // A page from anywhere, and from the beginning where that was the end.
        let (next, mut names) = self.page_of_groups(keys, fastrand::u32(..)).await?;
        if next == "0" {
            names.extend(self.page_of_groups(keys, 0).await?.1);
        }
        if names.is_empty() {
            return Ok(());
        }
        let mut all = vec![keys.groups()];
        all.extend(names.iter().map(|name| keys.group(name)));
        let gone: u64 = self.redis.script(&scripts::FORGET_GROUPS, &all, &names).await?;
        tracing::debug!(gone, "took away names of groups that nothing waits in");
        Ok(())
    }

    /// Where the next page begins, and the names of this one.
    async fn page_of_groups(&self, keys: &Keys, from: u32) -> Result<(String, Vec<String>)> {
        let mut ask = cmd("SSCAN");
        self.redis.query(ask.arg(keys.groups()).arg(from).arg("COUNT").arg(SWEEP)).await
    }
}
