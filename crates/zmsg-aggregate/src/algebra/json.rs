//! JSON as columns hold it: read, written, compared by value.

use std::fmt::Write;

use bytes::Bytes;
use serde_json::{Number, Value as Json};
use zmsg_core::{Error, ErrorKind, Result, Value};

/// How deep the JSON of an operation may nest; a scalar has depth 0, `[]` has 1.
///
/// The parser stops at 127, and what an operation writes must be readable by the next one, also
/// inside the text of a fold, which adds three levels.
pub const DEPTH_MAX: usize = 120;

pub(super) fn check_depth(value: &Json) -> Result<()> {
    if nests_within(value, DEPTH_MAX) {
        return Ok(());
    }
    Err(Error::invalid_input("the JSON nests too deep").with_context("depth_max", DEPTH_MAX))
}

fn nests_within(value: &Json, levels: usize) -> bool {
    match value {
        Json::Array(items) => levels > 0 && items.iter().all(|v| nests_within(v, levels - 1)),
        Json::Object(fields) => levels > 0 && fields.values().all(|v| nests_within(v, levels - 1)),
        _ => true,
    }
}

/// The document in a column; `None` for NULL.
pub(super) fn read_json(column: &Value) -> Result<Option<Json>> {
    let parsed = match column {
        Value::Null => return Ok(None),
        Value::Json(document) => return Ok(Some(document.clone())),
        // A column with numeric affinity turns a document that is a number into one.
        Value::Int(number) => return Ok(Some(Json::from(*number))),
        Value::Float(number) => return Ok(Some(Json::from(*number))),
        Value::Text(text) => serde_json::from_str(text),
        Value::Bytes(bytes) => serde_json::from_slice(bytes),
        other => return Err(not_json().with_context("value", format!("{other:?}"))),
    };
    parsed.map(Some).map_err(|cause| not_json().with_context("position", position(&cause)))
}

/// The document as the column's type holds it: bytes stay bytes, everything else is text.
pub(super) fn write_json(column: &Value, document: Json) -> Result<Value> {
    Ok(match column {
        Value::Json(_) => Value::Json(document),
        Value::Bytes(_) => Value::Bytes(Bytes::from(document.to_string())),
        _ => Value::Text(document.to_string()),
    })
}

// The parser's own message quotes nothing, but a position is all that a reader needs.
fn position(cause: &serde_json::Error) -> String {
    format!("line {}, column {}", cause.line(), cause.column())
}

fn not_json() -> Error {
    Error::new(ErrorKind::InvalidData, "the column does not hold JSON")
}

/// Whether two documents are equal by value: numbers whatever their notation, objects whatever
/// their order.
pub(super) fn equal(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => same_number(a, b),
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

fn same_number(a: &Number, b: &Number) -> bool {
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a.as_f64() == b.as_f64(),
        _ => false,
    }
}

/// The number as an integer, if it is one and lies where integers and floats both occur.
fn integer(number: &Number) -> Option<i128> {
    if let Some(value) = number.as_i64() {
        return Some(value.into());
    }
    if let Some(value) = number.as_u64() {
        return Some(value.into());
    }
    let value = number.as_f64()?;
    // Beyond 2^64 every number is a float, and floats are compared as such.
    (value.fract() == 0.0 && value.abs() < 2f64.powi(65)).then_some(value as i128)
}

/// A text that two documents share exactly if they are equal by value.
pub(super) fn canonical(value: &Json) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Json, out: &mut String) {
    match value {
        Json::Number(number) => {
            let written = match integer(number) {
                Some(integer) => write!(out, "{integer}"),
                None => write!(out, "{number}"),
            };
            debug_assert!(written.is_ok(), "writing to a String does not fail");
        }
        Json::Array(items) => {
            out.push('[');
            for item in items {
                write_canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Json::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (key, value) in sorted {
                write_canonical(&Json::from(key.as_str()), out);
                out.push(':');
                write_canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// Bytes that a document keeps in memory, about.
pub(super) fn json_bytes(value: &Json) -> usize {
    let inner: usize = match value {
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(json_bytes).sum(),
        Json::Object(fields) => fields.iter().map(|(k, v)| k.len() + 48 + json_bytes(v)).sum(),
        Json::Null | Json::Bool(_) | Json::Number(_) => 0,
    };
    inner + size_of::<Json>()
}

pub(super) fn type_name(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_equal_by_value_and_exactly() {
        let cases = [
            (json!(1), json!(1.0), true),
            (json!(0), json!(-0.0), true),
            (json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_992.0), false),
            (json!(u64::MAX), json!(18_446_744_073_709_551_616.0), false),
            (json!(i64::MIN), json!(-9_223_372_036_854_775_808.0), true),
            (json!(1e300), json!(1e300), true),
            (json!(1e300), json!(1.1e300), false),
            (json!(0.1), json!(0.1), true),
            (json!("1"), json!(1), false),
            (json!({"a": 1, "b": [2]}), json!({"b": [2.0], "a": 1.0}), true),
            (json!([1, 2]), json!([2, 1]), false),
            (json!(["a,b"]), json!(["a", "b"]), false),
        ];
        for (a, b, same) in cases {
            assert_eq!(equal(&a, &b), same, "{a} {b}");
            assert_eq!(canonical(&a) == canonical(&b), same, "{a} {b}");
        }
    }

    #[test]
    fn json_that_nests_too_deep_is_refused_at_the_door() {
        let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        assert!(check_depth(&nested(DEPTH_MAX)).is_ok());
        let error = check_depth(&nested(DEPTH_MAX + 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
