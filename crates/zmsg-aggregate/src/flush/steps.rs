//! Operations as statements.

use zmsg_core::{Condition, Error, ErrorKind, Ident, OnMissing, Op, Result, Statement, Value};
use zmsg_sqlbuilder::{Dialect, condition};
use zmsg_store::{Expect, Otherwise, Step};

use crate::algebra::{COUNTER_FUNCTION, FOLD_FUNCTION, Fold};
use crate::buffer::{Folding, Target};

/// No row meets the condition of an operation that is not to be lost.
pub(super) const MISSING: &str = "no row meets the condition";

/// The steps that apply one operation now, for the routes that do not fold: the same statements
/// as a flush writes.
///
/// If no row meets the condition the operation's `on_missing` decides, else `default`; what a
/// flush would dead-letter rolls the transaction back here, with a `Conflict`.
///
/// # Errors
/// `InvalidInput` for an operation that can never work; `Unsupported` for a dialect without the
/// functions of [`sqlite_functions`](crate::sqlite_functions).
pub fn steps_for(op: &Op, default: OnMissing, dialect: Dialect) -> Result<Vec<Step>> {
    check_dialect(dialect)?;
    let (_, folding) = Folding::of(op.clone(), default)?;
    let effect = Effect::of(&folding.target, &[(&folding.column, &folding.fold)])?;
    Ok(vec![effect.step(folding.on_missing, Otherwise::Abort(MISSING))])
}

/// Refuses a dialect whose folds are not written yet.
pub(crate) fn check_dialect(dialect: Dialect) -> Result<()> {
    match dialect {
        Dialect::Sqlite => Ok(()),
        Dialect::Postgres => Err(Error::new(
            ErrorKind::Unsupported,
            "operations fold on SQLite only; write a statement instead",
        )),
    }
}

/// What a group does, as statements.
#[derive(Debug, Clone)]
pub(super) struct Effect {
    pub(super) update: Statement,
    /// The row to insert if there is none; only for a condition of equalities.
    pub(super) insert: Option<Statement>,
}

impl Effect {
    /// One UPDATE of the target that sets these columns.
    pub(super) fn of(target: &Target, sets: &[(&Ident, &Fold)]) -> Result<Self> {
        let insert = match &target.condition {
            Condition::Eq(equalities) => Some(insert(target, equalities, sets)),
            Condition::Sql { .. } | Condition::AllRows => None,
        };
        Ok(Self { update: update(target, sets)?, insert })
    }

    /// The step; `dead` is what happens to a missing row that is not to be lost.
    pub(super) fn step(self, on_missing: OnMissing, dead: Otherwise) -> Step {
        let otherwise = match (on_missing, self.insert) {
            (OnMissing::Ignore, _) => return Step::any(self.update),
            (OnMissing::Insert, Some(insert)) => Otherwise::Run(vec![insert]),
            (OnMissing::Insert, None) | (OnMissing::DeadLetter, _) => dead,
        };
        Step { statement: self.update, expect: Expect::AtLeast(1), otherwise }
    }
}

fn update(target: &Target, sets: &[(&Ident, &Fold)]) -> Result<Statement> {
    let (condition, condition_binds) = condition(&target.condition)?;
    let mut text = String::from("UPDATE ");
    target.table.write_quoted(&mut text);
    let mut binds = Vec::new();
    for (index, (column, fold)) in sets.iter().enumerate() {
        text.push_str(if index == 0 { " SET " } else { ", " });
        column.write_quoted(&mut text);
        text.push_str(" = ");
        write_fold(fold, Some(column), &mut text, &mut binds);
    }
    text.push_str(" WHERE ");
    text.push_str(&condition);
    binds.extend(condition_binds);
    Ok(Statement::new(text, binds))
}

fn insert(target: &Target, equalities: &[(Ident, Value)], sets: &[(&Ident, &Fold)]) -> Statement {
    let mut text = String::from("INSERT INTO ");
    target.table.write_quoted(&mut text);
    let columns = equalities.iter().map(|(name, _)| name).chain(sets.iter().map(|(name, _)| *name));
    for (index, column) in columns.enumerate() {
        text.push_str(if index == 0 { " (" } else { ", " });
        column.write_quoted(&mut text);
    }
    text.push_str(") VALUES (");
    let mut binds: Vec<Value> = equalities.iter().map(|(_, value)| value.clone()).collect();
    text.push_str(&vec!["?"; binds.len()].join(", "));
    for (_, fold) in sets {
        text.push_str(", ");
        write_fold(fold, None, &mut text, &mut binds);
    }
    text.push(')');
    Statement::new(text, binds)
}

/// Writes what a column, or NULL, becomes.
fn write_fold(fold: &Fold, column: Option<&Ident>, text: &mut String, binds: &mut Vec<Value>) {
    let small = match fold {
        Fold::Counter(map) => i64::try_from(map.factor()).ok().zip(map.offset().try_into().ok()),
        _ => None,
    };
    text.push_str(if small.is_some() { COUNTER_FUNCTION } else { FOLD_FUNCTION });
    text.push('(');
    match column {
        Some(column) => column.write_quoted(text),
        None => text.push_str("NULL"),
    }
    match small {
        Some((factor, offset)) => {
            text.push_str(", ?, ?)");
            binds.extend([Value::Int(factor), Value::Int(offset)]);
        }
        None => {
            text.push_str(", ?)");
            binds.push(Value::Text(fold.encode()));
        }
    }
}

/// A target for a person: its table and its condition, with short values.
pub(super) fn describe(target: &Target) -> String {
    let condition = match &target.condition {
        Condition::Eq(equalities) => {
            let equal = |(name, value): &(Ident, Value)| format!("{name} = {}", short(value));
            equalities.iter().map(equal).collect::<Vec<_>>().join(" and ")
        }
        Condition::Sql { text, binds } => {
            let binds: Vec<String> = binds.iter().map(short).collect();
            format!("{text} [{}]", binds.join(", "))
        }
        Condition::AllRows => "all rows".to_owned(),
    };
    format!("{} where {condition}", target.table)
}

fn short(value: &Value) -> String {
    let bytes = value.to_bytes().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    if text.chars().nth(64).is_some() {
        shown.push('…');
    }
    shown
}
