//! One seal on its way into the database.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use zmsg_core::{Backoff, Error, ErrorKind, Key, Result, TableName};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::{Outcome, Step, StepError};

use super::FlushGuard;
use super::group::{Group, Origin, groups_of};
use super::ledger::{Ledger, Standing};
use super::letter::{self, PARKED};
use super::parked::Parked;
use super::plan;
use super::script::{Blame, Missing, Script};
use super::steps::MISSING;
use super::verdict::{Verdict, is_contention, judge};
use crate::buffer::{Sealed, SealedInfo};
use crate::sabotage;

/// One seal on its way into the database: its groups, and how far it has come.
///
/// - It takes effect in one transaction with the move of its ledger row, or not at all.
/// - After a failure the same flight is tried again; nothing is merged back, so nothing that was
///   accepted meanwhile mixes with what may already be applied.
/// - What the database refuses goes to the dead letters in that transaction; the rest goes on.
#[derive(Debug)]
pub(crate) struct Flight {
    info: Arc<SealedInfo>,
    shard: u16,
    pub(super) groups: Vec<Group>,
    phase: Phase,
    refused_one_by_one: usize,
    /// How many statements of many groups were refused and sent in smaller parts.
    divided: usize,
    /// The last lot that was given to a part.
    lots: u32,
    /// How many attempts others got in the way of.
    contended: u32,
    /// How often the database stopped a statement of its groups.
    pub(super) stops: u32,
    /// Why every group is to be committed as a dead letter first, once that was decided: a try
    /// whose answer was lost is found out by trying the same again.
    parking: Option<String>,
    /// What is left to try of a parked flight.
    pub(super) parked: Parked,
    /// Somebody else moved the ledger: nothing more may be flushed from this shard.
    pub(crate) ledger_moved: bool,
    pub(super) landing: Landing,
    /// What the observer wants to be kept until the outcome is known.
    pub(crate) guard: Option<FlushGuard>,
    /// What the observer wants to be checked; `None` if it has to be asked, or asked anew.
    pub(crate) checks: Option<Vec<Step>>,
}

/// How far a flight has come.
#[derive(Debug)]
enum Phase {
    /// Nothing of it is in the database, as far as is known.
    Open,
    /// It was committed, but which rows were missing was not heard.
    Unheard,
    /// It was committed with every group in the dead letters; these are to be tried from there.
    Parked,
    /// It has taken effect.
    Landed,
}

/// What a flight did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Landing {
    /// Operations that it carried.
    pub(crate) ops: u64,
    /// Statements that applied them.
    pub(crate) statements: u64,
    /// Rows that these changed.
    pub(crate) rows: u64,
    /// Groups that went to the dead letters.
    pub(crate) kept: u64,
}

/// After so many groups were refused one after the other, halving finds the rest faster.
const REFUSED_ONE_BY_ONE_MAX: usize = 8;

/// After so many refusals of statements of many groups, parking and halving finds the rest faster.
const DIVIDED_MAX: usize = 24;

/// A statement of many groups that was refused is sent in so many parts.
const PARTS: usize = 8;

/// After so many attempts in a row that others got in the way of, the flush counts as failed.
pub(super) const CONTENDED_MAX: u32 = 8;

/// After so many attempts that others got in the way of, parts of the flight are tried apart: each
/// of many statements need not get through at the same time as all of the others.
const CONTENDED_WHOLE_MAX: u32 = 12;

/// After so many attempts in which the database stopped a statement of a group, parts of the flight
/// are tried apart.
const STOPPED_WHOLE_MAX: u32 = 3;

/// How long to get out of the way of others.
pub(super) const OUT_OF_THE_WAY: Backoff =
    Backoff::new(Duration::from_millis(2), Duration::from_millis(100));

/// A lost answer is asked for so often before the attempt counts as failed.
const RESOLVED_MAX: usize = 3;

