//! The journal of the periodic route: what was acknowledged survives the process, once.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use zmsg::{Config, ErrorKind, JournalMode, Level, Zmsg, counter, slice, sql};

use crate::support::{DEADLINE, Engine, Fault, Watched, config};

const CHILD_DIR: &str = "ZMSG_TEST_JOURNAL_DIR";
const ROWS: u64 = 8;
const TASKS: u64 = 16;

/// Flushes often, so that a kill meets every stage of one.
fn busy(dir: &Path) -> Config {
    let mut config = config(dir);
    config.periodic.interval = Duration::from_millis(3);
    config
}

/// Not a test of its own: the process that the next test kills. Prints each acknowledged write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_counts_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let zmsg = Zmsg::open(busy(dir.as_ref())).await.unwrap();
    let tasks = (0..TASKS).map(|task| {
        let zmsg = zmsg.clone();
        tokio::spawn(async move {
            for n in 0_u64.. {
                let row = (task + n) % ROWS;
                let id = format!("feed_{row}");
                let like = counter("feeds", "likes").inc(1).where_eq("id", &id);
                let receipt = zmsg.cache_and_periodic_store(&id, None, like).await.unwrap();
                assert!(receipt.level() >= Level::LocalDisk);
                println!("acked {row}");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Runs the child for `writes` acknowledged writes, kills it, and counts what it acknowledged.
fn killed_after(dir: &Path, writes: usize, acked: &mut HashMap<u64, i64>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["journal::child_that_counts_until_it_is_killed", "--exact", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some((_, row)) = line.split_once("acked ") else { continue };
        *acked.entry(row.trim().parse().unwrap()).or_default() += 1;
        seen += 1;
        if seen == writes {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen >= writes, "it ended by itself after {seen}");
}

/// A database with eight feeds in `dir`.
async fn create(dir: &Path) {
    let zmsg = Zmsg::open(config(dir)).await.unwrap();
    let create = sql("CREATE TABLE feeds (id TEXT PRIMARY KEY, data TEXT, likes INTEGER)", ());
    zmsg.sql_exec(create).await.unwrap();
    for row in 0..ROWS {
        let insert = sql("INSERT INTO feeds (id, likes) VALUES (?, 0)", (format!("feed_{row}"),));
        zmsg.sql_exec(insert.keys([format!("feed_{row}")])).await.unwrap();
    }
    assert!(zmsg.close(DEADLINE).await.unwrap().is_clean());
}

async fn likes(zmsg: &Zmsg, row: u64) -> i64 {
    let query = sql("SELECT likes FROM feeds WHERE id = ?", (format!("feed_{row}"),));
    zmsg.sql_exec(query).await.unwrap().rows[0].int(0).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_and_doubles_no_acknowledged_periodic_write() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path()).await;
    let mut acked = HashMap::new();
    let rounds = 6;
    for round in 0..rounds {
        let (path, mut so_far) = (dir.path().to_owned(), std::mem::take(&mut acked));
        let run = move || {
            killed_after(&path, 40 + 171 * round, &mut so_far);
            so_far
        };
        acked = tokio::task::spawn_blocking(run).await.unwrap();
    }
    let zmsg = Zmsg::open(config(dir.path())).await.unwrap();
    let mut unknown = 0;
    for row in 0..ROWS {
        let (found, acked) = (likes(&zmsg, row).await, acked[&row]);
        assert!(found >= acked, "row {row}: {acked} were acknowledged, {found} are there");
        unknown += found - acked;
    }
    // One write of each task could be accepted and not yet acknowledged at each kill, and what it
    // printed last may not have been read.
    let most = i64::try_from(rounds).unwrap() * 2 * i64::try_from(TASKS).unwrap();
    assert!(unknown <= most, "{unknown} writes too many, where at most {most} were on their way");
    assert!(zmsg.dead_letters().list(10).await.unwrap().is_empty());
    assert!(zmsg.close(DEADLINE).await.unwrap().is_clean());
    assert_eq!(std::fs::read_dir(dir.path().join("journal")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_periodic_write_is_on_the_disk_when_it_is_acknowledged() {
    let engine = Engine::open().await;
    let like = counter("feeds", "likes").inc(1).where_eq("id", "feed_1");
    let receipt = engine.zmsg.cache_and_periodic_store("feed_1", None, like).await.unwrap();
    assert_eq!(receipt.level(), Level::LocalDisk);
}

#[tokio::test]
async fn a_journal_with_an_interval_says_when_a_write_is_on_the_disk() {
    let every = JournalMode::Interval(Duration::from_millis(5));
    let engine = Engine::with(|config| config.periodic.journal = every).await;
    let like = counter("feeds", "likes").inc(1).where_eq("id", "feed_1");
    let receipt = engine.zmsg.cache_and_periodic_store("feed_1", None, like).await.unwrap();
    receipt.wait(Level::LocalDisk).await.unwrap();
    assert_eq!(receipt.level(), Level::LocalDisk);
}

#[tokio::test]
async fn without_a_journal_a_periodic_write_is_in_memory_and_says_so() {
    let engine = Engine::with(|config| config.periodic.journal = JournalMode::Off).await;
    let like = counter("feeds", "likes").inc(1).where_eq("id", "feed_1");
    let receipt = engine.zmsg.cache_and_periodic_store("feed_1", None, like).await.unwrap();
    assert_eq!(receipt.level(), Level::Memory);
}

#[tokio::test]
async fn what_a_close_could_not_flush_is_applied_by_the_next_start() {
    // Also if that is to have no journal any more.
    for next in [JournalMode::Auto, JournalMode::Off] {
        what_is_left_is_applied_by(next).await;
    }
}

async fn what_is_left_is_applied_by(next: JournalMode) {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    let like = counter("feeds", "likes").inc(1).where_eq("id", "feed_1");
    let _ = engine.zmsg.cache_and_periodic_store("feed_1", None, like).await.unwrap();
    (0..100).for_each(|_| engine.store.fail_next(Fault::Unavailable));
    let report = engine.zmsg.close(Duration::ZERO).await.unwrap();
    assert_eq!((report.journaled, report.lost_periodic), (1, 0), "{report:?}");
    let mut config = config(engine.dir.path());
    config.periodic.journal = next;
    let reopened = Engine::on(engine.dir, config).await;
    assert_eq!(reopened.likes("feed_1").await, 1);
}

#[tokio::test]
async fn an_orphaned_directory_is_adopted_once_by_another_engine() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    let mut orphan = config(&engine.dir.path().join("orphan"));
    orphan.filter.backend = zmsg::FilterBackend::None;
    let store = Watched::open(&engine.dir.path().join("zmsg.db")).await;
    let other = Zmsg::builder(orphan.clone()).store(store.clone()).open().await.unwrap();
    let write = counter("feeds", "likes").inc(5).where_eq("id", "feed_1");
    let _ = other.cache_and_periodic_store("feed_1", None, write).await.unwrap();
    let tag = slice("feeds", "tags").add("x").where_eq("id", "feed_1");
    let _ = other.cache_and_periodic_store("feed_1", None, tag).await.unwrap();

    let error = engine.zmsg.adopt(&orphan.directory).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "its process lives: {error}");
    (0..100).for_each(|_| store.fail_next(Fault::Unavailable));
    assert_eq!(other.close(Duration::ZERO).await.unwrap().journaled, 2);

    let (one, two) =
        tokio::join!(engine.zmsg.adopt(&orphan.directory), engine.zmsg.adopt(&orphan.directory));
    let adopted: u64 = [one, two].into_iter().flatten().map(|found| found.ops).sum();
    assert_eq!(adopted, 2);
    assert_eq!(engine.zmsg.adopt(&orphan.directory).await.unwrap().ops, 0);
    assert_eq!(engine.likes("feed_1").await, 5);
    let error = engine.zmsg.adopt(engine.dir.path().join("nowhere")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
