//! What the builders of foldable operations make.

use serde_json::json;
use zmsg_core::{
    Condition, ErrorKind, Ident, IntoTask, MapOp, OnMissing, Op, OpKind, SliceOp, Task, Value,
};
use zmsg_sqlbuilder::{Dialect, OpBuilder, condition, counter, map, render, slice, table};

/// The operation, and its condition as each database gets it.
fn shown(builder: OpBuilder) -> String {
    let op = builder.op().unwrap();
    let mut target = String::new();
    op.table.write_quoted(&mut target);
    target.push('.');
    op.column.write_quoted(&mut target);
    let (text, binds) = condition(&op.condition).unwrap();
    let text = |dialect| render(&text, binds.len(), dialect).unwrap();
    let (postgres, sqlite) = (text(Dialect::Postgres), text(Dialect::Sqlite));
    // The kind itself hides its values from logs; its parts do not.
    let kind = match &op.kind {
        OpKind::Counter(step) => format!("Counter({step:?})"),
        OpKind::Slice(step) => format!("Slice({step:?})"),
        OpKind::Map(step) => format!("Map({step:?})"),
        OpKind::Merge(patch) => format!("Merge({patch:?})"),
    };
    format!("{target} {kind}\n{postgres}\n{sqlite}")
}

fn refused(builder: OpBuilder) -> String {
    let shown = format!("{builder:?}");
    let error = builder.op().expect_err(&shown);
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    error.to_string()
}

fn like() -> OpBuilder {
    counter("feed_meta", "like_count").inc(1)
}

