//! A transaction of a flight: its steps, and whose each of them is.

use std::collections::HashMap;
use std::ops::Range;

use uuid::Uuid;
use zmsg_core::{OnMissing, Result, Row, Statement, TableName, UnixMillis, Value};
use zmsg_store::{Outcome, Step, StepError};

use super::bulk::Bulk;
use super::catalog::TableFacts;
use super::group::{Group, Origin};
use super::letter::{LetterRow, is_conflict, uuid_at};
use super::lock_order::table_lock;
use super::plan::{Facts, Part, parts};
use super::steps::MISSING;
use super::verdict::is_stopped;

/// A transaction of a flight: bookkeeping, checks, locks, and then the parts, a step each.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) steps: Vec<Step>,
    checks: Range<usize>,
    first: usize,
    parts: Vec<Part>,
}

/// What becomes of a row that is missing and not to be lost.
#[derive(Debug, Clone, Copy)]
pub(super) enum Missing {
    /// Its group is kept as a dead letter, from this flush.
    Keep(Origin, UnixMillis),
    /// The transaction is refused: its group is a dead letter already.
    Refuse,
}

/// Whose fault a failed step is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Blame {
    /// A check of the observer: what it said is no longer true.
    Observer,
    /// Nobody's: rows of these tables could not be locked.
    Lock(Vec<TableName>),
    /// One group's.
    Group(usize),
    /// That of some of these groups of a table.
    Groups(TableName, Vec<usize>),
    /// Nobody's: a row is missing, and the statement did not say which. The next one will.
    Missing,
}

impl Script {
    /// The transaction that does what these groups do, after `own` steps of bookkeeping and the
    /// observer's checks.
    pub(super) fn of(
        own: Vec<Step>,
        checks: &[Step],
        groups: &[Group],
        facts: &Facts,
        missing: Missing,
    ) -> Result<Self> {
        let parts = parts(groups, facts);
        let mut steps = own;
        let checks_from = steps.len();
        steps.extend_from_slice(checks);
        let checks = checks_from..steps.len();
        steps.extend(locks(&parts, groups));
        let first = steps.len();
        for part in &parts {
            steps.push(part_step(part, groups, missing)?);
        }
        Ok(Self { steps, checks, first, parts })
    }

    /// Whose fault a failure is, unless it is that of the bookkeeping before the checks.
    pub(super) fn blame(&self, failed: &StepError) -> Option<Blame> {
        let step = failed.step.filter(|step| *step >= self.checks.start)?;
        if step < self.checks.end {
            return is_conflict(&failed.error).then_some(Blame::Observer);
        }
        if step < self.first {
            return Some(Blame::Lock(self.tables()));
        }
        Some(match self.parts.get(step - self.first)? {
            Part::Alone(at) => Blame::Group(*at),
            Part::Bulk(bulk, facts) => {
                let lacks = bulk.shape.on_missing == OnMissing::DeadLetter;
                if lacks && !TableFacts::is(&facts.careful) && is_conflict(&failed.error) {
                    TableFacts::note(&facts.careful);
                    Blame::Missing
                } else {
                    Blame::Groups(bulk.shape.table.clone(), bulk.groups.clone())
                }
            }
        })
    }

    /// How many steps are bookkeeping, checks included.
    pub(super) fn own(&self) -> usize {
        self.checks.end
    }

    /// Whether the database stopped what the groups do, locks included, because it ran for too long.
    pub(super) fn has_stopped(&self, failed: &StepError) -> bool {
        is_stopped(&failed.error) && failed.step.is_some_and(|step| step >= self.own())
    }

    /// Others changed the same rows: from now on they are locked in order.
    pub(super) fn note_contention(&self) {
        for part in &self.parts {
            if let Part::Bulk(_, facts) = part {
                TableFacts::note(&facts.contended);
            }
        }
    }

    /// What the transaction did, part by part: the rows it changed, and the groups whose row was
    /// missing. What only keeps a group that was refused is left out.
    ///
    /// # Errors
    /// If the store's answer cannot be read.
    pub(super) fn done(
        &self,
        outcomes: &[Outcome],
        groups: &[Group],
    ) -> Result<Vec<(u64, Vec<usize>)>> {
        let kept = |part: &Part| matches!(part, Part::Alone(at) if groups[*at].refused.is_some());
        let done = self.parts.iter().zip(outcomes.iter().skip(self.first));
        done.filter(|(part, _)| !kept(part))
            .map(|(part, outcome)| part_done(part, outcome, groups))
            .collect()
    }

