//! Functions that statements borrow from Rust.

use std::error::Error as _;

use zmsg_core::{Error, ErrorKind, ErrorStatus, Result, Statement, Value};
use zmsg_store::{ScalarFunction, SqlStore, SqliteOptions, SqliteStore, Step};

use crate::sqlite::Sqlite;

const FUNCTIONS: [ScalarFunction; 4] = [
    ScalarFunction { name: "echo", arguments: 1, call: |given| Ok(given[0].clone()) },
    ScalarFunction { name: "refuse", arguments: 1, call: refuse },
    ScalarFunction { name: "panic", arguments: 0, call: |_| panic!("as asked") },
    ScalarFunction { name: "nan", arguments: 0, call: |_| Ok(Value::Float(f64::NAN)) },
];

fn refuse(_: &[Value]) -> Result<Value> {
    Err(Error::new(ErrorKind::InvalidData, "the sum does not fit").with_context("bits", 64))
}

async fn open(file: &Sqlite) -> SqliteStore {
    let functions = FUNCTIONS.to_vec();
    let store = SqliteStore::open(SqliteOptions { functions, ..file.options() }).await.unwrap();
    let table = Statement::new("CREATE TABLE IF NOT EXISTS t (v ANY) STRICT", vec![]);
    store.execute(&table).await.unwrap();
    store
}

async fn count(store: &SqliteStore) -> i64 {
    let rows = store.fetch(&Statement::query("SELECT count(*) FROM t", vec![])).await.unwrap();
    rows[0].int(0).unwrap()
}

#[tokio::test]
async fn values_pass_through_a_function_unchanged() {
    let file = Sqlite::fresh();
    let store = open(&file).await;
    let values = [
        Value::Null,
        i64::MIN.into(),
        0.1.into(),
        "a\u{1F5DD}".into(),
        "".into(),
        b"\0\xff".as_slice().into(),
        b"".as_slice().into(),
    ];
    for value in values {
        let query = Statement::query("SELECT echo(?)", vec![value.clone()]);
        assert_eq!(store.fetch(&query).await.unwrap()[0].values()[0], value);
        let put =
            Statement::query("INSERT INTO t VALUES (echo(?)) RETURNING v", vec![value.clone()]);
        assert_eq!(store.execute(&put).await.unwrap().rows[0].values()[0], value);
    }
}

#[tokio::test]
async fn the_error_of_a_function_arrives_with_its_own_text() {
    let file = Sqlite::fresh();
    let store = open(&file).await;
    let steps = vec![
        Step::any(Statement::new("INSERT INTO t VALUES (1)", vec![])),
        Step::any(Statement::new("UPDATE t SET v = refuse(v)", vec![])),
    ];
    let failed = store.execute_all(steps).await.unwrap_err();
    assert_eq!((failed.step, failed.error.kind()), (Some(1), ErrorKind::InvalidData));
    assert_eq!(failed.error.status(), ErrorStatus::Permanent);
    let cause = failed.error.source().unwrap().to_string();
    assert_eq!(cause, "the sum does not fit (bits: 64)");
    let read = store.fetch(&Statement::query("SELECT refuse(1)", vec![])).await.unwrap_err();
    assert_eq!(read.kind(), ErrorKind::InvalidData);
    assert_eq!(count(&store).await, 0);
}

#[tokio::test]
async fn a_function_that_panics_fails_its_job_and_nothing_else() {
    let file = Sqlite::fresh();
    let store = open(&file).await;
    let steps = vec![
        Step::any(Statement::new("INSERT INTO t VALUES (1)", vec![])),
        Step::any(Statement::new("INSERT INTO t VALUES (panic())", vec![])),
    ];
    let failed = store.execute_all(steps).await.unwrap_err();
    assert_eq!((failed.step, failed.error.kind()), (Some(1), ErrorKind::Unexpected));
    let read = store.fetch(&Statement::query("SELECT panic()", vec![])).await.unwrap_err();
    assert_eq!(read.kind(), ErrorKind::Unexpected);
    assert_eq!(count(&store).await, 0);
    store.execute(&Statement::new("INSERT INTO t VALUES (2)", vec![])).await.unwrap();
    assert_eq!(count(&store).await, 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn nan_does_not_become_null() {
    let file = Sqlite::fresh();
    let store = open(&file).await;
    let bound = Statement::new("INSERT INTO t VALUES (?)", vec![f64::NAN.into()]);
    assert_eq!(store.execute(&bound).await.unwrap_err().kind(), ErrorKind::InvalidData);
    let called = Statement::new("INSERT INTO t VALUES (nan())", vec![]);
    assert_eq!(store.execute(&called).await.unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(count(&store).await, 0);
}

#[tokio::test]
async fn a_planted_trigger_cannot_call_a_function() {
    let file = Sqlite::fresh();
    let store = open(&file).await;
    let trigger = "CREATE TRIGGER planted AFTER INSERT ON t BEGIN SELECT echo(1); END";
    store.execute(&Statement::new(trigger, vec![])).await.unwrap();
    let error = store.execute(&Statement::new("INSERT INTO t VALUES (1)", vec![])).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
}
