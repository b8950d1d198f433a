//! What the database refuses does not hold up the rest.

use std::sync::atomic::Ordering::SeqCst;

use zmsg_aggregate::FlushPolicy;
use zmsg_core::Value;
use zmsg_sqlbuilder::{counter, slice, sql};

use crate::database::{Database, like, open, refusal};
use crate::flaky::Fault;

/// D-Z14: one failed group held up the others, or went with them.
#[tokio::test]
async fn a_refused_group_does_not_hold_up_the_others() {
    let db = open!();
    db.run("UPDATE feeds SET likes = ?", vec![Value::Int(i64::MAX - 1)]).await;
    db.run("UPDATE feeds SET likes = 0 WHERE id <> 'c'", vec![]).await;
    let receipts: Vec<_> = ["a", "b", "c", "d", "e"]
        .into_iter()
        .flat_map(|id| [db.submit(like(id)), db.submit(like(id))])
        .collect();
    let report = db.aggregator.flush_all().await.unwrap();
    assert_eq!((report.ops, report.dead_lettered), (10, 1));
    for (index, receipt) in receipts.iter().enumerate() {
        assert_eq!(receipt.applied().await.is_err(), index / 2 == 2, "{index}");
    }
    let error = refusal(&receipts[4]).await.to_string();
    let code = "22003";
    assert!(error.contains("leaves the range of a 64-bit") || error.contains(code), "{error}");
    assert_eq!(db.likes("a").await, Some(2));
    assert_eq!(db.likes("c").await, Some(i64::MAX - 1));
    let letters = db.letters().list(None, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    let cause = &letters[0].cause;
    assert!(cause.contains("leaves the range") || cause.contains(code), "{cause}");
    assert_eq!(letters[0].seq.1 - letters[0].seq.0, 1, "both of its operations");
    assert_eq!(letters[0].batch_key, "feeds where id = c");
}

#[tokio::test]
async fn only_the_refused_column_of_a_row_is_kept() {
    let db = open!();
    db.run("UPDATE feeds SET tags = '{}' WHERE id = 'a'", vec![]).await;
    let liked = db.submit(like("a"));
    let tagged = db.submit(slice("feeds", "tags").add("x").where_eq("id", "a"));
    let viewed = db.submit(counter("feeds", "views").inc(3).where_eq("id", "a"));
    let report = db.aggregator.flush_all().await.unwrap();
    assert_eq!((report.statements, report.dead_lettered), (2, 1));
    liked.applied().await.unwrap();
    viewed.applied().await.unwrap();
    assert!(refusal(&tagged).await.to_string().contains("JSON array"));
    assert_eq!(db.likes("a").await, Some(1));
}

#[tokio::test]
async fn a_float_on_an_integer_column_is_kept_with_the_way_out() {
    let db = open!();
    db.run("UPDATE feeds SET likes = 9007199254740993, score = 1.5", vec![]).await;
    let float = db.submit(counter("feeds", "likes").inc(0.5).where_eq("id", "a"));
    let integer = db.submit(counter("feeds", "score").inc(1).where_eq("id", "b"));
    db.aggregator.flush_all().await.unwrap();
    assert!(refusal(&float).await.to_string().contains("inc(1)"));
    assert!(refusal(&integer).await.to_string().contains("inc(1.0)"));
}

/// A table with a deferred constraint: it is checked at the commit, and the database does not say
/// whose it was.
async fn create_replies(db: &Database) {
    db.run(
        "CREATE TABLE replies (id INTEGER PRIMARY KEY, feed TEXT NOT NULL \
         REFERENCES feeds (id) DEFERRABLE INITIALLY DEFERRED) STRICT",
        vec![],
    )
    .await;
}

#[tokio::test]
async fn a_refusal_at_the_commit_is_found_by_halving() {
    let db = open!();
    create_replies(&db).await;
    let reply = |id: i64, feed: &str| {
        sql("INSERT INTO replies (id, feed) VALUES (?, ?)", (id, feed)).batch_key("replies")
    };
    let receipts: Vec<_> = (0..40)
        .map(|id| db.submit(reply(id, if id % 17 == 5 { "nowhere" } else { "a" })))
        .collect();
    let likes = db.submit(like("a").batch_key("replies"));
    let report = db.aggregator.flush_all().await.unwrap();
    assert_eq!(report.dead_lettered, 3);
    for (id, receipt) in receipts.iter().enumerate() {
        assert_eq!(receipt.applied().await.is_err(), id % 17 == 5, "{id}");
    }
    likes.applied().await.unwrap();
    assert_eq!(db.int("SELECT COUNT(*) FROM replies").await, Some(37));
    assert_eq!(db.likes("a").await, Some(1));
    let letters = db.letters().list(None, 10).await.unwrap();
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|letter| !letter.cause.contains("searched for")), "{letters:?}");
}

