//! What `cache_and_delay_store` and `del_delay_store` promise.

use std::time::Duration;

use zmsg::core::{Clock as _, SystemClock};
use zmsg::{Config, ErrorKind, FilterBackend, Level, Value, Zmsg, sql};

use crate::support::{DEADLINE, Engine, Fault, config, eventually, insert};

#[tokio::test]
async fn a_delayed_write_is_shown_at_once_and_applied_once() {
    let engine = Engine::open().await;
    let write = engine.zmsg.cache_and_delay_store("feed_1", "hello", insert("feed_1", "hello"));
    let receipt = write.delay(Duration::from_millis(50)).await.unwrap();
    assert_eq!(receipt.level(), Level::Database, "the task is in the database");
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("hello"), "shown on accept");
    assert_eq!(engine.data("feed_1").await, None, "and not yet in the table");
    receipt.applied().await.unwrap();
    assert_eq!(engine.data("feed_1").await.as_deref(), Some("hello"));
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("hello"));
    assert_eq!(engine.count("SELECT count(*) FROM zmsg_inbox").await, 1);
}

#[tokio::test]
async fn a_delayed_write_survives_close_and_is_applied_by_the_next_start() {
    let engine = Engine::open().await;
    let write = engine.zmsg.cache_and_delay_store("feed_1", "hello", insert("feed_1", "hello"));
    let receipt = write.delay(Duration::from_secs(1)).await.unwrap();
    let engine = engine.reopen().await;
    assert_eq!(receipt.applied().await.unwrap_err().kind(), ErrorKind::Closed);
    eventually("the task was applied", || async { engine.data("feed_1").await.is_some() }).await;
}

/// Has a task of `feed_1` in a database that a process leased for an hour before it was killed.
async fn leased_by_the_dead(config: &Config) {
    let zmsg = Zmsg::open(config.clone()).await.unwrap();
    zmsg.sql_exec(sql("CREATE TABLE feeds (id TEXT PRIMARY KEY, data TEXT, likes INTEGER)", ()))
        .await
        .unwrap();
    let hour = Duration::from_secs(3600);
    let write = zmsg.cache_and_delay_store("feed_1", "hello", insert("feed_1", "hello"));
    let _ = write.delay(hour).await.unwrap();
    let until = (SystemClock.wall() + 3_600_000).cast_signed();
    let lease =
        "UPDATE zmsg_tasks SET state = 'leased', attempt = 1, due_ms = 0, lease_until_ms = ?";
    let leased = zmsg.sql_exec(sql(lease, (until,)).all_rows()).await.unwrap();
    assert_eq!(leased.changed, 1);
    assert!(zmsg.close(DEADLINE).await.unwrap().is_clean());
}

async fn is_applied(zmsg: &Zmsg) -> bool {
    let rows = zmsg.sql_exec(sql("SELECT data FROM feeds", ())).await.unwrap().rows;
    rows.len() == 1
}

#[tokio::test]
async fn what_a_killed_process_had_leased_is_done_after_the_next_opening_not_after_the_lease() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    leased_by_the_dead(&config).await;
    let zmsg = Zmsg::open(config).await.unwrap();
    eventually("the task was applied", || is_applied(&zmsg)).await;
    assert!(zmsg.close(DEADLINE).await.unwrap().is_clean());
}

#[tokio::test]
async fn a_lease_in_a_database_that_others_may_have_open_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.filter.backend = FilterBackend::None;
    leased_by_the_dead(&config).await;
    let zmsg = Zmsg::open(config).await.unwrap();
    let queue = zmsg.stats().await.queue.unwrap();
    assert_eq!((queue.leased, queue.due), (1, 0), "{queue:?}");
    assert!(!is_applied(&zmsg).await);
    assert!(zmsg.close(DEADLINE).await.unwrap().is_clean());
}

