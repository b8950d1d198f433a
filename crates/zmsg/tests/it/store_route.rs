//! What `put`, `cache_and_store`, `del_store` and `cache_only` promise.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use zmsg::{ErrorKind, Level, Zmsg, counter, sql};

use crate::support::{Engine, Fault, config, eventually, insert};

#[tokio::test]
async fn put_is_committed_when_it_returns() {
    let engine = Engine::open().await;
    let receipt = engine.zmsg.put("greeting", "hello").await.unwrap();
    assert_eq!(receipt.level(), Level::Database);
    receipt.applied().await.unwrap();
    assert_eq!(engine.count("SELECT count(*) FROM zmsg_data WHERE id = 'greeting'").await, 1);
    let engine = engine.reopen().await;
    assert_eq!(engine.get("greeting").await.as_deref(), Some("hello"));
    let _ = engine.zmsg.remove("greeting").await.unwrap();
    assert_eq!(engine.get("greeting").await, None);
    assert_eq!(engine.count("SELECT count(*) FROM zmsg_data").await, 0);
}

#[tokio::test]
async fn put_refuses_a_key_that_a_source_serves() {
    let engine = Engine::open().await;
    let error = engine.zmsg.put("feed_1", "lost").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("cache_and_store"), "{error}");
}

#[tokio::test]
async fn a_store_write_is_committed_and_seen_when_it_returns() {
    let engine = Engine::open().await;
    let receipt =
        engine.zmsg.cache_and_store("feed_1", "hello", insert("feed_1", "hello")).await.unwrap();
    assert_eq!(receipt.level(), Level::Database);
    assert_eq!(engine.data("feed_1").await.as_deref(), Some("hello"));
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("hello"));
}

#[tokio::test]
async fn a_failed_statement_changes_neither_table_nor_cache() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "old").await;
    let twice = sql("INSERT INTO feeds (id, data) VALUES (?, ?)", ("feed_1", "new"));
    let error = engine.zmsg.cache_and_store("feed_1", "new", twice).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("old"));
    assert_eq!(engine.data("feed_1").await.as_deref(), Some("old"));
}

#[tokio::test]
async fn an_unknown_outcome_invalidates_the_key() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "old").await;
    engine.store.fail_next(Fault::AnswerLost);
    let write = engine.zmsg.cache_and_store("feed_1", "new", insert("feed_1", "new")).await;
    assert!(write.unwrap_err().is_outcome_unknown());
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("new"), "the next read finds out");
}

#[tokio::test]
async fn a_database_that_is_away_is_a_temporary_error_and_keeps_the_old_value() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "old").await;
    engine.store.fail_next(Fault::Unavailable);
    let write = engine.zmsg.cache_and_store("feed_1", "new", insert("feed_1", "new")).await;
    assert!(write.unwrap_err().is_temporary());
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("old"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_store_write_is_whole() {
    let engine = Engine::open().await;
    let sent = engine.store.sent.load(SeqCst);
    engine.store.hold_writes().await;
    let write = {
        let zmsg = engine.zmsg.clone();
        tokio::spawn(async move {
            zmsg.cache_and_store("feed_1", "hello", insert("feed_1", "hello")).await
        })
    };
    eventually("the write is on its way", || async { engine.store.sent.load(SeqCst) > sent }).await;
    write.abort();
    assert!(write.await.is_err_and(|join| join.is_cancelled()));
    engine.store.release_writes();
    eventually("it commits all the same", || async { engine.data("feed_1").await.is_some() }).await;
    eventually("and is shown", || async { engine.zmsg.stats().await.cache.published == 1 }).await;
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("hello"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_of_one_key_never_leave_the_older_value_in_the_cache() {
    let engine = Engine::open().await;
    for round in 0..50 {
        let writes = (0..4).map(|writer| {
            let zmsg = engine.zmsg.clone();
            tokio::spawn(async move {
                let data = format!("{round}-{writer}");
                let _ =
                    zmsg.cache_and_store("feed_1", &data, insert("feed_1", &data)).await.unwrap();
            })
        });
        for write in writes.collect::<Vec<_>>() {
            write.await.unwrap();
        }
        assert_eq!(engine.get("feed_1").await, engine.data("feed_1").await);
    }
}

#[tokio::test]
async fn a_deleted_row_is_gone_at_return_and_stays_gone() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    let delete = sql("DELETE FROM feeds WHERE id = ?", ("feed_1",));
    let _ = engine.zmsg.del_store("feed_1", delete).await.unwrap();
    assert_eq!(engine.get("feed_1").await, None);
    assert_eq!(engine.data("feed_1").await, None);
    engine.insert("feed_1", "again").await;
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("again"), "the negative entry is gone");
}

#[tokio::test]
async fn del_takes_a_key_out_of_the_caches_and_leaves_its_row() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    let fetches = engine.store.fetches.load(SeqCst);
    let receipt = engine.zmsg.del("feed_1").await.unwrap();
    assert_eq!(receipt.applied().await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("hello"));
    assert!(engine.store.fetches.load(SeqCst) > fetches, "the row was loaded anew");
}

