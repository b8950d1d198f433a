//! What becomes one statement of a flush, or one row of one.

use std::sync::Arc;

use uuid::Uuid;
use zmsg_core::{
    Condition, Error, ErrorKind, Ident, Key, OnMissing, Result, Statement, TableName, UnixMillis,
    Value,
};
use zmsg_sqlbuilder::{Dialect, condition};
use zmsg_store::{Expect, Otherwise, Step};

use super::letter::LetterRow;
use super::lock_order::lock_order;
use super::payload::{Payload, PayloadStep};
use super::steps::{Effect, MISSING, describe};
use crate::algebra::Fold;
use crate::buffer::{Batch, BatchKey, Entry, Folding, Target, Work, commute, same_name};

/// Entries of one batch key that become one statement: one entry, or several that change
/// different columns of the same rows.
#[derive(Debug)]
pub(super) struct Group {
    entries: Vec<Entry>,
    batch_key: Arc<BatchKey>,
    /// Which batch of its flight it belongs to: the groups of a batch have an order.
    pub(super) batch: u32,
    /// Which part of a statement that was refused it was in; parts are sent apart.
    pub(super) lot: u32,
    dialect: Dialect,
    /// Its id in the dead letters, if it gets there; made before any I/O, so that it can be
    /// looked for.
    pub(super) letter: Uuid,
    /// Why it is in the dead letters, or will be.
    pub(super) refused: Option<Error>,
}

/// What a group does.
#[derive(Debug)]
enum Deed {
    Update(Effect, OnMissing),
    Statement(Statement),
    /// Nothing: its condition cannot be written.
    Unwritable,
}

/// What a group does to the rows of its equalities, for a statement of many groups.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) target: &'a Target,
    pub(super) equalities: &'a [(Ident, Value)],
    /// Sorted by the name of the column.
    pub(super) sets: Vec<(&'a Ident, &'a Fold)>,
    pub(super) on_missing: OnMissing,
}

/// How far an entry looks back for a group to join.
const LOOK_BACK_MAX: usize = 16;

/// The groups of a seal: ordered by their rows, so that two processes lock them in one order, and
/// within a batch key as their operations came.
pub(super) fn groups_of(
    batches: impl IntoIterator<Item = (BatchKey, Batch)>,
    dialect: Dialect,
) -> Vec<Group> {
    let mut sorted: Vec<(Vec<u8>, Arc<BatchKey>, Vec<Entry>)> = batches
        .into_iter()
        .map(|(key, batch)| {
            let entries = batch.into_entries();
            (lock_order(&entries), Arc::new(key), entries)
        })
        .collect();
    sorted.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    let mut groups = Vec::with_capacity(sorted.len());
    for (batch, (_, batch_key, entries)) in (0..).zip(sorted) {
        let merged = merge(entries);
        let group = |entries| Group::new(&batch_key, batch, dialect, entries);
        groups.extend(merged.into_iter().map(group));
    }
    groups
}

fn batch_key_text(key: &BatchKey) -> String {
    match key {
        BatchKey::Named(name) => name.as_ref().to_owned(),
        BatchKey::Rows(target) => describe(target),
        BatchKey::Text(statement) => statement.0.text.clone(),
    }
}

/// Puts entries together that change different columns of the same rows.
pub(crate) fn merge(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut groups: Vec<Vec<Entry>> = Vec::with_capacity(entries.len());
    for entry in entries {
        match join_position(&groups, &entry) {
            Some(at) => groups[at].push(entry),
            None => groups.push(vec![entry]),
        }
    }
    groups
}

fn join_position(groups: &[Vec<Entry>], entry: &Entry) -> Option<usize> {
    let next = entry.folding().filter(|next| joins(next))?;
    for (at, group) in groups.iter().enumerate().rev().take(LOOK_BACK_MAX) {
        if !group.iter().all(|earlier| commute(&earlier.work, &entry.work)) {
            return None;
        }
        let same_rows = |earlier: &Folding| {
            joins(earlier) && earlier.target == next.target && earlier.on_missing == next.on_missing
        };
        if group.iter().all(|earlier| {
            earlier.folding().is_some_and(|earlier| {
                same_rows(earlier) && !same_name(&earlier.column, &next.column)
            })
        }) {
            return Some(at);
        }
    }
    None
}

