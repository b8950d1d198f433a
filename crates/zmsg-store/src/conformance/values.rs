//! Promises about values and rows.

use bytes::Bytes;
use serde_json::json;
use uuid::Uuid;
use zmsg_core::{Ident, Statement, Timestamp, Value};
use zmsg_sqlbuilder::Dialect;

use super::{Harness, insert, rows, with_things};
use crate::Step;

/// What comes back for a value: itself, or how a database without its type stores it.
fn as_stored(value: &Value, dialect: Dialect) -> Value {
    match (dialect, value) {
        (Dialect::Postgres, _) => value.clone(),
        (_, Value::Bool(value)) => Value::Int(i64::from(*value)),
        (_, Value::Json(json)) => Value::Text(json.to_string()),
        (_, Value::Timestamp(at)) => Value::Int(at.0),
        (_, Value::Uuid(uuid)) => Value::Bytes(Bytes::copy_from_slice(uuid.as_bytes())),
        _ => value.clone(),
    }
}

/// The type of a column for each value, with the values at its edges.
fn samples(dialect: Dialect) -> Vec<(&'static str, Vec<Value>)> {
    let sqlite = dialect == Dialect::Sqlite;
    let of = |sqlite_type, postgres_type| if sqlite { sqlite_type } else { postgres_type };
    let nested = json!({"a": [1, 2.5, null, {"b": "ключ \" ' \\ 键", "": []}], "n": i64::MIN});
    let day = Timestamp(1_700_000_000_123_456);
    let texts = ["", " ", "text", "ключ 键 🗝 é", "'; DROP TABLE things; --", "a\u{1}\n\t\\"];
    let floats =
        [0.0, 1.5, -2.25, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, 0.1, f64::INFINITY];
    vec![
        (of("INTEGER", "BOOLEAN"), vec![true.into(), false.into()]),
        (of("INTEGER", "BIGINT"), vec![0.into(), i64::MIN.into(), i64::MAX.into(), (-1).into()]),
        (of("REAL", "DOUBLE PRECISION"), floats.map(Value::from).to_vec()),
        ("TEXT", texts.map(Value::from).to_vec()),
        (of("BLOB", "BYTEA"), vec![b"".as_slice().into(), b"\0\xff\0a".as_slice().into()]),
        (of("TEXT", "JSONB"), vec![nested.into(), json!(null).into(), json!([]).into()]),
        (of("INTEGER", "TIMESTAMPTZ"), vec![day.into(), Timestamp(-1).into()]),
        (of("BLOB", "UUID"), vec![Uuid::nil().into(), Uuid::max().into()]),
    ]
}

/// Every type comes back as it went in, at its edges too, and NULL is NULL in each.
pub async fn values_round_trip(harness: &impl Harness) {
    let store = harness.open().await;
    let dialect = store.dialect();
    let strict = if dialect == Dialect::Sqlite { "STRICT" } else { "" };
    for (index, (kind, values)) in samples(dialect).into_iter().enumerate() {
        let table = format!("CREATE TABLE kind_{index} (n INTEGER, v {kind}) {strict}");
        store.execute(&Statement::new(table, vec![])).await.unwrap();
        for (n, value) in values.into_iter().chain([Value::Null]).enumerate() {
            let n = i64::try_from(n).unwrap();
            let put = format!("INSERT INTO kind_{index} VALUES (?, ?)");
            store.execute(&Statement::new(put, vec![n.into(), value.clone()])).await.unwrap();
            let get = format!("SELECT v FROM kind_{index} WHERE n = ?");
            let found = rows(&store, &get, vec![n.into()]).await;
            assert_eq!(found[0].at(0).unwrap(), &as_stored(&value, dialect), "{kind} number {n}");
        }
    }
    let minus = "CREATE TABLE minus (v DOUBLE PRECISION)";
    store.execute(&Statement::new(minus, vec![])).await.unwrap();
    let put = Statement::new("INSERT INTO minus VALUES (?)", vec![(-0.0).into()]);
    store.execute(&put).await.unwrap();
    // SQLite stores whole floats as integers, which have no negative zero.
    let zero = rows(&store, "SELECT v FROM minus", vec![]).await[0].at(0).unwrap().as_float();
    assert_eq!(zero, Some(0.0), "a negative zero is a zero");
}

/// Values of megabytes come back whole.
pub async fn long_values_round_trip(harness: &impl Harness) {
    let store = with_things(harness).await;
    let long: String = "長い".repeat(500_000);
    store.execute(&insert(1, &long)).await.unwrap();
    let found = rows(&store, "SELECT note FROM things", vec![]).await;
    assert!(found[0].text(0).unwrap() == long);
}

