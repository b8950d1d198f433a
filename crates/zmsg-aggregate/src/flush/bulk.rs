//! Many groups in one statement, on PostgreSQL: an UPDATE from arrays.
//!
//! The groups of one statement have one shape: they change the same columns by the same functions
//! and look their rows up by the same columns. No two of them name one row, because an UPDATE
//! applies one of two changes that meet a row, and drops the other.

use zmsg_core::{Ident, OnMissing, Statement, TableName, Value};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::{Expect, Step};

use super::call::FoldKind;
use super::catalog::KeyType;
use super::group::{Change, Group};
use super::letter::{COLUMNS, LetterRow, letters_as_rows};
use super::steps::{MISSING, write_columns};
use super::upsert::no_value;

/// What the groups of one statement have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) table: TableName,
    pub(super) keys: Vec<(Ident, KeyType)>,
    pub(super) sets: Vec<(Ident, FoldKind)>,
    pub(super) on_missing: OnMissing,
    pub(super) lot: u32,
}

/// Many groups of one shape.
#[derive(Debug)]
pub(super) struct Bulk {
    pub(super) shape: Shape,
    /// Their positions among the groups of the flight, in the order of their rows.
    pub(super) groups: Vec<usize>,
}

/// Refused because a row is missing, and nobody knows yet which.
pub(super) const SOME_MISSING: &str = "some rows of a statement are missing";

impl Shape {
    pub(super) fn of(change: &Change<'_>, types: Vec<KeyType>, lot: u32) -> Self {
        let names = change.equalities.iter().map(|(name, _)| name.clone());
        let kinds = change
            .sets
            .iter()
            .map(|(column, fold)| ((*column).clone(), FoldKind::of(fold, Dialect::Postgres)));
        Self {
            table: change.target.table.clone(),
            keys: names.zip(types).collect(),
            sets: kinds.collect(),
            on_missing: change.on_missing,
            lot,
        }
    }

    /// What the statements of a round are ordered by: the same in every process.
    pub(super) fn order(&self) -> String {
        format!("{} {:?} {:?}", self.table, self.keys, self.sets)
    }

    /// The values that a group looks its rows up by; equal for two groups that name the same.
    pub(super) fn key(&self, change: &Change<'_>) -> Vec<Value> {
        let element =
            |((_, key), (_, value)): (&(Ident, KeyType), &(Ident, Value))| key.element(value);
        self.keys.iter().zip(change.equalities).map(element).collect()
    }

    /// `UPDATE … FROM rows WHERE …`, without what follows.
    fn update(&self, rows: &str) -> String {
        let mut text = String::from("UPDATE ");
        self.table.write_quoted(&mut text);
        text.push_str(" AS t");
        for (index, (column, _)) in self.sets.iter().enumerate() {
            text.push_str(if index == 0 { " SET " } else { ", " });
            column.write_quoted(&mut text);
            text.push_str(" = ");
            let mut base = String::from("t.");
            column.write_quoted(&mut base);
            self.write_call(index, &base, &mut text);
        }
        text.push_str(" FROM ");
        text.push_str(rows);
        text.push_str(" WHERE ");
        self.write_join(&mut text);
        text
    }

    fn write_join(&self, text: &mut String) {
        for (index, (name, _)) in self.keys.iter().enumerate() {
            text.push_str(if index == 0 { "t." } else { " AND t." });
            name.write_quoted(text);
            text.push_str(&format!(" = g.k{index}"));
        }
    }

    /// What the column of this position becomes, from the columns of `g`.
    fn write_call(&self, set: usize, base: &str, text: &mut String) {
        let (_, kind) = &self.sets[set];
        text.push_str(kind.function());
        text.push('(');
        text.push_str(base);
        for (argument, cast) in self.arguments(set) {
            text.push_str(&format!(", g.{argument}{cast}"));
        }
        text.push(')');
    }

    /// The columns of `g` that are arguments for a set, and how they are cast.
    fn arguments(&self, set: usize) -> Vec<(String, &'static str)> {
        let names = (0..).map(|index| format!("v{set}_{index}"));
        match self.sets[set].1 {
            FoldKind::Add => names.zip([""]).collect(),
            FoldKind::Counter => names.zip(["::numeric", "::numeric"]).collect(),
            FoldKind::Fold => names.zip(["::jsonb"]).collect(),
        }
    }

    /// The groups as rows: `unnest(..) WITH ORDINALITY AS g(k0, .., v0_0, .., n)`.
    fn rows(&self) -> String {
        let keys = self.keys.iter().map(|(_, key)| key.array());
        let arguments = self.sets.iter().flat_map(|(_, kind)| match kind {
            FoldKind::Add => &["bigint[]"][..],
            FoldKind::Counter => &["text[]", "text[]"],
            FoldKind::Fold => &["text[]"],
        });
        let arrays: Vec<String> =
            keys.chain(arguments.copied()).map(|array| format!("?::{array}")).collect();
        let keys = (0..self.keys.len()).map(|index| format!("k{index}"));
        let arguments = (0..self.sets.len()).flat_map(|set| self.arguments(set));
        let names: Vec<String> = keys.chain(arguments.map(|(name, _)| name)).collect();
        format!("unnest({}) WITH ORDINALITY AS g({}, n)", arrays.join(", "), names.join(", "))
    }
}

impl Bulk {
    /// Changes the rows that are there, and none else.
    pub(super) fn ignoring(&self, groups: &[Group]) -> Step {
        let text = self.shape.update(&self.shape.rows());
        Step::any(Statement::new(text, self.binds(groups)))
    }

