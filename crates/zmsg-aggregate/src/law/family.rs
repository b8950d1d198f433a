//! The law for each family of folds, on values that a generator shrinks.

use proptest::prelude::*;
use serde_json::{Map as JsonMap, Value as Json};
use zmsg_core::{CounterOp, MapOp, Number, OpKind, SliceOp, Value};

use crate::algebra::Fold;

fn json() -> impl Strategy<Value = Json> + Clone {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        (-3_i64..3).prop_map(Json::from),
        (-3_i64..3).prop_map(|n| Json::from(n as f64)),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Json::from),
        ".{0,6}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
            prop::collection::vec((key(), inner), 0..3)
                .prop_map(|fields| Json::Object(fields.into_iter().collect::<JsonMap<_, _>>())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> + Clone {
    prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("'\"\\".to_owned()), ".{0,3}"]
}

fn counter<N: Into<Number> + std::fmt::Debug>(
    number: impl Strategy<Value = N> + Clone,
) -> impl Strategy<Value = OpKind> {
    let number = number.prop_map(Into::into);
    prop_oneof![
        number.clone().prop_map(CounterOp::Inc),
        number.clone().prop_map(CounterOp::Dec),
        number.clone().prop_map(CounterOp::Mul),
        number.prop_map(CounterOp::Set),
        Just(CounterOp::Clean),
    ]
    .prop_map(OpKind::Counter)
}

fn integer() -> impl Strategy<Value = i64> + Clone {
    prop_oneof![-5_i64..5, any::<i64>(), Just(i64::MAX), Just(i64::MIN)]
}

fn float() -> impl Strategy<Value = f64> + Clone {
    prop_oneof![(-50_i32..50).prop_map(|n| f64::from(n) / 10.0), any::<f64>()]
        .prop_filter("finite", |f| f.is_finite())
}

fn slice() -> impl Strategy<Value = OpKind> {
    let values = prop::collection::vec(json(), 0..7);
    prop_oneof![
        values.clone().prop_map(SliceOp::Add),
        values.prop_map(SliceOp::Del),
        Just(SliceOp::Clean)
    ]
    .prop_map(OpKind::Slice)
}

fn map() -> impl Strategy<Value = OpKind> {
    prop_oneof![
        (key(), json()).prop_map(|(key, value)| MapOp::Set(key, value)),
        key().prop_map(MapOp::Del),
        Just(MapOp::Clean),
    ]
    .prop_map(OpKind::Map)
}

fn merge() -> impl Strategy<Value = OpKind> {
    json().prop_map(OpKind::Merge)
}

/// `apply(apply(v, a), b) == apply(v, then(a, b))` where the left side is legal, through the text
/// form of every fold.
fn law(column: &Value, first: &OpKind, rest: &[OpKind]) -> Result<(), TestCaseError> {
    let mut one_by_one = Fold::of(first).unwrap().apply(column).ok();
    let mut folded = Some(Fold::of(first).unwrap());
    for step in rest {
        let next = Fold::of(step).unwrap();
        one_by_one = one_by_one.and_then(|value| next.apply(&value).ok());
        folded = folded.and_then(|folded| folded.then(next).ok());
    }
    let Some(folded) = folded else { return Ok(()) };
    prop_assert_eq!(&Fold::decode(&folded.encode()).unwrap(), &folded);
    if let Some(expected) = one_by_one {
        let got = folded.apply(column);
        prop_assert!(got.is_ok(), "{:?}", got);
        prop_assert_eq!(super::table::show(&got.unwrap()), super::table::show(&expected));
    }
    Ok(())
}

fn text(json: impl Strategy<Value = Json>) -> impl Strategy<Value = Value> {
    let text = json.prop_map(|json| Value::Text(json.to_string()));
    prop_oneof![1 => Just(Value::Null), 4 => text]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn integer_counters_keep_the_law(
        start in prop::option::of(integer()),
        first in counter(integer()),
        rest in prop::collection::vec(counter(integer()), 0..8),
    ) {
        law(&start.into(), &first, &rest)?;
    }

    #[test]
    fn float_counters_keep_the_law(
        start in float(),
        first in counter(float()),
        rest in prop::collection::vec(counter(float()), 0..8),
    ) {
        law(&start.into(), &first, &rest)?;
    }

    #[test]
    fn slices_keep_the_law(
        start in text(prop::collection::vec(json(), 0..5).prop_map(Json::from)),
        first in slice(),
        rest in prop::collection::vec(slice(), 0..6),
    ) {
        law(&start, &first, &rest)?;
    }

    #[test]
    fn maps_keep_the_law(
        start in text(json()),
        first in map(),
        rest in prop::collection::vec(map(), 0..6),
    ) {
        law(&start, &first, &rest)?;
    }

    #[test]
    fn merges_keep_the_law(
        start in text(json()),
        first in merge(),
        rest in prop::collection::vec(merge(), 0..6),
    ) {
        law(&start, &first, &rest)?;
    }

    #[test]
    fn folds_compose_in_any_grouping(
        a in merge(), b in merge(), c in merge(),
        x in slice(), y in slice(), z in slice(),
    ) {
        for (a, b, c) in [(a, b, c), (x, y, z)] {
            let fold = |kind: &OpKind| Fold::of(kind).unwrap();
            let left = fold(&a).then(fold(&b)).unwrap().then(fold(&c)).unwrap();
            let right = fold(&a).then(fold(&b).then(fold(&c)).unwrap()).unwrap();
            for start in [Value::Null, Value::from("[1,{},\"x\"]")] {
                let applied = |fold: &Fold| fold.apply(&start).ok();
                prop_assert_eq!(applied(&left), applied(&right));
            }
        }
    }

    #[test]
    fn no_text_makes_decoding_panic(text in ".{0,40}", start in text(json())) {
        if let Ok(fold) = Fold::decode(&text) {
            let _ = fold.apply(&start);
        }
    }
}

#[test]
fn families_that_do_not_mix_are_kept_apart() {
    let integer = Fold::of(&OpKind::Counter(CounterOp::Inc(1.into()))).unwrap();
    let float = Fold::of(&OpKind::Counter(CounterOp::Inc(1.0.into()))).unwrap();
    let map = Fold::of(&OpKind::Map(MapOp::Clean)).unwrap();
    let merge = Fold::of(&OpKind::Merge(Json::Null)).unwrap();
    for (a, b) in [
        (integer.clone(), float.clone()),
        (float, integer),
        (map.clone(), merge.clone()),
        (merge, map),
    ] {
        assert_eq!(a.clone().then(b.clone()), Err((a, b)));
    }
}
