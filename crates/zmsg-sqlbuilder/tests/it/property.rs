//! Laws of the lexer, on random texts.

use std::borrow::Cow;

use proptest::collection::vec;
use proptest::prelude::*;
use zmsg_core::Condition;
use zmsg_sqlbuilder::{Dialect, condition, identifiers, render, split_script, sql};

/// A piece of a text, as written and as PostgreSQL gets it; `None` is a bind.
type Piece = (&'static str, Option<&'static str>);

const fn same(text: &'static str) -> Piece {
    (text, Some(text))
}

const OPERANDS: &[Piece] = &[
    ("?", None),
    ("?", None),
    ("?", None),
    same("id"),
    same("t.\"a ?\"\"b\""),
    same("'a ? '' ?'"),
    same(r"E'\' ? '"),
    same("U&'?'"),
    same("X'00'"),
    same("$$ ? ' $$"),
    same("$t$ ? $$ ; $t$"),
    same("1.5e-3"),
    same("0x1F"),
    same("f(a, 'b?')"),
    same("tags[1]"),
    same("NULL"),
    same("\"列?\""),
    same("列"),
];

const OPERATORS: &[Piece] = &[
    same("="),
    same("AND"),
    same(","),
    same("||"),
    same("->>"),
    same("NOT LIKE"),
    same("BETWEEN"),
    same("IS DISTINCT FROM"),
    same("@>"),
    same("?"),
    same("?|"),
    same("?&"),
    same("@?"),
    ("??", Some("?")),
    ("??|", Some("?|")),
];

const BLANKS: &[&str] =
    &[" ", "\n", "\t ", " /* ? ; ' */ ", " /* a /* ? */ \" */ ", " -- ? ' \n", "\r\n"];

fn piece(pieces: &'static [Piece]) -> impl Strategy<Value = Piece> {
    proptest::sample::select(pieces)
}

/// An operand and what follows it: blank, operator, blank.
type Link = (Piece, &'static str, Piece, &'static str);

fn links() -> impl Strategy<Value = Vec<Link>> {
    let blank = || proptest::sample::select(BLANKS);
    vec((piece(OPERANDS), blank(), piece(OPERATORS), blank()), 1..12)
}

/// The text, what PostgreSQL should get, and the number of binds.
fn expression(links: &[Link]) -> (String, String, usize) {
    let (mut text, mut expected, mut binds) = ("SELECT ".to_owned(), "SELECT ".to_owned(), 0);
    for (operand, before, operator, after) in links {
        for piece in [*operand, same(before), *operator, same(after)] {
            text.push_str(piece.0);
            binds += usize::from(piece.1.is_none());
            expected
                .push_str(&piece.1.map_or_else(|| Cow::Owned(format!("${binds}")), Cow::Borrowed));
        }
    }
    (text + "last", expected + "last", binds)
}

/// Texts that are mostly the characters a lexer has to tell apart.
fn any_text() -> impl Strategy<Value = String> {
    let sql = "(?s)(['\"$?;:@/*\\\\\\-(){}\\[\\]`.,\n\r\0 eExXuU&a1é]|SELECT |UPDATE |WHERE |BEGIN |END |CREATE TRIGGER |/\\*|\\*/|--|\\$\\$|WITH |DELETE FROM ){0,40}";
    prop_oneof![sql, any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 4_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_bind_is_numbered_and_nothing_else_changes(links in links()) {
        let (text, expected, binds) = expression(&links);
        prop_assert_eq!(render(&text, binds, Dialect::Postgres).unwrap(), expected);
        prop_assert!(render(&text, binds + 1, Dialect::Postgres).is_err());
    }

    #[test]
    fn statements_joined_by_semicolons_come_apart_again(all in vec(links(), 1..5)) {
        let statements: Vec<String> = all.iter().map(|links| expression(links).0).collect();
        let script = format!("-- a;\n{};\n", statements.join(" ; /* b; */\n"));
        prop_assert_eq!(split_script(&script, Dialect::Postgres).unwrap(), statements);
    }

    #[test]
    fn a_statement_that_is_accepted_can_be_rendered(links in links()) {
        let (text, _, binds) = expression(&links);
        let statement = sql(text, vec![zmsg_core::Value::Int(1); binds]).statement().unwrap();
        prop_assert!(render(&statement.text, binds, Dialect::Postgres).is_ok());
    }

    #[test]
    fn no_text_makes_it_panic(text in any_text(), binds in 0_usize..4) {
        for dialect in [Dialect::Postgres, Dialect::Sqlite] {
            let _ = render(&text, binds, dialect);
            let _ = split_script(&text, dialect);
        }
        let _ = identifiers(&text);
        let _ = sql(text.as_str(), ()).on_conflict("a").do_nothing().returning("b").statement();
        let _ = sql(text.as_str(), ()).statement();
        let _ = condition(&Condition::Sql { text, binds: vec![] });
    }

    #[test]
    fn a_text_without_question_marks_is_left_alone(text in any_text()) {
        let text = text.replace('?', "");
        for dialect in [Dialect::Postgres, Dialect::Sqlite] {
            if let Ok(rendered) = render(&text, 0, dialect) {
                prop_assert!(matches!(rendered, Cow::Borrowed(same) if same == text));
            }
        }
    }

    #[test]
    fn what_is_split_once_is_not_split_again(script in any_text()) {
        for dialect in [Dialect::Postgres, Dialect::Sqlite] {
            for statement in split_script(&script, dialect).unwrap_or_default() {
                let again = split_script(&statement, dialect);
                prop_assert_eq!(again.unwrap(), [statement]);
            }
        }
    }
}