#[test]
fn counter_operations() {
    let likes = || counter("app.feed_meta", "like_count");
    let one = |builder: OpBuilder| shown(builder.where_eq("id", "feed_1"));
    insta::assert_snapshot!(one(likes().inc(1)), @r#"
    "app"."feed_meta"."like_count" Counter(Inc(Int(1)))
    "id" = $1
    "id" = ?
    "#);
    insta::assert_snapshot!(one(likes().dec(i64::MIN)), @r#"
    "app"."feed_meta"."like_count" Counter(Dec(Int(-9223372036854775808)))
    "id" = $1
    "id" = ?
    "#);
    insta::assert_snapshot!(one(likes().mul(0.5)), @r#"
    "app"."feed_meta"."like_count" Counter(Mul(Float(0.5)))
    "id" = $1
    "id" = ?
    "#);
    insta::assert_snapshot!(one(likes().set(7_u32)), @r#"
    "app"."feed_meta"."like_count" Counter(Set(Int(7)))
    "id" = $1
    "id" = ?
    "#);
    insta::assert_snapshot!(one(likes().clean()), @r#"
    "app"."feed_meta"."like_count" Counter(Clean)
    "id" = $1
    "id" = ?
    "#);
}

#[test]
fn slice_operations() {
    let members = || slice("chats", "members");
    let kind = |builder: OpBuilder| builder.all_rows().op().unwrap().kind;
    assert_eq!(kind(members().add("ann")), OpKind::Slice(SliceOp::Add(vec![json!("ann")])));
    assert_eq!(
        kind(members().add_all([1, 2])),
        OpKind::Slice(SliceOp::Add(vec![json!(1), json!(2)]))
    );
    assert_eq!(
        kind(members().del(json!({"a": 1}))),
        OpKind::Slice(SliceOp::Del(vec![json!({"a": 1})]))
    );
    assert_eq!(kind(members().del_all(["a"])), OpKind::Slice(SliceOp::Del(vec![json!("a")])));
    assert_eq!(kind(members().clean()), OpKind::Slice(SliceOp::Clean));
    insta::assert_snapshot!(shown(members().add("ann").all_rows()), @r#"
    "chats"."members" Slice(Add([String("ann")]))
    1 = 1
    1 = 1
    "#);
}

#[test]
fn map_operations() {
    let last = || map("chats", "last");
    let kind = |builder: OpBuilder| builder.all_rows().op().unwrap().kind;
    assert_eq!(kind(last().set("a", 1)), OpKind::Map(MapOp::Set("a".into(), json!(1))));
    assert_eq!(kind(last().del("it's \"a\"")), OpKind::Map(MapOp::Del("it's \"a\"".into())));
    assert_eq!(kind(last().clean()), OpKind::Map(MapOp::Clean));
    let patch = json!({"a": null, "b": {"c": 1}});
    assert_eq!(kind(last().merge(patch.clone())), OpKind::Merge(patch));
}

#[test]
fn conditions_are_joined_and_bound() {
    let two = like().where_eq("id", "feed_1").where_eq("lang", "de");
    insta::assert_snapshot!(shown(two), @r#"
    "feed_meta"."like_count" Counter(Inc(Int(1)))
    "id" = $1 AND "lang" = $2
    "id" = ? AND "lang" = ?
    "#);
    let any = like().where_sql("id = ? OR (parent = ? AND NOT hidden)", ("feed_1", "feed_2"));
    insta::assert_snapshot!(shown(any), @r#"
    "feed_meta"."like_count" Counter(Inc(Int(1)))
    (id = $1 OR (parent = $2 AND NOT hidden))
    (id = ? OR (parent = ? AND NOT hidden))
    "#);
}

#[test]
fn a_comment_in_a_condition_cannot_swallow_what_follows() {
    let commented = like().where_sql("/* a */ id = ? /* b */ AND c -- the end", (1,));
    assert_eq!(condition(&commented.op().unwrap().condition).unwrap().0, "(id = ? /* b */ AND c)");
}

#[test]
fn both_spellings_make_the_same_operation() {
    let same = |one: OpBuilder, two: OpBuilder| {
        assert_eq!(one.where_eq("id", 1).op().unwrap(), two.where_eq("id", 1).op().unwrap());
    };
    same(counter("t", "c").inc(1), table("t").column("c").counter().inc(1));
    same(slice("s.t", "c").add(1), table("s.t").column("c").slice().add(1));
    same(map("t", "c").set("k", 1), table("t").column("c").map().set("k", 1));
}

#[test]
fn batch_key_and_on_missing_reach_the_operation() {
    let op = like().where_eq("id", 1).batch_key("meta:1").on_missing(OnMissing::Insert).op();
    let Op { batch_key, on_missing, .. } = op.unwrap();
    assert_eq!((batch_key.as_deref(), on_missing), (Some("meta:1"), Some(OnMissing::Insert)));
    let plain = like().where_eq("id", 1).op().unwrap();
    assert_eq!((plain.batch_key, plain.on_missing), (None, None));
}

#[test]
fn a_builder_is_a_task() {
    let Task::Op(op) = like().where_eq("id", 1).into_task().unwrap() else { panic!("no op") };
    assert_eq!(op.condition, Condition::Eq(vec![(Ident::new("id").unwrap(), Value::Int(1))]));
    assert!(like().into_task().is_err());
}

#[test]
fn an_operation_without_a_condition_is_refused() {
    insta::assert_snapshot!(refused(like()), @"an operation without a condition changes every row; add where_eq or where_sql, or call all_rows() if that is meant (table: feed_meta, column: like_count)");
    assert_eq!(like().all_rows().op().unwrap().condition, Condition::AllRows);
}

#[test]
fn conditions_on_null_and_nan_are_refused() {
    insta::assert_snapshot!(refused(like().where_eq("id", None::<i64>)), @r#"no row equals NULL; use where_sql(""id" IS NULL", ()) (table: feed_meta, column: like_count)"#);
    assert!(refused(like().where_eq("x", f64::NAN)).contains("nothing equals NaN"));
}

#[test]
fn equal_floats_make_equal_conditions() {
    let at = |x: f64| like().where_eq("x", x).op().unwrap().condition;
    assert_eq!(at(-0.0), at(0.0));
    assert_ne!(at(-1.0), at(1.0));
}

#[test]
fn conditions_that_contradict_are_refused() {
    let by_id = || like().where_eq("id", 1);
    assert!(refused(by_id().where_eq("id", 2)).contains("names a column twice"));
    assert!(refused(by_id().where_sql("a", ())).contains("one where_sql"));
    assert!(refused(like().where_sql("a", ()).where_sql("b", ())).contains("one where_sql"));
    assert!(refused(like().where_sql("a", ()).where_eq("id", 1)).contains("does not mix"));
    assert!(refused(by_id().all_rows()).contains("contradicts"));
    assert!(refused(like().all_rows().where_eq("id", 1)).contains("does not mix"));
}

#[test]
fn a_condition_in_sql_is_one_expression() {
    for (text, problem) in [
        ("", "condition is empty"),
        (" -- nothing", "condition is empty"),
        ("WHERE id = 1", "without WHERE"),
        ("id = 1; DROP TABLE t", "semicolon"),
        ("id = 1) OR (1 = 1", "brackets"),
        ("(id = 1", "brackets"),
        ("id = a(1]", "brackets"),
        ("id = 'a", "not closed"),
        ("id = 1 /* a", "not closed"),
        ("id = ?", "1 placeholders and 0 binds"),
        ("id = $1", "binds are written `?`"),
    ] {
        let message = refused(like().where_sql(text, ()));
        assert!(message.contains(problem), "{text}: {message}");
        let by_hand = Condition::Sql { text: text.into(), binds: vec![] };
        assert!(condition(&by_hand).is_err(), "{text}");
    }
}

#[test]
fn a_condition_made_by_hand_is_checked_as_well() {
    assert!(condition(&Condition::Eq(vec![])).is_err());
    let null = Condition::Eq(vec![(Ident::new("a").unwrap(), Value::Null)]);
    assert!(condition(&null).is_err());
}

#[test]
fn a_missing_row_is_inserted_only_with_equalities() {
    let insert = |builder: OpBuilder| builder.on_missing(OnMissing::Insert);
    assert!(refused(insert(like().where_sql("a", ()))).contains("where_eq"));
    assert!(refused(insert(like().all_rows())).contains("where_eq"));
    assert!(insert(like()).where_eq("id", 1).op().is_ok());
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let likes = || counter("t", "c");
        for step in
            [likes().inc(number), likes().dec(number), likes().mul(number), likes().set(number)]
        {
            assert!(refused(step.all_rows()).contains("finite numbers only"));
        }
    }
}
