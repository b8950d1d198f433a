//! One entry of a batch: what is to be done, and for whom.

use std::sync::Arc;

use zmsg_core::{Ident, Key, Level, OnMissing, Settlement, Settler, Statement};

use super::Target;
use crate::algebra::Fold;

/// What an entry does to the database.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// A run of operations on one column of one target.
    Fold(Folding),
    /// A finished statement.
    Statement(Arc<Statement>),
}

/// A run of operations on one column of one target.
#[derive(Debug, Clone)]
pub(crate) struct Folding {
    pub(crate) target: Arc<Target>,
    pub(crate) column: Ident,
    pub(crate) fold: Fold,
    pub(crate) on_missing: OnMissing,
    /// False if the condition mentions the column: then the first of two operations could change
    /// which rows the second one meets.
    pub(crate) foldable: bool,
}

/// One entry of a batch: a slot.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) work: Work,
    /// The first and the last operation in here, by the sequence of the shard.
    pub(crate) seq: (u64, u64),
    /// How many operations are in here.
    pub(crate) ops: u64,
    /// The cache keys of its operations, sorted.
    pub(crate) keys: Vec<Key>,
    settler: Option<Settler>,
    settlement: Settlement,
    weight: usize,
    weight_checked: usize,
}

/// What an entry costs besides what its parts tell.
const OVERHEAD: usize = size_of::<Entry>() + 192;

impl Work {
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Fold(folding) => folding.target.heap_bytes() + folding.fold.heap_bytes(),
            Self::Statement(statement) => statement.heap_bytes(),
        }
    }
}

impl Entry {
    pub(super) fn new(work: Work, seq: u64) -> Self {
        let settler = Settlement::pending(Level::Memory);
        let settlement = settler.settlement();
        let weight = Self::weight_of(&work, None);
        Self {
            work,
            seq: (seq, seq),
            ops: 1,
            keys: Vec::new(),
            settler: Some(settler),
            settlement,
            weight,
            weight_checked: weight,
        }
    }

    /// What an entry of this work and this key would weigh.
    pub(super) fn weight_of(work: &Work, key: Option<&Key>) -> usize {
        OVERHEAD + work.heap_bytes() + key.map_or(0, key_bytes)
    }

    /// Bytes that the entry keeps in memory, about.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// The run of operations, unless it is a statement.
    pub(crate) fn folding(&self) -> Option<&Folding> {
        match &self.work {
            Work::Fold(folding) => Some(folding),
            Work::Statement(_) => None,
        }
    }

    pub(crate) fn settlement(&self) -> Settlement {
        self.settlement.clone()
    }

    /// Ends the wait of everybody whose operation is in here.
    pub(crate) fn settle(&mut self, outcome: zmsg_core::Result<()>) {
        if let Some(settler) = self.settler.take() {
            settler.settle(outcome);
        }
    }

    /// Counts one more operation, which made the work heavier by at most `bytes`.
    pub(super) fn joined(&mut self, seq: u64, bytes: usize) {
        self.seq.1 = seq;
        self.ops += 1;
        self.weight += bytes;
        // A key set a thousand times weighs once. Weighing is as long as the work is large, so
        // it is done each time the estimate has doubled.
        if self.weight > 2 * self.weight_checked + 4096 {
            let keys: usize = self.keys.iter().map(key_bytes).sum();
            self.weight = OVERHEAD + self.work.heap_bytes() + keys;
            self.weight_checked = self.weight;
        }
    }

    pub(super) fn add_key(&mut self, key: &Key) {
        if let Err(position) = self.keys.binary_search(key) {
            self.keys.insert(position, key.clone());
            self.weight += key_bytes(key);
        }
    }
}

fn key_bytes(key: &Key) -> usize {
    key.as_str().len() + size_of::<Key>() + 16
}
