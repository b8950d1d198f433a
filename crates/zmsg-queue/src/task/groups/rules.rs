//! When a group is closed.

use std::time::Duration;

/// When a group is closed, by whichever of these comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupRules {
    /// When so many tasks are in it; an aggregate is made of no more. 1 to [`SIZE_MAX`](Self::SIZE_MAX), and
    /// what is beyond is taken for the nearest.
    pub size_max: usize,
    /// When no task has joined it for so long.
    pub grace: Duration,
    /// When its first task has waited for so long, whatever else joins.
    pub delay_max: Option<Duration>,
}

impl GroupRules {
    /// Members of one aggregate at most: they are read, and removed, at once.
    pub const SIZE_MAX: usize = 1_000;

    /// How many members an aggregate may have.
    pub(in crate::task) fn size(&self) -> usize {
        self.size_max.clamp(1, Self::SIZE_MAX)
    }

    /// How long it is until a group is to be closed; zero for one that is.
    pub(in crate::task) fn wait(
        &self,
        size: usize,
        oldest: Duration,
        youngest: Duration,
    ) -> Duration {
        if size >= self.size() {
            return Duration::ZERO;
        }
        let grace = self.grace.saturating_sub(youngest);
        self.delay_max.map_or(grace, |delay| grace.min(delay.saturating_sub(oldest)))
    }
}

impl Default for GroupRules {
    fn default() -> Self {
        Self { size_max: Self::SIZE_MAX, grace: Duration::from_secs(60), delay_max: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_closed_by_whichever_rule_comes_first() {
        let s = Duration::from_secs;
        let rules = GroupRules { size_max: 3, grace: s(10), delay_max: Some(s(30)) };
        let wait = |size, oldest, youngest| rules.wait(size, s(oldest), s(youngest));
        assert_eq!(wait(1, 0, 0), s(10));
        assert_eq!(wait(2, 25, 1), s(5), "the first has waited for long");
        assert_eq!(wait(2, 30, 1), s(0));
        assert_eq!(wait(2, 12, 10), s(0), "nobody joins");
        assert_eq!(wait(3, 0, 0), s(0), "it is full");
        let rules = GroupRules { size_max: 0, delay_max: None, ..rules };
        assert_eq!((rules.size(), rules.wait(1, s(0), s(0))), (1, s(0)));
        let rules = GroupRules { size_max: usize::MAX, ..rules };
        assert_eq!((rules.size(), rules.wait(999, s(99), s(4))), (GroupRules::SIZE_MAX, s(6)));
    }
}
