//! Which question marks are binds.

use std::borrow::Cow;

use zmsg_core::ErrorKind;
use zmsg_sqlbuilder::{Dialect, identifiers, render};

fn postgres(text: &str, binds: usize) -> String {
    render(text, binds, Dialect::Postgres).unwrap().into_owned()
}

/// Texts with their binds, as PostgreSQL gets them.
fn assert_rendered(cases: &[(&str, usize, &str)]) {
    for (text, binds, expected) in cases {
        assert_eq!(postgres(text, *binds), *expected, "{text}");
    }
}

#[test]
fn binds_are_numbered_on_postgres_and_stay_on_sqlite() {
    let text = "UPDATE t SET a = ?, b = b + ? WHERE id IN (?, ?) LIMIT ?";
    insta::assert_snapshot!(postgres(text, 5),
        @"UPDATE t SET a = $1, b = b + $2 WHERE id IN ($3, $4) LIMIT $5");
    assert!(matches!(render(text, 5, Dialect::Sqlite), Ok(Cow::Borrowed(same)) if same == text));
}

#[test]
fn a_text_without_binds_is_not_copied() {
    let text = "SELECT '?' -- ?";
    assert!(matches!(render(text, 0, Dialect::Postgres), Ok(Cow::Borrowed(same)) if same == text));
}

