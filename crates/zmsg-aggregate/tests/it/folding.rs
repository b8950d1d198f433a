//! What a flush sends.

use serde_json::json;
use zmsg_aggregate::steps_for;
use zmsg_core::{ErrorKind, OnMissing, Value};
use zmsg_sqlbuilder::{counter, map, slice, sql};
use zmsg_store::SqlStore;

use crate::database::{like, open, refusal};

#[tokio::test]
async fn a_thousand_increments_of_one_row_are_one_update() {
    let db = open!();
    for _ in 0..1_000 {
        let _ = db.submit(like("a"));
    }
    let report = db.aggregator.flush_all().await.unwrap();
    assert_eq!((report.ops, report.statements, report.rows_changed), (1_000, 1, 1));
    let updates = db.store.sent().iter().filter(|text| text.starts_with("UPDATE")).count();
    assert_eq!(updates, 1);
    assert_eq!(db.likes("a").await, Some(1_000));
    let stats = db.aggregator.stats();
    assert_eq!((stats.submitted, stats.folded, stats.statements), (1_000, 999, 1));
    assert_eq!((stats.pending_ops, stats.pending_slots, stats.pending_bytes), (0, 0, 0));
}

#[tokio::test]
async fn columns_of_one_row_are_one_update() {
    let db = open!();
    for _ in 0..10 {
        let _ = db.submit(like("a"));
        let _ = db.submit(counter("feeds", "views").inc(2).where_eq("id", "a"));
        let _ = db.submit(slice("feeds", "tags").add("x").where_eq("id", "a"));
    }
    let report = db.aggregator.flush_all().await.unwrap();
    assert_eq!((report.ops, report.statements), (30, 1));
    assert_eq!(db.likes("a").await, Some(10));
    assert_eq!(db.int("SELECT views FROM feeds WHERE id = 'a'").await, Some(20));
    let tags = db.value("SELECT tags FROM feeds WHERE id = 'a'").await;
    assert_eq!(tags.as_text().unwrap().matches("\"x\"").count(), 10);
}

/// D-Z15: subtracting and multiplying added.
#[tokio::test]
async fn each_step_of_a_counter_does_what_it_says() {
    let db = open!();
    let likes = || counter("feeds", "likes");
    for step in [likes().inc(10), likes().dec(4), likes().mul(7)] {
        let _ = db.submit(step.where_eq("id", "a"));
    }
    db.aggregator.flush_all().await.unwrap();
    assert_eq!(db.likes("a").await, Some(42));
}

/// D-Z16: a decrement first was dropped, an increment after a clean lost, a product applied in the
/// wrong order or replaced by the last factor.
#[tokio::test]
async fn steps_fold_in_the_order_they_came() {
    let db = open!();
    db.run("UPDATE feeds SET likes = 5", vec![]).await;
    let likes = || counter("feeds", "likes");
    let _ = db.submit(likes().dec(3).where_eq("id", "a"));
    for step in [likes().clean(), likes().inc(2)] {
        let _ = db.submit(step.where_eq("id", "b"));
    }
    for step in [likes().mul(3), likes().inc(1)] {
        let _ = db.submit(step.where_eq("id", "c"));
    }
    for step in [likes().mul(2), likes().mul(3)] {
        let _ = db.submit(step.where_eq("id", "d"));
    }
    for step in [likes().inc(9_007_199_254_740_993_i64), likes().dec(5)] {
        let _ = db.submit(step.where_eq("id", "e"));
    }
    db.aggregator.flush_all().await.unwrap();
    assert_eq!(db.likes("a").await, Some(2));
    assert_eq!(db.likes("b").await, Some(2));
    assert_eq!(db.likes("c").await, Some(16));
    assert_eq!(db.likes("d").await, Some(30));
    assert_eq!(db.likes("e").await, Some(9_007_199_254_740_993), "no float on the way");
}

/// D-Z17: of two versions of a row any could win.
#[tokio::test]
async fn an_overwriting_statement_leaves_the_latest() {
    let db = open!();
    for version in 0..100 {
        let body = format!("version {version}");
        let _ = db.submit(
            sql("UPDATE feeds SET body = ? WHERE id = ?", (body, "a"))
                .batch_key("body:a")
                .overwrite(),
        );
    }
    let report = db.aggregator.flush_all().await.unwrap();
    assert_eq!(report.statements, 1);
    let body = db.value("SELECT body FROM feeds WHERE id = 'a'").await;
    assert_eq!(body, Value::from("version 99"));
}

#[tokio::test]
async fn statements_of_one_batch_key_keep_their_order() {
    let db = open!();
    for step in ["body || 'b'", "body || 'c'", "upper(body)", "body || 'd'"] {
        let text = format!("UPDATE feeds SET body = {step} WHERE id = 'a'");
        let _ = db.submit(sql(text, ()).batch_key("body:a"));
    }
    db.run("UPDATE feeds SET body = 'a'", vec![]).await;
    let report = db.aggregator.flush_all().await.unwrap();
    assert_eq!(report.statements, 4);
    let body = db.value("SELECT body FROM feeds WHERE id = 'a'").await;
    assert_eq!(body, Value::from("ABCd"));
}

