//! Statements that are prepared, found by their text; the one not used for longest goes first.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::types::Type;

use super::command::Command;

/// A statement that needs no look at its text any more.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) command: Command,
    pub(super) kinds: Vec<Type>,
    pub(super) form: Form,
}

/// How a prepared statement is run.
pub(super) enum Form {
    /// By its name on this connection.
    Named { statement: tokio_postgres::Statement, columns: Arc<[String]> },
    /// By its text, with the types that were found out before: nothing of it stays on the server.
    Unnamed { text: String },
}

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Named { .. } => "Named",
            Self::Unnamed { .. } => "Unnamed",
        })
    }
}

/// The prepared statements of a connection, or of a store behind a pooler.
#[derive(Debug)]
pub(super) struct Statements {
    known: HashMap<Arc<str>, (Arc<Prepared>, u64)>,
    max: usize,
    uses: u64,
}

impl Statements {
    pub(super) fn bounded(max: usize) -> Self {
        Self { known: HashMap::new(), max: max.max(1), uses: 0 }
    }

    /// The statement of a portable text with so many binds.
    pub(super) fn get(&mut self, text: &str, binds: usize) -> Option<Arc<Prepared>> {
        self.uses += 1;
        let (prepared, used) = self.known.get_mut(text)?;
        if prepared.kinds.len() != binds {
            return None;
        }
        *used = self.uses;
        Some(Arc::clone(prepared))
    }

    pub(super) fn put(&mut self, text: &str, prepared: Arc<Prepared>) {
        if self.known.len() >= self.max && !self.known.contains_key(text) {
            let oldest = self.known.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(text, _)| Arc::clone(text)) {
                self.known.remove(&oldest);
            }
        }
        self.uses += 1;
        self.known.insert(Arc::from(text), (prepared, self.uses));
    }

    pub(super) fn forget(&mut self, text: &str) {
        self.known.remove(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(binds: usize) -> Arc<Prepared> {
        let form = Form::Unnamed { text: String::new() };
        Arc::new(Prepared { command: Command::Query, kinds: vec![Type::TEXT; binds], form })
    }

    #[test]
    fn the_statement_not_used_for_longest_goes_first() {
        let mut statements = Statements::bounded(2);
        statements.put("a", prepared(0));
        statements.put("b", prepared(0));
        assert!(statements.get("a", 0).is_some());
        statements.put("c", prepared(0));
        assert!(statements.get("b", 0).is_none());
        assert!(statements.get("a", 0).is_some() && statements.get("c", 0).is_some());
        statements.put("c", prepared(1));
        assert!(statements.get("c", 0).is_none(), "another number of binds is another statement");
        assert!(statements.get("c", 1).is_some() && statements.get("a", 0).is_some());
        statements.forget("c");
        assert!(statements.get("c", 1).is_none());
    }
}
