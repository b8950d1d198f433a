//! What becomes one statement of a flush.

use uuid::Uuid;
use zmsg_core::{
    Condition, Error, ErrorKind, Ident, Key, OnMissing, Result, Statement, UnixMillis,
};
use zmsg_store::{Otherwise, Step};

use super::letter::LetterRow;
use super::payload::{Payload, PayloadStep};
use super::steps::{Effect, MISSING, describe};
use crate::algebra::Fold;
use crate::buffer::{Batch, BatchKey, Entry, Folding, Work, commute, same_name};

/// Entries of one batch key that become one statement: one entry, or several that change
/// different columns of the same rows.
#[derive(Debug)]
pub(super) struct Group {
    entries: Vec<Entry>,
    batch_key: String,
    deed: Deed,
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

/// How far an entry looks back for a group to join.
const LOOK_BACK_MAX: usize = 16;

/// The groups of a seal: ordered by their rows, so that two processes lock them in one order, and
/// within a batch key as their operations came.
pub(super) fn groups_of(batches: impl IntoIterator<Item = (BatchKey, Batch)>) -> Vec<Group> {
    let mut sorted: Vec<(Vec<u8>, String, Vec<Entry>)> = batches
        .into_iter()
        .map(|(key, batch)| {
            let entries = batch.into_entries();
            (lock_order(&entries), batch_key_text(&key), entries)
        })
        .collect();
    sorted.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    let mut groups = Vec::with_capacity(sorted.len());
    for (_, batch_key, entries) in sorted {
        let merged = merge(entries);
        groups.extend(merged.into_iter().map(|entries| Group::new(&batch_key, entries)));
    }
    groups
}

/// By table and condition of the first entry. Any order will do that is the same in every process.
fn lock_order(entries: &[Entry]) -> Vec<u8> {
    match entries.first().map(|entry| &entry.work) {
        Some(Work::Fold(folding)) => {
            let mut order = folding.target.table.to_string().into_bytes();
            order.push(0);
            order.extend(postcard::to_stdvec(&folding.target.condition).unwrap_or_default());
            order
        }
        Some(Work::Statement(statement)) => statement.text.clone().into_bytes(),
        None => Vec::new(),
    }
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
    fn new(batch_key: &str, entries: Vec<Entry>) -> Self {
        let (deed, refused) = match Deed::of(&entries) {
            Ok(deed) => (deed, None),
            Err(error) => (Deed::Unwritable, Some(error)),
        };
        let letter = Uuid::now_v7();
        Self { entries, batch_key: batch_key.to_owned(), deed, letter, refused }
    }

    /// True if several columns change, so that one of them can be at fault.
    pub(super) fn can_split(&self) -> bool {
        self.entries.len() > 1
    }

    /// One group for each entry, in order.
    pub(super) fn split(self) -> Vec<Self> {
        let batch_key = self.batch_key;
        self.entries.into_iter().map(|entry| Self::new(&batch_key, vec![entry])).collect()
    }

    /// True if it is kept should there be no row.
    pub(super) fn keeps_missing(&self) -> bool {
        matches!(self.deed, Deed::Update(_, OnMissing::DeadLetter))
    }

    /// The step of a flush: the deed, or keeping it if it was refused.
    pub(super) fn step(&self, origin: Origin, now: UnixMillis) -> Result<Step> {
        if let Some(cause) = &self.refused {
            return Ok(Step::any(self.keep(origin, &cause.to_string(), now)?));
        }
        Ok(match &self.deed {
            Deed::Update(effect, on_missing) => {
                let kept = match on_missing {
                    OnMissing::DeadLetter => vec![self.keep(origin, MISSING, now)?],
                    OnMissing::Insert | OnMissing::Ignore => Vec::new(),
                };
                effect.clone().step(*on_missing, Otherwise::Run(kept))
            }
            Deed::Statement(statement) => Step::any(statement.clone()),
            Deed::Unwritable => Step::any(self.keep(origin, MISSING, now)?),
        })
    }

    /// The statement that keeps the group in the dead letters.
    pub(super) fn keep(&self, origin: Origin, cause: &str, now: UnixMillis) -> Result<Statement> {
        let row = LetterRow {
            id: self.letter,
            origin,
            seq: self.seq(),
            batch_key: &self.batch_key,
            summary: &self.summary(),
            cause,
            payload: &self.payload(),
            now,
        };
        row.insert()
    }

    /// What a dead letter needs to do the deed later.
    pub(super) fn payload(&self) -> Payload {
        let steps = match &self.deed {
            Deed::Update(effect, on_missing) => vec![PayloadStep::of(effect, *on_missing)],
            Deed::Statement(statement) => vec![PayloadStep::of_statement(statement)],
            Deed::Unwritable => Vec::new(),
        };
        let mut keys: Vec<&Key> = self.entries.iter().flat_map(|entry| &entry.keys).collect();
        keys.sort();
        keys.dedup();
        Payload { steps, keys: keys.into_iter().map(|key| key.as_str().to_owned()).collect() }
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

impl Deed {
    fn of(entries: &[Entry]) -> Result<Self> {
        let foldings: Vec<&Folding> = entries.iter().filter_map(Entry::folding).collect();
        if let Some(first) = foldings.first() {
            let sets: Vec<(&Ident, &Fold)> =
                foldings.iter().map(|folding| (&folding.column, &folding.fold)).collect();
            return Ok(Self::Update(Effect::of(&first.target, &sets)?, first.on_missing));
        }
        match entries.first().map(|entry| &entry.work) {
            Some(Work::Statement(statement)) => Ok(Self::Statement(statement.as_ref().clone())),
            _ => Ok(Self::Unwritable),
        }
    }
}
