//! Operations as statements.

use zmsg_core::{Condition, Ident, OnMissing, Op, Result, Statement, Value};
use zmsg_sqlbuilder::{Dialect, condition};
use zmsg_store::{Expect, Otherwise, Step};

use super::call::FoldKind;
use super::upsert;
use crate::algebra::Fold;
use crate::buffer::{Folding, Target};

/// No row meets the condition of an operation that is not to be lost.
pub(super) const MISSING: &str = "no row meets the condition";

/// The steps that apply one operation now, for the routes that do not fold: the same statements
/// as a flush writes for an operation by itself.
///
/// If no row meets the condition the operation's `on_missing` decides, else `default`; what a
/// flush would dead-letter rolls the transaction back here, with a `Conflict`.
///
/// # Errors
/// `InvalidInput` for an operation that can never work.
pub fn steps_for(op: &Op, default: OnMissing, dialect: Dialect) -> Result<Vec<Step>> {
    let (_, folding) = Folding::of(op.clone(), default)?;
    let inserts = folding.on_missing == OnMissing::Insert;
    let sets = [(&folding.column, &folding.fold)];
    let effect = Effect::of(&folding.target, &sets, inserts, dialect)?;
    Ok(vec![effect.step(folding.on_missing, Otherwise::Abort(MISSING))])
}

/// What a group does, as statements.
#[derive(Debug, Clone)]
pub(super) struct Effect {
    pub(super) update: Statement,
    /// What inserts the row if there is none. Empty if it is not to be inserted.
    pub(super) insert: Vec<Statement>,
}

impl Effect {
    /// One UPDATE of the target that sets these columns.
    pub(super) fn of(
        target: &Target,
        sets: &[(&Ident, &Fold)],
        inserts: bool,
        dialect: Dialect,
    ) -> Result<Self> {
        let update = update(target, sets, dialect)?;
        let insert = match (&target.condition, dialect) {
            (Condition::Eq(equalities), Dialect::Sqlite) if inserts => {
                vec![insert(target, equalities, sets)]
            }
            (Condition::Eq(equalities), Dialect::Postgres) if inserts => {
                upsert::statements(target, equalities, sets, &update)?
            }
            _ => Vec::new(),
        };
        Ok(Self { update, insert })
    }

    /// The step; `dead` is what happens to a missing row that is not to be lost.
    pub(super) fn step(self, on_missing: OnMissing, dead: Otherwise) -> Step {
        let otherwise = match on_missing {
            OnMissing::Ignore => return Step::any(self.update),
            OnMissing::Insert if !self.insert.is_empty() => Otherwise::Run(self.insert),
            OnMissing::Insert | OnMissing::DeadLetter => dead,
        };
        Step { statement: self.update, expect: Expect::AtLeast(1), otherwise }
    }
}

fn update(target: &Target, sets: &[(&Ident, &Fold)], dialect: Dialect) -> Result<Statement> {
    let (condition, condition_binds) = condition(&target.condition)?;
    let mut text = String::from("UPDATE ");
    target.table.write_quoted(&mut text);
    let mut binds = Vec::new();
    for (index, (column, fold)) in sets.iter().enumerate() {
        text.push_str(if index == 0 { " SET " } else { ", " });
        column.write_quoted(&mut text);
        text.push_str(" = ");
        let mut base = String::new();
        column.write_quoted(&mut base);
        write_fold(fold, &base, dialect, &mut text, &mut binds);
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
    write_columns(columns, &mut text);
    text.push_str(" VALUES (");
    let mut binds: Vec<Value> = equalities.iter().map(|(_, value)| value.clone()).collect();
    text.push_str(&vec!["?"; binds.len()].join(", "));
    for (_, fold) in sets {
        text.push_str(", ");
        write_fold(fold, "NULL", Dialect::Sqlite, &mut text, &mut binds);
    }
    text.push(')');
    Statement::new(text, binds)
}

/// Writes ` (a, b, ..)`.
pub(super) fn write_columns<'a>(columns: impl Iterator<Item = &'a Ident>, text: &mut String) {
    for (index, column) in columns.enumerate() {
        text.push_str(if index == 0 { " (" } else { ", " });
        column.write_quoted(text);
    }
    text.push(')');
}

/// Writes what `base`, a column or a NULL, becomes.
pub(super) fn write_fold(
    fold: &Fold,
    base: &str,
    dialect: Dialect,
    text: &mut String,
    binds: &mut Vec<Value>,
) {
    let kind = FoldKind::of(fold, dialect);
    text.push_str(kind.function());
    text.push('(');
    text.push_str(base);
    for (bind, cast) in kind.arguments(fold, dialect).into_iter().zip(kind.casts(dialect)) {
        text.push_str(", ?");
        text.push_str(cast);
        binds.push(bind);
    }
    text.push(')');
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
