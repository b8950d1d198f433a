//! The groups of a memory queue.

use std::time::Duration;

use async_trait::async_trait;
use zmsg_core::Result;

use super::MemoryTaskQueue;
use crate::task::groups::{ClosedGroup, GroupInfo, GroupRules, RipeGroups, TaskGroups, checked};
use crate::task::record::{NewTask, lease_end};

#[async_trait]
impl TaskGroups for MemoryTaskQueue {
    async fn groups(&self, queue: &str) -> Result<Vec<GroupInfo>> {
        Ok(self.open()?.groups(queue, self.clock.wall()))
    }

    async fn ripe_groups(&self, queue: &str, rules: &GroupRules) -> Result<RipeGroups> {
        Ok(self.open()?.ripe_groups(queue, rules, self.clock.wall()))
    }

    async fn close_group(
        &self,
        queue: &str,
        group: &str,
        rules: &GroupRules,
        lease: Duration,
    ) -> Result<Option<ClosedGroup>> {
        let now = self.clock.wall();
        Ok(self.open()?.close_group(queue, group, rules, now, lease_end(now, lease)))
    }

    async fn settle_group(&self, closed: &ClosedGroup, aggregate: NewTask) -> Result<bool> {
        let aggregate = checked(closed, aggregate)?;
        aggregate.check_for_memory("memory")?;
        let settled = self.open()?.settle_group(closed, aggregate, self.clock.wall())?;
        Ok(self.told(settled))
    }

    async fn reopen_group(&self, closed: &ClosedGroup) -> Result<bool> {
        Ok(self.open()?.reopen_group(closed.set))
    }

    async fn reopen_overdue(&self, queue: &str) -> Result<u64> {
        Ok(self.open()?.reopen_overdue(queue, self.clock.wall()) as u64)
    }
}
