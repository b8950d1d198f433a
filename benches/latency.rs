//! Latencies of the engine's calls on PostgreSQL and Redis in an open loop, at a rate that leaves the machine
//! time: each counts from the moment at which its call was to begin. First all routes at once, as an
//! application makes them; then reads alone, beside the bare client that reads from Redis.
//!
//! Needs both servers, and says so where one is missing.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use zmsg_benches::load::{Call, Engine, Failure, Kind, Measured, OfKind, Places, Workload, run};
use zmsg_benches::{Case, Figures, Unit, is_quick, runtime};
use zmsg_redis::redis::aio::MultiplexedConnection;
use zmsg_redis::redis::{Client, cmd};

const ROWS: usize = 10_000;
/// In a round with fewer calls nobody can tell the slowest of a thousand; with a thousand it is about the
/// slowest of all.
const CALLS_FOR_THOUSANDTHS: u64 = 500;

const ROUTES: &str = "get = 60\ncache_only = 10\ncache_and_store = 10\ncache_and_delay_store = 10\n\
                      cache_and_periodic_store = 10\n";

/// A round of this mix.
fn workload(mix: &str) -> Workload {
    let text = format!(
        "backend = 'servers'\nduration_s = 5\nwarm_up_s = 0.2\n\
         [open]\nrate = 2000\n[keys]\nrows = {ROWS}\nzipf = 0.99\n[mix]\n{mix}"
    );
    let mut workload = Workload::parse(&text).unwrap();
    if is_quick() {
        workload.warm_up = Duration::from_millis(20);
        workload.duration = Duration::from_millis(200);
    }
    workload
}

/// The bare client, with values of its own.
#[derive(Clone)]
struct Bare(MultiplexedConnection);

impl Bare {
    async fn open(redis: &str, namespace: &str) -> Self {
        let client = Client::open(redis).unwrap();
        let mut redis = client.get_multiplexed_async_connection().await.unwrap();
        for row in 0..ROWS {
            let mut set = cmd("SET");
            set.arg(format!("{namespace}:{row}")).arg(&[b'x'; 256]).arg("PX").arg(600_000);
            let () = set.query_async(&mut redis).await.unwrap();
        }
        Self(redis)
    }

    async fn get(mut self, key: String) -> Result<u64, Failure> {
        let found: Option<Bytes> =
            cmd("GET").arg(key).query_async(&mut self.0).await.map_err(|_| Failure::of("redis"))?;
        found.map(|value| value.len() as u64).ok_or_else(|| Failure::of("not found"))
    }
}

/// The samples of all rounds.
#[derive(Default)]
struct Samples {
    latencies: BTreeMap<(Kind, &'static str), Vec<f64>>,
    /// How late calls began, at most one of a hundred later, in nanoseconds.
    behind: Vec<u64>,
    /// Rounds in which calls failed, as they do where the machine does something else: they do not count.
    failed: Vec<String>,
}

impl Samples {
    fn add(&mut self, measured: &Measured) {
        let failures = measured.failures();
        if !failures.is_empty() {
            return self.failed.push(failures.join(", "));
        }
        self.behind.push(measured.behind.value_at_quantile(0.99));
        for (kind, OfKind { latency, .. }) in &measured.kinds {
            for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
                if name == "p99.9" && latency.len() < CALLS_FOR_THOUSANDTHS {
                    continue;
                }
                let value = latency.value_at_quantile(quantile) as f64;
                self.latencies.entry((*kind, name)).or_default().push(value);
            }
        }
    }

    fn record(self, figures: &mut Figures, what: &str, who: &str) {
        for failures in &self.failed {
            println!("{who} {what}: a round with failures does not count: {failures}");
        }
        if self.latencies.is_empty() {
            let why = self.failed.join("; ");
            return figures.left_out(&format!("{who} {what}"), &format!("calls failed: {why}"));
        }
        let behind =
            self.behind.iter().max().map_or(Duration::ZERO, |it| Duration::from_nanos(*it));
        println!("{who} {what}: one call of a hundred began {behind:.1?} late or more");
        for ((kind, quantile), samples) in self.latencies {
            let case = Case::new(format!("{kind} {what}, {quantile}"));
            figures.record(&case, who, Unit::Nanoseconds, samples);
        }
    }
}

async fn all_routes(figures: &mut Figures, engine: &Engine) {
    let (workload, mut samples) = (workload(ROUTES), Samples::default());
    for round in 0..=figures.rounds() {
        let engine = engine.clone();
        let measured = run(&workload, move |call| engine.clone().call(call)).await;
        if round > 0 {
            samples.add(&measured);
        }
    }
    samples.record(figures, "beside all routes at 2,000/s", "zmsg");
}

async fn reads(figures: &mut Figures, engine: &Engine, bare: &Bare, namespace: &str) {
    let workload = workload("get = 1\n");
    let (mut own, mut peer) = (Samples::default(), Samples::default());
    for round in 0..=figures.rounds() {
        let (engine, bare, namespace) = (engine.clone(), bare.clone(), namespace.to_owned());
        let ours = run(&workload, move |call| engine.clone().call(call)).await;
        let get = move |call: Call| bare.clone().get(format!("{namespace}:{}", call.row));
        let theirs = run(&workload, get).await;
        if round > 0 {
            own.add(&ours);
            peer.add(&theirs);
        }
    }
    own.record(figures, "alone at 2,000/s", "zmsg");
    peer.record(figures, "alone at 2,000/s", "GET by a shared connection");
}

fn main() {
    let Some(mut figures) = Figures::of("latency") else { return };
    let (Some(postgres), Some(redis)) = (zmsg_testbed::postgres(), zmsg_testbed::redis()) else {
        return figures.left_out("latency", "PostgreSQL and Redis are not both there");
    };
    let runtime = runtime();
    let database = runtime.block_on(postgres.database());
    let places = Places { postgres: database.url().to_owned(), redis: redis.url().to_owned() };
    runtime.block_on(async {
        let engine = Engine::open(&workload(ROUTES), Some(&places)).await.unwrap();
        let namespace = redis.namespace();
        let bare = Bare::open(redis.url(), &namespace).await;
        all_routes(&mut figures, &engine).await;
        reads(&mut figures, &engine, &bare, &namespace).await;
        let _ = engine.zmsg().close(Duration::from_secs(60)).await.unwrap();
    });
}
