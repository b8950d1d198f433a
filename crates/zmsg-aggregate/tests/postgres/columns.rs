//! What folds make of the columns of a server: each in its own arithmetic.

use serde_json::json;
use zmsg_core::Value;
use zmsg_sqlbuilder::{OpBuilder, counter, map, slice};

use crate::database::{Database, open, refusal};

/// Changes a column of this type in twenty rows at a time and in one row by itself: what the
/// column shows then, or the refusal.
async fn changed(db: &Database, kind: &str, start: &str, ops: &[OpBuilder]) -> String {
    db.run("DROP TABLE IF EXISTS things", vec![]).await;
    db.run(&format!("CREATE TABLE things (id bigint PRIMARY KEY, c {kind})"), vec![]).await;
    let fill = format!("INSERT INTO things SELECT i, {start} FROM generate_series(1, 21) AS i");
    db.run(&fill, vec![]).await;
    let mut refused = None;
    for ids in [1..=20_i64, 21..=21] {
        let mut receipts = Vec::new();
        for id in ids {
            for op in ops {
                receipts.push(db.submit(op.clone().where_eq("id", id).batch_key("all")));
            }
        }
        db.aggregator.flush_all().await.unwrap();
        for receipt in receipts {
            if receipt.applied().await.is_err() {
                refused = Some(refusal(&receipt).await.to_string());
            }
        }
    }
    if let Some(refused) = refused {
        return refused;
    }
    let rows = db.int("SELECT count(DISTINCT c::text) FROM things").await;
    assert_eq!(rows, Some(1), "many at a time or one by one: {kind}");
    match db.value("SELECT c::text FROM things LIMIT 1").await {
        Value::Text(text) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn whole_numbers_are_exact_in_between_and_checked_against_their_column() {
    let db = open!();
    let c = || counter("things", "c");
    for kind in ["smallint", "integer", "bigint", "numeric"] {
        assert_eq!(changed(&db, kind, "40", &[c().inc(2)]).await, "42", "{kind}");
        assert_eq!(changed(&db, kind, "NULL", &[c().dec(2)]).await, "-2", "{kind}");
        let there_and_back = [c().mul(i64::MAX), c().inc(1), c().set(7), c().mul(6)];
        assert_eq!(changed(&db, kind, "40", &there_and_back).await, "42", "{kind}");
        let beyond = [c().inc(i64::MAX), c().inc(i64::MAX), c().dec(i64::MAX), c().dec(i64::MAX)];
        assert_eq!(changed(&db, kind, "40", &beyond).await, "40", "{kind}");
        assert_eq!(changed(&db, kind, "40", &[c().clean()]).await, "0", "{kind}");
    }
    for (kind, start) in
        [("smallint", "32767"), ("integer", "2147483647"), ("bigint", "9223372036854775807")]
    {
        for op in [c().inc(1), c().mul(2)] {
            let refused = changed(&db, kind, start, &[op]).await;
            assert!(refused.contains("22003"), "{kind}: {refused}");
        }
    }
    let wide = changed(&db, "numeric", "9223372036854775807", &[c().mul(i64::MAX)]).await;
    assert_eq!(wide, "85070591730234615847396907784232501249");
}

#[tokio::test]
async fn floats_are_floats_and_decimals_are_exact() {
    let db = open!();
    let c = || counter("things", "c");
    let sum = [c().inc(0.1), c().inc(0.2)];
    assert_eq!(changed(&db, "double precision", "NULL", &sum).await, "0.30000000000000004");
    assert_eq!(changed(&db, "real", "NULL", &sum).await, "0.3");
    assert_eq!(changed(&db, "numeric", "NULL", &sum).await, "0.3");
    assert_eq!(changed(&db, "numeric(10, 2)", "1.00", &sum).await, "1.30");
    let set = [c().set(0.1), c().inc(0.2)];
    assert_eq!(changed(&db, "double precision", "7", &set).await, "0.30000000000000004");
    assert_eq!(changed(&db, "numeric", "7", &set).await, "0.3");
    let tiny = [c().mul(1e-300), c().mul(1e-300), c().inc(0.5)];
    assert_eq!(changed(&db, "double precision", "1", &tiny).await, "0.5");
    assert_eq!(changed(&db, "double precision", "0", &[c().mul(-1.0)]).await, "0");
    let large = changed(&db, "double precision", "1e300", &[c().mul(1e300), c().mul(0.0)]).await;
    assert!(large.contains("dead letter"), "{large}");
    let infinite = changed(&db, "double precision", "'Infinity'", &[c().inc(1.0)]).await;
    assert!(infinite.contains("range of a 64-bit float"), "{infinite}");
}

#[tokio::test]
async fn a_column_of_another_type_is_refused_with_the_way_out() {
    let db = open!();
    let c = || counter("things", "c");
    for (kind, start, op, hint) in [
        ("integer", "1", c().inc(0.5), "inc(1)"),
        ("double precision", "1", c().inc(1), "inc(1.0)"),
        ("real", "1", c().mul(2), "inc(1.0)"),
        ("boolean", "true", c().inc(1), "does not hold a number"),
        ("text", "'1'", c().inc(1), "does not hold a number"),
        ("jsonb", "'1'", c().clean(), "does not hold a number"),
        ("integer", "1", map("things", "c").set("k", 1), "JSON"),
        ("jsonb", "'[]'", map("things", "c").set("k", 1), "JSON object"),
        ("jsonb", "'null'", slice("things", "c").add(1), "JSON array"),
        ("text", "'oops'", slice("things", "c").add(1), "22P02"),
        ("text", "'{\"a\": \"\\u0000\"}'", map("things", "c").set("k", 1), "22P05"),
        ("json", "'{\"a\": \"\\ud800\"}'", map("things", "c").set("k", 1), "22P02"),
        ("bytea", "'1'", map("things", "c").set("k", 1), "bytea"),
    ] {
        let refused = changed(&db, kind, start, &[op]).await;
        assert!(refused.contains(hint), "{kind}: {refused}");
    }
}

#[tokio::test]
async fn documents_are_folded_in_columns_of_json_and_of_text() {
    let db = open!();
    for kind in ["jsonb", "json", "text", "varchar(1000)"] {
        let tags = || slice("things", "c");
        let ops = [tags().add_all([json!(1), json!(2), json!(1.0)]), tags().del(1), tags().add(3)];
        assert_eq!(changed(&db, kind, "NULL", &ops).await, "[2, 3]", "{kind}");
        let meta = || map("things", "c");
        let ops =
            [meta().set("a", json!({"x": [1]})), meta().del("b"), meta().set("c", json!(null))];
        let start = "'{\"b\": 1, \"d\": 1.50, \"d\": 2.50}'";
        let shown = changed(&db, kind, start, &ops).await;
        assert_eq!(shown, r#"{"a": {"x": [1]}, "c": null, "d": 2.50}"#, "{kind}");
        let ops =
            [meta().merge(json!({"b": {"y": null, "z": 1}})), meta().merge(json!({"d": null}))];
        assert_eq!(changed(&db, kind, start, &ops).await, r#"{"b": {"z": 1}}"#, "{kind}");
        let ops = [meta().merge(json!([1])), meta().merge(json!({"a": 1e300}))];
        let large = format!("{{\"a\": 1{}}}", "0".repeat(300));
        assert_eq!(changed(&db, kind, start, &ops).await, large, "{kind}");
    }
    let numbers = "'[9007199254740993, 0.1000000000000000000001]'";
    let near = slice("things", "c").del_all([json!(9_007_199_254_740_992.0), json!(0.1)]);
    let kept = "[9007199254740993, 0.1000000000000000000001]";
    assert_eq!(changed(&db, "jsonb", numbers, &[near]).await, kept);
}
