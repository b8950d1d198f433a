//! A finished SQL statement: text with `?` for each bind, and the binds.

use serde::{Deserialize, Serialize};

use crate::{Key, Value};

/// One SQL statement in portable form: `?` stands for a bind on every database; the store writes
/// it as its dialect wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The text. `??` stands for a literal question mark.
    pub text: String,
    /// The binds, in the order of their placeholders.
    pub binds: Vec<Value>,
    /// True if the statement gives rows (`SELECT` or `RETURNING`).
    pub returns_rows: bool,
    /// Which cache keys the statement's rows belong to, for the filter.
    #[serde(skip)]
    pub keys: KeyScope,
    /// On the periodic route: where its order is kept. Default: an order of its own.
    pub batch_key: Option<String>,
    /// On the periodic route: a later statement of the same batch key replaces this one.
    pub overwrite: bool,
}

/// Which keys a raw statement may bring into being.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum KeyScope {
    /// The author did not say.
    #[default]
    Unstated,
    /// These, or none.
    Keys(Vec<Key>),
}

impl Statement {
    /// A statement of this text and these binds that gives no rows.
    pub fn new(text: impl Into<String>, binds: Vec<Value>) -> Self {
        Self {
            text: text.into(),
            binds,
            returns_rows: false,
            keys: KeyScope::Unstated,
            batch_key: None,
            overwrite: false,
        }
    }

    /// A statement that gives rows.
    pub fn query(text: impl Into<String>, binds: Vec<Value>) -> Self {
        Self { returns_rows: true, ..Self::new(text, binds) }
    }

    /// Bytes that the statement keeps in memory.
    pub fn heap_bytes(&self) -> usize {
        let binds: usize = self.binds.iter().map(|v| v.heap_bytes() + size_of::<Value>()).sum();
        self.text.len() + binds + self.batch_key.as_ref().map_or(0, String::len)
    }
}
