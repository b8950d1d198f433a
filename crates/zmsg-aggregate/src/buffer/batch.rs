//! The ordered entries of one batch key.

use zmsg_core::Key;

use super::{Entry, Work, commute};
use crate::algebra::Fold;

/// The ordered entries of one batch key.
///
/// - Executing the entries in order has the effect of executing every operation in the order it
///   came, wherever that is legal.
/// - An operation folds into an earlier entry if table, column, condition with its arguments and
///   `on_missing` are equal, the condition does not mention the column, every entry between
///   [commutes](commute()) with it, and the algebra composes the two.
/// - A statement marked as overwriting replaces an earlier one so marked only if it is the last
///   entry: what stands between may depend on the earlier one.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    entries: Vec<Entry>,
}

/// Where an operation went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    /// The position of its entry.
    pub(crate) at: usize,
    /// Whether the entry was there before.
    pub(crate) folded: bool,
    /// By how many bytes the batch grew.
    pub(crate) grown: i64,
}

/// How far an operation looks back for an entry to fold into: submitting takes bounded time.
const LOOK_BACK_MAX: usize = 64;

impl Batch {
    /// The entries in order.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Places the operation with this sequence number; it cannot fail.
    pub(crate) fn push(&mut self, work: Work, seq: u64, key: Option<&Key>) -> Placed {
        let before: usize = self.entries.len();
        let (at, grown) = match self.fold_in(work, seq) {
            Ok(folded) => folded,
            Err(work) => {
                self.entries.push(Entry::new(work, seq));
                (before, to_i64(self.entries[before].weight()))
            }
        };
        let entry = &mut self.entries[at];
        let unkeyed = entry.weight();
        if let Some(key) = key {
            entry.add_key(key);
        }
        let keyed = to_i64(entry.weight()) - to_i64(unkeyed);
        Placed { at, folded: at < before, grown: grown + keyed }
    }

    /// Folds into an earlier entry: where, and by how much it grew; or gives the work back.
    fn fold_in(&mut self, work: Work, seq: u64) -> Result<(usize, i64), Work> {
        let Some(at) = self.fold_position(&work) else { return Err(work) };
        let entry = &mut self.entries[at];
        let before = to_i64(entry.weight());
        match (&mut entry.work, work) {
            (Work::Fold(earlier), Work::Fold(mut next)) => {
                let bytes = next.fold.heap_bytes();
                let taken = std::mem::replace(&mut earlier.fold, Fold::Zero);
                match taken.then(next.fold) {
                    Ok(both) => earlier.fold = both,
                    Err((apart, kept)) => {
                        earlier.fold = apart;
                        next.fold = kept;
                        return Err(Work::Fold(next));
                    }
                }
                entry.joined(seq, bytes);
            }
            (earlier @ Work::Statement(_), work @ Work::Statement(_)) => {
                let bytes = work.heap_bytes();
                *earlier = work;
                entry.joined(seq, bytes);
            }
            (_, work) => return Err(work),
        }
        Ok((at, to_i64(entry.weight()) - before))
    }

    fn fold_position(&self, work: &Work) -> Option<usize> {
        match work {
            Work::Statement(statement) => {
                let last = self.entries.len().checked_sub(1)?;
                let Work::Statement(earlier) = &self.entries[last].work else { return None };
                (statement.overwrite && earlier.overwrite).then_some(last)
            }
            Work::Fold(next) if !next.foldable => None,
            Work::Fold(next) => {
                for (at, entry) in self.entries.iter().enumerate().rev().take(LOOK_BACK_MAX) {
                    match &entry.work {
                        Work::Fold(earlier)
                            if earlier.column == next.column
                                && earlier.on_missing == next.on_missing
                                && earlier.target == next.target =>
                        {
                            return Some(at);
                        }
                        between if commute(between, work) => {}
                        _ => return None,
                    }
                }
                None
            }
        }
    }
}

fn to_i64(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
