//! Applying a parked flight in parts, and finding in it what the database refuses: by halving.

use std::ops::Range;

use zmsg_core::{Error, ErrorKind, Result};
use zmsg_store::{Step, StepError};

use super::flight::{CONTENDED_MAX, Flight, OUT_OF_THE_WAY};
use super::ledger::Ledger;
use super::letter::{exists, is_conflict, set_cause};
use super::payload::remove_all;
use super::plan;
use super::script::{Blame, Missing, Script};
use super::verdict::{Verdict, is_contention, is_locked_out, judge};

/// A range that was stopped is tried in so many parts: each level costs a time-out.
const STOPPED_PARTS: usize = 8;

/// After so many tries in a row that were stopped or locked out, the attempt counts as failed.
const HELD_UP_MAX: u32 = 8;

/// After so many tries in a row that others got in the way of, fewer groups are tried together.
const CONTENDED_TOGETHER_MAX: u32 = 2;

impl Flight {
    /// Applies parked groups from their dead letters, range by range; a range that is refused is
    /// halved, and what is refused alone stays a dead letter with its own cause.
    ///
    /// Each try is a transaction that removes the letters of its range and does their deeds, so
    /// each group takes effect once or stays, whatever happens between two tries. What has to wait
    /// for a lock or runs for too long holds up the rest of its batch and nothing else. After an
    /// error it can be continued.
    pub(super) async fn isolate(&mut self, ledger: &Ledger) -> Result<()> {
        let (mut contended, mut held_up) = (0, 0);
        loop {
            let Some(range) = self.parked.current() else {
                return self.parked.next_pass().map_or(Ok(()), Err);
            };
            let tried = if self.parked.in_doubt && self.was_applied(ledger, &range).await? {
                Tried::Done
            } else {
                self.try_range(ledger, range.clone()).await?
            };
            self.parked.in_doubt = false;
            match tried {
                Tried::Done => {
                    (contended, held_up) = (0, 0);
                    self.parked.done();
                }
                Tried::Refused => self.parked.divide(2),
                Tried::Again => {}
                Tried::Contended(error) if contended >= CONTENDED_MAX => return Err(error),
                Tried::Contended(_) => {
                    contended += 1;
                    if contended % CONTENDED_TOGETHER_MAX == 0 {
                        self.parked.shrink();
                    }
                    tokio::time::sleep(OUT_OF_THE_WAY.delay(contended)).await;
                }
                Tried::HeldUp(error) => {
                    held_up += 1;
                    self.parked.postpone(self.end_of_batch(range.end), error.clone());
                    if held_up >= HELD_UP_MAX {
                        return Err(error);
                    }
                }
                Tried::Stopped => {
                    held_up += 1;
                    self.parked.divide(STOPPED_PARTS);
                }
            }
        }
    }

    /// Whether a range whose answer was not seen took effect: its letters are gone then.
    async fn was_applied(&self, ledger: &Ledger, range: &Range<usize>) -> Result<bool> {
        match self.groups.get(range.start) {
            Some(first) => Ok(!exists(&*ledger.store, first.letter).await?),
            None => Ok(true),
        }
    }

    async fn try_range(&mut self, ledger: &Ledger, range: Range<usize>) -> Result<Tried> {
        let groups = &self.groups[range.clone()];
        let facts = plan::facts(ledger, groups).await?;
        let mut own: Vec<Step> = ledger.durable().into_iter().collect();
        own.extend(self.watchful(ledger));
        let removal = own.len();
        let letters = groups.iter().map(|group| group.letter).collect();
        own.extend(remove_all(letters, ledger.store.dialect()));
        let mut script = Script::of(own, self.checks(), groups, &facts, Missing::Refuse)?;
        self.parked.in_doubt = true;
        let failed = match ledger.store.execute_all(std::mem::take(&mut script.steps)).await {
            Ok(outcomes) => {
                zmsg_core::fail_point!("zmsg-aggregate::isolate::committed");
                ledger.patience.note_landed();
                for (rows, _) in script.done(&outcomes, groups)? {
                    self.landing.statements += 1;
                    self.landing.rows += rows;
                }
                return Ok(Tried::Done);
            }
            Err(failed) => failed,
        };
        if script.blame(&failed) == Some(Blame::Observer) {
            self.parked.in_doubt = false;
            self.checks = None;
            return Err(failed.error.temporary());
        }
        let verdict = judge(&failed, 0);
        self.parked.in_doubt = verdict == Verdict::Resolve;
        match verdict {
            Verdict::Retry => self.hindered(ledger, &script, range, failed).await,
            Verdict::Resolve if self.was_applied(ledger, &range).await? => Ok(Tried::Done),
            Verdict::Resolve => Err(failed.error.temporary()),
            Verdict::Refused(_) | Verdict::RefusedSomewhere if range.len() > 1 => {
                Ok(Tried::Refused)
            }
            Verdict::Refused(step) if step == removal && is_conflict(&failed.error) => {
                self.groups[range.start].refused = Some(taken_over());
                Ok(Tried::Done)
            }
            Verdict::Refused(_) | Verdict::RefusedSomewhere => {
                self.keep(ledger, range.start, failed.error).await
            }
        }
    }

    /// What comes next after a try that failed and may get through another time.
    async fn hindered(
        &mut self,
        ledger: &Ledger,
        script: &Script,
        range: Range<usize>,
        failed: StepError,
    ) -> Result<Tried> {
        if is_contention(&failed.error) {
            script.note_contention();
            return Ok(Tried::Contended(failed.error));
        }
        if is_locked_out(&failed.error) {
            return Ok(Tried::HeldUp(failed.error));
        }
        if !script.has_stopped(&failed) {
            return Err(failed.error);
        }
        let watched = self.stops > 0;
        self.stops += 1;
        if !watched {
            return Ok(Tried::Again);
        }
        if range.len() > 1 {
            return Ok(Tried::Stopped);
        }
        let now = ledger.clock.coarse();
        let suspicion = self.parked.suspects.entry(range.start);
        let suspicion = suspicion.or_insert_with(|| ledger.patience.suspicion(now));
        if !ledger.patience.is_over(suspicion, now) {
            return Ok(Tried::HeldUp(failed.error));
        }
        let error = suspicion.verdict(failed.error);
        self.keep(ledger, range.start, error).await
    }

    /// Leaves a group in the dead letters, with its own cause.
    async fn keep(&mut self, ledger: &Ledger, at: usize, error: Error) -> Result<Tried> {
        let group = &mut self.groups[at];
        ledger.store.execute(&set_cause(group.letter, &error)).await?;
        group.refused = Some(error);
        Ok(Tried::Done)
    }

    /// Where the batch ends that the group before `at` belongs to.
    fn end_of_batch(&self, at: usize) -> usize {
        let Some(batch) = at.checked_sub(1).map(|last| self.groups[last].batch) else { return at };
        at + self.groups[at..].iter().take_while(|group| group.batch == batch).count()
    }
}

/// What became of a range.
enum Tried {
    /// It took effect, or is kept.
    Done,
    /// Something in it is refused.
    Refused,
    /// Nothing can be said yet.
    Again,
    /// Others got in the way: the same again, soon.
    Contended(Error),
    /// Something in it runs for too long.
    Stopped,
    /// It waits for a lock, or is one group that may run for too long: later, after the others.
    HeldUp(Error),
}

fn taken_over() -> Error {
    Error::new(ErrorKind::Conflict, "its dead letter was retried or dropped by hand meanwhile")
}
