//! Lanes: tasks that are run one after the other.

/// Tasks of one queue that are run strictly one after the other, in the order in which they were accepted.
///
/// The next is handed out when the one before is done, whatever may be due: one that waits for its time, or
/// to be tried again, holds up its lane.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane {
    /// Names the lane within its queue; 1 to 255 bytes without NUL.
    pub key: String,
    /// What becomes of the lane when this task is a dead letter.
    pub on_dead: OnDead,
}

/// What becomes of a lane one of whose tasks is a dead letter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OnDead {
    /// It stands still until somebody retries or drops the dead letter; the order is kept.
    #[default]
    Block,
    /// It goes on with the next. A dead letter that is retried comes last.
    Skip,
}

/// The place in a lane that a leased task has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LanePlace {
    /// The lane.
    pub key: String,
    /// Grows with every attempt at every task of the lane. Keep the greatest beside what the tasks change, and
    /// refuse a smaller one: that is a worker which lost its lease and does not know it yet.
    pub token: i64,
}

impl LanePlace {
    /// Attempts at one task that have tokens of their own.
    const ATTEMPTS: i64 = 1 << 20;

    /// The place of an attempt at the task that was accepted as number `number`.
    pub(super) fn new(key: String, number: i64, attempt: u32) -> Self {
        let attempt = i64::from(attempt).min(Self::ATTEMPTS - 1);
        Self { key, token: number.saturating_mul(Self::ATTEMPTS).saturating_add(attempt) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_grow_with_attempts_and_then_with_tasks() {
        let token = |number, attempt| LanePlace::new("a".into(), number, attempt).token;
        let tokens = [(1, 1), (1, 2), (1, u32::MAX), (2, 1), (9, 1), (1 << 42, 7)];
        let tokens = tokens.map(|(number, attempt)| token(number, attempt));
        assert!(tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
    }
}
