//! Where the statements of a script end.
//!
//! Seed defect: "comment stripping breaks literals and dollar quotes".

use zmsg_sqlbuilder::{Dialect, split_script};

fn split(script: &str, dialect: Dialect) -> Vec<String> {
    split_script(script, dialect).unwrap()
}

fn on_both(script: &str) -> Vec<String> {
    let postgres = split(script, Dialect::Postgres);
    assert_eq!(postgres, split(script, Dialect::Sqlite));
    postgres
}

#[test]
fn comments_between_statements_are_dropped_and_empty_statements_skipped() {
    let script = "\n-- first; of two\nSELECT 1 ; /* ; */ ;;\n\nSELECT 2 -- the last; one\n;;";
    assert_eq!(on_both(script), ["SELECT 1", "SELECT 2"]);
    assert!(on_both("").is_empty());
    assert!(on_both(" ; -- nothing;\n ; ").is_empty());
}

#[test]
fn comments_within_a_statement_stay() {
    let script = "CREATE TABLE t (\n  a int, -- the a; b\n  b int /* ; */\n);\nSELECT 1";
    assert_eq!(
        on_both(script),
        ["CREATE TABLE t (\n  a int, -- the a; b\n  b int /* ; */\n)", "SELECT 1"]
    );
}

#[test]
fn semicolons_in_strings_and_identifiers_end_nothing() {
    let script = r#"INSERT INTO t VALUES ('a; -- b', 'it''s;'); SELECT "a;b" "#;
    assert_eq!(on_both(script), ["INSERT INTO t VALUES ('a; -- b', 'it''s;')", r#"SELECT "a;b""#]);
}

#[test]
fn text_that_looks_like_a_comment_inside_a_string_stays() {
    let script = "INSERT INTO t VALUES ('-- kept', '/* kept */');";
    assert_eq!(on_both(script), ["INSERT INTO t VALUES ('-- kept', '/* kept */')"]);
}

#[test]
fn semicolons_in_dollar_quotes_end_nothing_on_postgres() {
    let script = "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $body$\n\
                  BEGIN -- a; $$ b\n  RETURN 1; END; $body$;\nDO $$ BEGIN PERFORM 1; END $$;";
    let statements = split(script, Dialect::Postgres);
    assert_eq!(statements.len(), 2);
    assert!(statements[0].ends_with("END; $body$"));
    assert_eq!(statements[1], "DO $$ BEGIN PERFORM 1; END $$");
}

#[test]
fn backslashes_escape_in_e_strings_only() {
    let script = r"SELECT E'\'; a'; SELECT 'b\'; SELECT 3";
    assert_eq!(split(script, Dialect::Postgres), [r"SELECT E'\'; a'", r"SELECT 'b\'", "SELECT 3"]);
}

#[test]
fn the_body_of_a_sqlite_trigger_stays_whole() {
    let trigger = "CREATE TEMP TRIGGER IF NOT EXISTS count_rows AFTER INSERT ON t BEGIN\n  \
                   UPDATE c SET n = CASE WHEN n < 9 THEN n + 1 ELSE 9 END;\n  \
                   DELETE FROM old; -- done; here\nEND";
    let script = format!("CREATE TABLE a (x);\n{trigger};\nCREATE TABLE b (y);");
    assert_eq!(
        split(&script, Dialect::Sqlite),
        ["CREATE TABLE a (x)", trigger, "CREATE TABLE b (y)"]
    );
    assert_eq!(split(trigger, Dialect::Sqlite), [trigger]);
}

#[test]
fn a_postgres_trigger_and_a_column_named_trigger_need_no_body() {
    let script = "CREATE TRIGGER t AFTER INSERT ON a EXECUTE FUNCTION f(); SELECT 1";
    assert_eq!(split(script, Dialect::Postgres).len(), 2);
    assert_eq!(on_both("CREATE TABLE t (trigger int); BEGIN; SELECT 1; END;").len(), 4);
}

#[test]
fn the_body_of_a_postgres_function_in_sql_stays_whole() {
    let function = "CREATE OR REPLACE PROCEDURE p(a int)\nBEGIN ATOMIC\n  \
                    INSERT INTO t VALUES (CASE WHEN a > 0 THEN a END);\n  DELETE FROM u;\nEND";
    let script = format!("{function};\nSELECT 1;");
    assert_eq!(split(&script, Dialect::Postgres), [function, "SELECT 1"]);
}

#[test]
fn semicolons_in_brackets_end_nothing() {
    let rule = "CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM a; DELETE FROM b)";
    assert_eq!(split(&format!("{rule}; SELECT 1"), Dialect::Postgres), [rule, "SELECT 1"]);
}

#[test]
fn each_dialect_reads_comments_as_its_database_does() {
    assert_eq!(split("/* a /* b */ ; */ SELECT 1", Dialect::Postgres), ["SELECT 1"]);
    assert_eq!(split("/* a /* b */ SELECT 1; SELECT 2", Dialect::Sqlite).len(), 2);
}

#[test]
fn quoted_identifiers_of_sqlite_are_whole() {
    assert_eq!(split("SELECT [a;b], `c;d`; SELECT 2", Dialect::Sqlite).len(), 2);
}

#[test]
fn a_script_that_ends_too_early_is_refused() {
    for script in ["SELECT 'a;", "CREATE TABLE t (a); /* b", "CREATE TABLE \"a"] {
        for dialect in [Dialect::Postgres, Dialect::Sqlite] {
            let error = split_script(script, dialect).unwrap_err();
            assert!(error.to_string().contains("is not closed"), "{error}");
        }
    }
    for script in [
        "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b;",
        "CREATE FUNCTION f() BEGIN ATOMIC SELECT 1;",
    ] {
        let error = split_script(script, Dialect::Postgres).unwrap_err();
        assert!(error.to_string().contains("inside a BEGIN"), "{error}");
    }
}
