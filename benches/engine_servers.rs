//! The engine on PostgreSQL and Redis, call by call, beside the bare clients: reads that L2 answers and
//! reads that only the store answers, a write to the caches and a write to the store. Where there is
//! Go, the reads that L2 answers are also beside a read path as services in Go have it: Ristretto, and
//! behind it Redis.
//!
//! Needs both servers, and says so where one is missing. L1 has room for few values here, so that reads
//! pass it; no filter knows the rows, so that it rules none out.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use tokio_postgres::NoTls;
use zmsg::{Config, Zmsg, sql};
use zmsg_benches::{Case, Figures, Go, Unit, Way, rate, runtime};
use zmsg_redis::redis::aio::MultiplexedConnection;
use zmsg_redis::redis::{Client, cmd};
use zmsg_testbed::Database;

const ROWS: u64 = 10_000;
const VALUE_BYTES: usize = 256;
const CONNECTIONS: usize = 10;
const TTL_MS: u64 = 600_000;
const LOCAL_BYTES_MAX: u64 = 64 << 10;

const SELECT: &str = "SELECT data FROM rows WHERE id = CAST(substr($1, 5) AS bigint) % 10000";
const UPDATE: &str = "UPDATE rows SET data = $1 WHERE id = $2";

/// Both sides; cloned for each call.
#[derive(Clone)]
struct Sides {
    zmsg: Zmsg,
    pool: Pool,
    redis: MultiplexedConnection,
    /// Rows that were asked for, so that each is asked for once.
    asked: Arc<AtomicU64>,
}

fn value() -> Bytes {
    Bytes::from(vec![b'x'; VALUE_BYTES])
}

/// A row in an order without locality.
fn some_row(task: u64, made: u64) -> u64 {
    (task * 7_919 + made).wrapping_mul(0x9E37_79B9_7F4A_7C15) % ROWS
}

async fn open(database: &Database, redis: &str, namespace: String) -> Sides {
    let mut config = Config::default();
    config.store.url = database.url().to_owned();
    config.store.connections_max = CONNECTIONS;
    config.redis.url = Some(redis.to_owned());
    config.redis.namespace = namespace;
    // As the bare client has.
    config.redis.connections = 1;
    config.cache.local_bytes_max.0 = LOCAL_BYTES_MAX;
    let zmsg = Zmsg::open(config).await.unwrap();
    for text in [
        "CREATE TABLE rows (id bigint PRIMARY KEY, data text NOT NULL) WITH (fillfactor = 50)",
        "INSERT INTO rows SELECT i, repeat('x', 256) FROM generate_series(0, 9999) AS i",
    ] {
        zmsg.sql_exec(sql(text, ())).await.unwrap();
    }
    let by_key = "SELECT data FROM rows WHERE id = CAST(substr(?, 5) AS bigint) % 10000";
    zmsg.source("row", by_key).unwrap();

    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(database.url().parse().unwrap(), NoTls, recycling);
    let pool = Pool::builder(manager).max_size(CONNECTIONS).build().unwrap();
    let client = Client::open(redis).unwrap();
    let redis = client.get_multiplexed_async_connection().await.unwrap();
    Sides { zmsg, pool, redis, asked: Arc::default() }
}

impl Sides {
    async fn fill(&self) {
        for row in 0..ROWS {
            let _ = self.zmsg.cache_only(format!("row_{row}"), value()).await.unwrap();
            self.set(row).await;
        }
    }

    async fn get(&self, key: &str) {
        assert!(self.zmsg.get(key).await.unwrap().is_some(), "{key}");
    }

    /// Another name of some row, which no cache has heard of.
    fn unheard(&self) -> String {
        format!("row_{}", ROWS + self.asked.fetch_add(1, Relaxed))
    }

    async fn select(&self, key: &str) {
        let client = self.pool.get().await.unwrap();
        let statement = client.prepare_cached(SELECT).await.unwrap();
        let rows = client.query(&statement, &[&key]).await.unwrap();
        assert!(!rows[0].get::<_, String>(0).is_empty());
    }

    /// The statement, and what a cache before it has to be asked and told.
    async fn look_up(&self, key: &str) {
        let mut redis = self.redis.clone();
        let found: Option<Bytes> = cmd("GET").arg(key).query_async(&mut redis).await.unwrap();
        assert!(found.is_none());
        self.select(key).await;
        let mut set = cmd("SET");
        set.arg(key).arg(&value()[..]).arg("PX").arg(TTL_MS);
        let () = set.query_async(&mut redis).await.unwrap();
    }

    async fn bare_get(&self, row: u64) {
        let mut redis = self.redis.clone();
        let mut get = cmd("GET");
        let found: Option<Bytes> =
            get.arg(format!("bare_{row}")).query_async(&mut redis).await.unwrap();
        assert!(found.is_some());
    }

