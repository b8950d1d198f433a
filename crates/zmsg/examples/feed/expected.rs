//! The application's own count of everything it did.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What one task counted, or all of them together.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Expected {
    /// By user: sent, received, unread.
    pub(crate) users: BTreeMap<u32, User>,
    pub(crate) conversations: BTreeMap<String, Conversation>,
    /// Message ids that must be in the table, and whether they were marked as read.
    pub(crate) messages: BTreeMap<String, bool>,
    pub(crate) deleted: BTreeSet<String>,
    /// Calls that were accepted on the periodic route.
    pub(crate) periodic_ops: u64,
    /// Writes of any route.
    pub(crate) writes: u64,
    /// Reads that gave another value than the one written: must stay 0.
    pub(crate) wrong_reads: Vec<String>,
    /// Reads that missed a deferred write whose cached value had been evicted.
    pub(crate) late_reads: u64,
    /// Calls that were repeated because a server was away or slow.
    pub(crate) retries: u64,
    /// Writes that the shared cache could not be told of.
    pub(crate) degraded: u64,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) sent: i64,
    pub(crate) received: i64,
    pub(crate) unread: i64,
}

/// A conversation belongs to one task, so its order is known.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Conversation {
    pub(crate) messages: i64,
    pub(crate) participants: Vec<u32>,
    pub(crate) last_id: String,
    pub(crate) last_at: i64,
}

impl Expected {
    pub(crate) fn user(&mut self, id: u32) -> &mut User {
        self.users.entry(id).or_default()
    }

    pub(crate) fn conversation(&mut self, name: &str) -> &mut Conversation {
        self.conversations.entry(name.to_owned()).or_default()
    }

    /// Adds what another task counted. Users are shared between tasks, the rest is not.
    pub(crate) fn merge(&mut self, other: Self) {
        for (id, counted) in other.users {
            let user = self.user(id);
            user.sent += counted.sent;
            user.received += counted.received;
            user.unread += counted.unread;
        }
        self.conversations.extend(other.conversations);
        self.messages.extend(other.messages);
        self.deleted.extend(other.deleted);
        self.periodic_ops += other.periodic_ops;
        self.writes += other.writes;
        self.wrong_reads.extend(other.wrong_reads);
        self.late_reads += other.late_reads;
        self.retries += other.retries;
        self.degraded += other.degraded;
    }
}
