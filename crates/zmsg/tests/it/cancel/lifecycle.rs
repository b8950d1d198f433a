//! Opening, adopting, closing, migrating and examining, dropped at every poll. Each time there is
//! something to recover, to adopt, to flush or to apply, and at the end all of it counts once.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use zmsg::{ErrorKind, FileLock, FilterBackend, Result, Zmsg, counter, doctor, open_store, slice};

use super::{at_every_poll, up_to};
use crate::support::{DEADLINE, Engine, Fault, Watched, config, eventually};

/// More polls than any of these calls takes.
const POLLS_MAX: usize = 500;

/// What one round writes on the periodic route: so many likes, and as many tags.
const WRITES: u64 = 5;

async fn write(zmsg: &Zmsg, round: usize) {
    for n in 0..WRITES {
        let like = counter("feeds", "likes").inc(1).where_eq("id", "feed_1");
        let _ = zmsg.cache_and_periodic_store("feed_1", None, like).await.unwrap();
        let tag = slice("feeds", "tags").add(format!("{round}_{n}")).where_eq("id", "feed_1");
        let _ = zmsg.cache_and_periodic_store("feed_1", None, tag).await.unwrap();
    }
}

/// Closes without a flush, so that everything stays in the journal.
async fn leave_behind(zmsg: &Zmsg, store: &Watched) {
    (0..100).for_each(|_| store.fail_next(Fault::Unavailable));
    let report = zmsg.close(Duration::ZERO).await.unwrap();
    assert_eq!(report.journaled, 2 * WRITES, "{report:?}");
}

/// An engine on a directory that whoever was dropped has let go of.
async fn reopened(dir: TempDir) -> Engine {
    when_free(usize::MAX, || async { FileLock::directory(dir.path()).map(drop) }).await;
    let config = config(dir.path());
    Engine::on(dir, config).await
}

/// Each write of so many rounds is there, and once.
async fn assert_counted_once(engine: &Engine, rounds: usize) {
    let written = i64::try_from(rounds).unwrap() * i64::try_from(WRITES).unwrap();
    assert_eq!(engine.likes("feed_1").await, written);
    let tags = "SELECT count(DISTINCT value), count(*) FROM feeds, json_each(tags)";
    assert_eq!(engine.count(tags).await, written);
    assert_eq!(engine.count("SELECT json_array_length(tags) FROM feeds").await, written);
}

/// Polls a call so often, once nobody has what it needs: what was dropped may still end something.
async fn when_free<F, Fut, T>(polls: usize, mut call: F) -> Option<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let result = RefCell::new(None);
    let call = RefCell::new(&mut call);
    eventually("what it needs is free", || async {
        let future = call.borrow_mut()();
        let ended = timeout(DEADLINE, up_to(polls, future)).await.expect("it hangs");
        let is_free = !matches!(&ended, Some(Err(error)) if error.kind() == ErrorKind::Conflict);
        *result.borrow_mut() = ended;
        is_free
    })
    .await;
    result.into_inner().transpose().unwrap()
}

