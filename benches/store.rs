//! The store on PostgreSQL beside a bare deadpool-postgres: a SELECT and an UPDATE by key, at 1, 16
//! and 64 tasks, 10 connections each.
//!
//! Runs where `ZMSG_TEST_POSTGRES_URL` names a server. What the store adds is spent on finding the statement, on reading its
//! rows into values, and on having writes finished when their caller has left.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::sync::Arc;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use tokio::runtime::Runtime;
use tokio_postgres::{Config, NoTls};
use tokio_util::task::TaskTracker;
use zmsg_benches::{Case, Figures, Unit, rate};
use zmsg_core::{Statement, Value};
use zmsg_store::{PostgresOptions, PostgresStore, SqlStore};

const CONNECTIONS: usize = 10;
const KEYS: i64 = 10_000;
const SELECT: &str = "SELECT data FROM zmsg_bench WHERE id = ?";
const UPDATE: &str = "UPDATE zmsg_bench SET n = n + ? WHERE id = ?";

#[derive(Clone)]
enum Side {
    Bare(Pool),
    Store(Arc<PostgresStore>),
}

impl Side {
    async fn select(&self, key: i64) {
        match self {
            Self::Bare(pool) => {
                let client = pool.get().await.unwrap();
                let text = "SELECT data FROM zmsg_bench WHERE id = $1";
                let statement = client.prepare_cached(text).await.unwrap();
                let rows = client.query(&statement, &[&key]).await.unwrap();
                assert!(!rows[0].get::<_, String>(0).is_empty());
            }
            Self::Store(store) => {
                let query = Statement::query(SELECT, vec![key.into()]);
                let rows = store.fetch(&query).await.unwrap();
                assert!(!rows[0].text(0).unwrap().is_empty());
            }
        }
    }

    async fn update(&self, key: i64) {
        let changed = match self {
            Self::Bare(pool) => {
                let client = pool.get().await.unwrap();
                let text = "UPDATE zmsg_bench SET n = n + $1 WHERE id = $2";
                let statement = client.prepare_cached(text).await.unwrap();
                client.execute(&statement, &[&1_i64, &key]).await.unwrap()
            }
            Self::Store(store) => {
                let change = Statement::new(UPDATE, vec![Value::Int(1), key.into()]);
                store.execute(&change).await.unwrap().changed
            }
        };
        assert_eq!(changed, 1);
    }

    /// Calls per second.
    async fn rate(&self, updates: bool, tasks: u64) -> f64 {
        let side = self.clone();
        let call = move |task, made| {
            let (side, mut random) = (side.clone(), fastrand::Rng::with_seed(task << 32 | made));
            let key = random.i64(0..KEYS);
            async move { if updates { side.update(key).await } else { side.select(key).await } }
        };
        rate(tasks, call).await
    }
}

fn bare(url: &str) -> Pool {
    let config: Config = url.parse().unwrap();
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(config, NoTls, recycling);
    Pool::builder(manager).max_size(CONNECTIONS).build().unwrap()
}

async fn store(url: &str) -> PostgresStore {
    let options = PostgresOptions { connections_max: CONNECTIONS, ..PostgresOptions::new(url) };
    let store = PostgresStore::open(options, TaskTracker::new()).await.unwrap();
    for text in [
        "DROP TABLE IF EXISTS zmsg_bench",
        "CREATE TABLE zmsg_bench (id bigint PRIMARY KEY, data text NOT NULL, n bigint NOT NULL) \
         WITH (fillfactor = 50)",
        "INSERT INTO zmsg_bench SELECT i, repeat('x', 256), 0 FROM generate_series(0, 9999) AS i",
        "ANALYZE zmsg_bench",
    ] {
        store.execute(&Statement::new(text, vec![])).await.unwrap();
    }
    store
}

fn compare(runtime: &Runtime, url: &str, figures: &mut Figures) {
    let store = Arc::new(runtime.block_on(store(url)));
    let [own, bare] = [Side::Store(Arc::clone(&store)), Side::Bare(bare(url))];
    for (name, updates) in [("SELECT by key", false), ("UPDATE by key", true)] {
        for tasks in [1, 16, 64] {
            figures.turns(
                &Case::new(name).at("tasks", tasks),
                Unit::PerSecond,
                &mut [
                    ("zmsg", &mut || runtime.block_on(own.rate(updates, tasks))),
                    ("deadpool-postgres", &mut || runtime.block_on(bare.rate(updates, tasks))),
                ],
            );
        }
    }
    runtime.block_on(async {
        store.execute(&Statement::new("DROP TABLE zmsg_bench", vec![])).await.unwrap();
        store.close().await.unwrap();
    });
}

fn main() {
    let Some(mut figures) = Figures::of("store") else { return };
    let Ok(url) = std::env::var("ZMSG_TEST_POSTGRES_URL") else {
        return figures.left_out("store", "ZMSG_TEST_POSTGRES_URL names no server");
    };
    compare(&zmsg_benches::runtime(), &url, &mut figures);
}
