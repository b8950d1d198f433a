//! `cache_and_periodic_store` without a value, by mode of the journal, beside one sync for each record.
//!
//! The engine on its embedded default; 1, 16 and 256 tasks increment 1,000 rows. What one task waits
//! for is its latency; what many do together shares syncs.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use zmsg::{Config, JournalMode, Zmsg, counter, sql};
use zmsg_benches::{Case, Figures, Unit, round};

const ROWS: u64 = 1_000;

async fn engine(dir: &Path, journal: JournalMode) -> Zmsg {
    let mut config = Config::embedded(dir);
    config.periodic.journal = journal;
    let zmsg = Zmsg::open(config).await.unwrap();
    zmsg.sql_exec(sql("CREATE TABLE rows (id TEXT PRIMARY KEY, n INTEGER)", ())).await.unwrap();
    let ids = format!("{:?}", (0..ROWS).collect::<Vec<_>>());
    let rows = "INSERT INTO rows (id, n) SELECT 'row_' || value, 0 FROM json_each(?)";
    zmsg.sql_exec(sql(rows, (ids,)).no_keys()).await.unwrap();
    zmsg
}

/// Writes per second of so many tasks.
fn writes(runtime: &Runtime, zmsg: &Zmsg, tasks: u64) -> f64 {
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let begin = Instant::now();
    runtime.block_on(async {
        let mut running = JoinSet::new();
        for task in 0..tasks {
            let (zmsg, stop, done) = (zmsg.clone(), Arc::clone(&stop), Arc::clone(&done));
            running.spawn(async move {
                let mut row = task;
                while !stop.load(Relaxed) {
                    row = (row + 7) % ROWS;
                    let id = format!("row_{row}");
                    let op = counter("rows", "n").inc(1).where_eq("id", &id);
                    match zmsg.cache_and_periodic_store(&id, None, op).await {
                        Ok(_) => {
                            done.fetch_add(1, Relaxed);
                        }
                        // At a bound the engine says so: its flushes are what is measured then.
                        Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                    }
                    // Without a journal nothing else waits, and the runtime's timers would not run.
                    if row.is_multiple_of(16) {
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
        tokio::time::sleep(round()).await;
        stop.store(true, Relaxed);
        running.join_all().await;
    });
    done.load(Relaxed) as f64 / begin.elapsed().as_secs_f64()
}

/// Records per second of one writer who syncs each.
fn one_sync_each(dir: &Path) -> f64 {
    let file = std::fs::File::create(dir.join("each")).unwrap();
    file.write_all_at(&vec![0; 4 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let (begin, mut records) = (Instant::now(), 0);
    while begin.elapsed() < round() {
        file.write_all_at(&[7; 128], records % 30_000 * 128).unwrap();
        file.sync_data().unwrap();
        records += 1;
    }
    records as f64 / begin.elapsed().as_secs_f64()
}

fn main() {
    let Some(mut figures) = Figures::of("periodic") else { return };
    let runtime = zmsg_benches::runtime();
    let dir = tempfile::tempdir().unwrap();
    let modes = [
        ("off", JournalMode::Off),
        ("interval 50 ms", JournalMode::Interval(Duration::from_millis(50))),
        ("always", JournalMode::Always),
    ];
    for (name, mode) in modes {
        let own = dir.path().join(name.replace(' ', "-"));
        let zmsg = runtime.block_on(engine(&own, mode));
        for tasks in [1, 16, 256] {
            let case = Case::new(format!("journal {name}")).at("tasks", tasks);
            figures.turns(
                &case,
                Unit::PerSecond,
                &mut [
                    ("zmsg", &mut || writes(&runtime, &zmsg, tasks)),
                    ("one sync each", &mut || one_sync_each(dir.path())),
                ],
            );
        }
        let _ = runtime.block_on(zmsg.close(Duration::from_secs(30))).unwrap();
    }
}
