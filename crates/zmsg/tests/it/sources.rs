//! How a read finds its row.

use bytes::Bytes;
use zmsg::{ErrorKind, Source, sql};

use crate::support::Engine;

#[tokio::test]
async fn a_key_goes_to_the_source_with_the_longest_prefix() {
    let engine = Engine::open().await;
    let answer = |text: &'static str| {
        move |key: zmsg::Key| async move { Ok(Some(Bytes::from(format!("{text} {key}")))) }
    };
    engine.zmsg.register(Source::call("feed_meta", answer("meta"))).unwrap();
    engine.zmsg.register(Source::call("user", answer("user"))).unwrap();
    engine.zmsg.register(Source::call("user:42", answer("this user"))).unwrap();
    let _ = engine.zmsg.put("users_1", "own table").await.unwrap();
    for (key, value) in [
        ("feed_meta_7", Some("meta feed_meta_7")),
        ("user:7:name", Some("user user:7:name")),
        ("user:42:name", Some("this user user:42:name")),
        ("users_1", Some("own table")),
        ("user", None),
        ("feed_7", None),
    ] {
        assert_eq!(engine.get(key).await.as_deref(), value, "{key}");
    }
}

#[tokio::test]
async fn a_source_binds_the_whole_key_whatever_it_holds() {
    let engine = Engine::open().await;
    let hostile = "feed_'; DROP TABLE feeds; --";
    engine.insert(hostile, "kept").await;
    let _ = engine.zmsg.del(hostile).await.unwrap();
    assert_eq!(engine.get(hostile).await.as_deref(), Some("kept"));
    assert_eq!(engine.count("SELECT count(*) FROM feeds").await, 1);
}

#[tokio::test]
async fn a_source_is_checked_when_it_is_registered() {
    let engine = Engine::open().await;
    for (prefix, query) in [
        ("", "SELECT 1 WHERE 1 = ?"),
        ("feed_", "SELECT 1 WHERE 1 = ?"),
        ("x", "SELECT 1"),
        ("x", "SELECT 1 WHERE ? = ?"),
    ] {
        let error = engine.zmsg.source(prefix, query).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{prefix} {query}");
    }
}

#[tokio::test]
async fn a_source_that_gives_several_rows_or_columns_is_an_error_that_names_it() {
    let engine = Engine::open().await;
    engine.zmsg.source("wide", "SELECT 1, 2 WHERE 'x' <> ?").unwrap();
    engine.zmsg.source("long", "SELECT 1 WHERE 'x' <> ? UNION ALL SELECT 2").unwrap();
    for key in ["wide_1", "long_1"] {
        let error = engine.zmsg.get(key).await.unwrap_err().to_string();
        assert!(error.contains(&key[..4]), "{error}");
    }
}

#[tokio::test]
async fn a_source_that_fails_is_an_error_and_not_an_absent_row() {
    let engine = Engine::open().await;
    engine.zmsg.source("gone", "SELECT data FROM no_such_table WHERE id = ?").unwrap();
    assert!(engine.zmsg.get("gone_1").await.is_err());
    let create = sql("CREATE TABLE no_such_table (id TEXT, data TEXT)", ());
    engine.zmsg.sql_exec(create).await.unwrap();
    assert_eq!(engine.get("gone_1").await, None, "the error was not cached");
}

#[tokio::test]
async fn sources_of_the_configuration_are_registered() {
    let engine = Engine::with(|config| {
        config.sources.push(zmsg::SourceConfig {
            prefix: "upper".into(),
            sql: "SELECT upper(data) FROM feeds WHERE 'upper_' || id = ?".into(),
            ..Default::default()
        });
    })
    .await;
    engine.insert("feed_1", "hello").await;
    assert_eq!(engine.get("upper_feed_1").await.as_deref(), Some("HELLO"));
}