/// Seed defect: "`?` is replaced inside string literals".
#[test]
fn question_marks_in_strings_identifiers_and_comments_are_text() {
    assert_rendered(&[
        ("SELECT 'a?', ?", 1, "SELECT 'a?', $1"),
        ("SELECT 'it''s ?', ?", 1, "SELECT 'it''s ?', $1"),
        (r"SELECT E'\'?', ?", 1, r"SELECT E'\'?', $1"),
        (r"SELECT e'a\\', ?", 1, r"SELECT e'a\\', $1"),
        ("SELECT E'a'\n  '\\'?', ?", 1, "SELECT E'a'\n  '\\'?', $1"),
        (r"SELECT 'a\', ?", 1, r"SELECT 'a\', $1"),
        (r"SELECT U&'\0041?', ?", 1, r"SELECT U&'\0041?', $1"),
        ("SELECT x'00', B'1', ?", 1, "SELECT x'00', B'1', $1"),
        (r#"SELECT "a?""b?", ?"#, 1, r#"SELECT "a?""b?", $1"#),
        (r#"SELECT u&"a?", ?"#, 1, r#"SELECT u&"a?", $1"#),
        ("SELECT $$a?$$, $t$ ?$$? $t$, ?", 1, "SELECT $$a?$$, $t$ ?$$? $t$, $1"),
        ("SELECT a$b$, c$b$, ?", 1, "SELECT a$b$, c$b$, $1"),
        ("SELECT -- what?\n ?", 1, "SELECT -- what?\n $1"),
        ("SELECT -- what?\r ?", 1, "SELECT -- what?\r $1"),
        ("SELECT /* ? /* ? */ ? */ ?", 1, "SELECT /* ? /* ? */ ? */ $1"),
        ("SELECT 1 --?", 0, "SELECT 1 --?"),
        ("SELECT 1 */*?*/ ?", 1, "SELECT 1 */*?*/ $1"),
        ("SELECT 'é?', é, ?", 1, "SELECT 'é?', é, $1"),
    ]);
}

/// Seed defect: "breaks the jsonb `?` operator".
#[test]
fn a_question_mark_after_an_operand_is_the_jsonb_operator() {
    assert_rendered(&[
        ("SELECT data ? 'k' FROM t WHERE id = ?", 1, "SELECT data ? 'k' FROM t WHERE id = $1"),
        ("SELECT data ? ?", 1, "SELECT data ? $1"),
        ("SELECT ? ? ?", 2, "SELECT $1 ? $2"),
        ("SELECT data ?| ?", 1, "SELECT data ?| $1"),
        ("SELECT data ?& array[?, ?]", 2, "SELECT data ?& array[$1, $2]"),
        ("SELECT data?|array['a']", 0, "SELECT data?|array['a']"),
        ("SELECT (data->'a') ? ?", 1, "SELECT (data->'a') ? $1"),
        ("SELECT tags[1] ? 'a'", 0, "SELECT tags[1] ? 'a'"),
        ("SELECT '{}'::jsonb ? ?", 1, "SELECT '{}'::jsonb ? $1"),
        ("SELECT \"data\" ? /* c */ ?", 1, "SELECT \"data\" ? /* c */ $1"),
        ("SELECT data /* ? */ ? ?", 1, "SELECT data /* ? */ ? $1"),
        ("SELECT data @? '$.a ? (@ > 1)'", 0, "SELECT data @? '$.a ? (@ > 1)'"),
        ("SELECT data @? ?", 1, "SELECT data @? $1"),
        ("SELECT CASE WHEN a THEN b END ? 'k'", 0, "SELECT CASE WHEN a THEN b END ? 'k'"),
        ("SELECT 1 OPERATOR(pg_catalog.?) ", 0, "SELECT 1 OPERATOR(pg_catalog.?) "),
    ]);
}

#[test]
fn a_question_mark_after_a_keyword_or_an_operator_is_a_bind() {
    assert_rendered(&[
        ("SELECT ?||?", 2, "SELECT $1||$2"),
        ("SELECT a || ?|| b", 1, "SELECT a || $1|| b"),
        ("SELECT ?|1, ?&1", 2, "SELECT $1|1, $2&1"),
        ("SELECT -?, @?, a <@?", 3, "SELECT -$1, @$2, a <@$3"),
        ("SELECT ?::int, CAST(? AS int)", 2, "SELECT $1::int, CAST($2 AS int)"),
        ("SELECT a[?:?]", 2, "SELECT a[$1:$2]"),
        ("SELECT a WHERE x BETWEEN ? AND ?", 2, "SELECT a WHERE x BETWEEN $1 AND $2"),
        ("SELECT a LIKE ? ESCAPE ?", 2, "SELECT a LIKE $1 ESCAPE $2"),
        ("SELECT x NOT GLOB ? OR x REGEXP ?", 2, "SELECT x NOT GLOB $1 OR x REGEXP $2"),
        ("SELECT x IS DISTINCT FROM ?", 1, "SELECT x IS DISTINCT FROM $1"),
        ("SELECT CASE ? WHEN ? THEN ? ELSE ? END", 4, "SELECT CASE $1 WHEN $2 THEN $3 ELSE $4 END"),
        ("SELECT a ORDER BY ? LIMIT ? OFFSET ?", 3, "SELECT a ORDER BY $1 LIMIT $2 OFFSET $3"),
        ("SELECT a FETCH FIRST ? ROWS ONLY", 1, "SELECT a FETCH FIRST $1 ROWS ONLY"),
        ("SELECT a AT TIME ZONE ?", 1, "SELECT a AT TIME ZONE $1"),
        (
            "SELECT sum(a) OVER (ORDER BY b ROWS ? PRECEDING)",
            1,
            "SELECT sum(a) OVER (ORDER BY b ROWS $1 PRECEDING)",
        ),
    ]);
}

#[test]
fn a_keyword_that_names_a_column_ends_an_operand() {
    assert_rendered(&[
        (
            "SELECT glob ? 'k', rows ? 'k', zone ? 'k'",
            0,
            "SELECT glob ? 'k', rows ? 'k', zone ? 'k'",
        ),
        ("SELECT a FROM t WHERE first ? ?", 1, "SELECT a FROM t WHERE first ? $1"),
    ]);
}

#[test]
fn two_question_marks_are_a_literal_one() {
    assert_rendered(&[
        ("SELECT data ?? ?", 1, "SELECT data ? $1"),
        ("SELECT data ??| ?, data ??& ?", 2, "SELECT data ?| $1, data ?& $2"),
        ("SELECT data ???", 1, "SELECT data ?$1"),
        ("SELECT '??', \"??\" /* ?? */", 0, "SELECT '??', \"??\" /* ?? */"),
    ]);
}

#[test]
fn a_bind_is_not_glued_to_its_neighbours() {
    assert_rendered(&[
        ("SELECT a LIMIT?OFFSET?", 2, "SELECT a LIMIT $1 OFFSET $2"),
        ("SELECT(?)", 1, "SELECT($1)"),
    ]);
}

fn refused(text: &str, binds: usize, dialect: Dialect) -> String {
    let error = render(text, binds, dialect).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    error.to_string()
}

#[test]
fn another_number_of_binds_than_placeholders_is_refused() {
    insta::assert_snapshot!(refused("SELECT data ? 'k', ?", 2, Dialect::Postgres), @"the text has 1 placeholders and 2 binds; write `??` for the operator and `(?)` for a bind where `?` is misread (text: SELECT data ? 'k', ?)");
    refused("SELECT ?", 0, Dialect::Sqlite);
    refused("SELECT 1", 1, Dialect::Sqlite);
}

#[test]
fn more_binds_than_the_database_takes_are_refused() {
    for (dialect, max) in [(Dialect::Postgres, 65_535), (Dialect::Sqlite, 32_766)] {
        let text = |binds: usize| format!("SELECT ?{}", ", ?".repeat(binds - 1));
        assert!(render(&text(max), max, dialect).is_ok());
        let message = refused(&text(max + 1), max + 1, dialect);
        assert!(message.contains(&format!("binds_max: {max}")), "{message}");
    }
}

#[test]
fn what_is_not_closed_is_refused_with_its_place() {
    insta::assert_snapshot!(refused("SELECT 'it", 0, Dialect::Postgres),
        @"a string is not closed (byte: 7, text: 'it)");
    for text in ["'a''", r"E'\'", "\"a", "$$ a", "$t$ $$", "/* a", "/* /* */", "U&'a", "U&\"a"] {
        let message = refused(text, 0, Dialect::Postgres);
        assert!(message.contains("is not closed"), "{message}");
    }
    for text in ["'a''", "`a", "[a", "/* a"] {
        refused(text, 0, Dialect::Sqlite);
    }
}

#[test]
fn nul_is_refused_wherever_it_stands() {
    for text in ["\0", "SELECT '\0'", "-- \0", "$$\0$$", "SELECT \"\0\""] {
        for dialect in [Dialect::Postgres, Dialect::Sqlite] {
            assert!(refused(text, 0, dialect).contains("NUL"));
        }
    }
}

#[test]
fn parameters_in_a_databases_own_spelling_are_refused() {
    for text in ["SELECT $1", "SELECT ?1"] {
        let message = refused(text, 0, Dialect::Postgres);
        assert!(message.contains("binds are written `?`"), "{message}");
    }
    for text in ["SELECT $1", "SELECT ?1", "SELECT :a", "SELECT @a", "SELECT $a"] {
        refused(text, 0, Dialect::Sqlite);
    }
    // On PostgreSQL the same characters are a slice, a cast and an operator.
    assert!(render("SELECT a[b:c], d::text, @e", 0, Dialect::Postgres).is_ok());
}

#[test]
fn sqlite_refuses_what_it_would_read_otherwise() {
    insta::assert_snapshot!(refused("SELECT data ? 'k'", 0, Dialect::Sqlite), @"SQLite has no operator with a question mark, and a bind cannot follow an operand; use its JSON functions, or write `(?)` for a bind (found: ?, byte: 12)");
    refused("SELECT data ?? 'k'", 0, Dialect::Sqlite);
    insta::assert_snapshot!(refused("SELECT /* a /* b */ 1", 0, Dialect::Sqlite), @"SQLite does not nest comments; remove the inner one (comment: /* a /* b */, byte: 7)");
    let quoted = "SELECT `a?`, [b?], ?";
    assert_eq!(render(quoted, 1, Dialect::Sqlite).unwrap(), quoted);
}

#[test]
fn identifiers_are_named_as_the_databases_compare_them() {
    let names = identifiers(r#"Feeds."Like""Count" = 'no' AND /* no */ deleted_AT IS NULL -- no"#);
    assert_eq!(names.unwrap(), ["feeds", "Like\"Count", "and", "deleted_at", "is", "null"]);
    assert!(identifiers("$$ no $$").unwrap().is_empty());
}

#[test]
fn an_identifier_with_escapes_is_refused_rather_than_missed() {
    let error = identifiers(r#"U&"d\0061t\+000061" = 1"#).unwrap_err();
    assert!(error.to_string().contains("without U& escapes"));
}
