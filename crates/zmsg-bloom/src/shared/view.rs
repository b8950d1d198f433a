//! The state as a node last saw it.

use std::sync::Arc;

use tokio::time::Instant;
use zmsg_core::Millis;

use super::live::Live;
use super::{FilterRow, SharedGeneration};

/// A row, since when it is known, and until when its trust may be used.
#[derive(Debug)]
pub(super) struct View {
    pub(super) row: FilterRow,
    /// When this node had certainly learned of this version: every lease that was taken before the
    /// version existed has ended one grace later.
    pub(super) learned: Instant,
    /// On the node's monotonic clock, counted from before the row was asked for.
    pub(super) lease_until: Millis,
    /// Since when the builder's beat has not changed here.
    pub(super) silent_since: Instant,
    lives: Vec<Arc<Live>>,
}

impl View {
    /// The view after `before`: that one itself, if the row says nothing newer. Answers may overtake
    /// one another.
    pub(super) fn after(
        before: Option<&Arc<Self>>,
        row: FilterRow,
        lease_until: Millis,
    ) -> Arc<Self> {
        let Some(before) = before else { return Arc::new(Self::new(row, lease_until, |_| None)) };
        let same = before.row.version == row.version;
        let longer = before.lease_until < lease_until || before.row.beat < row.beat;
        if before.row.version > row.version || (same && !longer) {
            return Arc::clone(before);
        }
        let after = Self::new(row, lease_until, |named| before.live(named).cloned());
        let silent = before.row.building == after.row.building && before.row.beat == after.row.beat;
        Arc::new(Self {
            // Of the same version each lease by itself is true, and so is the later one.
            lease_until: if same { before.lease_until.max(lease_until) } else { lease_until },
            learned: if same { before.learned } else { after.learned },
            silent_since: if silent { before.silent_since } else { after.silent_since },
            ..after
        })
    }

    /// A view with what is `known` already of the generations.
    fn new(
        row: FilterRow,
        lease_until: Millis,
        known: impl Fn(&SharedGeneration) -> Option<Arc<Live>>,
    ) -> Self {
        let now = Instant::now();
        let live = |named: &SharedGeneration| {
            known(named).unwrap_or_else(|| Arc::new(Live::new(named.clone())))
        };
        let lives = row.generations().map(live).collect();
        Self { row, learned: now, lease_until, silent_since: now, lives }
    }

    /// What is known of a generation that the row names.
    pub(super) fn live(&self, generation: &SharedGeneration) -> Option<&Arc<Live>> {
        self.lives.iter().find(|live| live.generation() == generation)
    }

    /// Those that a write adds its keys to.
    pub(super) fn lives(&self) -> &[Arc<Live>] {
        &self.lives
    }

    /// The one whose "absent" counts while the lease lasts.
    #[inline]
    pub(super) fn trusted(&self) -> Option<&Arc<Live>> {
        // The first, if there is one: in the order of `FilterRow::generations`.
        self.row.trusted.as_ref().and_then(|_| self.lives.first())
    }
}
