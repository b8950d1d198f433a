//! Firings of periodic tasks: the record of an entry is changed by the script that enqueues its task.

use zmsg_core::{Error, ErrorKind, Result, UnixMillis};
use zmsg_redis::redis::cmd;

use super::RedisTaskQueue;
use super::keys::Keys;
use crate::task::periodic::Firing;
use crate::task::record::Enqueued;

impl RedisTaskQueue {
    pub(super) async fn fire(&self, firing: Firing) -> Result<Enqueued> {
        let (entry, moment) = (firing.entry().to_owned(), firing.moment());
        let answers = self.take_in(vec![firing.into_task()], Some((&entry, moment))).await?;
        answers.first().copied().ok_or_else(|| {
            Error::new(ErrorKind::Unexpected, "Redis did not say what came of a firing")
        })
    }

    pub(super) async fn find_firing(&self, queue: &str, entry: &str) -> Result<Option<UnixMillis>> {
        let mut ask = cmd("ZSCORE");
        ask.arg(Keys::of(queue).periodic()).arg(entry);
        let moment: Option<f64> = self.redis.query(&ask).await?;
        // Whole milliseconds below 2^53.
        Ok(moment.map(|moment| moment.max(0.0) as u64))
    }

    /// What the script says that took nothing in.
    pub(super) fn refused(
        &self,
        said: Option<&i64>,
        firing: Option<(&str, UnixMillis)>,
    ) -> Result<Vec<Enqueued>> {
        match (said, firing) {
            (Some(-2), Some((_, moment))) => Err(Firing::early(moment)),
            (Some(-3), Some(_)) => Ok(vec![Enqueued::Duplicate]),
            (Some(-4), Some(_)) => Err(Firing::too_many()),
            _ => Err(self.full()),
        }
    }
}

/// What the script that takes in a firing is told of it.
pub(super) fn firing_args(entry: &str, moment: UnixMillis) -> [Vec<u8>; 5] {
    let [early, kept] = [Firing::EARLY_MAX_MS, Firing::KEPT_MS].map(|it| it.to_string());
    let entries_max = Firing::ENTRIES_MAX.to_string();
    [entry.to_owned(), moment.to_string(), early, kept, entries_max].map(String::into_bytes)
}