#[tokio::test]
async fn a_condition_on_the_column_itself_is_asked_each_time() {
    let db = open!();
    db.run("UPDATE feeds SET likes = 2", vec![]).await;
    let mut receipts = Vec::new();
    for _ in 0..3 {
        let take = counter("feeds", "likes").dec(1).where_sql("id = ? AND likes > 0", ("a",));
        receipts.push(db.submit(take));
    }
    let report = db.aggregator.flush_all().await.unwrap();
    assert_eq!(report.statements, 3);
    assert_eq!(db.likes("a").await, Some(0));
    receipts[1].applied().await.unwrap();
    assert!(refusal(&receipts[2]).await.to_string().contains("no row meets"));
}

#[tokio::test]
async fn documents_keep_hostile_keys_and_large_integers() {
    let db = open!();
    let key = "it's \"a\" \\ key 列 $$ -- ?";
    let _ = db.submit(map("feeds", "meta").set(key, 1).where_eq("id", "a"));
    let _ = db.submit(map("feeds", "meta").set("n", u64::MAX).where_eq("id", "a"));
    let _ = db.submit(slice("feeds", "tags").add_all([json!(1), json!(2)]).where_eq("id", "a"));
    let _ = db.submit(slice("feeds", "tags").del(1.0).where_eq("id", "a"));
    db.aggregator.flush_all().await.unwrap();
    let Value::Text(meta) = db.value("SELECT meta FROM feeds WHERE id = 'a'").await else {
        panic!("the document is text")
    };
    let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
    assert_eq!(meta, json!({key: 1, "n": u64::MAX}));
    assert_eq!(db.value("SELECT tags FROM feeds WHERE id = 'a'").await, Value::from("[2]"));
}

#[tokio::test]
async fn a_missing_row_is_kept_inserted_or_ignored() {
    let db = open!();
    let kept = db.submit(like("x"));
    let inserted = db.submit(like("y").on_missing(OnMissing::Insert));
    let again = db.submit(like("y").on_missing(OnMissing::Insert));
    let ignored = db.submit(like("z").on_missing(OnMissing::Ignore));
    let report = db.aggregator.flush_all().await.unwrap();
    assert_eq!(report.dead_lettered, 1);
    let error = refusal(&kept).await;
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains("dead letter: "), "{error}");
    for receipt in [inserted, again, ignored] {
        receipt.applied().await.unwrap();
    }
    assert_eq!(db.likes("y").await, Some(2));
    assert_eq!(db.int("SELECT COUNT(*) FROM feeds").await, Some(6));
}

#[tokio::test]
async fn what_becomes_of_a_missing_row_is_decided_column_by_column() {
    let db = open!();
    let kept = db.submit(like("x"));
    let ignored = counter("feeds", "views").inc(1).where_eq("id", "x");
    let ignored = db.submit(ignored.on_missing(OnMissing::Ignore));
    db.aggregator.flush_all().await.unwrap();
    assert!(kept.applied().await.is_err());
    ignored.applied().await.unwrap();
}

#[tokio::test]
async fn what_can_never_work_is_refused_at_the_door() {
    let db = open!();
    let rows = sql("DELETE FROM feeds WHERE id = ?", ("a",)).returning("id");
    assert_eq!(db.try_submit(rows).unwrap_err().kind(), ErrorKind::Unsupported);
    let own = counter("feeds", "likes").inc(1).where_eq("likes", 1).on_missing(OnMissing::Insert);
    assert_eq!(db.try_submit(own).unwrap_err().kind(), ErrorKind::InvalidInput);
    let nested = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let deep = map("feeds", "meta").set("k", nested).where_eq("id", "a");
    assert_eq!(db.try_submit(deep).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(db.aggregator.stats().submitted, 0);
    assert_eq!(db.aggregator.stats().pending_bytes, 0);
}

#[tokio::test]
async fn the_steps_of_the_other_routes_refuse_a_missing_row() {
    let db = open!();
    let steps = |id: &str, on_missing| {
        steps_for(&like(id).op().unwrap(), on_missing, db.store.dialect()).unwrap()
    };
    db.store.execute_all(steps("a", OnMissing::DeadLetter)).await.unwrap();
    let failed = db.store.execute_all(steps("x", OnMissing::DeadLetter)).await.unwrap_err();
    assert_eq!(failed.error.kind(), ErrorKind::Conflict);
    db.store.execute_all(steps("x", OnMissing::Ignore)).await.unwrap();
    db.store.execute_all(steps("x", OnMissing::Insert)).await.unwrap();
    assert_eq!((db.likes("a").await, db.likes("x").await), (Some(1), Some(1)));
}