#[tokio::test]
async fn a_delayed_task_that_runs_twice_changes_rows_once() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    // The commit happens, its answer is lost, so the task is tried again under the same id.
    engine.store.fail_next(Fault::AnswerLost);
    let add = sql("UPDATE feeds SET likes = likes + 1 WHERE id = ?", ("feed_1",));
    let receipt = engine.zmsg.cache_and_delay_store("feed_1", "hello", add).await.unwrap();
    receipt.applied().await.unwrap();
    assert_eq!(engine.store.faults_left(), 0);
    assert_eq!(engine.likes("feed_1").await, 1);
}

#[tokio::test]
async fn values_keep_their_types_through_the_delayed_route() {
    let engine = Engine::open().await;
    let create = "CREATE TABLE typed (id TEXT PRIMARY KEY, n INTEGER, f REAL, b BLOB, z TEXT)";
    engine.zmsg.sql_exec(sql(create, ())).await.unwrap();
    let id = (1_i64 << 62) + 1;
    let binds = ("typed_1", id, 0.1, &b"\0\xff"[..], Value::Null);
    let write = sql("INSERT INTO typed VALUES (?, ?, ?, ?, ?)", binds);
    let receipt = engine.zmsg.cache_and_delay_store("typed_1", "x", write).await.unwrap();
    receipt.applied().await.unwrap();
    let rows = engine.zmsg.sql_exec(sql("SELECT n, f, b, z FROM typed", ())).await.unwrap().rows;
    let expected = [Value::Int(id), Value::Float(0.1), Value::from(&b"\0\xff"[..]), Value::Null];
    assert_eq!(rows[0].values(), expected);
}

#[tokio::test]
async fn a_delayed_write_that_can_never_succeed_is_a_dead_letter_and_leaves_the_cache() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "old").await;
    let twice = sql("INSERT INTO feeds (id, data) VALUES (?, ?)", ("feed_1", "new"));
    let receipt = engine.zmsg.cache_and_delay_store("feed_1", "new", twice).await.unwrap();
    assert_eq!(receipt.applied().await.unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("old"), "no longer shown");
    let dead = engine.zmsg.dead_letters().list(10).await.unwrap();
    assert_eq!(dead.len(), 1, "{dead:?}");
}

