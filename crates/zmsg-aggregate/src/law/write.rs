//! Random writes on a small table.

use fastrand::Rng;
use serde_json::{Value as Json, json};
use zmsg_core::{
    Condition, CounterOp, Ident, MapOp, Number, OnMissing, Op, OpKind, SliceOp, Statement,
    TableName, Task, Value,
};

/// The columns of the table, with their SQLite types.
pub(super) const COLUMNS: [(&str, &str); 8] = [
    ("id", "INTEGER"),
    ("grp", "INTEGER"),
    ("likes", "INTEGER"),
    ("views", "INTEGER"),
    ("score", "REAL"),
    ("tags", "TEXT"),
    ("meta", "TEXT"),
    ("na\"me", "TEXT"),
];

/// One write of a sequence.
#[derive(Debug, Clone)]
pub(super) enum Write {
    Op {
        column: &'static str,
        kind: OpKind,
        rows: Rows,
        on_missing: OnMissing,
    },
    /// `UPDATE SET likes = to WHERE id = id`: a barrier.
    SetLikes {
        id: i64,
        to: i64,
    },
    /// `UPDATE SET "na""me" = to WHERE id = 0`, overwriting the one before.
    Rename(&'static str),
}

/// The condition of an operation.
#[derive(Debug, Clone)]
pub(super) enum Rows {
    Id(i64),
    Group(i64),
    IdAndGroup(i64, i64),
    Likes(i64),
    Name(&'static str),
    /// `id = ? AND likes > ?`
    SqlLikesAbove(i64, i64),
    /// `grp = ?`, as text.
    SqlGroup(i64),
    All,
}

/// The cells of one row.
pub(super) type Cells = Vec<Value>;

const NAMES: [&str; 3] = ["O'Brien", "q\"uote", "列 😀"];
const KEYS: [&str; 4] = ["a", "b", "k\"e'y", "列"];

/// A few rows and a sequence of writes on them.
pub(super) fn sequence(rng: &mut Rng) -> (Vec<Cells>, Vec<Write>) {
    let rows = (0..rng.i64(1..4)).map(|id| row(rng, id)).collect();
    let tame = rng.bool();
    let length = rng.usize(1..20);
    let focus = Focus::of(rng);
    let writes = (0..length).map(|_| write(rng, tame, &focus)).collect();
    (rows, writes)
}

/// What a sequence is about: a few columns and rows fold much, many are full of barriers.
struct Focus {
    columns: Vec<usize>,
    rows: Vec<Rows>,
    on_missing: OnMissing,
}

impl Focus {
    fn of(rng: &mut Rng) -> Self {
        let columns = (0..rng.usize(1..4)).map(|_| rng.usize(0..9)).collect();
        let picked = (0..rng.usize(1..4)).map(|_| rows(rng)).collect();
        let choices = [OnMissing::DeadLetter, OnMissing::Insert, OnMissing::Ignore];
        Self { columns, rows: picked, on_missing: choices[rng.usize(0..3)] }
    }
}

fn row(rng: &mut Rng, id: i64) -> Cells {
    let int = |rng: &mut Rng| match rng.u8(0..8) {
        0 | 1 => Value::Null,
        2 => Value::Int(i64::MAX - 2),
        3 => Value::Int(i64::MIN + 2),
        _ => Value::Int(rng.i64(-3..4)),
    };
    let text = |rng: &mut Rng, json: fn(&mut Rng) -> Json| match rng.u8(0..10) {
        0..=2 => Value::Null,
        3 => Value::Text("oops".to_owned()),
        4 => Value::Text(any_json(rng, 2).to_string()),
        _ => Value::Text(json(rng).to_string()),
    };
    vec![
        Value::Int(id),
        Value::Int(rng.i64(0..2)),
        int(rng),
        int(rng),
        if rng.bool() { Value::Null } else { Value::Float(float(rng)) },
        text(rng, |rng| Json::Array((0..rng.usize(0..4)).map(|_| any_json(rng, 1)).collect())),
        text(rng, |rng| object(rng, 2)),
        Value::Text(NAMES[rng.usize(0..3)].to_owned()),
    ]
}

fn write(rng: &mut Rng, tame: bool, focus: &Focus) -> Write {
    let (column, kind) = match focus.columns[rng.usize(0..focus.columns.len())] {
        0 | 1 => ("likes", OpKind::Counter(integer_step(rng, tame))),
        2 => ("views", OpKind::Counter(integer_step(rng, tame))),
        3 => ("grp", OpKind::Counter(integer_step(rng, true))),
        4 => ("score", OpKind::Counter(float_step(rng))),
        5 => ("tags", OpKind::Slice(slice_step(rng))),
        6 => ("meta", OpKind::Map(map_step(rng))),
        7 => ("meta", OpKind::Merge(merge_patch(rng, 3))),
        _ => return anything_else(rng),
    };
    let rows = match rng.u8(0..8) {
        0 => rows(rng),
        _ => focus.rows[rng.usize(0..focus.rows.len())].clone(),
    };
    let insertable = !matches!(rows, Rows::SqlGroup(_) | Rows::SqlLikesAbove(..) | Rows::All)
        && !matches!((&rows, column), (Rows::Likes(_), "likes"))
        && !matches!((&rows, column), (Rows::Group(_) | Rows::IdAndGroup(..), "grp"));
    let on_missing = match (rng.u8(0..8), focus.on_missing) {
        (0, _) | (_, OnMissing::DeadLetter) => OnMissing::DeadLetter,
        (_, OnMissing::Insert) if insertable => OnMissing::Insert,
        _ => OnMissing::Ignore,
    };
    Write::Op { column, kind, rows, on_missing }
}

/// Statements, and operations on a column that holds another kind of document.
fn anything_else(rng: &mut Rng) -> Write {
    match rng.u8(0..4) {
        0 => Write::SetLikes { id: rng.i64(0..3), to: rng.i64(-3..4) },
        1 | 2 => Write::Rename(NAMES[rng.usize(0..3)]),
        _ => {
            let (column, kind) = match rng.u8(0..3) {
                0 => ("meta", OpKind::Slice(slice_step(rng))),
                1 => ("tags", OpKind::Map(map_step(rng))),
                _ => ("tags", OpKind::Merge(merge_patch(rng, 2))),
            };
            let rows = Rows::Id(rng.i64(0..3));
            Write::Op { column, kind, rows, on_missing: OnMissing::DeadLetter }
        }
    }
}

fn rows(rng: &mut Rng) -> Rows {
    match rng.u8(0..16) {
        0..=7 => Rows::Id(rng.i64(0..3)),
        8 | 9 => Rows::Group(rng.i64(0..2)),
        10 => Rows::IdAndGroup(rng.i64(0..3), rng.i64(0..2)),
        11 => Rows::Likes(rng.i64(-2..3)),
        12 => Rows::Name(NAMES[rng.usize(0..3)]),
        13 => Rows::SqlLikesAbove(rng.i64(0..3), rng.i64(-3..3)),
        14 => Rows::SqlGroup(rng.i64(0..2)),
        _ => Rows::All,
    }
}

fn integer_step(rng: &mut Rng, tame: bool) -> CounterOp {
    let number = Number::Int(match rng.u8(0..12) {
        0 if !tame => i64::MAX,
        1 if !tame => i64::MIN,
        2 if !tame => 1 << 40,
        _ => rng.i64(-3..4),
    });
    match rng.u8(0..8) {
        0..=2 => CounterOp::Inc(number),
        3 | 4 => CounterOp::Dec(number),
        5 => CounterOp::Mul(number),
        6 => CounterOp::Set(number),
        _ => CounterOp::Clean,
    }
}

fn float(rng: &mut Rng) -> f64 {
    match rng.u8(0..12) {
        0 => 1e300,
        1 => -0.0,
        2 => 5e-324,
        _ => f64::from(rng.i32(-30..30)) / 10.0,
    }
}

fn float_step(rng: &mut Rng) -> CounterOp {
    let number = Number::Float(float(rng));
    match rng.u8(0..8) {
        0..=2 => CounterOp::Inc(number),
        3 => CounterOp::Dec(number),
        4 | 5 => CounterOp::Mul(number),
        6 => CounterOp::Set(number),
        _ => CounterOp::Clean,
    }
}

fn slice_step(rng: &mut Rng) -> SliceOp {
    let mut values = |max| (0..rng.usize(1..max)).map(|_| any_json(rng, 1)).collect::<Vec<Json>>();
    let (few, many) = (values(3), values(8));
    match rng.u8(0..10) {
        0..=4 => SliceOp::Add(few),
        5..=7 => SliceOp::Del(few),
        8 => SliceOp::Del(many),
        _ => SliceOp::Clean,
    }
}

fn map_step(rng: &mut Rng) -> MapOp {
    let key = KEYS[rng.usize(0..4)].to_owned();
    match rng.u8(0..8) {
        0..=4 => MapOp::Set(key, any_json(rng, 2)),
        5 | 6 => MapOp::Del(key),
        _ => MapOp::Clean,
    }
}

fn merge_patch(rng: &mut Rng, depth: u8) -> Json {
    if rng.u8(0..10) == 0 { any_json(rng, depth) } else { object(rng, depth) }
}

fn object(rng: &mut Rng, depth: u8) -> Json {
    let fields =
        (0..rng.usize(0..4)).map(|_| (KEYS[rng.usize(0..4)].to_owned(), any_json(rng, depth - 1)));
    Json::Object(fields.collect())
}

fn any_json(rng: &mut Rng, depth: u8) -> Json {
    match rng.u8(0..if depth == 0 { 10 } else { 14 }) {
        0 => Json::Null,
        1 => json!(true),
        2 => json!(1),
        3 => json!(1.0),
        4 => json!(0.1),
        5 => json!(9_007_199_254_740_993_i64),
        6 => json!(9_007_199_254_740_992.0),
        7 => json!(u64::MAX),
        8 => json!("it's \"q\" \\ 列"),
        9 => json!(2),
        10 => json!([any_json(rng, depth - 1)]),
        _ => object(rng, depth),
    }
}

impl Write {
    /// The write as a task of one batch key.
    pub(super) fn task(&self, table: &str) -> Task {
        self.task_in(table, None)
    }

