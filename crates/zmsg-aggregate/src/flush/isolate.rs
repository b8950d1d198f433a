//! Finding what the database refuses when it does not say which it was: by halving.

use std::ops::Range;

use zmsg_core::{Error, ErrorKind, Result};
use zmsg_store::Step;

use super::flight::Flight;
use super::ledger::Ledger;
use super::letter::{exists, is_conflict, set_cause};
use super::payload::remove_all;
use super::plan;
use super::script::{Blame, Missing, Script};
use super::verdict::{Verdict, judge};

impl Flight {
    /// Applies parked groups from their dead letters, range by range; a range that is refused is
    /// halved, and what is refused alone stays a dead letter with its own cause.
    ///
    /// Each try is a transaction that removes the letters of its range and does their deeds, so
    /// each group takes effect once or stays, whatever happens between two tries. After an error
    /// it can be continued.
    pub(super) async fn isolate(&mut self, ledger: &Ledger) -> Result<()> {
        while let Some(range) = self.ranges.last().cloned() {
            let tried = if self.in_doubt && self.was_applied(ledger, &range).await? {
                Tried::Done
            } else {
                self.try_range(ledger, range.clone()).await?
            };
            self.in_doubt = false;
            self.ranges.pop();
            if let Tried::Refused = tried {
                let middle = usize::midpoint(range.start, range.end);
                self.ranges.push(middle..range.end);
                self.ranges.push(range.start..middle);
            }
        }
        Ok(())
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
        let removal = own.len();
        let letters = groups.iter().map(|group| group.letter).collect();
        own.extend(remove_all(letters, ledger.store.dialect()));
        let mut script = Script::of(own, self.checks(), groups, &facts, Missing::Refuse)?;
        self.in_doubt = true;
        let failed = match ledger.store.execute_all(std::mem::take(&mut script.steps)).await {
            Ok(outcomes) => {
                for (rows, _) in script.done(&outcomes, groups)? {
                    self.landing.statements += 1;
                    self.landing.rows += rows;
                }
                return Ok(Tried::Done);
            }
            Err(failed) => failed,
        };
        if script.blame(&failed) == Some(Blame::Observer) {
            self.in_doubt = false;
            self.checks = None;
            return Err(failed.error.temporary());
        }
        let verdict = judge(&failed, 0);
        self.in_doubt = verdict == Verdict::Resolve;
        match verdict {
            Verdict::Retry => Err(failed.error),
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
                let group = &mut self.groups[range.start];
                ledger.store.execute(&set_cause(group.letter, &failed.error)).await?;
                group.refused = Some(failed.error);
                Ok(Tried::Done)
            }
        }
    }
}

/// What became of a range.
enum Tried {
    /// It took effect, or is kept.
    Done,
    /// Something in it is refused.
    Refused,
}

fn taken_over() -> Error {
    Error::new(ErrorKind::Conflict, "its dead letter was retried or dropped by hand meanwhile")
}
