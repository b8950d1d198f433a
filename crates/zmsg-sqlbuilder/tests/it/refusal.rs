//! What `sql` refuses, and the way out that it names.

use zmsg_core::ErrorKind;
use zmsg_sqlbuilder::{Sql, sql};

fn refused(sql: Sql) -> String {
    let shown = format!("{sql:?}");
    let error = sql.statement().expect_err(&shown);
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(!error.is_temporary());
    error.to_string()
}

fn insert() -> Sql {
    sql("INSERT INTO t (id) VALUES (?)", (1,))
}

#[test]
fn several_statements_are_refused() {
    insta::assert_snapshot!(refused(sql("SELECT 1; DROP TABLE t", ())), @"the text has 2 statements; write them one by one, or put them into a migration (second: DROP, byte: 10, statement: SELECT 1; DROP TABLE t)");
    assert!(sql("SELECT ';' ; -- one; only", ()).statement().is_ok());
    let trigger = "CREATE TRIGGER a AFTER INSERT ON t BEGIN DELETE FROM u; DELETE FROM v; END;";
    assert!(sql(trigger, ()).statement().is_ok());
}

#[test]
fn an_empty_statement_is_refused() {
    for text in ["", " ;; ", "-- nothing", "/* nothing */"] {
        assert!(refused(sql(text, ())).contains("the statement is empty"));
    }
}

#[test]
fn transaction_control_is_refused() {
    insta::assert_snapshot!(refused(sql("begin", ())), @"transaction control is refused: each write is a transaction of its own; leave it out (found: begin, statement: begin)");
    for text in [
        "BEGIN IMMEDIATE",
        "/* a */ START TRANSACTION",
        "COMMIT",
        "END",
        "ROLLBACK TO a",
        "SAVEPOINT a",
        "RELEASE a",
        "ABORT",
        "PREPARE TRANSACTION 'a'",
    ] {
        refused(sql(text, ()));
    }
}

#[test]
fn what_changes_the_session_or_the_files_is_refused() {
    for text in [
        "SET work_mem = '1GB'",
        "SET SESSION a = 1",
        "RESET ALL",
        "LISTEN a",
        "NOTIFY a",
        "UNLISTEN *",
        "COPY t FROM STDIN",
        "ATTACH 'a' AS b",
        "DETACH b",
        "VACUUM",
        "PRAGMA journal_mode = DELETE",
        "DO $$ BEGIN COMMIT; END $$",
        "DISCARD ALL",
        "LOAD 'a'",
    ] {
        refused(sql(text, ()));
    }
    assert!(sql("SET LOCAL statement_timeout = 1", ()).statement().is_ok());
}

/// Seed defect CA12: a delete without key and condition deletes the whole table.
#[test]
fn update_and_delete_without_a_condition_are_refused() {
    insta::assert_snapshot!(refused(sql("DELETE FROM feeds", ())), @"an UPDATE or DELETE without WHERE changes every row; add a condition, or call all_rows() if that is meant (found: DELETE, byte: 0, statement: DELETE FROM feeds)");
    for text in [
        "UPDATE t SET a = 1",
        "UPDATE t SET a = (SELECT b FROM u WHERE c)",
        "UPDATE t SET a = 'WHERE' -- WHERE a = 1",
        "UPDATE \"where\" SET a = 1 RETURNING a",
        "WITH w AS (SELECT 1 WHERE true) DELETE FROM t",
        "WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d WHERE a = 1",
        "WITH d AS MATERIALIZED (UPDATE t SET a = 1 RETURNING *) INSERT INTO u SELECT * FROM d",
        "EXPLAIN (ANALYZE) DELETE FROM t",
        "EXPLAIN ANALYZE UPDATE t SET a = 1",
    ] {
        assert!(refused(sql(text, ())).contains("all_rows()"), "{text}");
        assert!(sql(text, ()).all_rows().statement().is_ok(), "{text}");
    }
}

#[test]
fn the_words_update_and_delete_elsewhere_need_no_condition() {
    for text in [
        "DELETE FROM t WHERE a = 1",
        "SELECT a FROM t FOR UPDATE",
        "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 1",
        "WITH d AS (DELETE FROM t WHERE a RETURNING *) SELECT * FROM d",
        "CREATE TABLE t (a int REFERENCES u ON DELETE CASCADE)",
        "CREATE TRIGGER a AFTER UPDATE ON t BEGIN UPDATE u SET b = 1; END",
        "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE",
        "INSERT INTO t (update, delete) VALUES (1, 2)",
        "SELECT 'DELETE FROM t'",
    ] {
        assert!(sql(text, ()).statement().is_ok(), "{text}");
    }
}

#[test]
fn all_rows_allows_every_row_and_nothing_else() {
    refused(sql("DELETE FROM t; DELETE FROM u", ()).all_rows());
    refused(sql("COMMIT", ()).all_rows());
}

#[test]
fn another_number_of_binds_than_placeholders_is_refused() {
    let message = refused(sql("SELECT ?", (1, 2)));
    assert!(message.contains("1 placeholders and 2 binds"), "{message}");
    assert!(refused(sql("SELECT $1", (1,))).contains("binds are written `?`"));
}

#[test]
fn clauses_that_do_not_fit_are_refused() {
    let update = || sql("UPDATE t SET a = 1 WHERE b", ());
    insta::assert_snapshot!(refused(update().on_conflict("a").do_nothing()), @"only an INSERT can have on_conflict (found: UPDATE, statement: UPDATE t SET a = 1 WHERE b)");
    let replace = sql("REPLACE INTO t VALUES (1)", ());
    assert!(refused(replace.on_conflict("a").do_nothing()).contains("found: REPLACE"));
    let twice = insert().on_conflict("id").do_nothing().on_conflict("id").do_nothing();
    assert!(refused(twice).contains("called twice"));
    let written = sql("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", ());
    assert!(refused(written.on_conflict("id").do_nothing()).contains("ON CONFLICT already"));
    let returned = sql("INSERT INTO t VALUES (1) RETURNING a", ());
    assert!(refused(returned.clone().on_conflict("id").do_nothing()).contains("call returning"));
    assert!(refused(returned.returning("a")).contains("RETURNING already"));
    assert!(refused(update().returning("a").returning("b")).contains("called twice"));
    assert!(refused(sql("SELECT 1", ()).returning("a")).contains("that writes rows"));
}

#[test]
fn column_lists_are_named_once_each_and_not_empty() {
    let none: [&str; 0] = [];
    insta::assert_snapshot!(refused(insert().on_conflict(none).do_nothing()), @"name at least one column (call: on_conflict, statement: INSERT INTO t (id) VALUES (?))");
    assert!(refused(insert().on_conflict("id").do_update(none)).contains("call: do_update"));
    assert!(refused(insert().returning(none)).contains("call: returning"));
    assert!(refused(insert().returning(["a", "b", "a"])).contains("named twice"));
}

#[test]
fn the_first_thing_wrong_in_the_chain_comes_out() {
    let message = refused(insert().keys([""]).keys(["a\0"]).returning("a").returning("b"));
    assert!(message.contains("a key must not be empty"), "{message}");
}

#[test]
fn an_overwriting_statement_names_what_it_overwrites() {
    assert!(refused(insert().overwrite()).contains(".batch_key(..)"));
    assert!(insert().overwrite().batch_key("t:1").statement().is_ok());
}
