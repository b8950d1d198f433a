//! Binds in places of every type, and columns of every type.

use serde_json::json;
use uuid::Uuid;
use zmsg_core::{ErrorKind, ErrorStatus, Statement, Timestamp, Value};
use zmsg_store::{PostgresOptions, PostgresStore, SqlStore, Step};

use crate::postgres::{Postgres, one, open, run};

fn array(items: impl IntoIterator<Item = impl Into<Value>>) -> Value {
    Value::from(items.into_iter().map(Into::into).collect::<Vec<Value>>())
}

/// Puts a value into a column of a type and gives back the server's text for what it stored.
async fn stored(store: &PostgresStore, kind: &str, value: Value) -> zmsg_core::Result<Value> {
    run(store, "DROP TABLE IF EXISTS place").await;
    run(store, &format!("CREATE TABLE place (v {kind})")).await;
    // A text for each type: a prepared statement keeps the types of its binds.
    let put = format!("INSERT INTO place VALUES (?) -- {kind}");
    store.execute(&Statement::new(put, vec![value])).await?;
    Ok(one(store, "SELECT v::text FROM place").await)
}

#[tokio::test]
async fn a_bind_takes_the_type_of_its_place() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = database.store().await;
    run(&store, "CREATE TYPE mood AS ENUM ('sad', 'glad')").await;
    run(&store, "CREATE DOMAIN positive AS integer CHECK (VALUE > 0)").await;
    let id = Uuid::from_u128(0x550e_8400_e29b_41d4_a716_4466_5544_0000);
    let moment = Timestamp(1_700_000_000_123_456);
    let text = "550e8400-e29b-41d4-a716-446655440000";
    for (kind, value, shown) in [
        ("jsonb", Value::from(r#"{"a": [1]}"#), r#"{"a": [1]}"#),
        ("json", r#"{"a":1}"#.into(), r#"{"a":1}"#),
        ("json", json!({"a": 1}).into(), r#"{"a":1}"#),
        ("jsonb", 5.into(), "5"),
        ("jsonb", true.into(), "true"),
        ("jsonb", array([1, 2]), "[1, 2]"),
        ("jsonb", b"[1]".as_slice().into(), "[1]"),
        ("uuid", text.into(), text),
        ("uuid", id.as_bytes().as_slice().into(), text),
        ("text", id.into(), text),
        ("bytea", id.into(), r"\x550e8400e29b41d4a716446655440000"),
        ("bytea", "a\0b".into(), r"\x610062"),
        ("text", 42.into(), "42"),
        ("text", b"bytes".as_slice().into(), "bytes"),
        ("varchar(3)", "abc".into(), "abc"),
        ("smallint", (-7).into(), "-7"),
        ("integer", 7.0.into(), "7"),
        ("bigint", "12".into(), "12"),
        ("numeric", i64::MAX.into(), "9223372036854775807"),
        ("numeric", "1e40".into(), "10000000000000000000000000000000000000000"),
        ("numeric(10,2)", 1.5.into(), "1.50"),
        ("double precision", 3.into(), "3"),
        ("real", 0.1.into(), "0.1"),
        ("boolean", "yes".into(), "true"),
        ("timestamptz", "2026-11-21 13:00:00+02".into(), "2026-11-21 11:00:00+00"),
        ("timestamp", moment.into(), "2023-11-14 22:13:20.123456"),
        ("date", "2026-11-21".into(), "2026-11-21"),
        ("inet", "10.0.0.1/8".into(), "10.0.0.1/8"),
        ("interval", "1 day".into(), "1 day"),
        ("mood", "glad".into(), "glad"),
        ("positive", 5.into(), "5"),
        ("int4range", "[1,5)".into(), "[1,5)"),
        ("bigint[]", array([1, 2, 3]), "{1,2,3}"),
        ("bigint[]", array(Vec::<i64>::new()), "{}"),
        ("text[]", array(["a", "b,\"c\\", "NULL", ""]), r#"{a,"b,\"c\\","NULL",""}"#),
        ("numeric[]", array([Value::Int(1), "2.50".into(), Value::Null]), "{1,2.50,NULL}"),
        ("double precision[]", array([Value::Float(1.5), Value::Null]), "{1.5,NULL}"),
        ("boolean[]", array([true, false]), "{t,f}"),
        ("uuid[]", array([Value::Uuid(id), text.into()]), &format!("{{{text},{text}}}")),
        ("bytea[]", array([b"\0".as_slice()]), r#"{"\\x00"}"#),
        ("jsonb[]", array([json!({"a": 1})]), r#"{"{\"a\": 1}"}"#),
        ("timestamptz[]", array([Timestamp(0)]), r#"{"1970-01-01 00:00:00+00"}"#),
        ("mood[]", array(["sad", "glad"]), "{sad,glad}"),
    ] {
        // The session's zone is the server's; these expectations are in UTC.
        run(&store, "ALTER ROLE CURRENT_USER SET timezone = 'UTC'").await;
        let found = stored(&store, kind, value).await;
        assert_eq!(found.unwrap(), Value::from(shown), "{kind}");
    }
}

#[tokio::test]
async fn a_bind_that_does_not_fit_is_refused_by_its_number_and_kind() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = database.store().await;
    for (kind, value) in [
        ("integer", Value::from(i64::MAX)),
        ("smallint", 40_000.into()),
        ("integer", 1.5.into()),
        ("bigint", f64::NAN.into()),
        ("real", 1e300.into()),
        ("boolean", 1.into()),
        ("bigint", true.into()),
        ("bigint", Timestamp(0).into()),
        ("uuid", b"short".as_slice().into()),
        ("bigint", b"12345678".as_slice().into()),
        ("text", "with \0 inside".into()),
        ("text", b"\xff".as_slice().into()),
        ("bigint", array([1])),
        ("bigint[]", array(["x\0"])),
        ("bigint[]", array([true])),
    ] {
        let error = stored(&store, kind, value).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{kind}: {error}");
        let shown = error.to_string();
        assert!(shown.contains("bind: 1") && shown.contains("wanted: "), "{shown}");
    }
    for (kind, value) in [("uuid", "s3cret"), ("bigint", "s3cret"), ("jsonb", "s3cret {")] {
        let error = stored(&store, kind, value.into()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.status()),
            (ErrorKind::InvalidData, ErrorStatus::Permanent)
        );
        assert!(!format!("{error:?}").contains("s3cret"), "{error}");
    }
    let two = "INSERT INTO place VALUES (?), (?)";
    run(&store, "DROP TABLE place; ").await;
    run(&store, "CREATE TABLE place (v timestamptz)").await;
    let binds = vec!["2026-11-21".into(), "no s3cret date".into()];
    let error = store.execute(&Statement::new(two, binds)).await.unwrap_err().to_string();
    assert!(error.contains("bind: 2") && !error.contains("s3cret"), "{error}");
}

#[tokio::test]
async fn hostile_text_stays_a_value_in_places_of_every_type() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = database.store().await;
    run(&store, "CREATE TYPE mood AS ENUM ('sad')").await;
    let kinds = [
        "text",
        "varchar",
        "char(9)",
        "name",
        "bytea",
        "json",
        "jsonb",
        "uuid",
        "bigint",
        "numeric",
        "boolean",
        "timestamptz",
        "date",
        "interval",
        "inet",
        "mood",
        "text[]",
        "bigint[]",
        "xml",
        "int4range",
        "point",
        "tsvector",
    ];
    run(&store, "CREATE TABLE canary (id integer)").await;
    run(&store, "INSERT INTO canary VALUES (1)").await;
    for kind in kinds {
        for hostile in ["'); DROP TABLE canary; --", "1; DELETE FROM canary", "$1", "{\"a", "\\'"] {
            for value in [Value::from(hostile), array([hostile])] {
                // Refused or stored, it is never run.
                let _ = stored(&store, kind, value).await;
            }
        }
    }
    assert_eq!(one(&store, "SELECT count(*) FROM canary").await, Value::Int(1));
}

#[tokio::test]
async fn columns_of_every_type_can_be_read() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = database.store().await;
    run(&store, "CREATE TYPE mood AS ENUM ('sad', 'glad')").await;
    run(&store, "CREATE TYPE pair AS (a integer, b text)").await;
    for (expression, expected) in [
        ("sum(x) FROM (VALUES (1::bigint), (2)) AS t (x)", Value::from("3")),
        ("1234567.8900::numeric", "1234567.8900".into()),
        ("'NaN'::numeric", "NaN".into()),
        ("0.1::real", 0.1.into()),
        ("'infinity'::timestamptz", "infinity".into()),
        ("DATE '2026-11-21'", "2026-11-21".into()),
        ("TIME '01:02:03'", "01:02:03".into()),
        ("INTERVAL '1 day 2 hours'", "1 day 02:00:00".into()),
        ("'10.0.0.0/8'::inet", "10.0.0.0/8".into()),
        ("'glad'::mood", "glad".into()),
        ("ROW(1, 'x y')::pair", "(1,\"x y\")".into()),
        ("'[1,5)'::int4range", "[1,5)".into()),
        ("'a b'::tsvector", "'a' 'b'".into()),
        ("point(1, 2)", "(1,2)".into()),
        ("B'101'", "101".into()),
        ("NULL::inet", Value::Null),
        ("pg_notify('a', 'b')", Value::Null),
        ("'x'::\"char\"", "x".into()),
        ("'abc'::char(5)", "abc  ".into()),
        ("ARRAY[1, NULL, 3]", array([Value::Int(1), Value::Null, Value::Int(3)])),
        ("ARRAY[[1, 2], [3, 4]]", array([array([1, 2]), array([3, 4])])),
        ("'{}'::text[]", array(Vec::<i64>::new())),
        ("ARRAY['glad']::mood[]", array(["glad"])),
        ("ARRAY[DATE '2026-11-21']", "{2026-11-21}".into()),
        ("'{\"a\": 1e400}'::jsonb IS NOT NULL", true.into()),
        ("'[1e20, 0.5]'::jsonb", json!([1e20, 0.5]).into()),
        ("'[0.1234567890123456789]'::jsonb", "[0.1234567890123456789]".into()),
        ("'{\"a\":18446744073709551616}'::json", "{\"a\":18446744073709551616}".into()),
    ] {
        let found = one(&store, &format!("SELECT {expression}")).await;
        assert_eq!(found, expected, "{expression}");
    }
    let text = "SELECT 7 AS \"a \"\"b\"\"\", DATE '2026-11-21' AS day, 'x' AS c -- the end";
    let rows = store.fetch(&Statement::query(text, vec![])).await.unwrap();
    assert_eq!(rows[0].columns(), ["a \"b\"", "day", "c"]);
    assert_eq!(rows[0].values(), [Value::Int(7), "2026-11-21".into(), "x".into()]);
}

#[tokio::test]
async fn rows_that_had_to_be_read_as_text_are_still_counted() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = database.store().await;
    run(&store, "CREATE TABLE days (id integer, day date)").await;
    let put =
        "INSERT INTO days SELECT n, '2026-11-21' FROM generate_series(1, ?) AS n RETURNING day";
    let outcome = store.execute(&Statement::query(put, vec![3.into()])).await.unwrap();
    assert_eq!((outcome.changed, outcome.rows.len()), (3, 3));
    assert_eq!(outcome.rows[2].text(0).unwrap(), "2026-11-21");
    let query = "WITH gone AS (DELETE FROM days RETURNING id) SELECT count(*) FROM gone";
    let outcome = store.execute(&Statement::query(query, vec![])).await.unwrap();
    assert_eq!((outcome.changed, outcome.rows[0].int(0).unwrap()), (0, 3));
}

/// A store behind a pooler keeps how a statement was written when its column could be read.
#[tokio::test]
async fn a_write_whose_rows_cannot_be_read_is_an_unknown_outcome_if_it_was_committed() {
    let Some(database) = Postgres::fresh().await else { return };
    let direct = database.store().await;
    run(&direct, "CREATE TABLE places (n serial, v integer DEFAULT 1)").await;
    run(&direct, "CREATE TABLE others (v integer)").await;
    let pooled = PostgresOptions { pooled: true, ..database.options() };
    let store = open(pooled).await;
    let insert = || Statement::query("INSERT INTO places DEFAULT VALUES RETURNING v", vec![]);
    let refused = Statement::new("INSERT INTO others VALUES (1 / ?::integer)", vec![0.into()]);
    store.execute(&insert()).await.unwrap();
    store.execute(&refused).await.unwrap_err();
    for text in [
        "ALTER TABLE places ALTER COLUMN v DROP DEFAULT",
        "ALTER TABLE places ALTER COLUMN v TYPE point USING point(v, v)",
        "ALTER TABLE places ALTER COLUMN v SET DEFAULT point(1, 2)",
    ] {
        run(&direct, text).await;
    }
    let count = "SELECT count(*) FROM places";

    // A refusal behind it rolls it back.
    let steps = [insert(), refused].map(Step::any);
    let failed = store.execute_all(steps.into()).await.unwrap_err();
    assert_eq!((failed.step, failed.error.status()), (Some(1), ErrorStatus::Permanent));
    assert_eq!(one(&direct, count).await, Value::Int(1));

    // With the COMMIT behind it, it has happened.
    let failed = store.execute_all(vec![Step::any(insert())]).await.unwrap_err();
    assert_eq!((failed.step, failed.error.status()), (Some(0), ErrorStatus::OutcomeUnknown));
    assert!(failed.to_string().contains("committed: true"), "{failed}");
    assert_eq!(one(&direct, count).await, Value::Int(2));

    // Prepared anew it is read as a text.
    let outcome = store.execute(&insert()).await.unwrap();
    assert_eq!(outcome.rows[0].at(0).unwrap(), &Value::from("(1,2)"));
    assert_eq!(one(&direct, count).await, Value::Int(3));
}
