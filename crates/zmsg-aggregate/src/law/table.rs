//! A model of the table: writes one by one, arithmetic unbounded between them.

use zmsg_core::{Condition, CounterOp, Ident, Number, OnMissing, OpKind, Value};

use super::document;
use super::write::{COLUMNS, Cells, Write};
use crate::algebra::Fold;

/// A cell while writes are executed: integers may leave 64 bits between two of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Held(Value),
    Wide(i128),
    /// Beyond 128 bits: only a set brings it back.
    Lost,
}

/// The model of the table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) rows: Vec<Vec<Cell>>,
    /// Whether any write was illegal by itself: refused for its type, or beyond its column.
    pub(super) strayed: bool,
    /// Whether a number left its column's range, if only for a while.
    pub(super) out_of_range: bool,
}

/// A column, and what becomes of a cell in it; `None` refuses.
type Set<'a> = (usize, &'a dyn Fn(&Cell) -> Option<Cell>);

/// What a group did to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    Applied,
    Missing,
    Refused,
}

impl Table {
    pub(super) fn new(rows: &[Cells]) -> Self {
        let held = |row: &Cells| row.iter().cloned().map(Cell::Held).collect();
        Self { rows: rows.iter().map(held).collect(), strayed: false, out_of_range: false }
    }

    /// Executes one write by itself, as its author would describe it.
    pub(super) fn execute(&mut self, write: &Write) {
        match write {
            Write::Op { column, kind, .. } => {
                let zmsg_core::Task::Op(op) = write.task("t") else { return };
                let on_missing = op.on_missing.unwrap_or_default();
                let step = |cell: &Cell| one_step(kind, cell);
                self.update(&op.condition, on_missing, &[(column_index(column), &step)]);
            }
            Write::SetLikes { id, to } => self.set(*id, 2, Value::Int(*to)),
            Write::Rename(to) => self.set(0, 7, Value::from(*to)),
        }
        self.note_range();
    }

    /// Executes the folds of one statement of a flush.
    pub(super) fn apply(
        &mut self,
        condition: &Condition,
        on_missing: OnMissing,
        folds: &[(&str, &Fold)],
    ) -> Done {
        let steps: Vec<_> = folds
            .iter()
            .map(|(column, fold)| {
                let step = |cell: &Cell| match cell {
                    Cell::Held(value) => fold.apply(value).ok().map(Cell::Held),
                    Cell::Wide(_) | Cell::Lost => None,
                };
                (column_index(column), step)
            })
            .collect();
        let steps: Vec<Set<'_>> = steps.iter().map(|(column, step)| (*column, step as _)).collect();
        self.update(condition, on_missing, &steps)
    }

    /// The cells, sorted by row; `None` if one cannot be in a database.
    pub(super) fn cells(&self) -> Option<Vec<String>> {
        let row = |row: &Vec<Cell>| row.iter().map(shown).collect::<Option<Vec<_>>>();
        let mut rows: Vec<String> =
            self.rows.iter().map(|r| row(r).map(|r| r.join(" | "))).collect::<Option<_>>()?;
        rows.sort();
        Some(rows)
    }

    pub(super) fn set(&mut self, id: i64, column: usize, to: Value) {
        for row in &mut self.rows {
            if row[0] == Cell::Held(Value::Int(id)) {
                row[column] = Cell::Held(to.clone());
            }
        }
    }

