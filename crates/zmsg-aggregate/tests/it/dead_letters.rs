//! Dead letters: listed, retried, dropped.

use uuid::Uuid;
use zmsg_aggregate::FlushPolicy;
use zmsg_core::{ErrorKind, OnMissing};
use zmsg_sqlbuilder::{counter, sql};

use crate::database::{Database, like, open};
use crate::flaky::Fault;

/// Three letters: two likes of feeds that are not there, and an insert that is refused.
async fn three_letters() -> Option<Database> {
    let db = Database::open_with(FlushPolicy::default()).await?;
    let _ = db.submit_for("feed_x", like("x"));
    let _ = db.submit_for("feed_x", like("x"));
    db.aggregator.flush_all().await.unwrap();
    let _ = db.submit_for("feed_y", like("y"));
    db.aggregator.flush_all().await.unwrap();
    let _ = db.submit(sql("INSERT INTO feeds (id) VALUES (?)", ("a",)));
    db.aggregator.flush_all().await.unwrap();
    Some(db)
}

#[tokio::test]
async fn letters_are_listed_in_the_order_they_were_written() {
    let Some(db) = three_letters().await else { return };
    let letters = db.letters();
    assert_eq!(letters.count().await.unwrap(), 3);
    let first = letters.list(None, 2).await.unwrap();
    let rest = letters.list(Some(first[1].id), 2).await.unwrap();
    assert_eq!((first.len(), rest.len()), (2, 1));
    assert_eq!(first[0].batch_key, "feeds where id = x");
    assert_eq!(first[0].summary, "2 operation(s) on likes of feeds where id = x");
    assert_eq!(first[0].keys.iter().map(|key| key.as_str()).collect::<Vec<_>>(), ["feed_x"]);
    assert_eq!(first[0].cause, "no row meets the condition");
    assert_eq!(first[0].created, 1_000_000);
    assert!(rest[0].cause.to_lowercase().contains("unique"), "{}", rest[0].cause);
}

#[tokio::test]
async fn a_letter_is_retried_once_however_often_it_is_tried() {
    let Some(db) = three_letters().await else { return };
    let letters = db.letters();
    let id = letters.list(None, 1).await.unwrap()[0].id;
    let error = letters.retry(id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "the row is still missing");
    db.run("INSERT INTO feeds (id, likes) VALUES ('x', 40)", vec![]).await;
    let retried = letters.retry(id).await.unwrap().unwrap();
    assert_eq!(retried.keys[0].as_str(), "feed_x");
    assert_eq!(letters.retry(id).await.unwrap(), None);
    assert_eq!(db.likes("x").await, Some(42));
    assert_eq!(letters.count().await.unwrap(), 2);
}

#[tokio::test]
async fn two_retries_at_once_apply_a_letter_once() {
    let Some(db) = three_letters().await else { return };
    db.run("INSERT INTO feeds (id) VALUES ('x')", vec![]).await;
    let letters = db.letters();
    let id = letters.list(None, 1).await.unwrap()[0].id;
    db.store.hold();
    let retries = [letters.clone(), letters]
        .map(|letters| db.tracker.spawn(async move { letters.retry(id).await }));
    db.store.reached(2).await;
    db.store.release();
    let [first, second] = retries;
    let applied = [first.await.unwrap().unwrap(), second.await.unwrap().unwrap()];
    assert_eq!(applied.iter().flatten().count(), 1);
    assert_eq!(db.likes("x").await, Some(2));
}

#[tokio::test]
async fn a_retry_whose_answer_was_lost_is_not_repeated() {
    let Some(db) = three_letters().await else { return };
    let letters = db.letters();
    let id = letters.list(None, 1).await.unwrap()[0].id;
    db.run("INSERT INTO feeds (id) VALUES ('x')", vec![]).await;
    db.store.fail([Fault::LostBefore]);
    assert!(letters.retry(id).await.unwrap_err().is_temporary());
    db.store.fail([Fault::LostAfter]);
    assert!(letters.retry(id).await.unwrap().is_some());
    assert_eq!(db.likes("x").await, Some(2));
}

#[tokio::test]
async fn retrying_all_applies_what_can_be_applied_and_keeps_the_rest() {
    let Some(db) = three_letters().await else { return };
    db.run("INSERT INTO feeds (id) VALUES ('y')", vec![]).await;
    let report = db.letters().retry_all().await.unwrap();
    assert_eq!(report.applied.len(), 1);
    assert_eq!(report.applied[0].batch_key, "feeds where id = y");
    assert_eq!(report.refused.len(), 2);
    assert_eq!(db.letters().count().await.unwrap(), 2);
    assert_eq!(db.likes("y").await, Some(1));
}

#[tokio::test]
async fn a_dropped_letter_is_gone() {
    let Some(db) = three_letters().await else { return };
    let letters = db.letters();
    let id = letters.list(None, 1).await.unwrap()[0].id;
    assert!(letters.drop(id).await.unwrap());
    assert!(!letters.drop(id).await.unwrap());
    assert_eq!(letters.retry(id).await.unwrap(), None);
    assert_eq!(letters.retry(Uuid::nil()).await.unwrap(), None);
    assert_eq!(letters.count().await.unwrap(), 2);
}

#[tokio::test]
async fn a_letter_that_may_insert_inserts_when_it_is_retried() {
    let db = open!();
    db.run("CREATE TABLE marks (id INTEGER, n INTEGER CHECK (n < 5)) STRICT", vec![]).await;
    let mark = counter("marks", "n").inc(7).where_eq("id", 1).on_missing(OnMissing::Insert);
    let _ = db.submit(mark);
    db.aggregator.flush_all().await.unwrap();
    let letters = db.letters();
    let id = letters.list(None, 1).await.unwrap()[0].id;
    assert!(letters.retry(id).await.is_err());
    db.run("DROP TABLE marks", vec![]).await;
    db.run("CREATE TABLE marks (id INTEGER, n INTEGER) STRICT", vec![]).await;
    assert!(letters.retry(id).await.unwrap().is_some());
    assert_eq!(db.int("SELECT n FROM marks WHERE id = 1").await, Some(7));
}
