//! A hit in L2: what a read costs that asks Redis, beside the bare client, from one task and from
//! many. Needs `ZMSG_TEST_REDIS_URL`, and says so where it is not set.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use bb8_redis::{RedisConnectionManager, bb8};
use bytes::Bytes;
use tokio_util::task::TaskTracker;
use zmsg_benches::{Case, Figures, Unit, rate};
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

fn main() {
    let Some(mut figures) = Figures::of("l2_get") else { return };
    let Ok(url) = env::var("ZMSG_TEST_REDIS_URL") else {
        return figures.left_out("l2_get", "ZMSG_TEST_REDIS_URL names no server");
    };
    let runtime = zmsg_benches::runtime();
    let clients = runtime.block_on(connect(&url));
    for tasks in [1, 16, 256] {
        let rate = |way| {
            let clients = clients.clone();
            let read = move |_, _| {
                let mut clients = clients.clone();
                async move { get(&mut clients, way).await }
            };
            runtime.block_on(rate(tasks, read))
        };
        figures.turns(
            &Case::new("get").at("tasks", tasks),
            Unit::PerSecond,
            &mut [
                ("zmsg", &mut || rate(Way::Zmsg)),
                ("GET by a shared connection", &mut || rate(Way::Connection)),
                ("GET by bb8-redis", &mut || rate(Way::Pool)),
            ],
        );
    }
}

/// Ways to ask Redis.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// As L2 does: `GET` of an entry by one shared connection, with a deadline.
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
    options.connections = 1;
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