#[tokio::test]
async fn a_cached_value_is_in_no_table_and_its_receipt_says_so() {
    let engine = Engine::open().await;
    let receipt = engine.zmsg.cache_only("session_1", "cookie").await.unwrap();
    assert_eq!(receipt.level(), Level::Memory);
    assert_eq!(receipt.wait(Level::Redis).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(engine.get("session_1").await.as_deref(), Some("cookie"));
    assert_eq!(engine.count("SELECT count(*) FROM zmsg_data").await, 0);
}

#[tokio::test]
async fn an_operation_on_the_store_route_is_applied_at_once() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    let like = counter("feeds", "likes").inc(2).where_eq("id", "feed_1");
    let _ = engine.zmsg.cache_and_store("feed_1", "hello", like).await.unwrap();
    assert_eq!(engine.likes("feed_1").await, 2);
    let nobody = counter("feeds", "likes").inc(2).where_eq("id", "feed_none");
    let error = engine.zmsg.cache_and_store("feed_none", "x", nobody).await.unwrap_err();
    assert!(error.to_string().contains("no row"), "{error}");
}

#[tokio::test]
async fn a_store_write_flushes_what_is_pending_for_its_key_first() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    for _ in 0..10 {
        let like = counter("feeds", "likes").inc(1).where_eq("id", "feed_1");
        let _ = engine.zmsg.cache_and_periodic_store("feed_1", None, like).await.unwrap();
    }
    let double = sql("UPDATE feeds SET likes = likes * 2 WHERE id = ?", ("feed_1",));
    let _ = engine.zmsg.cache_and_store("feed_1", "hello", double).await.unwrap();
    assert_eq!(engine.likes("feed_1").await, 20);
}

#[tokio::test]
async fn only_a_delayed_write_takes_a_delay() {
    let engine = Engine::open().await;
    let write = engine.zmsg.put("greeting", "hello").delay(Duration::from_secs(1)).await;
    assert_eq!(write.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(engine.get("greeting").await, None);
}

#[tokio::test]
async fn two_engines_cannot_share_a_directory() {
    let engine = Engine::open().await;
    let error = Zmsg::open(config(engine.dir.path())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn ids_are_typed_unique_and_parse_back() {
    let engine = Engine::open().await;
    let mut seen = std::collections::HashSet::new();
    let mut last = 0;
    for _ in 0..10_000 {
        let id = engine.zmsg.next_id("feed").await.unwrap();
        assert_eq!(zmsg::Id::parse(id.as_str()).unwrap(), id);
        assert!(id.as_str().starts_with("feed_"));
        let raw = u64::from(id.raw());
        assert!(raw > last, "strictly increasing");
        last = raw;
        assert!(seen.insert(raw));
    }
    let engine = engine.reopen().await;
    for _ in 0..1_000 {
        let raw = u64::from(engine.zmsg.next_id("feed").await.unwrap().raw());
        assert!(seen.insert(raw), "a restart gives no id twice");
    }
}