    fn tables(&self) -> Vec<TableName> {
        let table = |part: &Part| match part {
            Part::Alone(_) => None,
            Part::Bulk(bulk, _) => Some(bulk.shape.table.clone()),
        };
        self.parts.iter().filter_map(table).collect()
    }
}

fn part_step(part: &Part, groups: &[Group], missing: Missing) -> Result<Step> {
    match (part, missing) {
        (Part::Alone(at), Missing::Keep(origin, now)) => groups[*at].step(origin, now),
        (Part::Alone(at), Missing::Refuse) => Ok(groups[*at].retried()),
        (Part::Bulk(bulk, facts), missing) => bulk_step(bulk, facts, groups, missing),
    }
}

fn bulk_step(bulk: &Bulk, facts: &TableFacts, groups: &[Group], missing: Missing) -> Result<Step> {
    Ok(match (bulk.shape.on_missing, missing) {
        (OnMissing::Ignore, _) => bulk.ignoring(groups),
        (OnMissing::Insert, _) => bulk.inserting(groups),
        (OnMissing::DeadLetter, Missing::Keep(origin, now)) if TableFacts::is(&facts.careful) => {
            let letter = |at: &usize| groups[*at].letter_row(origin, MISSING, now);
            let letters: Vec<LetterRow> = bulk.groups.iter().map(letter).collect::<Result<_>>()?;
            bulk.keeping(groups, letters)
        }
        (OnMissing::DeadLetter, _) => bulk.checked(groups),
    })
}

/// What has to be locked before the first part: the intake of tables where rows may be inserted,
/// and the rows of tables where others changed the same ones lately.
fn locks(parts: &[Part], groups: &[Group]) -> Vec<Step> {
    let mut steps: Vec<Step> = intakes(parts, groups).into_iter().map(table_step).collect();
    let mut rows: Vec<Bulk> = Vec::new();
    for part in parts {
        let Part::Bulk(bulk, facts) = part else { continue };
        if !TableFacts::is(&facts.contended) {
            continue;
        }
        let shape = &bulk.shape;
        match rows
            .iter_mut()
            .find(|rows| rows.shape.table == shape.table && rows.shape.keys == shape.keys)
        {
            Some(rows) => rows.groups.extend_from_slice(&bulk.groups),
            None => rows.push(Bulk { shape: shape.clone(), groups: bulk.groups.clone() }),
        }
    }
    for mut bulk in rows {
        bulk.groups.sort_unstable();
        steps.push(bulk.locking(groups));
    }
    steps
}

/// The tables that rows may be inserted into, in order. A row that is not there yet cannot be
/// locked: two flushes that insert the same rows in another order would stop each other, each for
/// as long as the server takes to notice. One flush at a time is faster than that, by far.
fn intakes<'a>(parts: &'a [Part], groups: &'a [Group]) -> Vec<&'a TableName> {
    let mut tables: Vec<&TableName> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Bulk(bulk, _) => {
                (bulk.shape.on_missing == OnMissing::Insert).then_some(&bulk.shape.table)
            }
            // What is all there is to do takes its own lock, if it has to insert at all.
            Part::Alone(at) if parts.len() > 1 => groups[*at].intake(),
            Part::Alone(_) => None,
        })
        .collect();
    tables.sort();
    tables.dedup();
    tables
}

fn table_step(table: &TableName) -> Step {
    let lock = Value::Int(table_lock(table));
    Step::any(Statement::query("SELECT pg_advisory_xact_lock(?::bigint)", vec![lock]))
}

fn part_done(part: &Part, outcome: &Outcome, groups: &[Group]) -> Result<(u64, Vec<usize>)> {
    let count =
        |row: &Row, at| -> Result<u64> { Ok(u64::try_from(row.int(at)?).unwrap_or_default()) };
    Ok(match part {
        Part::Alone(at) => {
            let missing = outcome.changed == 0 && groups[*at].keeps_missing();
            (outcome.changed, if missing { vec![*at] } else { Vec::new() })
        }
        Part::Bulk(bulk, _) => match outcome.rows.as_slice() {
            [] => (outcome.changed, Vec::new()),
            // A statement that keeps what was missing gives a number and the letters it wrote.
            [first, ..] if first.columns().len() > 1 => {
                let mut rows = 0;
                let mut missing = Vec::new();
                let at: HashMap<Uuid, usize> =
                    bulk.groups.iter().map(|at| (groups[*at].letter, *at)).collect();
                for row in &outcome.rows {
                    if row.at(0)?.is_null() {
                        rows = count(row, 1)?;
                        continue;
                    }
                    missing.extend(at.get(&uuid_at(row, 0)?));
                }
                (rows, missing)
            }
            [first, ..] => (count(first, 0)?, Vec::new()),
        },
    })
}
