//! Which entries may change places.

use zmsg_core::{Condition, Ident, OnMissing, Value};

use super::target::same_name;
use super::{Folding, Work};

/// Whether two entries leave the same behind in either order.
///
/// - A statement commutes with nothing: what it reads and writes is not known.
/// - An operation with a SQL condition commutes with nothing, for the same reason.
/// - An operation that may insert commutes only with one that inserts the same row and changes
///   another column: its row may be met by any other condition.
/// - Operations on different tables commute.
/// - Operations on different columns of a table commute if neither's condition names the other's
///   column. Names are compared without case.
/// - Operations on one column commute if neither's condition names it, and both only add to an
///   integer, with the same sign, or their conditions name one column with two different integers.
///
/// Triggers, foreign keys with actions, generated columns and checks across columns are not seen.
pub(crate) fn commute(a: &Work, b: &Work) -> bool {
    let (Work::Fold(a), Work::Fold(b)) = (a, b) else { return false };
    let (Some(a_rows), Some(b_rows)) = (equalities(a), equalities(b)) else { return false };
    if inserts(a) || inserts(b) {
        return inserts(a)
            && inserts(b)
            && a.target == b.target
            && !same_name(&a.column, &b.column);
    }
    // A table may be named with and without its schema: only the name tells them apart.
    if !same_name(a.target.table.name(), b.target.table.name()) {
        return true;
    }
    if names(a_rows, &b.column) || names(b_rows, &a.column) {
        return false;
    }
    !same_name(&a.column, &b.column) || add_alike(a, b) || disjoint(a_rows, b_rows)
}

type Equalities = [(Ident, Value)];

fn equalities(folding: &Folding) -> Option<&Equalities> {
    match &folding.target.condition {
        Condition::Eq(equalities) => Some(equalities),
        Condition::AllRows => Some(&[]),
        Condition::Sql { .. } => None,
    }
}

fn inserts(folding: &Folding) -> bool {
    folding.on_missing == OnMissing::Insert
}

fn names(equalities: &Equalities, column: &Ident) -> bool {
    equalities.iter().any(|(name, _)| same_name(name, column))
}

/// Whether both only add, in the same direction: with different signs one order could leave the
/// range of the column where the other does not.
fn add_alike(a: &Folding, b: &Folding) -> bool {
    match (a.fold.addition(), b.fold.addition()) {
        (Some(a), Some(b)) => (a >= 0) == (b >= 0) || a == 0 || b == 0,
        _ => false,
    }
}

/// Whether no row meets both. Only integers prove it: a collation may take two texts for one.
fn disjoint(a: &Equalities, b: &Equalities) -> bool {
    a.iter().any(|(a_name, a_value)| {
        b.iter().any(|(b_name, b_value)| {
            same_name(a_name, b_name)
                && matches!((a_value, b_value), (Value::Int(a), Value::Int(b)) if a != b)
        })
    })
}
