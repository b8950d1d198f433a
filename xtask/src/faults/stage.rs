//! What a fault has at hand: the servers, the database, and how far `feed` has come.

use std::time::Duration;

use anyhow::{Result, bail};
use zmsg_testbed::private::until;

use super::process::Process;
use super::redises::Redises;
use super::servers::Servers;
use super::sql::Sql;

/// How long the example may take to come as far as a fault wants.
const BOUND: Duration = Duration::from_secs(60);

/// The middle of a run.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) servers: &'a Servers,
    /// Other servers of Redis than the one that is shared.
    pub(super) redises: &'a Redises,
    /// Past the proxy.
    pub(super) sql: Sql,
    pub(super) feed: Process,
    /// Messages of the whole run.
    pub(super) messages: u64,
}

impl Stage<'_> {
    /// Waits until so many percent of the messages are in their table. A server that is away is
    /// waited for.
    ///
    /// # Errors
    /// If the example ends before, or does not come so far in a minute.
    pub(super) fn reached(&mut self, percent: u64) -> Result<()> {
        let wanted = self.messages * percent / 100;
        let mut found = 0;
        let there = until(BOUND, || {
            found = self.sql.number("SELECT count(*) FROM messages").unwrap_or(found);
            found >= wanted || !self.feed.is_running()
        });
        if !self.feed.is_running() {
            bail!("feed ended before its {wanted} messages of {} were there", self.messages);
        }
        if !there {
            bail!("feed stands still: {found} of {wanted} messages within {BOUND:?}");
        }
        Ok(())
    }

    /// Does something at every tenth part of the run, from 20 to 80 percent; how often it did.
    ///
    /// # Errors
    /// As [`reached`](Self::reached), and those of what is done.
    pub(super) fn at_every_tenth(
        &mut self,
        mut strike: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<usize> {
        let mut times = 0;
        for percent in (20..=80).step_by(10) {
            self.reached(percent)?;
            strike(self)?;
            times += 1;
        }
        Ok(times)
    }
}

/// Lets a fault last.
pub(super) fn last(time: Duration) {
    until(time, || false);
}
