//! How the writer waits: for records, for a timer, and a moment for those it has just woken.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Writer;
use crate::frame::Mark;
use crate::intake::Intake;
use crate::shared::{Shared, locked};

/// How long to wait for those who were acknowledged together to append again: at most as long as
/// the sync took that they shared, and no longer than waking them takes.
const GATHER_LEAST: Duration = Duration::from_micros(20);
const GATHER_EACH: Duration = Duration::from_micros(2);

/// A wait for the next group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gathering {
    records: usize,
    until: Instant,
}

impl Gathering {
    /// For so many who were woken after a sync that took so long.
    pub(super) fn of(records: usize, took: Duration) -> Self {
        let each = GATHER_EACH * u32::try_from(records).unwrap_or(u32::MAX);
        Self { records, until: Instant::now() + took.min(GATHER_LEAST + each) }
    }
}

impl Writer {
    /// Takes what was appended; waits if there is nothing to do. True if the log is to be closed.
    pub(super) fn take(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut intake = locked(&shared.intake);
        intake.in_flight = 0;
        loop {
            let closing = intake.refusal.is_some();
            if !closing && let Some(until) = self.gathers(&intake) {
                intake.wanted = self.gathering.map_or(0, |gathering| gathering.records);
                intake = wait_until(&shared, intake, Some(until));
                intake.wanted = 0;
                continue;
            }
            if closing || !intake.buffer.is_empty() || self.has_work(&intake) {
                break;
            }
            if !self.marked && self.unsynced.is_empty() && self.distrusted.is_none() {
                drop(intake);
                self.mark(Mark::Synced);
                intake = locked(&shared.intake);
                continue;
            }
            intake = self.wait(&shared, intake);
        }
        let closing = intake.refusal.is_some();
        if !intake.buffer.is_empty() {
            (intake.in_flight, intake.records) = (intake.buffer.len(), 0);
            let taken = std::mem::replace(&mut intake.buffer, std::mem::take(&mut self.empty));
            drop(intake);
            self.keep(taken);
        }
        closing
    }

    fn has_work(&self, intake: &Intake) -> bool {
        let now = Instant::now();
        let wants_spare = intake.spares == 0 && self.retry.is_none_or(|at| at <= now);
        let wants_sync = !self.unsynced.is_empty()
            && (intake.sync_wanted > self.shared.progress.synced()
                || self.sync_at().is_some_and(|at| at <= now));
        wants_spare || wants_sync
    }

    /// Until when to wait for more records of those who were acknowledged together.
    fn gathers(&mut self, intake: &Intake) -> Option<Instant> {
        let Gathering { records, until } = self.gathering?;
        if intake.records >= records || until <= Instant::now() {
            self.gathering = None;
        }
        self.gathering.map(|gathering| gathering.until)
    }

    fn wait<'a>(
        &self,
        shared: &'a Shared,
        intake: MutexGuard<'a, Intake>,
    ) -> MutexGuard<'a, Intake> {
        let retry = self.retry.filter(|_| intake.spares == 0);
        let until = [self.sync_at(), retry].into_iter().flatten().min();
        wait_until(shared, intake, until)
    }

    fn keep(&mut self, mut taken: Vec<u8>) {
        self.since.get_or_insert_with(Instant::now);
        if self.unsynced.is_empty() {
            std::mem::swap(&mut self.unsynced, &mut taken);
        } else {
            self.unsynced.extend_from_slice(&taken);
        }
        taken.clear();
        self.empty = taken;
    }
}

fn wait_until<'a>(
    shared: &'a Shared,
    mut intake: MutexGuard<'a, Intake>,
    until: Option<Instant>,
) -> MutexGuard<'a, Intake> {
    intake.writer_waits = true;
    let mut intake = match until {
        None => shared.work.wait(intake).unwrap_or_else(PoisonError::into_inner),
        Some(until) => {
            let time = until.saturating_duration_since(Instant::now());
            let waited = shared.work.wait_timeout(intake, time);
            waited.unwrap_or_else(PoisonError::into_inner).0
        }
    };
    intake.writer_waits = false;
    intake
}
