//! The journal: what a process had accepted when it ended takes effect once, by whoever comes next.

#[cfg(feature = "failpoints")]
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use serde_json::json;
use zmsg_aggregate::{
    Aggregator, FlushPolicy, Journal, JournalOptions, JournalSync, Recovered, Recovery,
};
use zmsg_core::{ErrorKind, IntoTask, Level, Result, Statement, Value};
use zmsg_sqlbuilder::{counter, map, slice, sql};
use zmsg_store::{SqlStore, Step};

use crate::database::{Database, like, open};
use crate::flaky::Fault;

/// The journals of an engine, and processes that write them to one database.
struct Journals {
    dir: tempfile::TempDir,
}

impl Journals {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    /// What a process opens at its start. Dropping it is its sudden end: nothing is flushed.
    async fn process(&self, db: &Database, sync: JournalSync) -> Aggregator {
        self.bounded(db, sync, 1 << 30, 16 << 20).await
    }

    async fn bounded(
        &self,
        db: &Database,
        sync: JournalSync,
        bytes_max: u64,
        segment_bytes: u64,
    ) -> Aggregator {
        let options = JournalOptions { root: self.root(), sync, bytes_max, segment_bytes };
        let opened = Aggregator::open_with(
            Journal::create(&options).await.unwrap(),
            db.store.clone(),
            FlushPolicy::default(),
            db.clock.clone(),
            db.observer.clone(),
            db.tracker.clone(),
        );
        opened.await.unwrap()
    }

    async fn recover(&self, db: &Database) -> Result<Recovered> {
        recovery(db).run(&self.root(), &Journal::off()).await
    }

    /// The streams that there are.
    fn streams(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.root()).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

fn recovery(db: &Database) -> Recovery {
    Recovery {
        store: db.store.clone(),
        policy: FlushPolicy::default(),
        clock: db.clock.clone(),
        observer: db.observer.clone(),
        tracker: db.tracker.clone(),
        patience: Duration::from_secs(20),
    }
}

/// Submits, and waits until it may be acknowledged.
async fn accept(process: &Aggregator, task: impl IntoTask) -> Level {
    let submitted = process.submit(None, task.into_task().unwrap()).unwrap();
    submitted.journaled.acknowledged().await.unwrap()
}

/// One of every kind, on a row.
async fn all_kinds(process: &Aggregator, id: &str) {
    accept(process, like(id)).await;
    accept(process, counter("feeds", "likes").mul(3).where_eq("id", id)).await;
    accept(process, counter("feeds", "score").inc(0.1).where_eq("id", id)).await;
    accept(process, slice("feeds", "tags").add("x").where_eq("id", id)).await;
    accept(process, slice("feeds", "tags").add("y").where_eq("id", id)).await;
    accept(process, slice("feeds", "tags").del("x").where_eq("id", id)).await;
    accept(process, map("feeds", "meta").set("k", json!({"n": [1, null]})).where_eq("id", id))
        .await;
    accept(process, map("feeds", "meta").del("gone").where_eq("id", id)).await;
    let text = sql("UPDATE feeds SET body = ? WHERE id = ?", ("a 'body'", id));
    accept(process, text).await;
}

async fn row(db: &Database, id: &str) -> String {
    let columns = ["likes", "score", "tags", "meta", "body"];
    let mut cells = Vec::new();
    for column in columns {
        let cell = db.value(&format!("SELECT {column} FROM feeds WHERE id = '{id}'")).await;
        cells.push(match cell {
            Value::Text(text) => text.to_string(),
            Value::Int(n) => n.to_string(),
            Value::Float(x) => x.to_string(),
            _ => "?".to_owned(),
        });
    }
    cells.join(" | ")
}

#[tokio::test]
async fn what_a_process_had_accepted_takes_effect_once_after_its_end() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db, JournalSync::Always).await;
    assert_eq!(accept(&process, like("a")).await, Level::LocalDisk);
    process.flush_all().await.unwrap();
    all_kinds(&process, "a").await;
    all_kinds(&process, "b").await;
    drop(process);
    assert_eq!(db.likes("b").await, None, "nothing was flushed");

    let found = journals.recover(&db).await.unwrap();
    assert_eq!((found.streams, found.ops, found.dead_lettered), (1, 18, 0));
    assert_eq!(db.likes("a").await, Some(6));
    let b = "3 | 0.1 | [\"y\"] | {\"k\":{\"n\":[1,null]}} | a 'body'";
    assert_eq!(row(&db, "b").await.replace(": ", ":").replace(", ", ","), b);
    assert!(journals.streams().is_empty(), "there is nothing left to recover");
    assert_eq!(db.int("SELECT count(*) FROM zmsg_ledger").await, Some(0));
    assert_eq!(journals.recover(&db).await.unwrap(), Recovered::default());
}

