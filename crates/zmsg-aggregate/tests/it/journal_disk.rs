//! The journal on a disk that fails, stands still or is full, and what a kill leaves of a stream that
//! is done.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use zmsg_aggregate::{
    Aggregator, FlushPolicy, Journal, JournalOptions, JournalSync, Recovered, Recovery,
};
use zmsg_core::{ErrorKind, IntoTask, Key, Result};
use zmsg_sqlbuilder::sql;

use crate::database::{Database, like, open};
use crate::disk::{Call, Disk};
use crate::flaky::Fault;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Journals on a disk that does what the test says.
struct Journals {
    dir: tempfile::TempDir,
    disk: Disk,
}

impl Journals {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), disk: Disk::default() }
    }

    fn options(&self) -> JournalOptions {
        JournalOptions {
            root: self.dir.path().join("journal"),
            sync: JournalSync::Always,
            bytes_max: 1 << 30,
            segment_bytes: 13 << 20,
        }
    }

    async fn process(&self, db: &Database) -> Aggregator {
        let journal = Journal::create_on(&self.options(), self.disk.fs()).await.unwrap();
        let opened = Aggregator::open_with(
            journal,
            db.store.clone(),
            FlushPolicy::default(),
            db.clock.clone(),
            db.observer.clone(),
            db.tracker.clone(),
        );
        opened.await.unwrap()
    }

    fn recovery(&self, db: &Database) -> Recovery {
        Recovery {
            store: db.store.clone(),
            policy: FlushPolicy::default(),
            clock: db.clock.clone(),
            observer: db.observer.clone(),
            tracker: db.tracker.clone(),
            patience: PATIENCE,
        }
    }

    async fn recover(&self, db: &Database) -> Result<Recovered> {
        self.recovery(db).run(&self.options().root, &Journal::off()).await
    }

    /// The directories that there are.
    fn left(&self) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(self.options().root).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

async fn accept(process: &Aggregator, task: impl IntoTask) {
    let submitted = process.submit(None, task.into_task().unwrap()).unwrap();
    submitted.journaled.acknowledged().await.unwrap();
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("{what} does not come"))
}

async fn comes(what: &str, condition: impl Fn() -> bool) {
    in_time(what, async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn ledger_rows(db: &Database) -> Option<i64> {
    db.int("SELECT count(*) FROM zmsg_ledger").await
}

#[tokio::test]
async fn an_operation_whose_disk_failed_is_of_unknown_outcome_and_takes_effect() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db).await;
    accept(&process, like("a")).await;
    let held = journals.disk.hold(Call::Sync);
    // One that is being synced, and one that waits behind it and will never be written.
    let one = process.submit(None, like("a").into_task().unwrap()).unwrap();
    comes("the sync", || journals.disk.waiting() == 1).await;
    let other = process.submit(None, like("a").into_task().unwrap()).unwrap();
    journals.disk.fail();
    drop(held);
    for submitted in [one, other] {
        let error = submitted.journaled.acknowledged().await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{error}");
    }
    let refused = process.submit(None, like("a").into_task().unwrap()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    assert!(!refused.is_outcome_unknown(), "nothing was accepted: {refused}");
    process.flush_all().await.unwrap();
    assert_eq!(db.likes("a").await, Some(3));
}

#[tokio::test]
async fn a_close_keeps_its_deadline_on_a_disk_that_stands_still() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db).await;
    accept(&process, like("a")).await;
    process.flush_all().await.unwrap();
    let _held = journals.disk.hold(Call::Sync);
    let report = in_time("the close", process.close(Duration::ZERO)).await.unwrap();
    assert!(report.is_complete(), "all is in the database: {report:?}");
    assert_eq!(ledger_rows(&db).await, Some(16), "they stay with the journal");
    assert_eq!(journals.left().len(), 1);
}

#[tokio::test]
async fn the_removal_of_files_holds_up_no_flush() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db).await;
    let body = "x".repeat(1 << 20);
    for _ in 0..15 {
        accept(&process, sql("UPDATE feeds SET body = ? WHERE id = 'a'", (&body,))).await;
    }
    let held = journals.disk.hold(Call::Remove);
    in_time("the flush", process.flush_all()).await.unwrap();
    comes("the removal", || journals.disk.waiting() == 1).await;
    for _ in 0..3 {
        accept(&process, like("a")).await;
        in_time("another flush", process.flush_all()).await.unwrap();
    }
    assert_eq!(db.likes("a").await, Some(3));
    drop(held);
    let dir = process.journal().dir().unwrap().to_owned();
    comes("the end of the removal", || {
        !dir.join(format!("{:016x}.wal", 1)).exists() && dir.join("CHECKPOINT").exists()
    })
    .await;
    in_time("the close", process.close(PATIENCE)).await.unwrap();
}

