//! What `sql` makes, in both dialects.

use bytes::Bytes;
use zmsg_core::{IntoTask, Key, KeyScope, Task, Timestamp, Value};
use zmsg_sqlbuilder::{Dialect, Sql, render, sql};

/// The statement as each database gets it.
fn both(sql: Sql) -> String {
    let statement = sql.statement().unwrap();
    let text = |dialect| render(&statement.text, statement.binds.len(), dialect).unwrap();
    format!(
        "{}\n{}\nbinds: {}, rows: {}",
        text(Dialect::Postgres),
        text(Dialect::Sqlite),
        statement.binds.len(),
        statement.returns_rows
    )
}

fn insert() -> Sql {
    sql("INSERT INTO feeds (id, data) VALUES (?, ?)", ("feed_1", "hello"))
}

#[test]
fn a_statement_keeps_its_text() {
    insta::assert_snapshot!(both(insert()), @r"
    INSERT INTO feeds (id, data) VALUES ($1, $2)
    INSERT INTO feeds (id, data) VALUES (?, ?)
    binds: 2, rows: false
    ");
}

#[test]
fn on_conflict_do_update_takes_the_inserted_values() {
    insta::assert_snapshot!(both(insert().on_conflict("id").do_update(["data"])), @r#"
    INSERT INTO feeds (id, data) VALUES ($1, $2) ON CONFLICT ("id") DO UPDATE SET "data" = excluded."data"
    INSERT INTO feeds (id, data) VALUES (?, ?) ON CONFLICT ("id") DO UPDATE SET "data" = excluded."data"
    binds: 2, rows: false
    "#);
    let columns = vec!["data".to_owned(), "seen".to_owned()];
    insta::assert_snapshot!(both(insert().on_conflict(["id", "lang"]).do_update(columns)), @r#"
    INSERT INTO feeds (id, data) VALUES ($1, $2) ON CONFLICT ("id", "lang") DO UPDATE SET "data" = excluded."data", "seen" = excluded."seen"
    INSERT INTO feeds (id, data) VALUES (?, ?) ON CONFLICT ("id", "lang") DO UPDATE SET "data" = excluded."data", "seen" = excluded."seen"
    binds: 2, rows: false
    "#);
}

#[test]
fn on_conflict_do_nothing() {
    let columns: &[&str] = &["id"];
    insta::assert_snapshot!(both(insert().on_conflict(columns).do_nothing()), @r#"
    INSERT INTO feeds (id, data) VALUES ($1, $2) ON CONFLICT ("id") DO NOTHING
    INSERT INTO feeds (id, data) VALUES (?, ?) ON CONFLICT ("id") DO NOTHING
    binds: 2, rows: false
    "#);
}

#[test]
fn returning_comes_last_in_whatever_order_it_is_called() {
    let early = insert().returning(["id", "data"]).on_conflict("id").do_nothing();
    insta::assert_snapshot!(both(early), @r#"
    INSERT INTO feeds (id, data) VALUES ($1, $2) ON CONFLICT ("id") DO NOTHING RETURNING "id", "data"
    INSERT INTO feeds (id, data) VALUES (?, ?) ON CONFLICT ("id") DO NOTHING RETURNING "id", "data"
    binds: 2, rows: true
    "#);
    let update = sql("UPDATE feeds SET n = n + 1 WHERE id = ?", ["feed_1"]).returning("*");
    insta::assert_snapshot!(both(update), @r"
    UPDATE feeds SET n = n + 1 WHERE id = $1 RETURNING *
    UPDATE feeds SET n = n + 1 WHERE id = ? RETURNING *
    binds: 1, rows: true
    ");
}

#[test]
fn clauses_go_before_a_trailing_semicolon_or_comment() {
    let text = "/* hint */ INSERT INTO t (id) VALUES (?) ; -- the end";
    insta::assert_snapshot!(both(sql(text, (1,)).on_conflict("id").do_nothing()), @r#"
    /* hint */ INSERT INTO t (id) VALUES ($1) ON CONFLICT ("id") DO NOTHING
    /* hint */ INSERT INTO t (id) VALUES (?) ON CONFLICT ("id") DO NOTHING
    binds: 1, rows: false
    "#);
}

/// SQLite reads `ON` after a `FROM` as the condition of a join.
#[test]
fn an_insert_from_a_select_gets_a_where_before_on_conflict() {
    let copied = sql("INSERT INTO t SELECT a, b FROM u", ()).on_conflict("a").do_nothing();
    insta::assert_snapshot!(both(copied), @r#"
    INSERT INTO t SELECT a, b FROM u WHERE true ON CONFLICT ("a") DO NOTHING
    INSERT INTO t SELECT a, b FROM u WHERE true ON CONFLICT ("a") DO NOTHING
    binds: 0, rows: false
    "#);
    for text in [
        "INSERT INTO t SELECT a FROM u WHERE a IS DISTINCT FROM 1",
        "INSERT INTO t SELECT a FROM u GROUP BY a",
        "INSERT INTO t VALUES ((SELECT a FROM u))",
    ] {
        let statement = sql(text, ()).on_conflict("a").do_nothing().statement().unwrap();
        assert_eq!(statement.text, format!("{text} ON CONFLICT (\"a\") DO NOTHING"));
    }
}

#[test]
fn statements_that_give_rows_are_known() {
    for (text, rows) in [
        ("SELECT 1", true),
        ("select 1;", true),
        ("(SELECT 1) UNION (SELECT 2)", true),
        ("VALUES (1)", true),
        ("WITH a AS (SELECT 1) SELECT * FROM a", true),
        ("WITH a AS (DELETE FROM t WHERE x RETURNING *) SELECT * FROM a", true),
        ("EXPLAIN SELECT 1", true),
        ("DELETE FROM t WHERE a = 1 RETURNING a", true),
        ("INSERT INTO t VALUES (1) RETURNING *", true),
        ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", false),
        ("WITH a AS (DELETE FROM t WHERE x RETURNING *) INSERT INTO u SELECT * FROM a", false),
        ("WITH select_ AS (SELECT 1), update AS (SELECT 2) DELETE FROM t WHERE a", false),
        ("INSERT INTO t VALUES ('RETURNING')", false),
        ("INSERT INTO t SELECT 1", false),
        ("CREATE TABLE t (id int)", false),
        ("CREATE TABLE t AS SELECT 1", false),
    ] {
        assert_eq!(sql(text, ()).statement().unwrap().returns_rows, rows, "{text}");
    }
}

#[test]
fn binds_are_tuples_arrays_vectors_and_slices_of_values() {
    let binds = |sql: Sql| sql.statement().unwrap().binds;
    let (id, data) = (Key::new("feed_1").unwrap(), Bytes::from_static(b"x"));
    let expected = vec![Value::Text("feed_1".into()), Value::Bytes(data.clone())];
    assert_eq!(binds(sql("SELECT ?, ?", (&id, &data))), expected);
    assert_eq!(binds(sql("SELECT ?, ?", expected.clone())), expected);
    assert_eq!(binds(sql("SELECT ?, ?", expected.as_slice())), expected);
    assert_eq!(binds(sql("SELECT ?, ?", [1, 2])), [Value::Int(1), Value::Int(2)]);
    let mixed = (true, None::<i64>, Timestamp(5), 1.5, serde_json::json!({}), uuid::Uuid::nil());
    assert_eq!(binds(sql("SELECT ?, ?, ?, ?, ?, ?", mixed)).len(), 6);
    let sixteen = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, "p");
    let last = binds(sql(format!("SELECT ?{}", ", ?".repeat(15)), sixteen)).pop();
    assert_eq!(last, Some(Value::Text("p".into())));
}

#[test]
fn keys_batch_key_and_overwrite_reach_the_statement() {
    let unstated = insert().statement().unwrap();
    assert_eq!(unstated.keys, KeyScope::Unstated);
    assert!(unstated.batch_key.is_none() && !unstated.overwrite);
    let stated = insert().keys(["a"]).keys([Key::new("b").unwrap()]);
    let stated = stated.batch_key("feed_1").overwrite().statement().unwrap();
    let keys = ["a", "b"].map(|key| Key::new(key).unwrap());
    assert_eq!(stated.keys, KeyScope::Keys(keys.to_vec()));
    assert_eq!(stated.batch_key.as_deref(), Some("feed_1"));
    assert!(stated.overwrite);
    assert_eq!(insert().no_keys().statement().unwrap().keys, KeyScope::Keys(vec![]));
}

#[test]
fn a_builder_is_a_task() {
    let Task::Statement(statement) = insert().into_task().unwrap() else { panic!("an op") };
    assert_eq!(statement, insert().statement().unwrap());
    assert!(sql("", ()).into_task().is_err());
}

#[test]
fn debug_shows_the_text_and_never_the_binds() {
    let shown = format!("{:?}", insert());
    assert!(shown.contains("INSERT INTO feeds") && !shown.contains("hello"), "{shown}");
}