#[tokio::test]
async fn what_was_flushed_before_the_end_is_not_flushed_again() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db, JournalSync::Always).await;
    for _ in 0..5 {
        for id in ["a", "b", "c"] {
            accept(&process, like(id)).await;
        }
        process.flush_all().await.unwrap();
    }
    accept(&process, like("c")).await;
    drop(process);
    assert_eq!(journals.recover(&db).await.unwrap().ops, 1);
    for (id, likes) in [("a", 5), ("b", 5), ("c", 6)] {
        assert_eq!(db.likes(id).await, Some(likes), "{id}");
    }
}

#[tokio::test]
async fn an_end_between_the_commit_and_its_answer_doubles_nothing() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db, JournalSync::Always).await;
    accept(&process, like("a")).await;
    // Its answer is lost, and the process ends before it can ask.
    db.store.fail([Fault::LostAndAway]);
    process.flush_all().await.unwrap_err();
    drop(process);
    journals.recover(&db).await.unwrap();
    assert_eq!(db.likes("a").await, Some(1));
}

#[tokio::test]
async fn a_stream_whose_process_lives_is_not_recovered() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db, JournalSync::Always).await;
    accept(&process, like("a")).await;
    let impatient = Recovery { patience: Duration::ZERO, ..recovery(&db) };
    let error = impatient.run(&journals.root(), &Journal::off()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    accept(&process, like("a")).await;
    let report = process.close(Duration::from_secs(20)).await.unwrap();
    assert!(report.is_complete());
    assert_eq!(db.likes("a").await, Some(2));
    assert!(journals.streams().is_empty(), "a stream that is complete is removed");
}

#[tokio::test]
async fn two_who_recover_at_once_apply_nothing_twice() {
    let db = open!();
    let journals = Journals::new();
    for _ in 0..3 {
        let process = journals.process(&db, JournalSync::Always).await;
        for _ in 0..50 {
            accept(&process, like("a")).await;
        }
        drop(process);
    }
    let mut pending = true;
    while pending {
        let (one, other) = tokio::join!(journals.recover(&db), journals.recover(&db));
        for error in [&one, &other].into_iter().filter_map(|result| result.as_ref().err()) {
            assert!(
                matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Unavailable),
                "{error}"
            );
        }
        pending = one.is_err() && other.is_err();
    }
    journals.recover(&db).await.unwrap();
    assert_eq!(db.likes("a").await, Some(150));
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_stream_that_a_dropped_recovery_takes_away_meanwhile_is_no_error() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db, JournalSync::Always).await;
    accept(&process, like("a")).await;
    process.flush_all().await.unwrap();
    drop(process);
    let stream = journals.streams().remove(0);
    let taken_away = journals.dir.path().join("taken away");
    let lock = stream.join("LOCK");
    let is_open = move || File::open(&lock).is_ok_and(|file| file.try_lock_shared().is_err());
    // A lock of a file tells nobody that it goes.
    let closed = async {
        while is_open() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.unwrap();
    // Logs of other tests pass here too: it goes when the recovery has it open.
    let (from, to) = (stream.clone(), taken_away.clone());
    let take_away = move || {
        if is_open() {
            let _ = std::fs::rename(&from, &to);
        }
    };
    let point = "zmsg-wal::open::inspected";
    fail::cfg_callback(point, take_away).unwrap();
    let found = journals.recover(&db).await;
    fail::remove(point);
    assert_eq!(found.unwrap(), Recovered::default());
    assert!(taken_away.exists() && !stream.exists());
    assert_eq!(db.likes("a").await, Some(1));
}

#[tokio::test]
async fn what_a_recovery_cannot_apply_goes_to_the_dead_letters() {
    let db = open!();
    db.run("UPDATE feeds SET likes = ? WHERE id = 'a'", vec![Value::Int(i64::MAX)]).await;
    let journals = Journals::new();
    let process = journals.process(&db, JournalSync::Always).await;
    accept(&process, like("a")).await;
    accept(&process, like("b")).await;
    drop(process);
    let found = journals.recover(&db).await.unwrap();
    assert_eq!((found.ops, found.dead_lettered), (2, 1));
    assert_eq!(db.likes("b").await, Some(1));
    assert_eq!(db.letters().list(None, 10).await.unwrap().len(), 1);
}