/// Whether one UPDATE may do this together with others: it computes all columns from the row as it
/// was, so no change may alter what the condition meets.
fn joins(folding: &Folding) -> bool {
    folding.foldable && matches!(folding.target.condition, Condition::Eq(_))
}

impl Group {
    fn new(batch_key: &Arc<BatchKey>, batch: u32, dialect: Dialect, entries: Vec<Entry>) -> Self {
        let refused = entries.first().and_then(Entry::folding).and_then(unwritable);
        Self {
            entries,
            batch_key: Arc::clone(batch_key),
            batch,
            lot: 0,
            dialect,
            letter: Uuid::now_v7(),
            refused,
        }
    }

    /// True if several columns change, so that one of them can be at fault.
    pub(super) fn can_split(&self) -> bool {
        self.entries.len() > 1
    }

    /// One group for each entry, in order.
    pub(super) fn split(self) -> Vec<Self> {
        let Self { entries, batch_key, batch, lot, dialect, .. } = self;
        let alone = |entry| Self { lot, ..Self::new(&batch_key, batch, dialect, vec![entry]) };
        entries.into_iter().map(alone).collect()
    }

    /// True if it is kept should there be no row.
    pub(super) fn keeps_missing(&self) -> bool {
        self.on_missing() == Some(OnMissing::DeadLetter)
    }

    /// Whether two groups of one batch may change places.
    pub(super) fn commutes(&self, other: &Self) -> bool {
        let entries =
            || self.entries.iter().flat_map(|a| other.entries.iter().map(move |b| (a, b)));
        entries().all(|(a, b)| commute(&a.work, &b.work))
    }

    /// The table that it may insert a row into, where others may do so at the same time.
    pub(super) fn intake(&self) -> Option<&TableName> {
        let first = self.entries.first()?.folding()?;
        let inserts = self.on_missing() == Some(OnMissing::Insert);
        let open = self.dialect == Dialect::Postgres && self.refused.is_none();
        (inserts && open).then_some(&first.target.table)
    }

