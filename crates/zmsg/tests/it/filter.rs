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

#[tokio::test]
async fn rows_that_a_migration_inserts_are_not_hidden() {
    let engine = Engine::open().await;
    seeded(&engine).await;
    let schema = tempfile::tempdir().unwrap();
    let insert = "INSERT INTO feeds (id, data) VALUES ('feed_migrated', 'm');";
    std::fs::write(schema.path().join("1_rows.sql"), insert).unwrap();
    engine.zmsg.load_dir(schema.path()).migrate().await.unwrap();
    assert_eq!(engine.get("feed_migrated").await.as_deref(), Some("m"), "at once");
    seeded(&engine).await;
    let _ = engine.zmsg.del("feed_migrated").await.unwrap();
    assert_eq!(engine.get("feed_migrated").await.as_deref(), Some("m"), "and once seeded anew");
}

#[tokio::test]
async fn a_statement_that_names_several_keys_hides_none_of_them() {
    let engine = Engine::open().await;
    seeded(&engine).await;
    let two = |a: &str, b: &str| {
        sql("INSERT INTO feeds (id, data) VALUES (?, 'x'), (?, 'x')", (a, b)).keys([a, b])
    };
    assert_eq!(engine.get("feed_2").await, None, "remembered as absent");
    let write = two("feed_1", "feed_2");
    let _ = engine.zmsg.cache_and_store("feed_1", "x", write).await.unwrap();
    let write = two("feed_3", "feed_4");
    let receipt = engine.zmsg.cache_and_delay_store("feed_3", "x", write).await.unwrap();
    receipt.applied().await.unwrap();
    for key in ["feed_1", "feed_2", "feed_3", "feed_4"] {
        assert_eq!(engine.get(key).await.as_deref(), Some("x"), "{key}");
    }
    let write = engine.zmsg.cache_and_periodic_store("feed_5", None, two("feed_5", "feed_6")).await;
    assert_eq!(write.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_write_to_a_guarded_table_under_another_key_is_refused() {
    let engine = Engine::open().await;
    seeded(&engine).await;
    let hidden = || sql("INSERT INTO feeds (id, data) VALUES ('feed_9', 'x')", ());
    let op = || {
        let op = counter("feeds", "likes").inc(1).where_eq("id", "feed_9");
        op.on_missing(OnMissing::Insert)
    };
    for refused in [
        engine.zmsg.cache_and_store("user_1", "x", hidden()).await,
        engine.zmsg.cache_and_delay_store("user_1", "x", hidden()).await,
        engine.zmsg.cache_and_periodic_store("user_1", None, hidden()).await,
        engine.zmsg.cache_and_periodic_store("user_1", None, op()).await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let named = hidden().keys(["feed_9"]);
    let _ = engine.zmsg.cache_and_store("user_1", "x", named).await.unwrap();
    assert_eq!(engine.get("feed_9").await.as_deref(), Some("x"));
}

#[tokio::test]
async fn a_source_whose_keys_are_no_cache_keys_rules_nothing_out_and_spoils_no_other() {
    let engine = Engine::open().await;
    engine.zmsg.sql_exec(sql("CREATE TABLE nums (id INTEGER, v TEXT)", ())).await.unwrap();
    engine.zmsg.sql_exec(sql("INSERT INTO nums VALUES (5, 'five')", ())).await.unwrap();
    let by_number = "SELECT v FROM nums WHERE id = CAST(substr(?, 5) AS INTEGER)";
    let source = Source::sql("num", by_number).keys("SELECT id FROM nums");
    engine.zmsg.register(source).unwrap();
    seeded(&engine).await;
    assert_eq!(engine.zmsg.db_hit("num_5").await.unwrap(), Presence::Unknown);
    assert_eq!(engine.get("num_5").await.as_deref(), Some("five"));
    let broken = Source::sql("bad", by_number).keys("SELECT id FROM nums; SELECT 1");
    assert!(engine.zmsg.register(broken).is_err(), "refused when it is registered");
}

#[tokio::test]
async fn keys_that_differ_only_in_case_are_all_seeded() {
    let engine = Engine::open().await;
    let create = "CREATE TABLE notes (id TEXT COLLATE NOCASE, v TEXT)";
    engine.zmsg.sql_exec(sql(create, ())).await.unwrap();
    let insert = "INSERT INTO notes VALUES ('note_a', '1'), ('note_A', '2'), (NULL, '3')";
    engine.zmsg.sql_exec(sql(insert, ())).await.unwrap();
    let load = "SELECT v FROM notes WHERE id = ? COLLATE BINARY";
    engine.zmsg.register(Source::sql("note", load).keys("SELECT id FROM notes -- all")).unwrap();
    seeded(&engine).await;
    eventually("seeded", || async {
        engine.zmsg.db_hit("note_b").await.unwrap() == Presence::Absent
    })
    .await;
    assert_eq!(engine.zmsg.db_hit("note_a").await.unwrap(), Presence::Maybe);
    assert_eq!(engine.zmsg.db_hit("note_A").await.unwrap(), Presence::Maybe);
}

#[tokio::test]
async fn a_local_filter_on_a_store_of_ones_own_needs_the_word_that_there_is_one_node() {
    let engine = Engine::open().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = crate::support::config(dir.path());
    config.filter.single_node = false;
    config.filter.backend = zmsg::FilterBackend::Local;
    let shared = zmsg::Zmsg::builder(config).store(engine.store.clone()).open().await;
    assert_eq!(shared.unwrap_err().kind(), ErrorKind::InvalidConfig);
}

#[tokio::test]
async fn a_source_whose_keys_went_wrong_hides_no_row_after_a_rebuild() {
    let engine = Engine::open().await;
    engine.zmsg.sql_exec(sql("CREATE TABLE notes (id TEXT, v TEXT)", ())).await.unwrap();
    let load = "SELECT v FROM notes WHERE id = ?";
    engine.zmsg.register(Source::sql("note", load).keys("SELECT id FROM notes")).unwrap();
    let insert = |id: &str| sql("INSERT INTO notes VALUES (?, 'n')", (id,)).keys([id]);
    engine.zmsg.sql_exec(insert("note_1")).await.unwrap();
    eventually("seeded", || async {
        engine.zmsg.db_hit("note_2").await.unwrap() == Presence::Absent
    })
    .await;
    let foreign = sql("INSERT INTO notes VALUES ('no key of this source', 'x')", ()).no_keys();
    engine.zmsg.sql_exec(foreign).await.unwrap();
    let rebuilds = engine.zmsg.stats().await.filter.rebuilds;
    seeded(&engine).await;
    eventually("rebuilt", || async { engine.zmsg.stats().await.filter.rebuilds > rebuilds }).await;
    assert_eq!(engine.zmsg.db_hit("note_1").await.unwrap(), Presence::Unknown);
    let _ = engine.zmsg.del("note_1").await.unwrap();
    assert_eq!(engine.get("note_1").await.as_deref(), Some("n"));
}
