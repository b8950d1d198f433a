//! `cache_and_periodic_store` without a value, by mode of the journal, beside one sync for each record.
//!
//! The engine on its embedded default; 1, 16 and 256 tasks increment 1,000 rows. What one task waits
//! for is its latency; what many do together shares syncs. Medians of rounds in turns.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use zmsg::{Config, JournalMode, Zmsg, counter, sql};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(500);
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
        tokio::time::sleep(ROUND).await;
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
    while begin.elapsed() < ROUND {
        file.write_all_at(&[7; 128], records % 30_000 * 128).unwrap();
        file.sync_data().unwrap();
        records += 1;
    }
    records as f64 / begin.elapsed().as_secs_f64()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    // `cargo xtask bench FILTER` runs all targets: this one has one name.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if filter.is_some_and(|filter| !"periodic".contains(&filter)) {
        return;
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let modes = [
        ("off", JournalMode::Off),
        ("interval 50 ms", JournalMode::Interval(Duration::from_millis(50))),
        ("always", JournalMode::Always),
    ];
    let open = |(name, mode): (&'static str, JournalMode)| {
        (name, runtime.block_on(engine(&dir.path().join(name.replace(' ', "-")), mode)))
    };
    let engines: Vec<_> = modes.into_iter().map(open).collect();
    for tasks in [1, 16, 256] {
        let mut each = Vec::new();
        let mut figures = vec![Vec::new(); engines.len()];
        for round in 0..=ROUNDS {
            let sync = one_sync_each(dir.path());
            let own: Vec<_> =
                engines.iter().map(|(_, zmsg)| writes(&runtime, zmsg, tasks)).collect();
            if round > 0 {
                each.push(sync);
                own.iter().zip(&mut figures).for_each(|(figure, of)| of.push(*figure));
            }
        }
        let each = median(each);
        for ((name, _), figures) in engines.iter().zip(figures) {
            let rate = median(figures);
            println!(
                "periodic write, {tasks:3} tasks, journal {name:14}: {rate:9.0}/s, {:8.0} ns of the \
                 machine each; {:6.1} times one sync each ({each:.0}/s)",
                1e9 / rate,
                rate / each,
            );
        }
    }
    for (_, zmsg) in engines {
        let _ = runtime.block_on(zmsg.close(Duration::from_secs(30))).unwrap();
    }
}
