//! What one write changes: the application counts by it, and after a kill looks for it.

use crate::expected::{Expected, User};

/// The change of one write. Each can be told from the tables, a counter's by what is too much.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    Insert {
        id: String,
    },
    Delete {
        id: String,
    },
    /// The message is marked as read.
    Read {
        id: String,
    },
    /// A counter of a user.
    User {
        user: u32,
        column: Column,
        by: i64,
    },
    /// One message more in the conversation.
    Counted {
        conversation: String,
    },
    LastId {
        conversation: String,
        id: String,
    },
    LastAt {
        conversation: String,
        at: i64,
    },
    /// The user wrote in the conversation for the first time.
    Joined {
        conversation: String,
        user: u32,
    },
}

/// The counters of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Sent,
    Received,
    Unread,
}

impl Column {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Received => "received",
            Self::Unread => "unread",
        }
    }

    fn get(self, user: &User) -> i64 {
        match self {
            Self::Sent => user.sent,
            Self::Received => user.received,
            Self::Unread => user.unread,
        }
    }

    fn of(self, user: &mut User) -> &mut i64 {
        match self {
            Self::Sent => &mut user.sent,
            Self::Received => &mut user.received,
            Self::Unread => &mut user.unread,
        }
    }
}

impl Effect {
    /// Counts it.
    pub(crate) fn count(&self, expected: &mut Expected) {
        match self {
            Self::Insert { id } => {
                expected.messages.insert(id.clone(), false);
            }
            Self::Delete { id } => {
                expected.messages.remove(id);
                expected.deleted.insert(id.clone());
            }
            Self::Read { id } => {
                if let Some(read) = expected.messages.get_mut(id) {
                    *read = true;
                }
            }
            Self::User { user, column, by } => *column.of(expected.user(*user)) += by,
            Self::Counted { conversation } => expected.conversation(conversation).messages += 1,
            Self::LastId { conversation, id } => {
                expected.conversation(conversation).last_id.clone_from(id);
            }
            Self::LastAt { conversation, at } => expected.conversation(conversation).last_at = *at,
            Self::Joined { conversation, user } => {
                expected.conversation(conversation).participants.push(*user);
            }
        }
    }

    /// Whether the tables have it, if they have what was counted before it.
    ///
    /// Of several unknown changes of one counter it does not matter which took effect, only how
    /// many: each is counted before the next one is asked for.
    pub(crate) fn is_in(&self, found: &Expected, counted: &Expected) -> bool {
        match self {
            Self::Insert { id } => found.messages.contains_key(id),
            Self::Delete { id } => !found.messages.contains_key(id),
            Self::Read { id } => found.messages.get(id) == Some(&true),
            Self::User { user, column, by } => {
                let value = |all: &Expected| all.users.get(user).map_or(0, |user| column.get(user));
                (value(found) - value(counted)).signum() == by.signum()
            }
            Self::Counted { conversation } => {
                let messages = |all: &Expected| {
                    all.conversations.get(conversation).map_or(0, |all| all.messages)
                };
                messages(found) > messages(counted)
            }
            Self::LastId { conversation, id } => {
                found.conversations.get(conversation).is_some_and(|found| found.last_id == *id)
            }
            Self::LastAt { conversation, at } => {
                found.conversations.get(conversation).is_some_and(|found| found.last_at == *at)
            }
            Self::Joined { conversation, user } => {
                let found = found.conversations.get(conversation);
                found.is_some_and(|found| found.participants.contains(user))
            }
        }
    }
}