async fn feed() -> TempDir {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    assert!(engine.zmsg.close(DEADLINE).await.unwrap().is_clean());
    engine.dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_opening_leaves_everything_to_the_next_one() {
    let mut dir = feed().await;
    for polls in 0..POLLS_MAX {
        let engine = reopened(dir).await;
        write(&engine.zmsg, polls).await;
        leave_behind(&engine.zmsg, &engine.store).await;
        dir = engine.dir;
        let opened = when_free(polls, || Zmsg::open(config(dir.path()))).await;
        if let Some(zmsg) = opened {
            assert!(zmsg.close(DEADLINE).await.unwrap().is_clean());
            assert!(polls > 10, "an opening takes more than {polls} polls");
            let engine = reopened(dir).await;
            return assert_counted_once(&engine, polls + 1).await;
        }
    }
    panic!("it never opened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_close_goes_on_and_the_next_one_tells_its_end() {
    let mut dir = feed().await;
    for polls in 0..POLLS_MAX {
        let engine = reopened(dir).await;
        write(&engine.zmsg, polls).await;
        let closed = timeout(DEADLINE, up_to(polls, engine.zmsg.close(DEADLINE))).await.unwrap();
        let is_done = closed.is_some();
        let report = timeout(DEADLINE, engine.zmsg.close(DEADLINE)).await.unwrap().unwrap();
        assert!(report.is_clean() && report.journaled == 0, "{polls} polls: {report:?}");
        if is_done {
            assert!(polls > 1, "a close takes more than {polls} polls");
            let engine = reopened(engine.dir).await;
            return assert_counted_once(&engine, polls + 1).await;
        }
        dir = engine.dir;
    }
    panic!("it never closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_adoption_leaves_the_rest_to_the_next_one() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    let orphan = engine.dir.path().join("orphan");
    for polls in 0..POLLS_MAX {
        let store = Watched::open(&engine.dir.path().join("zmsg.db")).await;
        let mut config = config(&orphan);
        config.filter.backend = FilterBackend::None;
        let other = Zmsg::builder(config).store(store.clone()).open().await.unwrap();
        write(&other, polls).await;
        leave_behind(&other, &store).await;
        drop(other);
        let adopted = when_free(polls, || engine.zmsg.adopt(&orphan)).await;
        when_free(usize::MAX, || engine.zmsg.adopt(&orphan)).await;
        assert_counted_once(&engine, polls + 1).await;
        if adopted.is_some() {
            return assert!(polls > 5, "an adoption takes more than {polls} polls");
        }
    }
    panic!("it was never adopted");
}

/// A migration that leaves a mark, and takes it back.
fn script(schema: &Path, version: usize) {
    let dir = schema.join(format!("{version}_mark"));
    std::fs::create_dir(&dir).unwrap();
    let up = format!("INSERT INTO marks VALUES ({version}); INSERT INTO marks VALUES ({version});");
    std::fs::write(dir.join("up.sql"), up).unwrap();
    let down = format!("DELETE FROM marks WHERE version = {version};");
    std::fs::write(dir.join("down.sql"), down).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_migration_is_done_or_not_and_never_half() {
    let engine = Engine::open().await;
    let schema = tempfile::tempdir().unwrap();
    std::fs::write(schema.path().join("0001_marks.sql"), "CREATE TABLE marks (version INTEGER);")
        .unwrap();
    let dir = engine.zmsg.load_dir(schema.path());
    dir.migrate().await.unwrap();
    let marks = || engine.count("SELECT count(*) FROM marks");
    let mut ended = 0;
    for polls in 0..POLLS_MAX {
        let applied = 2 * i64::try_from(polls).unwrap();
        script(schema.path(), polls + 2);
        let migrated = timeout(DEADLINE, up_to(polls, dir.migrate())).await.unwrap();
        assert!([applied, applied + 2].contains(&marks().await), "half of a script");
        dir.migrate().await.unwrap();
        assert_eq!(marks().await, applied + 2, "applied once");
        let back = timeout(DEADLINE, up_to(polls, dir.rollback(1))).await.unwrap();
        if polls > 0 {
            // Once begun it goes on.
            eventually("it was taken back", || async { marks().await == applied }).await;
        }
        let status = timeout(DEADLINE, up_to(polls, dir.status())).await.unwrap();
        assert!(status.is_none_or(|all| all.unwrap().len() == polls + 2));
        dir.migrate().await.unwrap();
        assert_eq!(marks().await, applied + 2, "applied once");
        ended += usize::from(migrated.is_some() && back.is_some());
        if ended == 2 {
            return assert!(polls > 2, "a migration takes more than {polls} polls");
        }
    }
    panic!("it never ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_examination_or_typed_read_leaves_nothing_behind() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "[1, 2]").await;
    let calls = Cell::new(0);
    let read = |_| async {
        let _ = engine.zmsg.del("feed_1").await.unwrap();
        let found: Vec<u32> = engine.zmsg.get_as("feed_1").await.unwrap().unwrap();
        assert_eq!(found, [1, 2]);
    };
    at_every_poll("get_as", &calls, read).await;
    let config = config(engine.dir.path());
    let files = || {
        let names = std::fs::read_dir(engine.dir.path()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = files();
    at_every_poll("examine", &calls, |_| doctor::examine(&config)).await;
    eventually("its file is gone", || async { files() == before }).await;
    let connections = TaskTracker::new();
    at_every_poll("open_store", &calls, |_| async {
        open_store(&config, &connections).await.unwrap().close().await.unwrap();
    })
    .await;
    let store: std::sync::Arc<dyn zmsg::store::SqlStore> = engine.store.clone();
    at_every_poll("distrust_filters", &calls, |_| zmsg::distrust_filters(&store)).await;
    assert!(engine.zmsg.close(DEADLINE).await.unwrap().is_clean());
    let engine = reopened(engine.dir).await;
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("[1, 2]"));
}