    /// Changes the rows and gives their number; refused with [`SOME_MISSING`] if a row is missing.
    pub(super) fn checked(&self, groups: &[Group]) -> Step {
        let mut binds = self.binds(groups);
        binds.push(self.len());
        let text = format!(
            "WITH u AS ({} RETURNING g.n) \
             SELECT count(*) FROM u HAVING count(DISTINCT n) = ?::bigint",
            self.shape.update(&self.shape.rows())
        );
        Step::must(Statement::query(text, binds), Expect::Returns(1), SOME_MISSING)
    }

    /// Changes the rows that are there and writes the letters of those that are not, by what was
    /// changed: a row that comes about meanwhile is missing or changed, never both or neither.
    /// It gives a row with the number of rows, and one with the id of each letter.
    pub(super) fn keeping(&self, groups: &[Group], letters: Vec<LetterRow>) -> Step {
        let mut binds = self.binds(groups);
        let (letters, letter_binds) = letters_as_rows(letters);
        binds.extend(letter_binds);
        let text = format!(
            "WITH u AS ({} RETURNING g.n), d AS (\
               INSERT INTO zmsg_dead_letters ({COLUMNS}) \
               SELECT {COLUMNS} FROM {letters} WITH ORDINALITY AS l({COLUMNS}, n) \
               WHERE NOT EXISTS (SELECT FROM u WHERE u.n = l.n) RETURNING id) \
             SELECT NULL::uuid, count(*) FROM u UNION ALL SELECT id, 0 FROM d",
            self.shape.update(&self.shape.rows())
        );
        Step::any(Statement::query(text, binds))
    }

    /// Changes the rows that are there and inserts those that are not; refused if that was not
    /// all, because somebody else inserted one at the same time or another row is in the way.
    pub(super) fn inserting(&self, groups: &[Group]) -> Step {
        let shape = &self.shape;
        let mut text = format!(
            "WITH g AS MATERIALIZED (SELECT * FROM {}), u AS ({} RETURNING g.n), i AS (INSERT INTO ",
            shape.rows(),
            shape.update("g")
        );
        shape.table.write_quoted(&mut text);
        let keys = shape.keys.iter().map(|(name, _)| name);
        write_columns(keys.chain(shape.sets.iter().map(|(name, _)| name)), &mut text);
        let keys: Vec<String> = (0..shape.keys.len()).map(|index| format!("g.k{index}")).collect();
        text.push_str(" SELECT ");
        text.push_str(&keys.join(", "));
        for (index, (column, _)) in shape.sets.iter().enumerate() {
            text.push_str(", ");
            shape.write_call(index, &no_value(&shape.table, column), &mut text);
        }
        text.push_str(
            " FROM g WHERE NOT EXISTS (SELECT FROM u WHERE u.n = g.n) \
             ON CONFLICT DO NOTHING RETURNING 1) \
             SELECT (SELECT count(*) FROM u) + (SELECT count(*) FROM i) \
             WHERE (SELECT count(DISTINCT n) FROM u) + (SELECT count(*) FROM i) = ?::bigint",
        );
        let mut binds = self.binds(groups);
        binds.push(self.len());
        Step::must(Statement::query(text, binds), Expect::Returns(1), MISSING)
    }

    /// Locks the rows in the order of the groups, which is the same in every process, and changes
    /// nothing.
    pub(super) fn locking(&self, groups: &[Group]) -> Step {
        let shape = &self.shape;
        let arrays: Vec<String> =
            shape.keys.iter().map(|(_, key)| format!("?::{}", key.array())).collect();
        let names: Vec<String> = (0..shape.keys.len()).map(|index| format!("k{index}")).collect();
        let mut text = String::from("SELECT count(*) FROM (SELECT 1 FROM ");
        shape.table.write_quoted(&mut text);
        text.push_str(&format!(
            " AS t JOIN unnest({}) WITH ORDINALITY AS g({}, n) ON ",
            arrays.join(", "),
            names.join(", ")
        ));
        shape.write_join(&mut text);
        text.push_str(" ORDER BY g.n, t.ctid FOR NO KEY UPDATE OF t) AS locked");
        Step::any(Statement::query(text, self.key_binds(groups)))
    }

    fn len(&self) -> Value {
        Value::Int(i64::try_from(self.groups.len()).unwrap_or(i64::MAX))
    }

    /// One array for each column of the keys.
    fn key_binds(&self, groups: &[Group]) -> Vec<Value> {
        let mut columns = vec![Vec::with_capacity(self.groups.len()); self.shape.keys.len()];
        for change in self.changes(groups) {
            for (column, value) in columns.iter_mut().zip(self.shape.key(&change)) {
                column.push(value);
            }
        }
        columns.into_iter().map(Value::from).collect()
    }

    /// One array for each column of the rows.
    fn binds(&self, groups: &[Group]) -> Vec<Value> {
        let shape = &self.shape;
        let arguments = (0..shape.sets.len()).map(|set| shape.arguments(set).len()).sum();
        let mut columns: Vec<Vec<Value>> = vec![Vec::with_capacity(self.groups.len()); arguments];
        for change in self.changes(groups) {
            let arguments = change
                .sets
                .iter()
                .zip(&shape.sets)
                .flat_map(|((_, fold), (_, kind))| kind.arguments(fold, Dialect::Postgres));
            for (column, value) in columns.iter_mut().zip(arguments) {
                column.push(value);
            }
        }
        let mut binds = self.key_binds(groups);
        binds.extend(columns.into_iter().map(Value::from));
        binds
    }

    fn changes<'a>(&'a self, groups: &'a [Group]) -> impl Iterator<Item = Change<'a>> {
        self.groups.iter().filter_map(|at| groups.get(*at)?.change())
    }
}