/// A flush is on its way when its process gives up; another one recovers its stream meanwhile.
#[tokio::test]
async fn a_flush_that_outlives_the_recovery_of_its_stream_changes_nothing() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db).await;
    accept(&process, like("a")).await;
    db.store.hold();
    let flush = db.tracker.spawn({
        let process = process.clone();
        async move { process.flush_all().await }
    });
    db.store.reached(1).await;
    let report = in_time("the close", process.close(Duration::ZERO)).await.unwrap();
    assert!(!report.is_complete());
    // Its stream is brought in over a connection of its own, and every trace of it goes.
    let recovery = Recovery { store: db.store.bypass(), ..journals.recovery(&db) };
    let found = recovery.run(&journals.options().root, &Journal::off()).await.unwrap();
    assert_eq!((found.ops, journals.left().len()), (1, 0));
    assert_eq!(ledger_rows(&db).await, Some(0));
    db.store.release();
    let error = in_time("the flush", flush).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupted, "{error}");
    assert_eq!(db.likes("a").await, Some(1), "and not twice");
    assert_eq!(ledger_rows(&db).await, Some(0));
}

#[tokio::test]
async fn a_recovery_tells_of_flushes_whose_process_ended_before_it_could() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db).await;
    let key = Key::new("feed_a").unwrap();
    let submitted = process.submit(Some(&key), like("a").into_task().unwrap()).unwrap();
    submitted.journaled.acknowledged().await.unwrap();
    // It is in the database, and nobody hears of it.
    db.observer.panics.store(true, SeqCst);
    process.flush_all().await.unwrap();
    db.observer.panics.store(false, SeqCst);
    drop(process);
    assert!(db.observer.keys.lock().unwrap().is_empty());
    assert_eq!(journals.recover(&db).await.unwrap().ops, 0);
    assert_eq!(*db.observer.keys.lock().unwrap(), ["feed_a"]);
    assert_eq!(db.likes("a").await, Some(1));
}

#[tokio::test]
async fn ledger_rows_that_a_recovery_could_not_forget_go_at_the_next_start() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db).await;
    accept(&process, like("a")).await;
    drop(process);
    db.store.refuse(Some("DELETE FROM zmsg_ledger"));
    assert_eq!(journals.recover(&db).await.unwrap().ops, 1);
    assert_eq!(ledger_rows(&db).await, Some(16));
    let left = journals.left();
    assert_eq!(left.len(), 1);
    assert_eq!(std::fs::read_dir(&left[0]).unwrap().count(), 0, "no file of it is left");
    // As long as it cannot be done it stays.
    assert_eq!(journals.recover(&db).await.unwrap(), Recovered::default());
    assert_eq!(ledger_rows(&db).await, Some(16));
    db.store.refuse(None);
    assert_eq!(journals.recover(&db).await.unwrap(), Recovered::default());
    assert_eq!((ledger_rows(&db).await, journals.left().len()), (Some(0), 0));
    assert_eq!(db.likes("a").await, Some(1));
}

#[tokio::test]
async fn ledger_rows_that_a_close_could_not_forget_go_at_the_next_start() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db).await;
    accept(&process, like("a")).await;
    db.store.refuse(Some("DELETE FROM zmsg_ledger"));
    assert!(process.close(PATIENCE).await.unwrap().is_complete());
    assert_eq!((ledger_rows(&db).await, journals.left().len()), (Some(16), 1));
    db.store.refuse(None);
    journals.recover(&db).await.unwrap();
    assert_eq!((ledger_rows(&db).await, journals.left().len()), (Some(0), 0));
}

/// The kill comes while the files go.
#[tokio::test]
async fn a_stream_that_was_being_removed_when_its_process_was_killed_is_not_read_again() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db).await;
    accept(&process, like("a")).await;
    drop(process);
    db.store.refuse(Some("DELETE FROM zmsg_ledger"));
    journals.recover(&db).await.unwrap();
    db.store.refuse(None);
    let left = journals.left().remove(0);
    std::fs::write(left.join("0000000000000002.wal"), b"half of it").unwrap();
    assert_eq!(journals.recover(&db).await.unwrap(), Recovered::default());
    assert_eq!((ledger_rows(&db).await, journals.left().len()), (Some(0), 0));
}

#[tokio::test]
async fn a_journal_begins_on_a_disk_that_what_a_killed_process_had_allocated_fills() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db).await;
    accept(&process, like("a")).await;
    db.store.fail_always(Some(Fault::Temporary));
    process.close(Duration::ZERO).await.unwrap();
    drop(process);
    db.store.fail_always(None);
    // What was allocated ahead stays behind a kill.
    let ahead = journals.left().remove(0).join("segment-00000000000000ff.tmp");
    std::fs::File::create(&ahead).unwrap().set_len(40 << 20).unwrap();
    journals.disk.fill(&journals.options().root);
    let next = journals.process(&db).await;
    assert!(!ahead.exists());
    accept(&next, like("a")).await;
    let found = journals.recovery(&db).run(&journals.options().root, next.journal()).await.unwrap();
    assert_eq!(found.ops, 1);
    assert!(next.close(PATIENCE).await.unwrap().is_complete());
    assert_eq!(db.likes("a").await, Some(2));
}

#[tokio::test]
async fn where_no_room_can_be_made_a_journal_says_so_and_leaves_nothing_behind() {
    let journals = Journals::new();
    std::fs::create_dir(journals.options().root).unwrap();
    journals.disk.fill(&journals.options().root);
    let fs: Arc<dyn zmsg_wal::Fs> = journals.disk.fs();
    let error = Journal::create_on(&journals.options(), fs).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(journals.left().is_empty());
}
