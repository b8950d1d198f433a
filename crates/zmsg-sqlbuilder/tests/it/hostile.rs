//! Hostile identifiers in every position come out quoted or are refused.

use zmsg_core::{Error, Ident, Result};
use zmsg_sqlbuilder::{
    Dialect, OpBuilder, condition, counter, identifiers, map, render, slice, split_script, sql,
    table,
};

const REFUSED: &[&str] = &[
    "",
    "a\0b",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "éééééééééééééééééééééééééééééééé",
];

const QUOTED: &[&str] = &[
    "\"",
    "a\"b",
    "\"\"",
    "\"; DROP TABLE t; --",
    "'; DROP TABLE t; --",
    "a'b",
    "--",
    "/*",
    "/* c */",
    "$$",
    "$t$",
    "?",
    "??",
    "a ? b",
    "$1",
    ":name",
    "\\",
    "a\\\"b",
    "`",
    "[a]",
    "]",
    "列",
    "é\u{301}",
    "\u{202e}a",
    "🦀",
    "\n",
    " ",
    ";",
    "E'a",
    "select",
    "UPPER Case",
    "*",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

/// A place where a name goes, and the whole text it ends up in, with the number of its binds.
type Position = (&'static str, fn(&str) -> Result<(String, usize)>);

const POSITIONS: &[Position] = &[
    ("on_conflict", |name| text(insert().on_conflict(name).do_nothing())),
    ("on_conflict list", |name| text(insert().on_conflict(["id", name]).do_nothing())),
    ("do_update", |name| text(insert().on_conflict("id").do_update(name))),
    ("do_update list", |name| text(insert().on_conflict("id").do_update(["a", name]))),
    ("returning", |name| text(insert().returning(["id", name]))),
    ("where_eq", |name| update(counter("t", "c").inc(1).where_eq(name, 1))),
    ("second where_eq", |name| {
        update(counter("t", "c").inc(1).where_eq("id", 1).where_eq(name, 1))
    }),
    ("counter", |name| update(counter("t", name).inc(1).where_eq("id", 1))),
    ("slice", |name| update(slice("t", name).add(1).where_eq("id", 1))),
    ("map", |name| update(map("t", name).del("k").where_eq("id", 1))),
    ("column", |name| update(table("t").column(name).map().clean().where_eq("id", 1))),
    ("counter's table", |name| update(counter(name, "c").inc(1).where_eq("id", 1))),
    ("slice's table", |name| update(slice(name, "c").clean().where_eq("id", 1))),
    ("map's schema", |name| update(map(format!("{name}.t"), "c").clean().where_eq("id", 1))),
    ("table", |name| update(table(name).column("c").slice().clean().where_eq("id", 1))),
];

fn insert() -> zmsg_sqlbuilder::Sql {
    sql("INSERT INTO t (id) VALUES (?)", (1,))
}

fn text(sql: zmsg_sqlbuilder::Sql) -> Result<(String, usize)> {
    sql.statement().map(|statement| (statement.text, statement.binds.len()))
}

/// The operation as a statement: the names go through `Ident` and `condition` as they do when it
/// is flushed.
fn update(builder: OpBuilder) -> Result<(String, usize)> {
    let op = builder.op()?;
    let mut text = "UPDATE ".to_owned();
    op.table.write_quoted(&mut text);
    text.push_str(" SET ");
    op.column.write_quoted(&mut text);
    let (condition, binds) = condition(&op.condition)?;
    text.push_str(" = 1 WHERE ");
    text.push_str(&condition);
    Ok((text, binds.len()))
}

/// Both dialects read the text as they read it with a harmless name in the same place.
fn assert_harmless(text: &str, binds: usize, name: &str) {
    for dialect in [Dialect::Postgres, Dialect::Sqlite] {
        let rendered = render(text, binds, dialect).unwrap();
        assert_eq!(split_script(&rendered, dialect).unwrap(), [&*rendered], "{name:?}");
        let mut quoted = String::new();
        Ident::new(name).unwrap().write_quoted(&mut quoted);
        assert!(rendered.contains(&quoted), "{name:?}: {rendered}");
    }
    assert!(identifiers(text).unwrap().iter().any(|known| known == name), "{name:?}: {text}");
}

#[test]
fn names_come_out_quoted_in_every_position() {
    for (position, build) in POSITIONS {
        let (plain, _) = build("plain_name").unwrap();
        let shape = identifiers(&plain).unwrap().len();
        for name in QUOTED.iter().filter(|name| !name.contains('.')) {
            let (text, binds) =
                build(name).unwrap_or_else(|error| panic!("{position} {name:?}: {error}"));
            assert_harmless(&text, binds, name);
            assert_eq!(identifiers(&text).unwrap().len(), shape, "{position} {name:?}: {text}");
        }
    }
}

#[test]
fn names_that_no_database_can_hold_are_refused_in_every_position() {
    for (position, build) in POSITIONS {
        for name in REFUSED {
            let error: Error = build(name).expect_err(position);
            assert!(error.to_string().contains("an identifier"), "{position}: {error}");
            assert!(!error.to_string().contains('\0'), "{position}: {error}");
        }
    }
}
