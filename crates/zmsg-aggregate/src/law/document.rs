//! JSON operations one by one, as their definitions say and apart from the algebra.

use serde_json::{Map as JsonMap, Number, Value as Json};
use zmsg_core::{MapOp, OpKind, SliceOp};

/// The document after one operation; `None` if it is no document for it.
pub(super) fn step(kind: &OpKind, document: Option<Json>) -> Option<Json> {
    match kind {
        OpKind::Slice(step) => slice(step, document.unwrap_or_else(|| Json::Array(vec![]))),
        OpKind::Map(step) => map(step, document.unwrap_or_else(|| Json::Object(JsonMap::new()))),
        OpKind::Merge(patch) => Some(merge_patch(document.unwrap_or(Json::Null), patch)),
        OpKind::Counter(_) => None,
    }
}

fn slice(step: &SliceOp, document: Json) -> Option<Json> {
    let Json::Array(mut elements) = document else { return None };
    match step {
        SliceOp::Add(values) => elements.extend(values.clone()),
        SliceOp::Del(values) => elements.retain(|e| !values.iter().any(|gone| same(e, gone))),
        SliceOp::Clean => elements.clear(),
    }
    Some(Json::Array(elements))
}

fn map(step: &MapOp, document: Json) -> Option<Json> {
    let Json::Object(mut fields) = document else { return None };
    match step {
        MapOp::Set(key, value) => drop(fields.insert(key.clone(), value.clone())),
        MapOp::Del(key) => drop(fields.remove(key)),
        MapOp::Clean => fields.clear(),
    }
    Some(Json::Object(fields))
}

/// The procedure of RFC 7396, section 2.
fn merge_patch(target: Json, patch: &Json) -> Json {
    let Json::Object(patch) = patch else { return patch.clone() };
    let mut target = match target {
        Json::Object(fields) => fields,
        _ => JsonMap::new(),
    };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            let before = target.remove(name).unwrap_or(Json::Null);
            target.insert(name.clone(), merge_patch(before, value));
        }
    }
    Json::Object(target)
}

fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => match (whole(a), whole(b)) {
            (Some(a), Some(b)) => a == b,
            (Some(whole), None) => is(b.as_f64(), whole),
            (None, Some(whole)) => is(a.as_f64(), whole),
            (None, None) => a.as_f64() == b.as_f64(),
        },
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or(number.as_u64().map(i128::from))
}

fn is(float: Option<f64>, whole: i128) -> bool {
    float.is_some_and(|float| float.fract() == 0.0 && float as i128 == whole)
}