/// 25 operations of one batch key, of which 12 are refused, flushed with one fault at the given
/// transaction. False if there were not so many transactions.
async fn halving_meets(fault: Fault, at: usize) -> Option<bool> {
    let db = Database::open_with(FlushPolicy::default()).await?;
    let receipts: Vec<_> = (0..25)
        .map(|n| match n % 2 {
            // Between two statements nothing folds.
            0 => db.submit(like("a").batch_key("k")),
            _ => db.submit(sql("UPDATE nowhere SET x = ?", (n,)).all_rows().batch_key("k")),
        })
        .collect();
    db.store.fail_after(at, fault);
    let mut attempts = 0;
    while db.aggregator.stats().pending_ops > 0 {
        let flushed = db.aggregator.flush_all().await;
        attempts += 1;
        assert!(attempts < 5, "{fault:?} at {at}: {flushed:?}");
    }
    for (n, receipt) in receipts.iter().enumerate() {
        assert_eq!(receipt.applied().await.is_err(), n % 2 == 1, "{fault:?} at {at}: {n}");
    }
    assert_eq!(db.likes("a").await, Some(13), "{fault:?} at {at}");
    assert_eq!(db.letters().count().await.unwrap(), 12, "{fault:?} at {at}");
    Some(!db.store.is_armed())
}

#[tokio::test]
async fn halving_is_exact_with_a_fault_at_any_transaction() {
    for fault in [Fault::Temporary, Fault::LostBefore, Fault::LostAfter, Fault::LostAndAway] {
        let mut at = 0;
        loop {
            match halving_meets(fault, at).await {
                Some(true) => at += 1,
                Some(false) => break,
                None => return,
            }
        }
        assert!(at > 20, "{fault:?}: only {at} transactions");
    }
}

#[tokio::test]
async fn a_letter_taken_over_by_hand_while_halving_is_left_alone() {
    let db = open!();
    let receipts: Vec<_> = (0..12)
        .map(|n| db.submit(sql("UPDATE nowhere SET x = ?", (n,)).all_rows().batch_key("k")))
        .collect();
    let liked = db.submit(like("a").batch_key("k"));
    // Nine refusals, the parking, and then a pause.
    db.store.fail_after(10, Fault::Temporary);
    assert!(db.aggregator.flush_all().await.is_err());
    let letters = db.letters().list(None, 20).await.unwrap();
    assert_eq!(letters.len(), 13);
    let by_hand = letters.iter().find(|letter| letter.summary.contains("likes")).unwrap();
    assert!(db.letters().retry(by_hand.id).await.unwrap().is_some());
    db.aggregator.flush_all().await.unwrap();
    assert_eq!(db.likes("a").await, Some(1));
    assert!(format!("{:?}", refusal(&liked).await).contains("by hand"));
    for receipt in &receipts {
        assert!(refusal(receipt).await.to_string().contains("nowhere"));
    }
    assert_eq!(db.letters().count().await.unwrap(), 12);
}

#[tokio::test]
async fn a_table_that_is_missing_takes_only_its_own_operations_along() {
    let db = open!();
    let lost: Vec<_> = (0..200)
        .map(|id| db.submit(counter("nowhere", "likes").inc(1).where_eq("id", i64::from(id))))
        .collect();
    let liked: Vec<_> = ["a", "b", "c", "d", "e"].map(|id| db.submit(like(id))).into();
    db.aggregator.flush_all().await.unwrap();
    for receipt in &liked {
        receipt.applied().await.unwrap();
    }
    for receipt in &lost {
        assert!(refusal(receipt).await.to_string().contains("nowhere"));
    }
    assert_eq!(db.letters().count().await.unwrap(), 200);
    // The work grows with the refused, not with their square.
    assert!(db.store.transactions.load(SeqCst) < 1_000);
}

#[tokio::test]
async fn missing_tables_of_zmsg_blame_no_operation() {
    let db = open!();
    db.run("ALTER TABLE zmsg_ledger RENAME TO elsewhere", vec![]).await;
    let receipt = db.submit(like("a"));
    assert!(db.aggregator.flush_all().await.is_err());
    db.run("ALTER TABLE elsewhere RENAME TO zmsg_ledger", vec![]).await;
    db.aggregator.flush_all().await.unwrap();
    receipt.applied().await.unwrap();
    assert_eq!(db.letters().count().await.unwrap(), 0);
}

#[tokio::test]
async fn a_parking_whose_answer_is_lost_strands_nobody() {
    let db = open!();
    create_replies(&db).await;
    let bad = sql("INSERT INTO replies (id, feed) VALUES (1, 'nowhere')", ()).batch_key("k");
    let bad = db.submit(bad);
    let good: Vec<_> = (0..4).map(|_| db.submit(like("a").batch_key("k"))).collect();
    // The refusal at the commit, then the parking.
    db.store.fail_after(1, Fault::LostAndAway);
    db.aggregator.flush_all().await.unwrap_err();
    db.aggregator.flush_all().await.unwrap();
    for receipt in &good {
        receipt.applied().await.unwrap();
    }
    refusal(&bad).await;
    assert_eq!(db.likes("a").await, Some(4));
    assert_eq!(db.letters().count().await.unwrap(), 1);
}

#[tokio::test]
async fn a_float_counter_on_a_numeric_column_goes_on_past_whole_numbers() {
    let db = open!();
    db.run("CREATE TABLE prices (id TEXT PRIMARY KEY, price DECIMAL(10, 2))", vec![]).await;
    db.run("INSERT INTO prices VALUES ('a', 2.5)", vec![]).await;
    for _ in 0..4 {
        let receipt = db.submit(counter("prices", "price").inc(0.5).where_eq("id", "a"));
        db.aggregator.flush_all().await.unwrap();
        receipt.applied().await.unwrap();
    }
    assert_eq!(db.value("SELECT CAST(price + 0.25 AS REAL) FROM prices").await, Value::Float(4.75));
}