    async fn set(&self, row: u64) {
        let mut redis = self.redis.clone();
        let mut set = cmd("SET");
        set.arg(format!("bare_{row}")).arg(&value()[..]).arg("PX").arg(TTL_MS);
        let () = set.query_async(&mut redis).await.unwrap();
    }

    async fn store(&self, row: u64) {
        let text = String::from_utf8(value().to_vec()).unwrap();
        let id = i64::try_from(row).unwrap();
        let update = sql("UPDATE rows SET data = ? WHERE id = ?", (text, id));
        let _ = self.zmsg.cache_and_store(format!("row_{row}"), value(), update).await.unwrap();
    }

    /// The statement, and what must be told to a cache before and after it.
    async fn bare_store(&self, row: u64) {
        self.bare_get(row).await;
        let client = self.pool.get().await.unwrap();
        let statement = client.prepare_cached(UPDATE).await.unwrap();
        let text = String::from_utf8(value().to_vec()).unwrap();
        let id = i64::try_from(row).unwrap();
        assert_eq!(client.execute(&statement, &[&text, &id]).await.unwrap(), 1);
        drop(client);
        self.set(row).await;
    }
}

/// A way to make a call: the row to use comes from the task and the calls it made.
macro_rules! way {
    ($runtime:expr, $sides:expr, $tasks:expr, |$it:ident, $row:ident| $call:expr) => {
        || {
            let sides = $sides.clone();
            let call = move |task, made| {
                let ($it, $row) = (sides.clone(), some_row(task, made));
                async move { $call.await }
            };
            $runtime.block_on(rate($tasks, call))
        }
    };
}

/// Reads per second by the read path in Go, of the values that the bare client reads.
fn reads_in_go(redis: &str, tasks: u64, go: &Go) -> f64 {
    let (tasks, rows, bytes_max) =
        (tasks.to_string(), ROWS.to_string(), LOCAL_BYTES_MAX.to_string());
    go.run([&tasks, &Go::round(), "remote", redis, "bare_", &rows, &bytes_max])
}

fn main() {
    let Some(mut figures) = Figures::of("engine_servers") else { return };
    let (Some(postgres), Some(redis)) = (zmsg_testbed::postgres(), zmsg_testbed::redis()) else {
        return figures.left_out("engine_servers", "PostgreSQL and Redis are not both there");
    };
    let go = Go::build("readpath", env!("CARGO_TARGET_TMPDIR"));
    if let Err(why) = &go {
        figures.left_out("Go's read path", why);
    }
    let runtime = runtime();
    let database = runtime.block_on(postgres.database());
    let sides = runtime.block_on(open(&database, redis.url(), redis.namespace()));
    runtime.block_on(sides.fill());
    let unit = Unit::PerSecond;
    for tasks in [1, 16, 256] {
        let at = |name: &str| Case::new(name).at("tasks", tasks);
        let mut own = way!(runtime, sides, tasks, |it, row| it.get(&format!("row_{row}")));
        let mut bare = way!(runtime, sides, tasks, |it, row| it.bare_get(row));
        let mut path = || go.as_ref().map_or(0.0, |go| reads_in_go(redis.url(), tasks, go));
        let mut ways: Vec<Way<'_>> =
            vec![("zmsg", &mut own), ("GET by a shared connection", &mut bare)];
        if go.is_ok() {
            ways.push(("Go's read path", &mut path));
        }
        figures.turns(&at("get in L2"), unit, &mut ways);

        let mut own = way!(runtime, sides, tasks, |it, _row| it.get(&it.unheard()));
        let mut bare = way!(runtime, sides, tasks, |it, _row| it.select(&it.unheard()));
        let mut look_up = way!(runtime, sides, tasks, |it, _row| it.look_up(&it.unheard()));
        let ways = &mut [
            ("zmsg", &mut own as _),
            ("deadpool-postgres", &mut bare as _),
            ("GET, SELECT and SET by bare clients", &mut look_up as _),
        ];
        figures.turns(&at("get in the store"), unit, ways);

        let mut own = way!(runtime, sides, tasks, |it, row| async move {
            let _ = it.zmsg.cache_only(format!("row_{row}"), value()).await.unwrap();
        });
        let mut bare = way!(runtime, sides, tasks, |it, row| it.set(row));
        let ways = &mut [("zmsg", &mut own as _), ("SET by a shared connection", &mut bare as _)];
        figures.turns(&at("cache_only"), unit, ways);

        let mut own = way!(runtime, sides, tasks, |it, row| it.store(row));
        let mut bare = way!(runtime, sides, tasks, |it, row| it.bare_store(row));
        let ways = &mut [("zmsg", &mut own as _), ("UPDATE and two commands", &mut bare as _)];
        figures.turns(&at("cache_and_store"), unit, ways);
    }
    runtime.block_on(async {
        let _ = sides.zmsg.close(Duration::from_secs(10)).await.unwrap();
        sides.pool.close();
    });
}
