//! The filter in the engine: it saves trips, and never hides a row.

use std::sync::atomic::Ordering::SeqCst;

use zmsg::{ErrorKind, OnMissing, Presence, Source, counter, sql};

use crate::support::{Engine, eventually, insert};

fn guarded() -> Source {
    Source::sql("feed", "SELECT data FROM feeds WHERE id = ?").keys("SELECT id FROM feeds")
}

async fn seeded(engine: &Engine) {
    engine.zmsg.register(guarded()).unwrap();
    eventually("the filter is seeded", || async {
        engine.zmsg.db_hit("feed_never_written").await.unwrap() == Presence::Absent
    })
    .await;
}

#[tokio::test]
async fn db_hit_has_three_answers() {
    let engine = Engine::open().await;
    assert_eq!(engine.zmsg.db_hit("feed_1").await.unwrap(), Presence::Unknown, "no keys query");
    engine.insert("feed_1", "hello").await;
    seeded(&engine).await;
    assert_eq!(engine.zmsg.db_hit("feed_1").await.unwrap(), Presence::Maybe);
    assert_eq!(engine.zmsg.db_hit("feed_2").await.unwrap(), Presence::Absent);
}

#[tokio::test]
async fn an_absent_key_does_not_reach_the_store() {
    let engine = Engine::open().await;
    seeded(&engine).await;
    let fetches = engine.store.fetches.load(SeqCst);
    for n in 0..200 {
        assert_eq!(engine.get(&format!("feed_absent{n}")).await, None);
    }
    let asked = engine.store.fetches.load(SeqCst) - fetches;
    assert!(asked <= 20, "{asked} of 200 absent keys asked the store");
}

#[tokio::test]
async fn a_row_of_any_route_is_never_hidden_by_the_filter() {
    let engine = Engine::open().await;
    seeded(&engine).await;
    engine.insert("feed_store", "s").await;
    let delayed = engine.zmsg.cache_and_delay_store("feed_delay", "d", insert("feed_delay", "d"));
    delayed.await.unwrap().applied().await.unwrap();
    let op = counter("feeds", "likes").inc(1).where_eq("id", "feed_op");
    let op = op.on_missing(OnMissing::Insert);
    let _ = engine.zmsg.cache_and_periodic_store("feed_op", None, op).await.unwrap();
    let periodic = insert("feed_periodic", "p");
    let _ = engine.zmsg.cache_and_periodic_store("feed_periodic", None, periodic).await.unwrap();
    engine.zmsg.flush().await.unwrap();
    let raw = sql("INSERT INTO feeds (id, data) VALUES ('feed_raw', 'r')", ()).keys(["feed_raw"]);
    engine.zmsg.sql_exec(raw).await.unwrap();
    for (key, value) in
        [("feed_store", "s"), ("feed_delay", "d"), ("feed_periodic", "p"), ("feed_raw", "r")]
    {
        let _ = engine.zmsg.del(key).await.unwrap();
        assert_eq!(engine.get(key).await.as_deref(), Some(value), "{key}");
    }
    assert_ne!(engine.zmsg.db_hit("feed_op").await.unwrap(), Presence::Absent);
}

#[tokio::test]
async fn a_key_that_lives_only_in_a_cache_is_found_past_the_filter() {
    let engine = Engine::open().await;
    seeded(&engine).await;
    let _ = engine.zmsg.cache_only("feed_cached", "here").await.unwrap();
    assert_eq!(engine.get("feed_cached").await.as_deref(), Some("here"));
}

#[tokio::test]
async fn rows_of_an_earlier_start_are_seeded() {
    let engine = Engine::open().await;
    engine.insert("feed_old", "old").await;
    let engine = engine.reopen().await;
    seeded(&engine).await;
    assert_eq!(engine.get("feed_old").await.as_deref(), Some("old"));
}

#[tokio::test]
async fn raw_sql_on_a_guarded_table_names_its_keys() {
    let engine = Engine::open().await;
    seeded(&engine).await;
    let raw = || sql("INSERT INTO feeds (id, data) VALUES ('feed_raw', 'r')", ());
    let error = engine.zmsg.sql_exec(raw()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains(".keys("), "{error}");
    engine.zmsg.sql_exec(sql("UPDATE feeds SET likes = 1", ()).all_rows().no_keys()).await.unwrap();
    engine.zmsg.sql_exec(sql("SELECT id FROM feeds", ())).await.unwrap();
    engine.zmsg.sql_exec(raw().keys(["feed_raw"])).await.unwrap();
    assert_eq!(engine.get("feed_raw").await.as_deref(), Some("r"));
}