    fn update(&mut self, condition: &Condition, on_missing: OnMissing, steps: &[Set<'_>]) -> Done {
        let met: Vec<usize> =
            (0..self.rows.len()).filter(|at| meets(&self.rows[*at], condition)).collect();
        let mut rows = self.rows.clone();
        let inserted = met.is_empty() && on_missing == OnMissing::Insert;
        if inserted {
            rows.push(inserted_row(condition));
        }
        let touched = if inserted { vec![rows.len() - 1] } else { met };
        if touched.is_empty() {
            return if on_missing == OnMissing::Ignore { Done::Applied } else { Done::Missing };
        }
        for at in touched {
            for (column, step) in steps {
                let Some(after) = step(&rows[at][*column]) else {
                    self.strayed = true;
                    return Done::Refused;
                };
                rows[at][*column] = in_column(*column, after);
            }
        }
        self.rows = rows;
        Done::Applied
    }

    fn note_range(&mut self) {
        let out = |cell: &Cell| match cell {
            Cell::Held(Value::Float(value)) => !value.is_finite(),
            Cell::Held(_) => false,
            Cell::Wide(_) | Cell::Lost => true,
        };
        self.out_of_range |= self.rows.iter().flatten().any(out);
        self.strayed |= self.out_of_range;
    }
}

pub(super) fn column_index(name: &str) -> usize {
    COLUMNS.iter().position(|(column, _)| *column == name).unwrap()
}

/// A float column makes a float of the integer zero that a clean leaves on NULL.
fn in_column(column: usize, cell: Cell) -> Cell {
    match (COLUMNS[column].1, cell) {
        ("REAL", Cell::Held(Value::Int(0))) => Cell::Held(Value::Float(0.0)),
        (_, cell) => cell,
    }
}

fn inserted_row(condition: &Condition) -> Vec<Cell> {
    let mut row = vec![Cell::Held(Value::Null); COLUMNS.len()];
    if let Condition::Eq(equalities) = condition {
        for (name, value) in here(equalities) {
            row[column_index(name.as_str())] = Cell::Held(value.clone());
        }
    }
    row
}

/// The equalities without the one on the world: a table of the model is one world.
fn here(equalities: &[(Ident, Value)]) -> impl Iterator<Item = &(Ident, Value)> {
    equalities.iter().filter(|(name, _)| name.as_str() != "world")
}

fn meets(row: &[Cell], condition: &Condition) -> bool {
    let equal = |column: usize, value: &Value| row[column] == Cell::Held(value.clone());
    match condition {
        Condition::Eq(equalities) => {
            here(equalities).all(|(name, value)| equal(column_index(name.as_str()), value))
        }
        Condition::Sql { text, binds } if text.starts_with("grp = ?") => equal(1, &binds[0]),
        Condition::Sql { binds, .. } => {
            let above = i128::from(binds[1].as_int().unwrap());
            equal(0, &binds[0])
                && match &row[2] {
                    Cell::Held(Value::Int(likes)) => i128::from(*likes) > above,
                    Cell::Wide(likes) => *likes > above,
                    _ => false,
                }
        }
        Condition::AllRows => true,
    }
}

/// One operation on one cell; `None` if its type forbids it. Written apart from the algebra.
fn one_step(kind: &OpKind, cell: &Cell) -> Option<Cell> {
    match kind {
        OpKind::Counter(CounterOp::Clean) => match cell {
            Cell::Held(Value::Float(_)) => Some(Cell::Held(Value::Float(0.0))),
            Cell::Held(Value::Null | Value::Int(_)) | Cell::Wide(_) | Cell::Lost => {
                Some(Cell::Held(Value::Int(0)))
            }
            Cell::Held(_) => None,
        },
        OpKind::Counter(
            CounterOp::Inc(Number::Float(_))
            | CounterOp::Dec(Number::Float(_))
            | CounterOp::Mul(Number::Float(_))
            | CounterOp::Set(Number::Float(_)),
        ) => float_step(kind, cell),
        OpKind::Counter(step) => integer_step(*step, cell),
        OpKind::Slice(_) | OpKind::Map(_) | OpKind::Merge(_) => {
            let document = match cell {
                Cell::Held(Value::Null) => None,
                Cell::Held(Value::Text(text)) => Some(serde_json::from_str(text).ok()?),
                _ => return None,
            };
            let after = document::step(kind, document)?;
            Some(Cell::Held(Value::Text(after.to_string())))
        }
    }
}

fn float_step(kind: &OpKind, cell: &Cell) -> Option<Cell> {
    let x = match cell {
        Cell::Held(Value::Null) => 0.0,
        Cell::Held(Value::Float(x)) => *x,
        Cell::Held(Value::Int(x)) if x.unsigned_abs() <= 1 << 53 => *x as f64,
        _ => return None,
    };
    let after = match kind {
        OpKind::Counter(CounterOp::Inc(Number::Float(by))) => x + by,
        OpKind::Counter(CounterOp::Dec(Number::Float(by))) => x - by,
        OpKind::Counter(CounterOp::Mul(Number::Float(by))) => x * by,
        OpKind::Counter(CounterOp::Set(Number::Float(to))) => *to,
        _ => return None,
    };
    Some(Cell::Held(Value::Float(after)))
}

fn integer_step(step: CounterOp, cell: &Cell) -> Option<Cell> {
    let x = match cell {
        Cell::Held(Value::Null) => Some(0),
        Cell::Held(Value::Int(x)) => Some(i128::from(*x)),
        Cell::Wide(x) => Some(*x),
        Cell::Lost => None,
        Cell::Held(_) => return None,
    };
    let after = match step {
        CounterOp::Inc(Number::Int(by)) => x.and_then(|x| x.checked_add(by.into())),
        CounterOp::Dec(Number::Int(by)) => x.and_then(|x| x.checked_sub(by.into())),
        CounterOp::Mul(Number::Int(0)) => Some(0),
        CounterOp::Mul(Number::Int(by)) => x.and_then(|x| x.checked_mul(by.into())),
        CounterOp::Set(Number::Int(to)) => Some(to.into()),
        _ => return None,
    };
    Some(match after {
        None => Cell::Lost,
        Some(x) => i64::try_from(x).map_or(Cell::Wide(x), |x| Cell::Held(Value::Int(x))),
    })
}

/// A cell as it would be read from the database; JSON by its text.
fn shown(cell: &Cell) -> Option<String> {
    let Cell::Held(value) = cell else { return None };
    Some(show(value))
}

pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Int(x) => format!("{x}"),
        // SQLite does not keep the sign of a zero.
        Value::Float(x) => format!("{:?}", x + 0.0),
        Value::Text(text) => format!("{text:?}"),
        other => format!("{other:?}"),
    }
}
