//! Statements inside transactions of a program that uses diesel-async.

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use serde_json::json;
use zmsg_core::{Statement, Timestamp, Value};
use zmsg_store::diesel::DieselStatement;

use crate::postgres::{Postgres, one, run};

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    note: String,
}

fn statement(text: &str, binds: Vec<Value>) -> DieselStatement {
    DieselStatement::new(&Statement::new(text, binds)).unwrap()
}

#[tokio::test]
async fn a_statement_takes_part_in_a_transaction_of_diesels() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = database.store().await;
    run(&store, "CREATE TABLE notes (id bigint PRIMARY KEY, note text)").await;
    let mut connection = AsyncPgConnection::establish(database.0.url()).await.unwrap();
    for (id, commits) in [(1_i64, true), (2, false), (3, true)] {
        let done = connection
            .transaction::<(), diesel::result::Error, _>(async |connection| {
                let binds = vec![id.into(), "'; DROP TABLE notes; -- ?".into()];
                let put = statement("INSERT INTO notes (id, note) VALUES (?,?)", binds);
                assert_eq!(put.execute(connection).await?, 1);
                if commits { Ok(()) } else { Err(diesel::result::Error::RollbackTransaction) }
            })
            .await;
        assert_eq!(done.is_ok(), commits);
    }
    let query = statement("SELECT id, note FROM notes WHERE id > ? ORDER BY id", vec![0.into()]);
    let found: Vec<Found> = query.load(&mut connection).await.unwrap();
    assert_eq!(found.iter().map(|found| found.id).collect::<Vec<_>>(), [1, 3]);
    assert!(found.iter().all(|found| found.note == "'; DROP TABLE notes; -- ?"));
    assert_eq!(one(&store, "SELECT count(*) FROM notes").await, Value::Int(2));
}

#[tokio::test]
async fn values_of_every_kind_arrive() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = database.store().await;
    let columns = "a boolean, b bigint, c double precision, d text, e bytea, f jsonb, \
                   g timestamptz, h uuid, i integer";
    run(&store, &format!("CREATE TABLE kinds ({columns})")).await;
    let values: Vec<Value> = vec![
        true.into(),
        i64::MIN.into(),
        1.5.into(),
        "text".into(),
        b"\0\xff".as_slice().into(),
        json!({"a": [1]}).into(),
        Timestamp(1).into(),
        uuid::Uuid::max().into(),
        Value::Null,
    ];
    let mut connection = AsyncPgConnection::establish(database.0.url()).await.unwrap();
    let put = statement("INSERT INTO kinds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values.clone());
    put.execute(&mut connection).await.unwrap();
    let query = Statement::query("SELECT * FROM kinds", vec![]);
    let rows = zmsg_store::SqlStore::fetch(&store, &query).await.unwrap();
    assert_eq!(rows[0].values(), values);
    let array = Statement::new("SELECT ?", vec![Value::from(vec![Value::Int(1)])]);
    assert!(DieselStatement::new(&array).is_err());
}
