//! From a call to the text that PostgreSQL gets and the values that go with it, beside `sea-query`,
//! which builds the same statements.
//!
//! `zmsg` is a statement whose text the store has not seen: built, checked and rendered. With `text
//! known` the store has it prepared, found by its portable text, so that nothing is rendered. `bound
//! again` only puts new values to a statement that was kept. The JSON of an operation is text by then,
//! which `sea-query` leaves to the driver.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;

use sea_query::{Expr, ExprTrait as _, OnConflict, PostgresQueryBuilder, Query, Values};
use serde_json::json;
use zmsg_aggregate::steps_for;
use zmsg_benches::{Case, Figures, Unit, Way, nanoseconds};
use zmsg_core::{OnMissing, Statement, Value};
use zmsg_sqlbuilder::{Dialect, OpBuilder, counter, map, render, slice, sql};

const ID: &str = "feed_123456789";
const DATA: &str = "hello";

/// A statement, as zmsg makes it and as its peer does.
struct Shape {
    name: &'static str,
    zmsg: fn() -> Statement,
    sea_query: fn() -> (String, Values),
}

/// A slice and a map have no form of their own in `sea-query`: there the application writes it.
const SHAPES: [Shape; 5] = [
    Shape {
        name: "insert",
        zmsg: || {
            let values = (black_box(ID), black_box(DATA));
            sql("INSERT INTO feeds (id, data) VALUES (?, ?)", values).statement().unwrap()
        },
        sea_query: || {
            let values = [black_box(ID).into(), black_box(DATA).into()];
            let mut insert = Query::insert();
            insert.into_table("feeds").columns(["id", "data"]).values_panic(values);
            insert.build(PostgresQueryBuilder)
        },
    },
    Shape {
        name: "upsert",
        zmsg: || {
            let values = (black_box(ID), black_box(DATA));
            let insert = sql("INSERT INTO feeds (id, data) VALUES (?, ?)", values);
            insert.on_conflict("id").do_update("data").statement().unwrap()
        },
        sea_query: || {
            let values = [black_box(ID).into(), black_box(DATA).into()];
            let mut insert = Query::insert();
            insert.into_table("feeds").columns(["id", "data"]).values_panic(values);
            insert.on_conflict(OnConflict::column("id").update_column("data").to_owned());
            insert.build(PostgresQueryBuilder)
        },
    },
    Shape {
        name: "counter",
        zmsg: || operation(counter("feed_meta", "like_count").inc(black_box(1))),
        sea_query: || update("like_count", Expr::col("like_count").add(black_box(1_i64))),
    },
    Shape {
        name: "slice",
        zmsg: || operation(slice("feed_meta", "members").add(black_box("ann"))),
        sea_query: || {
            let text = r#"COALESCE("members", '[]'::jsonb) || $1"#;
            update("members", Expr::cust_with_values(text, [json!([black_box("ann")])]))
        },
    },
    Shape {
        name: "map",
        zmsg: || operation(map("feed_meta", "last").set(black_box("ann"), black_box(42))),
        sea_query: || {
            let text = r#"COALESCE("last", '{}'::jsonb) || $1"#;
            let pair = json!({ black_box("ann"): black_box(42) });
            update("last", Expr::cust_with_values(text, [pair]))
        },
    },
];

/// The statement of an operation that changes one row if it is there.
fn operation(op: OpBuilder) -> Statement {
    let op = op.where_eq("id", black_box(ID)).op().unwrap();
    let mut steps = steps_for(&op, OnMissing::Ignore, Dialect::Postgres).unwrap();
    steps.remove(0).statement
}

fn update(column: &'static str, value: Expr) -> (String, Values) {
    let mut update = Query::update();
    update.table("feed_meta").value(column, value).and_where(Expr::col("id").eq(black_box(ID)));
    update.build(PostgresQueryBuilder)
}

/// As the server gets it.
fn rendered(statement: Statement) -> (String, Vec<Value>) {
    let text = render(&statement.text, statement.binds.len(), Dialect::Postgres).unwrap();
    (text.into_owned(), statement.binds)
}

/// The least that making the text of an upsert can cost.
fn by_hand(table: &str, id: &str, data: &str) -> String {
    format!(
        "INSERT INTO {table} ({id}, {data}) VALUES ($1, $2) \
         ON CONFLICT (\"{id}\") DO UPDATE SET \"{data}\" = excluded.\"{data}\""
    )
}

fn main() {
    let Some(mut figures) = Figures::of("statement") else { return };
    for Shape { name, zmsg, sea_query } in SHAPES {
        let kept = zmsg();
        let bind_again = || Statement::new(kept.text.clone(), black_box(&kept).binds.clone());
        let mut own = || nanoseconds(1, |_| || rendered(zmsg()));
        let mut known = || nanoseconds(1, |_| zmsg);
        let mut again = || nanoseconds(1, |_| bind_again);
        let mut peer = || nanoseconds(1, |_| sea_query);
        let formatted = || by_hand(black_box("feeds"), black_box("id"), black_box("data"));
        let mut least = || nanoseconds(1, |_| formatted);
        let mut ways: Vec<Way<'_>> = vec![
            ("zmsg", &mut own),
            ("zmsg, text known", &mut known),
            ("zmsg, bound again", &mut again),
            ("sea-query", &mut peer),
        ];
        if name == "upsert" {
            ways.push(("format!, without values", &mut least));
        }
        figures.turns(&Case::new(name), Unit::Nanoseconds, &mut ways);
    }
}
