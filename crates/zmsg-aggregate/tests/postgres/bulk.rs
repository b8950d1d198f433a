//! Many groups in one statement.

use serde_json::json;
use zmsg_core::{OnMissing, Receipt, Value};
use zmsg_sqlbuilder::{counter, map};

use crate::database::{Database, open, refusal};

/// How many rows the tables of these tests have.
const ROWS: i64 = 2_000;

/// A table of numbered rows with one counter, `n`.
async fn create(db: &Database, definition: &str) {
    db.run(&format!("CREATE TABLE {definition}"), vec![]).await;
}

async fn fill(db: &Database, table: &str, columns: &str, row: &str) {
    let text = format!(
        "INSERT INTO {table} ({columns}) SELECT {row} FROM generate_series(1, {ROWS}) AS i"
    );
    db.run(&text, vec![]).await;
}

/// A database with a table `counts` of rows 1 to `ROWS`.
macro_rules! open_counts {
    () => {{
        let db = open!();
        create(&db, "counts (id bigint PRIMARY KEY, n bigint, m jsonb)").await;
        fill(&db, "counts", "id", "i").await;
        db
    }};
}

fn count(id: i64) -> zmsg_sqlbuilder::OpBuilder {
    counter("counts", "n").inc(1).where_eq("id", id)
}

async fn sum(db: &Database, table: &str) -> Option<i64> {
    db.int(&format!("SELECT sum(n)::bigint FROM {table}")).await
}

async fn all_applied(receipts: impl IntoIterator<Item = Receipt>) {
    for receipt in receipts {
        receipt.applied().await.unwrap();
    }
}

#[tokio::test]
async fn rows_that_change_alike_are_one_statement_for_each_shard() {
    let db = open_counts!();
    let receipts: Vec<_> = (1..=ROWS).map(|id| db.submit(count(id))).collect();
    let report = db.aggregator.flush_all().await.unwrap();
    assert_eq!((report.ops, report.rows_changed), (2_000, 2_000));
    assert!(report.statements <= 16, "{report:?}");
    all_applied(receipts).await;
    assert_eq!(db.int("SELECT count(*) FROM counts WHERE n = 1").await, Some(ROWS));
}

#[tokio::test]
async fn two_batch_keys_that_name_one_row_both_take_effect() {
    let db = open_counts!();
    for id in 1..=ROWS {
        for batch_key in ["a", "b", "c"] {
            let _ = db.submit(count(id).batch_key(format!("{batch_key}{id}")));
        }
    }
    db.aggregator.flush_all().await.unwrap();
    assert_eq!(db.int("SELECT count(*) FROM counts WHERE n = 3").await, Some(ROWS));
}

#[tokio::test]
async fn one_batch_key_of_many_rows_is_still_one_statement() {
    let db = open_counts!();
    for id in 1..=ROWS {
        let _ = db.submit(count(id).batch_key("all"));
    }
    let report = db.aggregator.flush_all().await.unwrap();
    assert!(report.statements < 100, "{report:?}");
    assert_eq!(sum(&db, "counts").await, Some(ROWS));
}

#[tokio::test]
async fn a_refused_row_among_many_is_found_and_the_others_take_effect_once() {
    let db = open_counts!();
    let full = [7, 1_000, 1_999];
    db.run("UPDATE counts SET n = 9223372036854775807 WHERE id IN (7, 1000, 1999)", vec![]).await;
    let receipts: Vec<_> =
        (1..=ROWS).map(|id| (id, db.submit(count(id).batch_key("all")))).collect();
    let report = db.aggregator.flush_all().await.unwrap();
    assert_eq!(report.dead_lettered, 3);
    for (id, receipt) in receipts {
        assert_eq!(receipt.applied().await.is_err(), full.contains(&id), "{id}");
    }
    assert_eq!(db.int("SELECT count(*) FROM counts WHERE n = 1").await, Some(ROWS - 3));
    let letters = db.letters().list(None, 10).await.unwrap();
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|letter| letter.cause.contains("22003")), "{letters:?}");
    assert!(letters.iter().any(|letter| letter.summary.contains("id = 1999")), "{letters:?}");
}

