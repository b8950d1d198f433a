//! The keys of a queue: those of Go's asynq, and those that zmsg has besides.
//!
//! Everything of a queue stands under one hash tag, so that scripts may use it in a cluster.

use md5::{Digest as _, Md5};
use zmsg_core::UnixMillis;
use zmsg_redis::RedisKey;

/// The names of all queues, for tools that list them. The one key that no script touches: it is on
/// another node of a cluster.
pub(super) const QUEUES: &str = "asynq:queues";

/// The keys of one queue.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    asynq: String,
    zmsg: String,
}

impl Keys {
    pub(super) fn of(queue: &str) -> Self {
        Self { asynq: format!("asynq:{{{queue}}}"), zmsg: format!("zmsg:{{{queue}}}") }
    }

    fn asynq(&self, part: &str) -> RedisKey {
        RedisKey::verbatim(format!("{}:{part}", self.asynq))
    }

    fn own(&self, part: &str) -> RedisKey {
        RedisKey::verbatim(format!("{}:{part}", self.zmsg))
    }

    /// A task's hash.
    pub(super) fn task(&self, id: &str) -> RedisKey {
        RedisKey::verbatim(format!("{}:t:{id}", self.asynq))
    }

    /// A list of those that may be taken now, the oldest last.
    pub(super) fn pending(&self) -> RedisKey {
        self.asynq("pending")
    }

    /// A list of those that a worker has.
    pub(super) fn active(&self) -> RedisKey {
        self.asynq("active")
    }

    /// Their leases, by the end in seconds.
    pub(super) fn lease(&self) -> RedisKey {
        self.asynq("lease")
    }

    /// Those that wait for their time, by it in seconds.
    pub(super) fn scheduled(&self) -> RedisKey {
        self.asynq("scheduled")
    }

    /// The same, of those that failed.
    pub(super) fn retry(&self) -> RedisKey {
        self.asynq("retry")
    }

    /// Dead letters, by when they died in seconds.
    pub(super) fn archived(&self) -> RedisKey {
        self.asynq("archived")
    }

    /// Those that are done and are kept, by until when in seconds.
    pub(super) fn completed(&self) -> RedisKey {
        self.asynq("completed")
    }

    /// There while another task of this kind and payload is refused.
    pub(super) fn unique(&self, kind: &str, payload: &[u8]) -> RedisKey {
        // asynq takes MD5, and nothing of a payload that is none.
        let digest: String = match payload {
            [] => String::new(),
            payload => Md5::digest(payload).iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        self.asynq(&format!("unique:{kind}:{digest}"))
    }

    /// There while the queue is not to be worked.
    pub(super) fn paused(&self) -> RedisKey {
        self.asynq("paused")
    }

    /// The names of groups.
    pub(super) fn groups(&self) -> RedisKey {
        self.asynq("groups")
    }

    /// Those that wait in a group, by when they joined it in seconds.
    pub(super) fn group(&self, group: &str) -> RedisKey {
        RedisKey::verbatim(format!("{}:g:{group}", self.asynq))
    }

    /// Those of a group that an aggregator has.
    pub(super) fn set(&self, group: &str, set: &str) -> RedisKey {
        RedisKey::verbatim(format!("{}:g:{group}:{set}", self.asynq))
    }

    /// The keys of all such sets, by their deadlines in seconds.
    pub(super) fn sets(&self) -> RedisKey {
        self.asynq("aggregation_sets")
    }

    /// The group whose set has this key.
    pub(super) fn group_of_set<'a>(&self, set: &'a str) -> Option<&'a str> {
        let named = set.strip_prefix(&self.asynq)?.strip_prefix(":g:")?;
        named.rsplit_once(':').map(|(group, _)| group)
    }

    /// Tasks that zmsg has put into groups, by when it did.
    pub(super) fn grouped(&self) -> RedisKey {
        self.own("grouped")
    }

    /// Of all that wait: when they are due, in milliseconds.
    pub(super) fn due(&self) -> RedisKey {
        self.own("due")
    }

    /// Of all that a worker of ours has: when they were due.
    pub(super) fn held(&self) -> RedisKey {
        self.own("held")
    }

    /// Of all that a worker of ours has: when its lease ends, in milliseconds.
    pub(super) fn until(&self) -> RedisKey {
        self.own("until")
    }

    /// Of all that others of their lanes are before: when they are due, in milliseconds.
    pub(super) fn behind(&self) -> RedisKey {
        self.own("behind")
    }

    /// The tasks of a lane in their order.
    pub(super) fn lane(&self, lane: &str) -> RedisKey {
        RedisKey::verbatim(format!("{}:lane:{lane}", self.zmsg))
    }

    /// The lane of each task that has a place in one.
    pub(super) fn lanes(&self) -> RedisKey {
        self.own("lanes")
    }

    /// The last place in a lane that was given.
    pub(super) fn numbers(&self) -> RedisKey {
        self.own("numbers")
    }

    /// The latest firing of each entry of periodic tasks, by its moment in milliseconds.
    pub(super) fn periodic(&self) -> RedisKey {
        self.own("periodic")
    }

    /// What tasks of others are really called, by the id that they have here.
    pub(super) fn names(&self) -> RedisKey {
        self.own("names")
    }

    /// How many tasks were processed in all, and on this day.
    pub(super) fn processed(&self, now: UnixMillis) -> [RedisKey; 2] {
        self.counted("processed", now)
    }

    /// How many attempts failed in all, and on this day.
    pub(super) fn failed(&self, now: UnixMillis) -> [RedisKey; 2] {
        self.counted("failed", now)
    }

    fn counted(&self, what: &str, now: UnixMillis) -> [RedisKey; 2] {
        [self.asynq(what), self.asynq(&format!("{what}:{}", day(now)))]
    }
}

/// The day of a moment in UTC, as `YYYY-MM-DD`. After Howard Hinnant, `civil_from_days`, in
/// "chrono-Compatible Low-Level Date Algorithms".
fn day(now: UnixMillis) -> String {
    let days = now / 86_400_000 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March on, so that the day that some years have more is the last one.
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_that_of_the_calendar() {
        const DAY: u64 = 86_400_000;
        for (days, expected) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (789, "1972-02-29"),
            (11_016, "2000-02-29"),
            (20_786, "2026-11-29"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(day(days * DAY), expected);
            assert_eq!(day(days * DAY + DAY - 1), expected);
        }
    }

    #[test]
    fn keys_are_those_of_asynq() {
        let keys = Keys::of("default");
        assert_eq!(keys.task("x").as_str(), "asynq:{default}:t:x");
        assert_eq!(keys.pending().as_str(), "asynq:{default}:pending");
        assert_eq!(keys.processed(0)[1].as_str(), "asynq:{default}:processed:1970-01-01");
        assert_eq!(keys.due().as_str(), "zmsg:{default}:due");
        assert_eq!(keys.group("mail").as_str(), "asynq:{default}:g:mail");
        let set = keys.set("mail:a", "5f0c");
        assert_eq!(set.as_str(), "asynq:{default}:g:mail:a:5f0c");
        assert_eq!(keys.group_of_set(set.as_str()), Some("mail:a"));
        assert_eq!(keys.group_of_set("asynq:{other}:g:mail:5f0c"), None);
        // As asynq 0.25.1 has it for this kind and payload: the golden message in `message.rs`.
        let unique = "asynq:{default}:unique:greet:657c7d7fcd0fabad5e55cb00215f2870";
        assert_eq!(keys.unique("greet", b"go 3").as_str().len(), unique.len());
        assert_eq!(keys.unique("greet", b"").as_str(), "asynq:{default}:unique:greet:");
    }
}
