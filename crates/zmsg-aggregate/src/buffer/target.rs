//! Which rows an operation changes, and what its condition depends on.

use zmsg_core::{Condition, Error, Ident, OnMissing, Result, TableName};
use zmsg_sqlbuilder::{condition, identifiers};

/// A table and a condition with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) table: TableName,
    pub(crate) condition: Condition,
}

impl Target {
    /// Refuses what could never be written as a statement.
    pub(crate) fn check(&self, column: &Ident, on_missing: OnMissing) -> Result<()> {
        match &self.condition {
            Condition::Eq(equalities) => {
                // Without writing the text, which every increment would pay for.
                if equalities.is_empty() || equalities.iter().any(|(_, value)| value.is_null()) {
                    condition(&self.condition)?;
                }
                let inserts = on_missing == OnMissing::Insert;
                if inserts && equalities.iter().any(|(name, _)| same_name(name, column)) {
                    return Err(Error::invalid_input(
                        "a row cannot be inserted by a condition on the column that changes",
                    )
                    .with_context("column", column));
                }
                Ok(())
            }
            Condition::Sql { .. } | Condition::AllRows => {
                if on_missing == OnMissing::Insert {
                    return Err(Error::invalid_input(
                        "inserting a missing row needs where_eq; choose another on_missing",
                    )
                    .with_context("table", &self.table));
                }
                condition(&self.condition).map(drop)
            }
        }
    }

    /// Whether the condition may depend on the column: "maybe" is said too often, "no" never
    /// wrongly, as far as a text can tell (a generated column or a function may hide it).
    pub(crate) fn mentions(&self, column: &Ident) -> Result<bool> {
        match &self.condition {
            Condition::Eq(equalities) => {
                Ok(equalities.iter().any(|(name, _)| same_name(name, column)))
            }
            Condition::Sql { text, .. } => {
                let names = identifiers(text)?;
                // A subquery may read the column through any name.
                Ok(names.iter().any(|name| {
                    name.eq_ignore_ascii_case("select") || same_text(name, column.as_str())
                }))
            }
            Condition::AllRows => Ok(false),
        }
    }

    /// Bytes that the target keeps in memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        let condition: usize = match &self.condition {
            Condition::Eq(equalities) => {
                let bytes = |(name, value): &(Ident, zmsg_core::Value)| {
                    name.as_str().len() + 64 + value.heap_bytes()
                };
                equalities.iter().map(bytes).sum()
            }
            Condition::Sql { text, binds } => {
                text.len() + binds.iter().map(|value| 64 + value.heap_bytes()).sum::<usize>()
            }
            Condition::AllRows => 0,
        };
        condition + self.table.name().as_str().len() + size_of::<Self>()
    }
}

/// Whether a database could take two names for one: case does not count.
pub(crate) fn same_name(a: &Ident, b: &Ident) -> bool {
    same_text(a.as_str(), b.as_str())
}

fn same_text(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        a.eq_ignore_ascii_case(b)
    } else {
        a.to_lowercase() == b.to_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mentions(text: &str, column: &str) -> bool {
        let condition = Condition::Sql { text: text.to_owned(), binds: Vec::new() };
        let target = Target { table: TableName::new("t").unwrap(), condition };
        target.mentions(&Ident::new(column).unwrap()).unwrap()
    }

    #[test]
    fn a_condition_mentions_a_column_however_it_is_spelled() {
        for text in ["stock > 0", "STOCK > 0", "\"Stock\" > 0", "t.stock > 0", "[stock] > 0"] {
            assert!(mentions(text, "stock"), "{text}");
        }
        assert!(mentions("id IN (SELECT id FROM u)", "stock"), "a subquery may read anything");
        assert!(!mentions("note = 'stock' /* stock */", "stock"));
    }
}