/// 25 operations of one batch key, of which 12 are refused, and a process that ends after so many
/// transactions of their flush. False if there were not so many.
async fn ends_while_halving(passed: usize) -> Option<bool> {
    let db = Database::open_with(FlushPolicy::default()).await?;
    let journals = Journals::new();
    let process = journals.process(&db, JournalSync::Always).await;
    for n in 0..25 {
        match n % 2 {
            0 => accept(&process, like("a").batch_key("k")).await,
            _ => {
                let refused = sql("UPDATE nowhere SET x = ?", (n,)).all_rows().batch_key("k");
                accept(&process, refused).await
            }
        };
    }
    db.store.fail_after(passed, Fault::Temporary);
    let cut_short = process.flush_all().await.is_err();
    assert_eq!(cut_short, !db.store.is_armed());
    drop(process);
    if !cut_short {
        return Some(false);
    }
    let found = journals.recover(&db).await.unwrap();
    assert_eq!(db.likes("a").await, Some(13), "after {passed}: {found:?}");
    let letters = db.letters().list(None, 100).await.unwrap();
    assert_eq!(letters.len(), 12, "after {passed}: {found:?}");
    assert!(letters.iter().all(|letter| !letter.cause.contains("kept while")), "{letters:?}");
    Some(true)
}

#[tokio::test]
async fn a_process_that_ends_while_a_flush_is_parked_strands_nothing_in_the_dead_letters() {
    let mut passed = 0;
    while ends_while_halving(passed).await == Some(true) {
        passed += 1;
    }
    assert!(crate::ON_A_SERVER || passed > 10, "only {passed} transactions");
}

#[tokio::test]
async fn a_recovery_that_failed_is_continued_by_the_next() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db, JournalSync::Always).await;
    for id in ["a", "b", "c", "d", "e"] {
        accept(&process, like(id)).await;
    }
    drop(process);
    db.store.fail_always(Some(Fault::Temporary));
    let impatient = Recovery { patience: Duration::from_millis(100), ..recovery(&db) };
    impatient.run(&journals.root(), &Journal::off()).await.unwrap_err();
    db.store.fail_always(None);
    journals.recover(&db).await.unwrap();
    for id in ["a", "b", "c", "d", "e"] {
        assert_eq!(db.likes(id).await, Some(1), "{id}");
    }
}

#[tokio::test]
async fn what_a_close_could_not_flush_waits_in_the_journal() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db, JournalSync::Always).await;
    accept(&process, like("a")).await;
    db.store.fail_always(Some(Fault::Temporary));
    let report = process.close(Duration::ZERO).await.unwrap();
    assert_eq!((report.ops, report.journal.is_some()), (1, true));
    drop(process);
    db.store.fail_always(None);
    assert_eq!(journals.recover(&db).await.unwrap().ops, 1);
    assert_eq!(db.likes("a").await, Some(1));
}

/// A process that ended as it removed its stream: the directory has its new name.
async fn ends_while_removing(db: &Database, journals: &Journals) {
    let process = journals.process(db, JournalSync::Always).await;
    accept(&process, like("a")).await;
    process.flush_all().await.unwrap();
    let stream = match db.value("SELECT DISTINCT stream FROM zmsg_ledger").await {
        Value::Bytes(bytes) => uuid::Uuid::from_slice(&bytes).unwrap(),
        Value::Uuid(stream) => stream,
        other => panic!("a stream is {other:?}"),
    };
    // Its lock is free when it can be recovered: nothing is left then that could come back.
    let dir = process.journal().dir().unwrap().to_owned();
    drop(process);
    std::fs::rename(&dir, dir.with_extension(format!("{stream}.done"))).unwrap();
}

#[tokio::test]
async fn a_process_that_ends_as_it_removes_its_stream_leaves_nothing_in_the_ledger() {
    let db = open!();
    let journals = Journals::new();
    ends_while_removing(&db, &journals).await;
    assert_eq!(db.int("SELECT count(*) FROM zmsg_ledger").await, Some(16));
    // While the database is away the directory stays: it alone tells whose the rows are.
    db.store.deaf.store(true, SeqCst);
    assert_eq!(journals.recover(&db).await.unwrap(), Recovered::default());
    assert_eq!(journals.streams().len(), 1);
    db.store.deaf.store(false, SeqCst);

    assert_eq!(journals.recover(&db).await.unwrap(), Recovered::default());
    assert_eq!(db.int("SELECT count(*) FROM zmsg_ledger").await, Some(0));
    assert!(journals.streams().is_empty());
    assert_eq!(db.likes("a").await, Some(1));
}

#[tokio::test]
async fn a_journal_whose_ledger_rows_are_gone_is_refused() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db, JournalSync::Always).await;
    accept(&process, like("a")).await;
    drop(process);
    db.run("DELETE FROM zmsg_ledger", vec![]).await;
    let error = journals.recover(&db).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupted, "{error}");
    assert_eq!(db.likes("a").await, None);
    assert_eq!(journals.streams().len(), 1, "it is left as it is");
}