    /// What it does, if that could be part of a statement of many groups.
    pub(super) fn change(&self) -> Option<Change<'_>> {
        let first = self.entries.first()?.folding()?;
        let Condition::Eq(equalities) = &first.target.condition else { return None };
        if self.refused.is_some() || !first.foldable {
            return None;
        }
        let mut sets: Vec<(&Ident, &Fold)> = self.sets();
        sets.sort_unstable_by_key(|(column, _)| *column);
        Some(Change { target: &first.target, equalities, sets, on_missing: first.on_missing })
    }

    /// The step of a flush: the deed, or keeping it if it was refused.
    pub(super) fn step(&self, origin: Origin, now: UnixMillis) -> Result<Step> {
        if let Some(cause) = &self.refused {
            return Ok(Step::any(self.keep(origin, &cause.to_string(), now)?));
        }
        let deed = self.deed();
        let kept = match &deed {
            Deed::Update(_, OnMissing::DeadLetter) => {
                vec![self.letter_of(&deed, origin, MISSING, now)?.insert()]
            }
            Deed::Update(..) | Deed::Statement(_) | Deed::Unwritable => Vec::new(),
        };
        Ok(match deed {
            Deed::Update(effect, on_missing) => effect.step(on_missing, Otherwise::Run(kept)),
            Deed::Statement(statement) => Step::any(statement),
            Deed::Unwritable => Step::must(nothing(), Expect::Returns(0), MISSING),
        })
    }

    /// The deed as it is retried from the dead letter: a missing row refuses it.
    pub(super) fn retried(&self) -> Step {
        match self.deed() {
            Deed::Update(effect, on_missing) => PayloadStep::of(effect, on_missing).step(),
            Deed::Statement(statement) => PayloadStep::of_statement(statement).step(),
            Deed::Unwritable => Step::must(nothing(), Expect::Returns(0), MISSING),
        }
    }

    /// The statement that keeps the group in the dead letters.
    pub(super) fn keep(&self, origin: Origin, cause: &str, now: UnixMillis) -> Result<Statement> {
        Ok(self.letter_row(origin, cause, now)?.insert())
    }

    /// The group as a dead letter.
    pub(super) fn letter_row(
        &self,
        origin: Origin,
        cause: &str,
        now: UnixMillis,
    ) -> Result<LetterRow> {
        self.letter_of(&self.deed(), origin, cause, now)
    }

    fn letter_of(
        &self,
        deed: &Deed,
        origin: Origin,
        cause: &str,
        now: UnixMillis,
    ) -> Result<LetterRow> {
        Ok(LetterRow {
            id: self.letter,
            origin,
            seq: self.seq(),
            batch_key: batch_key_text(&self.batch_key),
            summary: self.summary(),
            cause: cause.to_owned(),
            payload: self.payload(deed).encode()?,
            now,
        })
    }

    /// What a dead letter needs to do the deed later.
    fn payload(&self, deed: &Deed) -> Payload {
        let steps = match deed {
            Deed::Update(effect, on_missing) => vec![PayloadStep::of(effect.clone(), *on_missing)],
            Deed::Statement(statement) => vec![PayloadStep::of_statement(statement.clone())],
            Deed::Unwritable => Vec::new(),
        };
        let mut keys: Vec<&Key> = self.entries.iter().flat_map(|entry| &entry.keys).collect();
        keys.sort();
        keys.dedup();
        Payload { steps, keys: keys.into_iter().map(|key| key.as_str().to_owned()).collect() }
    }

    fn deed(&self) -> Deed {
        let Some(first) = self.entries.first() else { return Deed::Unwritable };
        match &first.work {
            Work::Statement(statement) => Deed::Statement(statement.as_ref().clone()),
            Work::Fold(folding) => {
                let inserts = folding.on_missing == OnMissing::Insert;
                match Effect::of(&folding.target, &self.sets(), inserts, self.dialect) {
                    Ok(effect) => Deed::Update(effect, folding.on_missing),
                    Err(_) => Deed::Unwritable,
                }
            }
        }
    }

    fn sets(&self) -> Vec<(&Ident, &Fold)> {
        let foldings = self.entries.iter().filter_map(Entry::folding);
        foldings.map(|folding| (&folding.column, &folding.fold)).collect()
    }

    fn on_missing(&self) -> Option<OnMissing> {
        Some(self.entries.first()?.folding()?.on_missing)
    }

    fn seq(&self) -> (u64, u64) {
        let first = self.entries.iter().map(|entry| entry.seq.0).min();
        let last = self.entries.iter().map(|entry| entry.seq.1).max();
        (first.unwrap_or_default(), last.unwrap_or_default())
    }

    fn summary(&self) -> String {
        let ops: u64 = self.entries.iter().map(|entry| entry.ops).sum();
        let foldings: Vec<&Folding> = self.entries.iter().filter_map(Entry::folding).collect();
        let Some(first) = foldings.first() else { return "a statement".to_owned() };
        let columns: Vec<&str> = foldings.iter().map(|folding| folding.column.as_str()).collect();
        format!("{ops} operation(s) on {} of {}", columns.join(", "), describe(&first.target))
    }

    /// Tells everybody who waits: it took effect, or it was refused and is kept.
    pub(super) fn settle(&mut self) {
        let outcome = match &self.refused {
            None => Ok(()),
            Some(cause) => Err(Error::new(
                ErrorKind::InvalidData,
                "the operation was refused and is kept in the dead letters",
            )
            .with_context("dead letter", format!("periodic:{}", self.letter))
            .with_source(cause.clone())),
        };
        self.settle_with(&outcome);
    }

    /// Tells everybody who waits.
    pub(super) fn settle_with(&mut self, outcome: &Result<()>) {
        for entry in &mut self.entries {
            entry.settle(outcome.clone());
        }
    }
}

/// Which shard of which stream a flush belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) stream: Uuid,
    pub(super) shard: u16,
}

/// Stands for what cannot be written; such a group is refused before anything is sent.
fn nothing() -> Statement {
    Statement::query("SELECT 1", Vec::new())
}

/// Why the condition cannot be written, if it cannot; equalities were looked at when the operation
/// was accepted.
fn unwritable(folding: &Folding) -> Option<Error> {
    match &folding.target.condition {
        Condition::Eq(_) => None,
        other => condition(other).err(),
    }
}
