//! Flushing folded operations to PostgreSQL, beside one hand-written `UPDATE … FROM unnest`.
//!
//! It needs a server: `ZMSG_TEST_POSTGRES_URL`. Without one it says so and measures nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;
use zmsg_aggregate::{Aggregator, FlushPolicy, Unobserved};
use zmsg_benches::{Case, Figures, Unit};
use zmsg_core::{IntoTask, Statement, SystemClock, Value};
use zmsg_sqlbuilder::{OpBuilder, counter, map};
use zmsg_store::{Migrations, Migrator, PostgresOptions, PostgresStore, SqlStore};

const ROWS: i64 = 100_000;

/// A table of counters and documents, and an aggregator on its database.
struct Rig {
    runtime: Runtime,
    store: Arc<dyn SqlStore>,
    aggregator: Aggregator,
    _database: zmsg_testbed::Database,
}

impl Rig {
    fn open() -> Option<Self> {
        let server = zmsg_testbed::postgres()?;
        let runtime = Runtime::new().expect("a runtime");
        let (database, store, aggregator) = runtime.block_on(async {
            let database = server.database().await;
            let tracker = TaskTracker::new();
            let options = PostgresOptions::new(database.url());
            let store = PostgresStore::open(options, tracker.clone()).await.expect("a store");
            let store: Arc<dyn SqlStore> = Arc::new(store);
            let migrations = Migrations::zmsg(store.dialect());
            Migrator::new(Arc::clone(&store), migrations).up().await.expect("zmsg's tables");
            for text in [
                "CREATE TABLE counts (id bigint PRIMARY KEY, n bigint, m jsonb)",
                "INSERT INTO counts SELECT i, 0, '{\"a\": 1, \"b\": \"some text of a row\"}' \
                 FROM generate_series(1, 100000) AS i",
                "ANALYZE counts",
            ] {
                store.execute(&Statement::new(text, vec![])).await.expect("a table");
            }
            let aggregator = Aggregator::open(
                Arc::clone(&store),
                FlushPolicy::default(),
                Arc::new(SystemClock),
                Arc::new(Unobserved),
                tracker,
            );
            (database, store, aggregator.await.expect("an aggregator"))
        });
        Some(Self { runtime, store, aggregator, _database: database })
    }

    fn flush(&self, ids: &[i64], op: fn(i64) -> OpBuilder) -> Duration {
        for id in ids {
            let task = op(*id).where_eq("id", *id).into_task().expect("an operation");
            let _settlement = self.aggregator.submit(None, task).expect("room");
        }
        let began = Instant::now();
        self.runtime.block_on(self.aggregator.flush_all()).expect("a flush");
        began.elapsed()
    }

    fn by_hand(&self, ids: &[i64], text: &str, value: fn(i64) -> Value) -> Duration {
        let array =
            |of: fn(i64) -> Value| Value::from(ids.iter().map(|id| of(*id)).collect::<Vec<_>>());
        let statement = Statement::new(text, vec![array(Value::Int), array(value)]);
        let began = Instant::now();
        self.runtime.block_on(self.store.execute(&statement)).expect("an update");
        began.elapsed()
    }
}

/// So many different rows, in order.
fn some_rows(rng: &mut fastrand::Rng, count: usize) -> Vec<i64> {
    let mut ids = rng.choose_multiple(1..=ROWS, count);
    ids.sort_unstable();
    ids
}

fn main() {
    let Some(mut figures) = Figures::of("flush_postgres") else { return };
    let Some(rig) = Rig::open() else {
        return figures.left_out("flush_postgres", "ZMSG_TEST_POSTGRES_URL names no server");
    };
    for count in [1_000, 10_000] {
        let mut rows = fastrand::Rng::with_seed(1);
        let ids = std::iter::repeat_with(|| some_rows(&mut rows, count)).take(64).collect();
        flush(&rig, &mut figures, count, &Rows(ids, AtomicUsize::new(0)));
    }
}

/// Sets of rows that take turns, so that no way finds what another has just touched.
struct Rows(Vec<Vec<i64>>, AtomicUsize);

impl Rows {
    fn next(&self) -> &[i64] {
        &self.0[self.1.fetch_add(1, Relaxed) % self.0.len()]
    }
}

fn flush(rig: &Rig, figures: &mut Figures, count: usize, rows: &Rows) {
    let per_second = |took: Duration| count as f64 / took.as_secs_f64();
    figures.turns(
        &Case::new("counters").at("groups", count as u64),
        Unit::PerSecond,
        &mut [
            ("zmsg", &mut || per_second(rig.flush(rows.next(), |_| counter("counts", "n").inc(1)))),
            ("UPDATE by hand", &mut || {
                let text = "UPDATE counts AS t SET n = coalesce(t.n, 0) + g.v \
                    FROM unnest(?::bigint[], ?::bigint[]) AS g(k, v) WHERE t.id = g.k";
                per_second(rig.by_hand(rows.next(), text, |_| Value::Int(1)))
            }),
        ],
    );
    figures.turns(
        &Case::new("maps").at("groups", count as u64),
        Unit::PerSecond,
        &mut [
            ("zmsg", &mut || {
                per_second(rig.flush(rows.next(), |id| map("counts", "m").set("k", id)))
            }),
            ("UPDATE by hand", &mut || {
                let text = "UPDATE counts AS t SET m = t.m || g.v::jsonb \
                    FROM unnest(?::bigint[], ?::text[]) AS g(k, v) WHERE t.id = g.k";
                let value = |id| Value::Text(json!({ "k": id }).to_string());
                per_second(rig.by_hand(rows.next(), text, value))
            }),
        ],
    );
}