#[tokio::test]
async fn files_of_the_journal_go_when_what_they_hold_has_taken_effect() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.bounded(&db, JournalSync::Always, 1 << 30, 13 << 20).await;
    let body = "x".repeat(1 << 20);
    for _ in 0..60 {
        accept(&process, sql("UPDATE feeds SET body = ? WHERE id = 'a'", (&body,))).await;
        process.flush_all().await.unwrap();
    }
    let files = std::fs::read_dir(process.journal().dir().unwrap()).unwrap();
    let segments = files.filter(|file| {
        let path = file.as_ref().unwrap().path();
        path.extension().is_some_and(|ending| ending == "wal")
    });
    assert!(segments.count() <= 3, "of 60 MiB in segments of 13 MiB");
}

#[tokio::test]
async fn a_full_journal_refuses_and_keeps_what_it_accepted() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.bounded(&db, JournalSync::Always, 13 << 20, 13 << 20).await;
    let body = "x".repeat(1 << 20);
    let mut accepted = 0;
    let error = loop {
        let text = sql(
            "UPDATE feeds SET body = ?, views = coalesce(views, 0) + 1 WHERE id = 'a'",
            (&body,),
        );
        match process.submit(None, text.into_task().unwrap()) {
            Ok(submitted) => submitted.journaled.acknowledged().await.unwrap(),
            Err(error) => break error,
        };
        accepted += 1;
    };
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    assert!(accepted > 5);
    drop(process);
    journals.recover(&db).await.unwrap();
    assert_eq!(db.int("SELECT views FROM feeds WHERE id = 'a'").await, Some(accepted));
}

#[tokio::test]
async fn a_damaged_journal_stops_the_recovery_and_names_the_place() {
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db, JournalSync::Always).await;
    for _ in 0..20 {
        accept(&process, like("a")).await;
    }
    drop(process);
    let stream = journals.streams().remove(0);
    flip_a_bit(&stream);
    let error = journals.recover(&db).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupted, "{error}");
    assert!(error.to_string().contains("offset"), "{error}");
    assert_eq!(db.likes("a").await, None, "nothing of it was guessed");
}

/// In the first record of the oldest segment.
fn flip_a_bit(stream: &Path) {
    let mut segments: Vec<PathBuf> = std::fs::read_dir(stream)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "wal"))
        .collect();
    segments.sort();
    let mut bytes = std::fs::read(&segments[0]).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&segments[0], bytes).unwrap();
}

#[tokio::test]
async fn with_an_interval_an_operation_is_acknowledged_before_it_is_synced() {
    let db = open!();
    let journals = Journals::new();
    let sync = JournalSync::Interval(Duration::from_millis(20));
    let process = journals.process(&db, sync).await;
    let submitted = process.submit(None, like("a").into_task().unwrap()).unwrap();
    assert_eq!(submitted.journaled.acknowledged().await.unwrap(), Level::Memory);
    let disk: Arc<dyn zmsg_core::DiskSync> = Arc::new(submitted.journaled);
    disk.synced().await.unwrap();
    assert!(disk.is_synced());
    drop((process, disk));
    assert_eq!(journals.recover(&db).await.unwrap().ops, 1);
    assert_eq!(db.likes("a").await, Some(1));
}

/// The last flush of a process that was killed is still on its way at the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_the_server_is_still_working_on_is_waited_for() {
    if !crate::ON_A_SERVER {
        return;
    }
    let db = open!();
    let journals = Journals::new();
    let process = journals.process(&db, JournalSync::Always).await;
    accept(&process, like("a")).await;
    let shown = format!("{:?}", process.journal());
    let stream = shown["Journal(".len()..].split(',').next().unwrap().to_owned();
    drop(process);

    let last_flush = {
        let store = db.store.clone();
        let texts = [
            format!("UPDATE zmsg_ledger SET seq = 1 WHERE stream = '{stream}'::uuid"),
            "UPDATE feeds SET likes = 1 WHERE id = 'a'".to_owned(),
            "SELECT pg_sleep(1)".to_owned(),
        ];
        let steps = texts.map(|text| Step::any(Statement::query(text, vec![])));
        db.tracker.spawn(async move { store.execute_all(steps.into()).await.unwrap() })
    };
    let sleeps = "SELECT count(*) FROM pg_stat_activity \
                  WHERE wait_event = 'PgSleep' AND datname = current_database()";
    while db.int(sleeps).await == Some(0) {
        tokio::task::yield_now().await;
    }
    assert_eq!(journals.recover(&db).await.unwrap().ops, 0);
    last_flush.await.unwrap();
    assert_eq!(db.likes("a").await, Some(1), "and not twice");
}