#[tokio::test]
async fn many_refused_rows_among_many_are_found_by_parking_and_halving() {
    let db = open_counts!();
    db.run("UPDATE counts SET n = 9223372036854775807 WHERE id % 50 = 0", vec![]).await;
    for id in 1..=ROWS {
        let _ = db.submit(count(id).batch_key("all"));
    }
    let report = db.aggregator.flush_all().await.unwrap();
    assert_eq!(report.dead_lettered, 40);
    assert_eq!(db.int("SELECT count(*) FROM counts WHERE n = 1").await, Some(ROWS - 40));
    let letters = db.letters().list(None, 100).await.unwrap();
    assert_eq!(letters.len(), 40);
    assert!(letters.iter().all(|letter| !letter.cause.contains("searched for")), "{letters:?}");
}

#[tokio::test]
async fn missing_rows_among_many_are_kept_each_by_itself() {
    let db = open_counts!();
    for round in 1..=3_i64 {
        let receipts: Vec<_> =
            (1..=ROWS + 100).map(|id| (id, db.submit(count(id).batch_key("all")))).collect();
        let report = db.aggregator.flush_all().await.unwrap();
        assert_eq!((report.dead_lettered, report.rows_changed), (100, 2_000), "{round}");
        for (id, receipt) in receipts {
            assert_eq!(receipt.applied().await.is_err(), id > ROWS, "{round}: {id}");
        }
        assert_eq!(sum(&db, "counts").await, Some(round * ROWS));
    }
    // A letter of a statement of many groups is retried by itself.
    db.run("INSERT INTO counts (id) VALUES (2001)", vec![]).await;
    let report = db.letters().retry_all().await.unwrap();
    assert_eq!((report.applied.len(), report.refused.len()), (3, 297));
    assert_eq!(db.int("SELECT n FROM counts WHERE id = 2001").await, Some(3));
}

#[tokio::test]
async fn rows_that_a_trigger_keeps_from_changing_count_as_missing() {
    let db = open_counts!();
    let function = "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS \
                    $$ BEGIN IF NEW.id = 5 THEN RETURN NULL; END IF; RETURN NEW; END $$";
    db.run(function, vec![]).await;
    let trigger = "CREATE TRIGGER keep BEFORE UPDATE ON counts \
                   FOR EACH ROW EXECUTE FUNCTION keep()";
    db.run(trigger, vec![]).await;
    for id in 1..=100 {
        let _ = db.submit(count(id).batch_key("all"));
    }
    let report = db.aggregator.flush_all().await.unwrap();
    assert_eq!((report.dead_lettered, report.rows_changed), (1, 99));
}

#[tokio::test]
async fn missing_rows_are_inserted_or_ignored_many_at_a_time() {
    let db = open_counts!();
    for id in 1..=2 * ROWS {
        let _ = db.submit(count(id).on_missing(OnMissing::Insert));
        let _ = db.submit(count(10 * ROWS + id).on_missing(OnMissing::Ignore));
    }
    let report = db.aggregator.flush_all().await.unwrap();
    assert_eq!(report.dead_lettered, 0);
    assert!(report.statements < 150, "{report:?}");
    assert_eq!(db.int("SELECT count(*) FROM counts").await, Some(2 * ROWS));
    assert_eq!(db.int("SELECT count(*) FROM counts WHERE n = 1").await, Some(2 * ROWS));
}

/// Two processes insert the same missing rows at once.
async fn two_insert(db: &Database, definition: &str) {
    create(db, definition).await;
    let second = zmsg_aggregate::Aggregator::open(
        db.store.clone(),
        zmsg_aggregate::FlushPolicy::default(),
        db.clock.clone(),
        db.observer.clone(),
        db.tracker.clone(),
    );
    let second = second.await.unwrap();
    for round in 1..=5_i64 {
        for id in 1..=300 {
            let new = || counter("hits", "n").inc(1).where_eq("id", round * 1_000 + id);
            let _ = db.submit(new().on_missing(OnMissing::Insert));
            let again = new().on_missing(OnMissing::Insert);
            let task = zmsg_core::IntoTask::into_task(again).unwrap();
            let _ = second.submit(None, task).unwrap();
        }
        tokio::join!(flush_until_done(&db.aggregator), flush_until_done(&second));
        assert_eq!(db.int("SELECT count(*) FROM hits").await, Some(round * 300));
        assert_eq!(sum(db, "hits").await, Some(round * 600));
    }
    assert_eq!(db.letters().count().await.unwrap(), 0);
}