impl Flight {
    pub(crate) fn new(shard: u16, sealed: Sealed, dialect: Dialect) -> Self {
        let landing = Landing { ops: sealed.info.load.ops, ..Landing::default() };
        let mut groups = groups_of(sealed.batches, dialect);
        if sabotage::drops_a_group() {
            groups.pop();
        }
        Self {
            info: sealed.info,
            shard,
            groups,
            phase: Phase::Open,
            refused_one_by_one: 0,
            divided: 0,
            lots: 0,
            contended: 0,
            stops: 0,
            parking: None,
            parked: Parked::new(Vec::new()),
            ledger_moved: false,
            landing,
            guard: None,
            checks: None,
        }
    }

    /// The cache keys of its operations.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.info.keys.iter().cloned().collect()
    }

    /// Takes effect, exactly once however often this is called.
    ///
    /// # Errors
    /// Why it did not, or why it is not known: call again with the same flight, unless
    /// `ledger_moved` says that it must not be done.
    pub(crate) async fn land(&mut self, ledger: &Ledger) -> Result<Landing> {
        let (mut resolved, mut contended) = (0, 0);
        loop {
            match &self.phase {
                Phase::Open => match self.attempt(ledger).await? {
                    Attempt::Reached(phase) => self.phase = phase,
                    Attempt::Again => {}
                    Attempt::Contended(_) if contended < CONTENDED_MAX => {
                        contended += 1;
                        tokio::time::sleep(OUT_OF_THE_WAY.delay(contended)).await;
                    }
                    Attempt::Contended(error) => return Err(error),
                    Attempt::Lost(_) if resolved < RESOLVED_MAX => resolved += 1,
                    Attempt::Lost(error) => return Err(error.temporary()),
                    Attempt::Moved(error) => {
                        self.ledger_moved = true;
                        return Err(error);
                    }
                },
                Phase::Unheard => {
                    self.hear(ledger).await?;
                    self.phase = Phase::Landed;
                }
                Phase::Parked => {
                    self.isolate(ledger).await?;
                    self.phase = Phase::Landed;
                }
                Phase::Landed => {
                    self.landing.kept = count(self.groups.iter().filter(|g| g.refused.is_some()));
                    return Ok(self.landing);
                }
            }
        }
    }

    /// Tells everybody who waits for an operation of this flight.
    pub(crate) fn settle(&mut self) {
        self.groups.iter_mut().for_each(Group::settle);
    }

    /// Tells everybody who waits that it is not known, and will not be.
    pub(crate) fn give_up(&mut self, error: &Error) {
        self.groups.iter_mut().for_each(|group| group.settle_with(&Err(error.clone())));
    }

    async fn attempt(&mut self, ledger: &Ledger) -> Result<Attempt> {
        if let Some(cause) = self.parking.clone() {
            return self.park(ledger, cause).await;
        }
        let facts = plan::facts(ledger, &self.groups).await?;
        let apart = sabotage::moves_the_ledger_apart();
        let mut own = if apart { Vec::new() } else { vec![self.advance(ledger)] };
        own.extend(ledger.durable());
        own.extend(self.watchful(ledger));
        let missing = Missing::Keep(self.origin(ledger), ledger.clock.wall());
        let mut script = Script::of(own, self.checks(), &self.groups, &facts, missing)?;
        if sabotage::doubles_a_statement() {
            script.steps.extend(script.steps.last().cloned());
        }
        zmsg_core::fail_point!("zmsg-aggregate::flush::begin");
        let failed = match ledger.store.execute_all(std::mem::take(&mut script.steps)).await {
            Ok(outcomes) => {
                zmsg_core::fail_point!("zmsg-aggregate::flush::committed");
                if apart {
                    ledger.store.execute(&self.advance(ledger).statement).await?;
                }
                ledger.patience.note_landed();
                self.took_effect(&script, &outcomes)?;
                return Ok(Attempt::Reached(Phase::Landed));
            }
            Err(failed) => failed,
        };
        let blame = script.blame(&failed);
        if blame == Some(Blame::Observer) {
            self.checks = None;
            return Err(failed.error.temporary());
        }
        match judge(&failed, script.own()) {
            Verdict::Retry if is_contention(&failed.error) => {
                script.note_contention();
                self.contended += 1;
                if self.contended > CONTENDED_WHOLE_MAX && self.groups.len() > 1 {
                    return self.park(ledger, in_parts(&failed)).await;
                }
                Ok(Attempt::Contended(failed.error))
            }
            Verdict::Retry if script.has_stopped(&failed) => {
                self.stops += 1;
                if self.stops >= STOPPED_WHOLE_MAX {
                    return self.park(ledger, in_parts(&failed)).await;
                }
                Err(failed.error)
            }
            Verdict::Retry => Err(failed.error),
            Verdict::Resolve => self.resolve(ledger, failed.error).await,
            Verdict::Refused(_) => self.refused(ledger, blame, failed).await,
            Verdict::RefusedSomewhere => self.park(ledger, searching(&failed)).await,
        }
    }

    async fn refused(
        &mut self,
        ledger: &Ledger,
        blame: Option<Blame>,
        failed: StepError,
    ) -> Result<Attempt> {
        match blame {
            Some(Blame::Group(at)) => self.refuse(at, failed.error.clone()),
            Some(Blame::Groups(table, groups)) => self.divide(ledger, &table, &groups),
            Some(Blame::Lock(tables)) => {
                self.divided += 1;
                tables.iter().for_each(|table| ledger.catalog.doubt(table));
            }
            Some(Blame::Missing) => {}
            Some(Blame::Observer) | None => self.divided += 1,
        }
        if self.refused_one_by_one > REFUSED_ONE_BY_ONE_MAX || self.divided > DIVIDED_MAX {
            return self.park(ledger, searching(&failed)).await;
        }
        Ok(Attempt::Again)
    }

    /// Sends the groups of a refused statement in smaller parts.
    fn divide(&mut self, ledger: &Ledger, table: &TableName, groups: &[usize]) {
        // The table may have been altered since it was asked about.
        ledger.catalog.doubt(table);
        self.divided += 1;
        for part in groups.chunks(groups.len().div_ceil(PARTS).max(1)) {
            self.lots += 1;
            for at in part {
                self.groups[*at].lot = self.lots;
            }
        }
    }

    /// Notes which rows were missing.
    fn took_effect(&mut self, script: &Script, outcomes: &[Outcome]) -> Result<()> {
        for (rows, missing_of) in script.done(outcomes, &self.groups)? {
            self.landing.statements += 1;
            self.landing.rows += rows;
            for at in missing_of {
                self.groups[at].refused = Some(missing());
            }
        }
        Ok(())
    }

    /// What the observer wants to be checked in every transaction that changes rows.
    pub(super) fn checks(&self) -> &[Step] {
        self.checks.as_deref().unwrap_or_default()
    }

    /// Finds out what became of a transaction.
    async fn resolve(&mut self, ledger: &Ledger, error: Error) -> Result<Attempt> {
        let (from, to) = (self.info.from, self.info.to);
        match ledger.standing(self.shard, from, to).await? {
            Standing::Applied => Ok(Attempt::Reached(Phase::Unheard)),
            Standing::Pending => Ok(Attempt::Lost(error)),
            Standing::Moved(error) => Ok(Attempt::Moved(error)),
        }
    }

    /// Asks which groups the committed transaction put into the dead letters.
    async fn hear(&mut self, ledger: &Ledger) -> Result<()> {
        let (from, to) = (self.info.from, self.info.to);
        let origin = self.origin(ledger);
        let kept = letter::written_by(&*ledger.store, origin, from, to).await?;
        let kept: HashSet<_> = kept.into_iter().collect();
        for group in self.groups.iter_mut().filter(|group| group.refused.is_none()) {
            self.landing.statements += 1;
            if kept.contains(&group.letter) {
                group.refused = Some(missing());
            }
        }
        Ok(())
    }

    /// Takes a refused group out of the next attempt; one that changes several columns is taken
    /// apart first.
    fn refuse(&mut self, at: usize, error: Error) {
        if self.groups.get(at).is_some_and(Group::can_split) {
            let group = self.groups.remove(at);
            self.groups.splice(at..at, group.split());
        } else if let Some(group) = self.groups.get_mut(at) {
            group.refused = Some(error);
            self.refused_one_by_one += 1;
        }
    }

    /// Commits every group as a dead letter: from there each can be tried exactly once, together
    /// with others or alone, without moving the ledger again.
    async fn park(&mut self, ledger: &Ledger, cause: String) -> Result<Attempt> {
        self.split_all();
        let now = ledger.clock.wall();
        let mut steps = vec![self.advance(ledger)];
        steps.extend(ledger.durable());
        let letters = self.groups.iter().map(|group| {
            let cause = group.refused.as_ref().map_or_else(|| cause.clone(), Error::to_string);
            group.letter_row(self.origin(ledger), &cause, now)
        });
        let letters = letters.collect::<Result<Vec<_>>>()?;
        let statements = letter::insert_all(letters, ledger.store.dialect());
        steps.extend(statements.into_iter().map(Step::any));
        self.parking = Some(cause);
        let failed = match ledger.store.execute_all(steps).await {
            Ok(_) => {
                zmsg_core::fail_point!("zmsg-aggregate::flush::parked");
                return Ok(self.parked());
            }
            Err(failed) if judge(&failed, usize::MAX) == Verdict::Resolve => failed.error,
            Err(failed) if is_contention(&failed.error) => {
                return Ok(Attempt::Contended(failed.error));
            }
            Err(failed) => return Err(failed.error),
        };
        let (from, to) = (self.info.from, self.info.to);
        match ledger.standing(self.shard, from, to).await? {
            Standing::Applied => Ok(self.parked()),
            Standing::Pending => Ok(Attempt::Lost(failed)),
            Standing::Moved(error) => Ok(Attempt::Moved(error)),
        }
    }

    fn parked(&mut self) -> Attempt {
        self.parked = Parked::new(self.open_ranges());
        Attempt::Reached(Phase::Parked)
    }

    fn split_all(&mut self) {
        let groups = std::mem::take(&mut self.groups);
        for group in groups {
            if group.can_split() {
                self.groups.extend(group.split());
            } else {
                self.groups.push(group);
            }
        }
    }

    /// The runs of groups that were not refused.
    fn open_ranges(&self) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for (at, group) in self.groups.iter().enumerate() {
            if group.refused.is_some() {
                continue;
            }
            match ranges.last_mut() {
                Some(range) if range.end == at => range.end = at + 1,
                _ => ranges.push(at..at + 1),
            }
        }
        ranges
    }

    /// Once a statement was stopped, waits for locks are to be told apart from what runs long.
    pub(super) fn watchful(&self, ledger: &Ledger) -> Option<Step> {
        (self.stops > 0).then(|| ledger.watchful()).flatten()
    }

    fn advance(&self, ledger: &Ledger) -> Step {
        ledger.advance(self.shard, self.info.from, self.info.to)
    }

    fn origin(&self, ledger: &Ledger) -> Origin {
        Origin { stream: ledger.stream, shard: self.shard }
    }
}

/// What an attempt came to.
enum Attempt {
    Reached(Phase),
    /// A group was taken out: the rest again at once.
    Again,
    /// Others got in the way: the same again, soon.
    Contended(Error),
    /// The answer was lost and nothing had happened: the same again, some times.
    Lost(Error),
    /// Somebody else moved the ledger.
    Moved(Error),
}

fn searching(failed: &StepError) -> String {
    format!("{PARKED} the refused one is searched for: {failed}")
}

fn in_parts(failed: &StepError) -> String {
    format!("{PARKED} its flush is sent in parts: {failed}")
}

fn missing() -> Error {
    Error::new(ErrorKind::InvalidData, MISSING)
}

fn count<T>(items: impl Iterator<Item = T>) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}
