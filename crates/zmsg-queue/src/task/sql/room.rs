//! How many more tasks a table has room for, where nothing keeps their number.

use std::sync::{Mutex, PoisonError};

use zmsg_core::Millis;

/// What is known of the room below `tasks_max`.
///
/// A counter row would make every enqueue wait for the one before, and a count walks an index.
/// So a count is good for a while: it grants a part of the room that it found, and is made again
/// when that is used up or old. Processes that count at the same time may each use their part, so
/// together they may go beyond the bound, by what one grant holds times the processes; near the
/// bound that is a thousandth of it each. Where a thousandth is nothing, every enqueue is counted.
#[derive(Debug)]
pub(super) struct Room {
    tasks_max: u32,
    known: Mutex<Known>,
}

#[derive(Debug, Clone, Copy)]
enum Known {
    Nothing,
    Granted { left: u64, until: Millis },
    Full { until: Millis },
}

/// What may be done about some tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// They may go in.
    Granted,
    /// They may go in if a count in their own transaction finds room.
    Checked,
    /// There was no room a moment ago.
    Full,
    /// The tasks must be counted, and [`Room::learn`] told.
    Unknown,
}

impl Room {
    /// A count is made at most once in this time, or in a hundred times as long as it takes.
    const GOOD_FOR: Millis = 1_000;
    const PARTS: u64 = 8;
    const SLACK: u32 = 1024;

    pub(super) fn new(tasks_max: u32) -> Self {
        Self { tasks_max, known: Mutex::new(Known::Nothing) }
    }

    /// Asks for room for so many tasks at the moment `now` of a monotonic clock.
    pub(super) fn ask(&self, tasks: u64, now: Millis) -> Entry {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *known {
            Known::Granted { left, until } if now < *until && *left >= tasks => {
                *left -= tasks;
                Entry::Granted
            }
            Known::Full { until } if now < *until => Entry::Full,
            _ => Entry::Unknown,
        }
    }

    /// Learns from a count that ended at `now` and took `took`; the answer is never `Unknown`.
    pub(super) fn learn(&self, live: u64, tasks: u64, now: Millis, took: Millis) -> Entry {
        let room = u64::from(self.tasks_max).saturating_sub(live);
        let slack = u64::from(self.tasks_max / Self::SLACK);
        let part = if room == 0 { 0 } else { (room / Self::PARTS).max(slack) };
        let good_for = took.saturating_mul(100).max(Self::GOOD_FOR);
        let (entry, learnt) = if part >= tasks {
            (Entry::Granted, Known::Granted { left: part - tasks, until: now + good_for })
        } else if room == 0 {
            // A count that took no time to speak of may be made each time.
            (Entry::Checked, Known::Full { until: now + took.saturating_mul(10) })
        } else {
            (Entry::Checked, Known::Granted { left: part, until: now + good_for })
        };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = learnt;
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_grants_an_eighth_of_the_room_for_a_while() {
        let room = Room::new(1_000_000);
        assert_eq!(room.ask(1, 0), Entry::Unknown);
        assert_eq!(room.learn(200_000, 1, 0, 5), Entry::Granted);
        assert_eq!(room.ask(99_999, 999), Entry::Granted);
        assert_eq!(room.ask(1, 999), Entry::Unknown, "the part is used up");
        room.learn(300_000, 1, 1_000, 50);
        assert_eq!(room.ask(1, 5_999), Entry::Granted, "a slow count is made seldom");
        assert_eq!(room.ask(1, 6_000), Entry::Unknown, "and made again in the end");
    }

    #[test]
    fn a_small_bound_is_checked_each_time() {
        let room = Room::new(2);
        for live in [0, 1, 2, 3] {
            assert_eq!(room.learn(live, 1, 0, 0), Entry::Checked);
            assert_eq!(room.ask(1, 0), Entry::Unknown);
        }
    }

    #[test]
    fn a_full_table_is_not_counted_for_ten_times_as_long_as_that_takes() {
        let room = Room::new(1_000_000);
        assert_eq!(room.learn(1_000_001, 1, 0, 100), Entry::Checked);
        assert_eq!((room.ask(1, 999), room.ask(1, 1_000)), (Entry::Full, Entry::Unknown));
        assert_eq!(room.learn(999_999, 1, 1_000, 100), Entry::Granted, "a thousandth is slack");
        assert_eq!((room.ask(975, 1_001), room.ask(1, 1_001)), (Entry::Granted, Entry::Unknown));
    }
}
