//! Ids as text, as numbers, and in the hands of serde and SQL.

use proptest::prelude::*;
use zmsg_core::{ErrorKind, Value};
use zmsg_idgen::{Id, IdParts, Layout, RawId};

proptest! {
    #[test]
    fn an_id_parses_back_from_what_it_prints(
        prefix in "[A-Za-z0-9_:.-]{0,64}",
        raw in 1..=i64::MAX as u64,
    ) {
        let id = Id::new(&prefix, RawId::new(raw).unwrap()).unwrap();
        let parsed = Id::parse(&format!("{id}")).unwrap();
        prop_assert_eq!(&parsed, &id);
        prop_assert_eq!((parsed.prefix(), parsed.raw().get()), (prefix.as_str(), raw));
        prop_assert_eq!(parsed.as_str(), id.as_str());

        let json = serde_json::to_string(&id).unwrap();
        prop_assert_eq!(&json, &format!("\"{id}\""));
        prop_assert_eq!(serde_json::from_str::<Id>(&json).unwrap(), id);
    }

    #[test]
    fn whatever_parses_prints_the_same(text in "\\PC{0,40}|[a-z_]{0,5}_?[+-]?[0-9]{0,22}[ a-z]?") {
        if let Ok(id) = Id::parse(&text) {
            prop_assert_eq!(id.as_str(), &text);
            prop_assert_eq!(Id::new(id.prefix(), id.raw()).unwrap(), id);
        }
    }

    #[test]
    fn an_id_tells_time_node_and_sequence(
        since in 0_u64..1 << 41, node in 0_u32..1024, sequence in 0_u32..4096,
    ) {
        prop_assume!(since > 0);
        let layout = Layout::default();
        let parts = IdParts { time: layout.epoch_ms() + since, node, sequence };
        let raw = layout.encode(parts).unwrap();
        prop_assert_eq!(raw.parts(&layout), parts);
        prop_assert_eq!(Id::new("feed", raw).unwrap().parts(&layout), parts);
    }
}

#[test]
fn what_no_id_prints_is_refused() {
    let refused = [
        "",
        "_",
        "feed",
        "feed_",
        "_123",
        "feed_123abc",
        "123abc",
        "feed_123 ",
        " feed_123",
        "feed_+123",
        "feed_-123",
        "-123",
        "feed_0",
        "0",
        "feed_0123",
        "00",
        "feed_12.5",
        "feed_9223372036854775808",
        "feed_18446744073709551616",
        "fe ed_1",
        "fe/ed_1",
        "é_1",
        "feed_١٢٣",
        "feed\0_1",
    ];
    for text in refused {
        let error = Id::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text:?}");
    }
    assert!(Id::parse(&format!("{}_1", "x".repeat(65))).is_err());
    assert!(RawId::new(0).is_err() && RawId::new(1 << 63).is_err());
}

#[test]
fn the_error_shows_the_text_escaped_and_cut() {
    let error = Id::parse(&format!("\u{1b}[31m{}", "x".repeat(5_000))).unwrap_err().to_string();
    assert!(!error.contains('\u{1b}') && error.len() < 300, "{error}");
}

#[test]
fn the_number_is_what_follows_the_last_underscore() {
    for (text, prefix, raw) in
        [("a_b_7", "a_b", 7), ("a__7", "a_", 7), ("5_7", "5", 7), ("__7", "_", 7), ("7", "", 7)]
    {
        let id = Id::parse(text).unwrap();
        assert_eq!((id.prefix(), id.raw().get()), (prefix, raw), "{text}");
    }
}

#[test]
fn ids_of_a_prefix_are_ordered_by_number_not_by_text() {
    let mut ids: Vec<Id> =
        ["b_1", "a_10", "a_9"].iter().map(|text| Id::parse(text).unwrap()).collect();
    ids.sort();
    assert_eq!(ids.iter().map(Id::as_str).collect::<Vec<_>>(), ["a_9", "a_10", "b_1"]);
}

#[test]
fn an_id_is_bound_and_written_as_text_and_its_number_as_an_integer() {
    let id = Id::parse("feed_9007199254740993").unwrap();
    assert_eq!(Value::from(&id), Value::Text("feed_9007199254740993".into()));
    assert_eq!(Value::from(id.raw()), Value::Int(9_007_199_254_740_993));
    assert_eq!(serde_json::json!({ "id": &id })["id"], "feed_9007199254740993");
    assert_eq!(serde_json::Value::from(id), "feed_9007199254740993");
    assert!(serde_json::from_str::<Id>("\"feed_1x\"").is_err());
    assert!(serde_json::from_str::<Id>("17").is_err());
}
