//! JSON on its way out of PostgreSQL, which keeps numbers that no machine type holds.

use std::str;

use serde_json::Number;
use zmsg_core::Value;

/// So many digits survive in a double without an exponent, wherever the point is.
const DIGITS_SAFE: usize = 15;

/// A document, or its text if one of its numbers would not be the same as a machine's number.
pub(super) fn value(raw: &[u8]) -> Option<Value> {
    match serde_json::from_slice(raw) {
        Ok(json) if numbers_survive(raw) => Some(Value::Json(json)),
        _ => str::from_utf8(raw).ok().map(Value::from),
    }
}

/// Whether each number of a document that can be read is the same decimal when it is written again.
fn numbers_survive(raw: &[u8]) -> bool {
    let mut rest = raw;
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b'"' => behind_string(after),
            b'-' | b'0'..=b'9' => {
                let length = rest.iter().position(|byte| !in_number(*byte));
                let (number, behind) = rest.split_at(length.unwrap_or(rest.len()));
                if !survives(number) {
                    return false;
                }
                behind
            }
            _ => after,
        };
    }
    true
}

/// What follows a string whose opening quote was taken.
fn behind_string(mut rest: &[u8]) -> &[u8] {
    loop {
        rest = match rest {
            [] => return rest,
            [b'"', after @ ..] => return after,
            [b'\\', _, after @ ..] | [_, after @ ..] => after,
        };
    }
}

fn in_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

fn survives(number: &[u8]) -> bool {
    let plain = !number.iter().any(|byte| matches!(byte, b'e' | b'E'));
    if plain && number.iter().filter(|byte| byte.is_ascii_digit()).count() <= DIGITS_SAFE {
        return true;
    }
    let Ok(text) = str::from_utf8(number) else { return false };
    let Ok(read) = serde_json::from_str::<Number>(text) else { return false };
    let before = Decimal::of(text);
    before.is_some() && before == Decimal::of(&read.to_string())
}

/// A number as its significant digits and the power of ten of the last of them.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn of(text: &str) -> Option<Self> {
        let negative = text.starts_with('-');
        let text = text.trim_start_matches('-');
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_end_matches('0');
        let dropped = i64::try_from(all.len() - digits.len()).ok()?;
        let behind_point = i64::try_from(fraction.len()).ok()?;
        let digits = digits.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { negative: false, digits, exponent: 0 });
        }
        let exponent = exponent.parse::<i64>().ok()?;
        let exponent = exponent.checked_sub(behind_point)?.checked_add(dropped)?;
        Some(Self { negative, digits, exponent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_no_machine_type_holds_leaves_the_document_a_text() {
        for text in [
            "123456789012345678901234567890",
            "18446744073709551616",
            "-9223372036854775809",
            "0.1234567890123456789",
            "9007199254740993.0",
            "1e400",
            "1e-400",
            "1.00000000000000000001e2",
        ] {
            let document = format!(r#"{{"k": ["1", {text}, true], "l": 2}}"#);
            assert_eq!(value(document.as_bytes()), Some(Value::from(document.as_str())), "{text}");
            assert_eq!(value(text.as_bytes()), Some(Value::from(text)));
        }
    }

    #[test]
    fn every_double_is_a_number_of_a_document() {
        let mut bits = 1_u64;
        for _ in 0..20_000 {
            // Knuth's MMIX generator.
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let number = f64::from_bits(bits);
            if number.is_finite() {
                let text = serde_json::json!({ "n": number }).to_string();
                let found = value(text.as_bytes());
                assert_eq!(found, Some(Value::Json(serde_json::json!({ "n": number }))), "{text}");
            }
        }
    }

    #[test]
    fn other_documents_are_documents() {
        for text in [
            "18446744073709551615",
            "-9223372036854775808",
            "100000000000000000000000000000000000000000",
            "0.25000000000000000000000",
            "0.000000000000000000000000000000",
            "1E+2",
            "-1.5e-3",
            "0e0",
            "123456.789012345",
            r#""123456789012345678901234567890""#,
            r#"{"\"0.1234567890123456789": "\\", "a\\\"": "1e400"}"#,
            "[]",
        ] {
            let found = value(text.as_bytes()).unwrap();
            assert!(matches!(found, Value::Json(_)), "{text}: {found:?}");
        }
    }
}