/// `RETURNING` gives its rows, from `execute` and from a step, and they are counted.
pub async fn returning_gives_rows(harness: &impl Harness) {
    let store = with_things(harness).await;
    let put = "INSERT INTO things (id, note) VALUES (?, ?), (?, ?) RETURNING id, note AS text";
    let binds: Vec<Value> = vec![1.into(), "a".into(), 2.into(), "b".into()];
    let outcome = store.execute(&Statement::query(put, binds)).await.unwrap();
    assert_eq!(outcome.changed, 2);
    assert_eq!(outcome.rows[0].columns(), ["id", "text"]);
    assert_eq!(outcome.rows[1].values(), [Value::Int(2), "b".into()]);

    let change = Statement::query("UPDATE things SET note = 'c' RETURNING id", vec![]);
    let gone = Statement::query("DELETE FROM things WHERE id = 1 RETURNING note", vec![]);
    let steps = vec![Step::any(change), Step::any(gone)];
    let outcomes = store.execute_all(steps).await.unwrap();
    assert_eq!((outcomes[0].changed, outcomes[0].rows.len()), (2, 2));
    assert_eq!((outcomes[1].changed, outcomes[1].rows[0].text(0).unwrap()), (1, "c"));
}

/// `changed` is about this statement: nothing is left over from the one before.
pub async fn changed_counts_the_rows_of_this_statement(harness: &impl Harness) {
    let store = with_things(harness).await;
    let all = "UPDATE things SET note = 'x'";
    let steps = vec![
        Step::any(insert(1, "a")),
        Step::any(insert(2, "b")),
        Step::any(Statement::new(all, vec![])),
        Step::any(Statement::new("CREATE TABLE other (id INTEGER)", vec![])),
        Step::any(Statement::query("SELECT id FROM things", vec![])),
        Step::any(Statement::new("UPDATE things SET note = 'y' WHERE id = 9", vec![])),
        Step::any(Statement::new("DELETE FROM things WHERE id = 1", vec![])),
    ];
    let outcomes = store.execute_all(steps).await.unwrap();
    let changed: Vec<u64> = outcomes.iter().map(|outcome| outcome.changed).collect();
    assert_eq!(changed[..3], [1, 1, 2]);
    assert_eq!((changed[3], changed[5], changed[6]), (0, 0, 1));
    assert_eq!(outcomes[4].rows.len(), 2);
}

/// Text that looks like SQL, as hostile as it comes.
const HOSTILE: [&str; 8] = [
    "'; DROP TABLE things; --",
    "\" OR 1=1 --",
    "$$; DELETE FROM things; $$",
    "? ?? $1 :name @p",
    "/* */ -- \n",
    "\\'; x",
    "%_' ESCAPE ''",
    "ﬁ\u{202e}\u{0301}",
];

/// A bind is a value wherever a bind may stand.
pub async fn hostile_values_stay_values_in_every_position(harness: &impl Harness) {
    let store = with_things(harness).await;
    let text = match store.dialect() {
        Dialect::Sqlite => "?",
        Dialect::Postgres => "CAST(? AS TEXT)",
    };
    for (id, hostile) in (1..).zip(HOSTILE) {
        store.execute(&insert(id, hostile)).await.unwrap();
        let query = format!(
            "SELECT {text} AS shown, upper({text}) AS called, \
             CASE WHEN note = ? THEN 'same' ELSE ? END AS chosen \
             FROM things WHERE note IN (?, 'x') AND note LIKE ? ESCAPE '|' AND note BETWEEN ? AND ? \
             GROUP BY note, id HAVING max(note) = ? ORDER BY id LIMIT ? OFFSET ?"
        );
        let escaped = hostile.replace('%', "|%").replace('_', "|_");
        let mut binds: Vec<Value> = vec![hostile.into(); 9];
        binds[5] = escaped.into();
        binds.extend([1.into(), 0.into()]);
        let found = rows(&store, &query, binds).await;
        assert_eq!(found.len(), 1, "{hostile}");
        assert_eq!(found[0].text(0).unwrap(), hostile);
        assert_eq!(found[0].text(2).unwrap(), "same");
        let change = "UPDATE things SET note = ? || note WHERE note = ?";
        let binds = vec![hostile.into(), hostile.into()];
        let outcome = store.execute(&Statement::new(change, binds)).await.unwrap();
        assert_eq!(outcome.changed, 1);
        let gone =
            Statement::new("DELETE FROM things WHERE note = ?", vec![hostile.repeat(2).into()]);
        assert_eq!(store.execute(&gone).await.unwrap().changed, 1);
    }
    assert!(super::ids(&store).await.is_empty());
}

/// A name is used exactly as given, whatever it looks like.
pub async fn hostile_identifiers_stay_names(harness: &impl Harness) {
    let store = with_things(harness).await;
    let longest = "x".repeat(Ident::BYTES_MAX);
    let plain = ["select", "Mixed Case", "a.b", "?", "end;--"];
    for name in HOSTILE.iter().chain(&plain).chain([&longest.as_str()]) {
        let mut quoted = String::new();
        Ident::new(name).unwrap().write_quoted(&mut quoted);
        let create = format!("CREATE TABLE {quoted} ({quoted} TEXT)");
        store.execute(&Statement::new(create, vec![])).await.unwrap();
        let put = format!("INSERT INTO {quoted} ({quoted}) VALUES (?)");
        store.execute(&Statement::new(put, vec![(*name).into()])).await.unwrap();
        let get = format!("SELECT {quoted} FROM {quoted} WHERE {quoted} = ?");
        let found = rows(&store, &get, vec![(*name).into()]).await;
        assert_eq!(
            (found[0].columns(), found[0].text(0).unwrap()),
            (&[name.to_string()][..], *name)
        );
    }
}
