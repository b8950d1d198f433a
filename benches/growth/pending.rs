//! A periodic write, by how many groups wait to be flushed: by the engine, and by its aggregator alone,
//! which can be told to hold more.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;
use zmsg::{Config, JournalMode, Zmsg, counter, sql};
use zmsg_aggregate::{Aggregator, FlushPolicy, Unobserved};
use zmsg_benches::{Case, Figures, Unit, is_quick, ready};
use zmsg_core::{IntoTask as _, Key, OnMissing, SystemClock};
use zmsg_sqlbuilder::OpBuilder;
use zmsg_store::{Migrations, Migrator};

const GROUPS: [u64; 4] = [1, 100, 10_000, 1_000_000];
/// What the engine holds for sure: each of its 16 shards is flushed at once when it holds 5,000.
const GROUPS_OF_ENGINE: u64 = 40_000;
/// Longer than this measures.
const NEVER: Duration = Duration::from_secs(86_400);
const BYTES_MAX: u64 = 16 << 30;

pub(crate) fn measure(figures: &mut Figures) {
    let runtime = zmsg_benches::runtime();
    for &groups in crate::points(&GROUPS) {
        let at = |name: &str| Case::new(name).at("pending groups", groups);
        let dir = tempfile::tempdir().unwrap();
        if groups <= GROUPS_OF_ENGINE {
            let zmsg = runtime.block_on(engine(dir.path()));
            let write = |row| {
                let (id, operation) = increment(row);
                let write = zmsg.cache_and_periodic_store(&id, None, operation);
                let _ = ready(write.into_future()).unwrap();
            };
            let case = at("cache_and_periodic_store, no value");
            writes(figures, &case, groups, &write);
            let _ = runtime.block_on(zmsg.close(Duration::from_secs(30))).unwrap();
        } else {
            let what = format!("cache_and_periodic_store with {groups} pending groups");
            let why = "a shard with 5,000 of them is flushed at once, and no setting changes that";
            figures.left_out(&what, why);
        }
        let aggregator = runtime.block_on(aggregator(dir.path()));
        let write = |row| {
            let (id, operation) = increment(row);
            let key = Key::new(&id).unwrap();
            let _ = aggregator.submit(Some(&key), operation.into_task().unwrap()).unwrap();
        };
        writes(figures, &at("submit to the aggregator alone"), groups, &write);
    }
}

/// Fills the buffer, then measures writes to groups that are in it, in an order without locality.
fn writes(figures: &mut Figures, case: &Case, groups: u64, write: &dyn Fn(u64)) {
    let writes = if is_quick() { 1_000 } else { 200_000 };
    (0..groups).for_each(write);
    let mut random = fastrand::Rng::with_seed(7);
    let mut round = || {
        let began = Instant::now();
        (0..writes).for_each(|_| write(random.u64(..groups)));
        began.elapsed().as_nanos() as f64 / f64::from(writes)
    };
    figures.turns(case, Unit::Nanoseconds, &mut [("zmsg", &mut round)]);
}

fn increment(row: u64) -> (String, OpBuilder) {
    let id = format!("row_{row:07}");
    let operation = counter("rows", "n").inc(1).where_eq("id", &id);
    (id, operation)
}

async fn engine(dir: &Path) -> Zmsg {
    let mut config = Config::embedded(dir);
    config.periodic.journal = JournalMode::Off;
    config.periodic.interval = NEVER;
    config.periodic.age_max = NEVER;
    config.periodic.ops_max = u64::MAX;
    config.periodic.bytes_max.0 = BYTES_MAX;
    config.periodic.on_missing = OnMissing::Ignore;
    let zmsg = Zmsg::open(config).await.unwrap();
    zmsg.sql_exec(sql("CREATE TABLE rows (id TEXT PRIMARY KEY, n INTEGER)", ())).await.unwrap();
    zmsg
}

/// One that nothing flushes: what would is not run.
async fn aggregator(dir: &Path) -> Aggregator {
    let (config, tracker) = (Config::embedded(dir.join("alone")), TaskTracker::new());
    std::fs::create_dir_all(&config.directory).unwrap();
    let store = zmsg::open_store(&config, &tracker).await.unwrap();
    let migrations = Migrations::zmsg(store.dialect());
    Migrator::new(Arc::clone(&store), migrations).up().await.unwrap();
    let policy = FlushPolicy {
        interval: NEVER,
        age_max: NEVER,
        ops_max: u64::MAX,
        slots_max: u64::MAX,
        bytes_max: BYTES_MAX,
        ..FlushPolicy::default()
    };
    Aggregator::open(store, policy, Arc::new(SystemClock), Arc::new(Unobserved), tracker)
        .await
        .unwrap()
}