    /// The write on the rows of one world, as a task of that world's batch key: as if each world
    /// had a table of its own.
    pub(super) fn task_in(&self, table: &str, world: Option<i64>) -> Task {
        let batch_key = Some(world.map_or_else(|| "all".to_owned(), |world| world.to_string()));
        let (also, in_world) = match world {
            Some(world) => (" AND world = ?", Some(Value::Int(world))),
            None => ("", None),
        };
        let statement = |text: String, mut binds: Vec<Value>, overwrite: bool| {
            binds.extend(in_world.clone());
            let statement = Statement::new(text + also, binds);
            Task::Statement(Statement { batch_key: batch_key.clone(), overwrite, ..statement })
        };
        match self {
            Self::Op { column, kind, rows, on_missing } => Task::Op(Op {
                table: TableName::new(table).unwrap(),
                column: Ident::new(column).unwrap(),
                kind: kind.clone(),
                condition: in_world_of(rows.condition(), world),
                batch_key,
                on_missing: Some(*on_missing),
            }),
            Self::SetLikes { id, to } => statement(
                format!("UPDATE {table} SET likes = ? WHERE id = ?"),
                vec![Value::Int(*to), Value::Int(*id)],
                false,
            ),
            Self::Rename(to) => statement(
                format!("UPDATE {table} SET \"na\"\"me\" = ? WHERE id = ?"),
                vec![Value::from(*to), Value::Int(0)],
                true,
            ),
        }
    }
}

fn in_world_of(condition: Condition, world: Option<i64>) -> Condition {
    let Some(world) = world else { return condition };
    let equality = (Ident::new("world").unwrap(), Value::Int(world));
    match condition {
        Condition::Eq(mut equalities) => {
            equalities.push(equality);
            Condition::Eq(equalities)
        }
        Condition::Sql { text, mut binds } => {
            binds.push(Value::Int(world));
            Condition::Sql { text: format!("{text} AND world = ?"), binds }
        }
        Condition::AllRows => Condition::Eq(vec![equality]),
    }
}

impl Rows {
    fn condition(&self) -> Condition {
        let eq = |pairs: &[(&str, Value)]| {
            let pairs = pairs.iter().map(|(name, v)| (Ident::new(name).unwrap(), v.clone()));
            Condition::Eq(pairs.collect())
        };
        let sql = |text: &str, binds: &[i64]| Condition::Sql {
            text: text.to_owned(),
            binds: binds.iter().map(Value::from).collect(),
        };
        match self {
            Self::Id(id) => eq(&[("id", Value::Int(*id))]),
            Self::Group(group) => eq(&[("grp", Value::Int(*group))]),
            Self::IdAndGroup(id, group) => {
                eq(&[("id", Value::Int(*id)), ("grp", Value::Int(*group))])
            }
            Self::Likes(likes) => eq(&[("likes", Value::Int(*likes))]),
            Self::Name(name) => eq(&[("na\"me", Value::from(*name))]),
            Self::SqlLikesAbove(id, above) => sql("id = ? AND likes > ?", &[*id, *above]),
            Self::SqlGroup(group) => sql("grp = ?", &[*group]),
            Self::All => Condition::AllRows,
        }
    }
}
