//! What `sql_exec` promises.

use zmsg::{ErrorKind, sql};

use crate::support::{Engine, insert};

#[tokio::test]
async fn returning_gives_its_rows() {
    let engine = Engine::open().await;
    let result = engine.zmsg.sql_exec(insert("feed_1", "hello").returning(["id", "data"])).await;
    let result = result.unwrap();
    assert_eq!(result.changed, 1);
    assert_eq!(result.rows[0].text(1).unwrap(), "hello");
}

#[tokio::test]
async fn a_query_gives_its_rows() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    let result = engine.zmsg.sql_exec(sql("SELECT id FROM feeds WHERE data = ?", ("hello",))).await;
    assert_eq!(result.unwrap().rows[0].text(0).unwrap(), "feed_1");
}

#[tokio::test]
async fn named_keys_leave_the_caches() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "old").await;
    let update = sql("UPDATE feeds SET data = 'new' WHERE id = ?", ("feed_1",)).keys(["feed_1"]);
    engine.zmsg.sql_exec(update).await.unwrap();
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn transaction_control_and_several_statements_are_refused() {
    let engine = Engine::open().await;
    for text in [
        "BEGIN",
        "COMMIT",
        "  /* x */ rollback",
        "SELECT 1; DELETE FROM feeds",
        "DELETE FROM feeds",
        "UPDATE feeds SET data = 'x'",
        "PRAGMA journal_mode = DELETE",
        "ATTACH 'other.db' AS other",
    ] {
        let error = engine.zmsg.sql_exec(sql(text, ())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
    }
}

#[tokio::test]
async fn hostile_names_and_values_change_nothing_else() {
    let engine = Engine::open().await;
    let value = "'); DROP TABLE feeds; --";
    engine.insert("feed_1", value).await;
    assert_eq!(engine.data("feed_1").await.as_deref(), Some(value));
    let op = zmsg::counter("feeds\"; DROP TABLE feeds; --", "likes").inc(1).where_eq("id", "x");
    assert!(engine.zmsg.cache_and_store("feed_1", "x", op).await.is_err());
    assert_eq!(engine.count("SELECT count(*) FROM feeds").await, 1);
}
