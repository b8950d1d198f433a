//! Flushing folded operations to PostgreSQL, beside one hand-written `UPDATE … FROM unnest`.
//!
//! It needs a server: `ZMSG_TEST_POSTGRES_URL`. Without one it says so and measures nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;
use zmsg_aggregate::{Aggregator, FlushPolicy, Unobserved};
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

fn flush(c: &mut Criterion) {
    let Some(rig) = Rig::open() else { return };
    let mut group = c.benchmark_group("flush_postgres");
    let mut rng = fastrand::Rng::with_seed(1);
    for count in [1_000_usize, 10_000] {
        group.throughput(Throughput::Elements(count as u64));
        let mut bench = |name: &str, run: &dyn Fn(&[i64]) -> Duration| {
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter_custom(|times| (0..times).map(|_| run(&some_rows(&mut rng, count))).sum());
            });
        };
        bench("counters by zmsg", &|ids| rig.flush(ids, |_| counter("counts", "n").inc(1)));
        bench("counters by hand", &|ids| {
            let text = "UPDATE counts AS t SET n = coalesce(t.n, 0) + g.v \
                        FROM unnest(?::bigint[], ?::bigint[]) AS g(k, v) WHERE t.id = g.k";
            rig.by_hand(ids, text, |_| Value::Int(1))
        });
        bench("maps by zmsg", &|ids| rig.flush(ids, |id| map("counts", "m").set("k", id)));
        bench("maps by hand", &|ids| {
            let text = "UPDATE counts AS t SET m = t.m || g.v::jsonb \
                        FROM unnest(?::bigint[], ?::text[]) AS g(k, v) WHERE t.id = g.k";
            rig.by_hand(ids, text, |id| Value::Text(json!({ "k": id }).to_string()))
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = zmsg_benches::criterion(); targets = flush }
criterion_main!(benches);
