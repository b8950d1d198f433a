//! A hit in L2: what a read costs that asks Redis, beside the bare client, from one task and from
//! many. Needs `ZMSG_TEST_REDIS_URL`, and says so where it is not set.

use std::cell::Cell;
use std::env;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bb8_redis::{RedisConnectionManager, bb8};
use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use zmsg_cache::{RedisCache, RemoteCache};
use zmsg_core::Key;
use zmsg_redis::redis::{Client, aio::MultiplexedConnection, cmd};
use zmsg_redis::{Redis, RedisOptions};

const VALUE_BYTES: usize = 256;
const TTL: Duration = Duration::from_secs(600);

/// What users give a pool.
const POOL: u32 = 10;

/// What is compared: cloned for each task.
#[derive(Clone)]
struct Clients {
    zmsg: Arc<RedisCache>,
    shared: MultiplexedConnection,
    pool: bb8::Pool<RedisConnectionManager>,
    key: Key,
}

fn l2_get(c: &mut Criterion) {
    let Ok(url) = env::var("ZMSG_TEST_REDIS_URL") else {
        eprintln!("l2_get is left out: ZMSG_TEST_REDIS_URL is not set");
        return;
    };
    let runtime = Runtime::new().expect("a runtime");
    let clients = runtime.block_on(connect(&url));
    for tasks in [1, 16, 256] {
        let mut group = c.benchmark_group(format!("l2_get/{tasks} tasks"));
        group.throughput(Throughput::Elements(1));
        let [zmsg, shared, pool] = [Way::Zmsg, Way::Connection, Way::Pool]
            .map(|way| reads(&mut group, &runtime, tasks, &clients, way));
        group.finish();
        println!(
            "l2_get/{tasks} tasks: zmsg has {:.2} of the throughput of a bare connection, {:.2} of \
             a bb8-redis pool's\n",
            zmsg / shared,
            zmsg / pool
        );
    }
}

/// Ways to ask Redis.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// As L2 does: value and rest of its TTL, by two shared connections, with a deadline.
    Zmsg,
    /// `GET` by one shared connection.
    Connection,
    /// `GET` by a connection of a pool.
    Pool,
}

async fn connect(url: &str) -> Clients {
    let mut options = RedisOptions::from_url(url).expect("a URL of Redis");
    options.namespace = format!("zmsg-bench-{}", std::process::id());
    options.deadline = Duration::from_secs(5);
    let redis = Redis::open(options, &TaskTracker::new()).expect("good options");
    let zmsg = RedisCache::new(redis);
    let client = Client::open(url).expect("a URL of Redis");
    let shared = client.get_multiplexed_async_connection().await.expect("a connection");
    let manager = RedisConnectionManager::new(url).expect("a URL of Redis");
    let pool = bb8::Pool::builder().max_size(POOL).build(manager).await.expect("a pool");
    let key = zmsg_benches::key(1);
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    zmsg.set(&key, &value, TTL).await.expect("Redis takes it");
    Clients { zmsg: zmsg.into(), shared, pool, key }
}

async fn get(clients: &mut Clients, way: Way) {
    let name = || {
        let mut get = cmd("GET");
        get.arg(clients.zmsg.redis().key("c", clients.key.as_str()));
        get
    };
    let found = match way {
        Way::Zmsg => {
            let found = clients.zmsg.get(&clients.key).await.expect("Redis answers");
            found.entry.and_then(|entry| entry.value)
        }
        Way::Connection => name().query_async(&mut clients.shared).await.expect("Redis answers"),
        Way::Pool => {
            let mut connection = clients.pool.get().await.expect("a connection");
            name().query_async(&mut *connection).await.expect("Redis answers")
        }
    };
    assert!(found.is_some_and(|value: Bytes| value.len() >= VALUE_BYTES), "{way:?}");
}

/// Reads from so many tasks at once. Gives the reads per second over the whole run.
fn reads(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    tasks: u64,
    clients: &Clients,
    way: Way,
) -> f64 {
    let (total, took) = (Cell::new(0), Cell::new(Duration::ZERO));
    group.bench_function(format!("{way:?}"), |b| {
        b.iter_custom(|reads| {
            let began = Instant::now();
            runtime.block_on(share(reads, tasks, clients, way));
            total.set(total.get() + reads);
            took.set(took.get() + began.elapsed());
            began.elapsed()
        });
    });
    total.get() as f64 / took.get().as_secs_f64()
}

async fn share(reads: u64, tasks: u64, clients: &Clients, way: Way) {
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let mut clients = clients.clone();
        let own = reads / tasks + u64::from(task < reads % tasks);
        running.spawn(async move {
            for _ in 0..own {
                get(&mut clients, way).await;
            }
        });
    }
    running.join_all().await;
}

criterion_group! {
    name = benches;
    config = zmsg_benches::criterion();
    targets = l2_get
}
criterion_main!(benches);