/// They may be in each other's way for a while.
async fn flush_until_done(aggregator: &zmsg_aggregate::Aggregator) {
    while let Err(error) = aggregator.flush_all().await {
        assert!(error.is_temporary(), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_insert_the_same_rows_insert_each_once() {
    let db = open!();
    two_insert(&db, "hits (id bigint PRIMARY KEY, n bigint)").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_inserted_once_also_where_no_constraint_asks_for_it() {
    let db = open!();
    two_insert(&db, "hits (id bigint, n bigint)").await;
}

#[tokio::test]
async fn a_missing_row_whose_unique_value_is_taken_is_refused() {
    let db = open!();
    create(&db, "members (grp bigint, id bigint PRIMARY KEY, n bigint)").await;
    db.run("INSERT INTO members VALUES (1, 7, 0)", vec![]).await;
    let receipts: Vec<_> = (1..=20_i64)
        .map(|id| {
            let hit = counter("members", "n").inc(1).where_eq("grp", 2).where_eq("id", id);
            db.submit(hit.on_missing(OnMissing::Insert).batch_key("all"))
        })
        .collect();
    db.aggregator.flush_all().await.unwrap();
    for (id, receipt) in (1..).zip(&receipts) {
        assert_eq!(receipt.applied().await.is_err(), id == 7, "{id}");
    }
    assert!(refusal(&receipts[6]).await.to_string().contains("unique"));
    assert_eq!(db.int("SELECT count(*) FROM members WHERE n = 1").await, Some(19));
}

#[tokio::test]
async fn a_condition_may_meet_many_rows() {
    let db = open!();
    create(&db, "members (id bigint PRIMARY KEY, grp bigint, n bigint)").await;
    fill(&db, "members", "id, grp", "i, i % 100").await;
    for grp in 0..=100_i64 {
        let _ = db.submit(counter("members", "n").inc(grp).where_eq("grp", grp).batch_key("all"));
    }
    let report = db.aggregator.flush_all().await.unwrap();
    assert_eq!((report.dead_lettered, report.rows_changed), (1, 2_000));
    assert_eq!(sum(&db, "members").await, Some(20 * (0..100).sum::<i64>()));
}

#[tokio::test]
async fn documents_fold_many_at_a_time() {
    let db = open_counts!();
    for id in 1..=ROWS {
        let key = format!("k'\"\\ {id} 列");
        let _ = db.submit(map("counts", "m").set(&key, json!({"id": id})).where_eq("id", id));
        let _ = db.submit(map("counts", "m").set("n", u64::MAX).where_eq("id", id));
        let _ = db.submit(map("counts", "m").del("none").where_eq("id", id));
    }
    let report = db.aggregator.flush_all().await.unwrap();
    assert!(report.statements <= 16, "{report:?}");
    let query = "SELECT count(*) FROM counts WHERE m = jsonb_build_object(\
                 'k''\"\\ ' || id || ' 列', jsonb_build_object('id', id), \
                 'n', 18446744073709551615)";
    assert_eq!(db.int(query).await, Some(ROWS));
}

#[tokio::test]
async fn a_document_that_the_server_cannot_hold_is_kept() {
    let db = open_counts!();
    let bad = db.submit(map("counts", "m").set("k", "a\0b").where_eq("id", 1).batch_key("all"));
    let good: Vec<_> = (2..=50_i64)
        .map(|id| db.submit(map("counts", "m").set("k", "v").where_eq("id", id).batch_key("all")))
        .collect();
    db.aggregator.flush_all().await.unwrap();
    all_applied(good).await;
    refusal(&bad).await;
    assert_eq!(db.letters().count().await.unwrap(), 1);
}

#[tokio::test]
async fn names_and_values_are_taken_as_they_are() {
    let db = open!();
    db.run("CREATE SCHEMA \"a \"\"b\"", vec![]).await;
    create(
        &db,
        "\"a \"\"b\".\"t; --\" (\"k$1 ?\" text PRIMARY KEY, \"N\"\"n\" bigint, t bigint, g bigint)",
    )
    .await;
    let keys = ["'; DROP TABLE feeds; --", "{1,2}", "\"", "\\", "NULL", "", "列 😀", "a,b"];
    for key in keys {
        db.run("INSERT INTO \"a \"\"b\".\"t; --\" VALUES (?, 1, 1, 1)", vec![key.into()]).await;
    }
    let receipts: Vec<_> = keys
        .into_iter()
        .flat_map(|key| {
            ["N\"n", "t", "g"].map(|column| {
                let add = counter("a \"b.t; --", column).inc(1).where_eq("k$1 ?", key);
                db.submit(add.batch_key("all"))
            })
        })
        .collect();
    let report = db.aggregator.flush_all().await.unwrap();
    all_applied(receipts).await;
    assert_eq!(report.statements, 1);
    let query =
        "SELECT count(*) FROM \"a \"\"b\".\"t; --\" WHERE \"N\"\"n\" = 2 AND t = 2 AND g = 2";
    assert_eq!(db.int(query).await, Some(8));
}

#[tokio::test]
async fn a_table_that_was_altered_meanwhile_loses_nothing() {
    let db = open_counts!();
    let submit = |db: &Database| (1..=50_i64).map(|id| db.submit(count(id))).collect::<Vec<_>>();
    let first = submit(&db);
    db.aggregator.flush_all().await.unwrap();
    all_applied(first).await;
    db.run("ALTER TABLE counts ALTER COLUMN id TYPE text, ALTER COLUMN n TYPE smallint", vec![])
        .await;
    let texts: Vec<_> = (1..=50_i64)
        .map(|id| db.submit(counter("counts", "n").inc(1).where_eq("id", id.to_string())))
        .collect();
    db.aggregator.flush_all().await.unwrap();
    all_applied(texts).await;
    assert_eq!(db.int("SELECT count(*) FROM counts WHERE n = 2").await, Some(50));
}

/// The condition's column has this type, and the values are these.
async fn looked_up_by(kind: &str, row: &str, values: Vec<Value>) {
    let Some(db) = Database::open_with(zmsg_aggregate::FlushPolicy::default()).await else {
        return;
    };
    create(&db, &format!("things (k {kind}, n bigint)")).await;
    db.run(
        &format!("INSERT INTO things (k) SELECT {row} FROM generate_series(1, 10) AS i"),
        vec![],
    )
    .await;
    let count = values.len();
    let receipts: Vec<_> = values
        .into_iter()
        .map(|value| db.submit(counter("things", "n").inc(1).where_eq("k", value).batch_key("all")))
        .collect();
    db.aggregator.flush_all().await.unwrap();
    for receipt in receipts {
        let applied = receipt.applied().await;
        assert!(applied.is_ok(), "{kind}: {applied:?}");
    }
    let changed = db.int("SELECT count(*) FROM things WHERE n = 1").await;
    assert_eq!(changed, i64::try_from(count).ok(), "{kind}");
}

#[tokio::test]
async fn rows_are_looked_up_by_columns_of_any_type() {
    let ints = || (1..=10_i64).map(Value::Int).collect::<Vec<_>>();
    let texts = || (1..=10).map(|i| Value::Text(format!("a{i}"))).collect::<Vec<_>>();
    for kind in ["smallint", "integer", "bigint", "numeric(20, 2)", "double precision"] {
        looked_up_by(kind, "i", ints()).await;
    }
    for kind in ["text", "varchar(10)", "char(10)", "text COLLATE \"C\""] {
        looked_up_by(kind, "'a' || i", texts()).await;
    }
    let uuids = (1..=10_u128).map(uuid::Uuid::from_u128);
    let uuid = "lpad(i::text, 32, '0')::uuid";
    let decimal =
        |id: uuid::Uuid| uuid::Uuid::parse_str(&format!("{:0>32}", id.as_u128())).unwrap();
    looked_up_by("uuid", uuid, uuids.clone().map(|id| Value::Uuid(decimal(id))).collect()).await;
    let spelled = uuids.map(|id| Value::Text(decimal(id).to_string().to_uppercase()));
    looked_up_by("uuid", uuid, spelled.collect()).await;
    let bytes = (1..=10_u8).map(|i| Value::from(format!("a{i}").into_bytes())).collect();
    looked_up_by("bytea", "convert_to('a' || i, 'UTF8')", bytes).await;
    let moments = (1..=10).map(|i| Value::Timestamp(zmsg_core::Timestamp(i * 1_000_001))).collect();
    looked_up_by("timestamptz", "to_timestamp(0) + i * interval '1.000001 s'", moments).await;
}

#[tokio::test]
async fn texts_that_a_collation_takes_for_one_are_not_put_together() {
    let db = open!();
    let nocase = "CREATE COLLATION nocase \
                  (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";
    db.run(nocase, vec![]).await;
    create(&db, "names (name text COLLATE nocase PRIMARY KEY, n bigint)").await;
    fill(&db, "names", "name", "'name' || i").await;
    for id in 1..=200 {
        for name in [format!("NAME{id}"), format!("name{id}"), format!("Name{id}")] {
            let _ = db.submit(counter("names", "n").inc(1).where_eq("name", name).batch_key("all"));
        }
    }
    db.aggregator.flush_all().await.unwrap();
    assert_eq!(db.int("SELECT count(*) FROM names WHERE n = 3").await, Some(200));
}
