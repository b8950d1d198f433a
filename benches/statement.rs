//! From a call to the text that the database gets.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use zmsg_core::Statement;
use zmsg_sqlbuilder::{Dialect, counter, render, sql};

fn statement(c: &mut Criterion) {
    let (id, data) = ("feed_123456789", "hello");
    let mut group = c.benchmark_group("statement");
    group.bench_function("build an upsert", |b| {
        b.iter(|| upsert(black_box(id), black_box(data)));
    });
    let built = upsert(id, data);
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        group.bench_function(format!("render an upsert for {dialect:?}"), |b| {
            b.iter(|| render(black_box(&built.text), built.binds.len(), dialect));
        });
    }
    group.bench_function("the text of an upsert, formatted by hand", |b| {
        b.iter(|| by_hand(black_box("feeds"), black_box("id"), black_box("data")));
    });
    group.bench_function("build a counter operation", |b| {
        b.iter(|| counter("feed_meta", "like_count").inc(1).where_eq("id", black_box(id)).op());
    });
    group.finish();
}

fn upsert(id: &str, data: &str) -> Statement {
    sql("INSERT INTO feeds (id, data) VALUES (?, ?)", (id, data))
        .on_conflict("id")
        .do_update(["data"])
        .statement()
        .expect("a valid statement")
}

/// The least that making such a text can cost.
fn by_hand(table: &str, id: &str, data: &str) -> String {
    format!(
        "INSERT INTO {table} ({id}, {data}) VALUES ($1, $2) \
         ON CONFLICT (\"{id}\") DO UPDATE SET \"{data}\" = excluded.\"{data}\""
    )
}

criterion_group! { name = benches; config = zmsg_benches::criterion(); targets = statement }
criterion_main!(benches);
