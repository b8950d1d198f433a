//! The latest firing of each entry of periodic tasks.

use std::collections::HashMap;

use zmsg_core::{Result, UnixMillis};

use super::table::Table;
use crate::task::periodic::Firing;
use crate::task::record::Enqueued;

/// What has fired last, by queue and entry.
#[derive(Debug, Default)]
pub(super) struct Firings(HashMap<String, HashMap<String, UnixMillis>>);

impl Firings {
    pub(super) fn last(&self, queue: &str, entry: &str) -> Option<UnixMillis> {
        self.0.get(queue)?.get(entry).copied()
    }

    /// Forgets what fired too long before `moment`; whether there is room for another entry then.
    fn has_room(&mut self, queue: &str, moment: UnixMillis) -> bool {
        let Some(entries) = self.0.get_mut(queue) else { return true };
        let old = moment.saturating_sub(Firing::KEPT_MS);
        entries.retain(|_, last| *last >= old);
        entries.len() < Firing::ENTRIES_MAX as usize
    }

    fn record(&mut self, queue: String, entry: String, moment: UnixMillis) {
        self.0.entry(queue).or_default().insert(entry, moment);
    }
}

impl Table {
    pub(super) fn fire(&mut self, firing: Firing, now: UnixMillis) -> Result<Enqueued> {
        let moment = firing.moment();
        if moment > now.saturating_add(Firing::EARLY_MAX_MS) {
            return Err(Firing::early(moment));
        }
        let (queue, entry) = (firing.queue().to_owned(), firing.entry().to_owned());
        match self.firings.last(&queue, &entry) {
            Some(last) if last >= moment => return Ok(Enqueued::Duplicate),
            None if !self.firings.has_room(&queue, moment) => return Err(Firing::too_many()),
            _ => {}
        }
        let answers = self.enqueue_all(vec![firing.into_task()], now)?;
        self.firings.record(queue, entry, moment);
        Ok(answers.first().copied().unwrap_or(Enqueued::Duplicate))
    }
}