#[tokio::test]
async fn a_task_survives_a_database_that_is_away_for_a_while() {
    let engine = Engine::with(|config| config.queue.retry_base = Duration::from_millis(5)).await;
    let write = engine.zmsg.cache_and_delay_store("feed_1", "hello", insert("feed_1", "hello"));
    let receipt = write.delay(Duration::from_millis(20)).await.unwrap();
    for _ in 0..3 {
        engine.store.fail_next(Fault::Unavailable);
    }
    receipt.applied().await.unwrap();
    assert_eq!(engine.data("feed_1").await.as_deref(), Some("hello"));
    assert!(engine.zmsg.dead_letters().list(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_full_queue_is_overloaded_and_shows_nothing() {
    let engine = Engine::with(|config| config.queue.tasks_max = 1).await;
    let far = Duration::from_secs(3600);
    let first = engine.zmsg.cache_and_delay_store("feed_1", "a", insert("feed_1", "a"));
    let _ = first.delay(far).await.unwrap();
    let second = engine.zmsg.cache_and_delay_store("feed_2", "b", insert("feed_2", "b"));
    let error = second.delay(far).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(engine.get("feed_2").await, None, "what was not accepted is not shown");
}

#[tokio::test]
async fn with_the_fallback_a_refused_task_is_written_now_under_the_same_id() {
    let engine = Engine::with(|config| {
        config.queue.tasks_max = 1;
        config.queue.fallback_to_store = true;
    })
    .await;
    let far = Duration::from_secs(3600);
    let first = engine.zmsg.cache_and_delay_store("feed_1", "a", insert("feed_1", "a"));
    let _ = first.delay(far).await.unwrap();
    let second = engine.zmsg.cache_and_delay_store("feed_2", "b", insert("feed_2", "b"));
    let receipt = second.delay(far).await.unwrap();
    receipt.applied().await.unwrap();
    assert_eq!(engine.data("feed_2").await.as_deref(), Some("b"));
    assert_eq!(engine.get("feed_2").await.as_deref(), Some("b"));
    let id = format!("{}", receipt.id()).replace('-', "").to_uppercase();
    let seen = format!("SELECT count(*) FROM zmsg_inbox WHERE hex(id) = '{id}'");
    assert_eq!(engine.count(&seen).await, 1, "the inbox has the receipt's id");
}

#[tokio::test]
async fn a_delayed_delete_hides_the_row_at_once() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    let delete = sql("DELETE FROM feeds WHERE id = ?", ("feed_1",));
    let write = engine.zmsg.del_delay_store("feed_1", delete).delay(Duration::from_millis(50));
    let receipt = write.await.unwrap();
    assert_eq!(engine.get("feed_1").await, None, "hidden on accept");
    assert_eq!(engine.data("feed_1").await.as_deref(), Some("hello"), "and still in the table");
    receipt.applied().await.unwrap();
    assert_eq!(engine.data("feed_1").await, None);
}

#[tokio::test]
async fn returning_is_refused_on_deferred_routes() {
    let engine = Engine::open().await;
    let returning = || insert("feed_1", "x").returning("id");
    let delayed = engine.zmsg.cache_and_delay_store("feed_1", "x", returning()).await;
    assert_eq!(delayed.unwrap_err().kind(), ErrorKind::Unsupported);
    let periodic = engine.zmsg.cache_and_periodic_store("feed_1", None, returning()).await;
    assert_eq!(periodic.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_deferred_change_is_shown_until_it_is_due() {
    let clock = std::sync::Arc::new(zmsg::core::ManualClock::new(1_700_000_000_000));
    let dir = tempfile::tempdir().unwrap();
    let config = crate::support::config(dir.path());
    let zmsg = zmsg::Zmsg::builder(config).clock(clock.clone()).open().await.unwrap();
    let _ = zmsg.put("note_1", "x").await.unwrap();
    let delete = sql("DELETE FROM zmsg_data WHERE id = ?", ("note_1",));
    let _ = zmsg.del_delay_store("note_1", delete).delay(Duration::from_secs(60)).await.unwrap();
    clock.advance(50_000);
    assert_eq!(zmsg.get("note_1").await.unwrap(), None, "past the TTL of an ordinary absence");
}

#[tokio::test]
async fn a_failed_attempt_does_not_hide_what_was_accepted() {
    let engine = Engine::with(|config| config.queue.retry_base = Duration::from_secs(30)).await;
    let write = engine.zmsg.cache_and_delay_store("feed_1", "hello", insert("feed_1", "hello"));
    let _ = write.delay(Duration::from_millis(20)).await.unwrap();
    engine.store.fail_next(Fault::Unavailable);
    eventually("an attempt failed", || async { engine.store.faults_left() == 0 }).await;
    eventually("and was put off", || async {
        let queue = engine.zmsg.stats().await.queue.unwrap();
        (queue.pending, queue.leased) == (1, 0)
    })
    .await;
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("hello"));
}

#[tokio::test]
async fn a_lost_answer_of_the_queue_does_not_double_the_task() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    let add = sql("UPDATE feeds SET likes = likes + 1 WHERE id = ?", ("feed_1",));
    engine.store.fail_next_of("zmsg_tasks", Fault::AnswerLost);
    let receipt = engine.zmsg.cache_and_delay_store("feed_1", "hello", add).await.unwrap();
    assert_eq!(engine.store.faults_left(), 0);
    receipt.applied().await.unwrap();
    // If a worker was faster than the second offer, that is a task of its own which does nothing.
    eventually("the queue drained", || async {
        let queue = engine.zmsg.stats().await.queue.unwrap();
        queue.pending + queue.leased == 0
    })
    .await;
    assert_eq!(engine.likes("feed_1").await, 1);
    assert_eq!(engine.zmsg.stats().await.queue.unwrap().dead, 0);
}

#[tokio::test]
async fn an_absurd_delay_is_refused() {
    let engine = Engine::with(|config| config.queue.fallback_to_store = true).await;
    let write = engine.zmsg.cache_and_delay_store("feed_1", "x", insert("feed_1", "x"));
    let error = write.delay(Duration::MAX).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(engine.data("feed_1").await, None, "and not written now instead");
}
