//! Inserting a missing row on PostgreSQL, where others insert at the same time.

use zmsg_core::{Ident, Result, Statement, TableName, Value};
use zmsg_sqlbuilder::{Dialect, condition};

use super::lock_order::{row_lock, table_lock};
use super::steps::{write_columns, write_fold};
use crate::algebra::Fold;
use crate::buffer::Target;

/// What runs when an UPDATE has met no row that is to be inserted then.
///
/// - Whoever inserts the same row by zmsg is waited for, also where no unique constraint would
///   stop a second one.
/// - A row that somebody else inserted meanwhile is changed instead. Each of these statements
///   sees what was committed before it began.
/// - If another row has one of its unique values, the last statement refuses.
pub(super) fn statements(
    target: &Target,
    equalities: &[(Ident, Value)],
    sets: &[(&Ident, &Fold)],
    update: &Statement,
) -> Result<Vec<Statement>> {
    let lock = Statement::query(
        "SELECT pg_advisory_xact_lock_shared(?::bigint), pg_advisory_xact_lock(?::bigint)",
        vec![Value::Int(table_lock(&target.table)), Value::Int(row_lock(target))],
    );
    Ok(vec![lock, insert(target, equalities, sets)?, again(update)])
}

/// Inserts the row unless it is there, and notes in a setting of the transaction how many it
/// inserted.
fn insert(
    target: &Target,
    equalities: &[(Ident, Value)],
    sets: &[(&Ident, &Fold)],
) -> Result<Statement> {
    let (condition, condition_binds) = condition(&target.condition)?;
    let mut text = String::from("WITH i AS (INSERT INTO ");
    target.table.write_quoted(&mut text);
    let columns = equalities.iter().map(|(name, _)| name).chain(sets.iter().map(|(name, _)| *name));
    write_columns(columns, &mut text);
    let mut binds: Vec<Value> = equalities.iter().map(|(_, value)| value.clone()).collect();
    text.push_str(" SELECT ");
    text.push_str(&vec!["?"; binds.len()].join(", "));
    for (column, fold) in sets {
        text.push_str(", ");
        write_fold(
            fold,
            &no_value(&target.table, column),
            Dialect::Postgres,
            &mut text,
            &mut binds,
        );
    }
    text.push_str(" WHERE NOT EXISTS (SELECT FROM ");
    target.table.write_quoted(&mut text);
    text.push_str(" WHERE ");
    text.push_str(&condition);
    binds.extend(condition_binds);
    text.push_str(
        ") ON CONFLICT DO NOTHING RETURNING 1), c AS (SELECT count(*)::text AS rows FROM i) \
         SELECT set_config('zmsg.inserted', rows, true) FROM c",
    );
    Ok(Statement::query(text, binds))
}

/// The UPDATE again, if nothing was inserted.
fn again(update: &Statement) -> Statement {
    Statement::query(
        format!(
            "WITH u AS ({} AND current_setting('zmsg.inserted') = '0' RETURNING 1) \
             SELECT zmsg_met(count(*) + current_setting('zmsg.inserted')::bigint) FROM u",
            update.text
        ),
        update.binds.clone(),
    )
}

/// NULL, of the type that the column has: it decides which function is called.
pub(super) fn no_value(table: &TableName, column: &Ident) -> String {
    let mut text = String::from("(SELECT x.");
    column.write_quoted(&mut text);
    text.push_str(" FROM ");
    table.write_quoted(&mut text);
    text.push_str(" AS x WHERE false)");
    text
}
