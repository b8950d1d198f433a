//! A SQL scalar, as it travels to and from the database.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Microseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

/// A typed value: a bind of a statement or a column of a row.
///
/// Values are compared and hashed by type and content; floats by their bits, so that a value
/// equals itself even if it is NaN.
#[derive(Clone, Serialize, Deserialize)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A boolean. SQLite stores it as 0 or 1.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A 64-bit float.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Bytes),
    /// JSON: `jsonb` on PostgreSQL, text on SQLite.
    Json(#[serde(with = "json_as_text")] serde_json::Value),
    /// A moment. SQLite stores the microseconds as an integer.
    Timestamp(Timestamp),
    /// A UUID. SQLite stores its 16 bytes.
    Uuid(Uuid),
    /// An array of one dimension, of elements of one type and NULLs: `bigint[]`, `text[]` and so
    /// on, as the server infers. PostgreSQL only; SQLite refuses it as `InvalidInput`.
    Array(Arc<[Value]>),
}

/// JSON inside formats that do not describe themselves (the task queue's payloads): as text.
mod json_as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        value: &serde_json::Value,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<serde_json::Value, D::Error> {
        let text = String::deserialize(deserializer)?;
        serde_json::from_str(&text).map_err(D::Error::custom)
    }
}

impl Value {
    /// True for SQL NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::Bool(value) => Some(i64::from(*value)),
            Self::Timestamp(value) => Some(value.0),
            _ => None,
        }
    }

    /// The float, if it is one.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The content as the bytes a cache would hold: bytes and text as they are, JSON and
    /// scalars as text, an array as the text of a JSON array, NULL as nothing.
    pub fn to_bytes(&self) -> Option<Bytes> {
        Some(match self {
            Self::Null => return None,
            Self::Bytes(bytes) => bytes.clone(),
            Self::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            Self::Bool(value) => Bytes::from(value.to_string()),
            Self::Int(value) => Bytes::from(value.to_string()),
            Self::Float(value) => Bytes::from(value.to_string()),
            Self::Json(value) => Bytes::from(value.to_string()),
            Self::Timestamp(value) => Bytes::from(value.0.to_string()),
            Self::Uuid(value) => Bytes::from(value.to_string()),
            Self::Array(_) => Bytes::from(self.to_json().to_string()),
        })
    }

    /// The value as JSON, for an array: bytes as hexadecimal digits, what JSON has no number
    /// for as null.
    fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::from(*value),
            Self::Int(value) | Self::Timestamp(Timestamp(value)) => Json::from(*value),
            Self::Float(value) => Json::from(*value),
            Self::Text(text) => Json::from(text.as_str()),
            Self::Bytes(bytes) => Json::from(format!("{bytes:x}")),
            Self::Json(value) => value.clone(),
            Self::Uuid(value) => Json::from(value.to_string()),
            Self::Array(items) => Json::Array(items.iter().map(Self::to_json).collect()),
        }
    }

    /// Bytes that this value keeps in memory besides itself.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Json(value) => json_bytes(value),
            Self::Array(items) => items.iter().map(|v| size_of::<Self>() + v.heap_bytes()).sum(),
            _ => 0,
        }
    }
}

fn json_bytes(value: &serde_json::Value) -> usize {
    use serde_json::Value as Json;
    let inner = match value {
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(json_bytes).sum(),
        Json::Object(fields) => fields.iter().map(|(k, v)| k.len() + 48 + json_bytes(v)).sum(),
        Json::Null | Json::Bool(_) | Json::Number(_) => 0,
    };
    inner + size_of::<Json>()
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Json(a), Self::Json(b)) => a == b,
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Uuid(a), Self::Uuid(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Null => {}
            Self::Bool(value) => value.hash(state),
            Self::Int(value) => value.hash(state),
            Self::Float(value) => value.to_bits().hash(state),
            Self::Text(value) => value.hash(state),
            Self::Bytes(value) => value.hash(state),
            Self::Json(value) => value.hash(state),
            Self::Timestamp(value) => value.hash(state),
            Self::Uuid(value) => value.hash(state),
            Self::Array(items) => items.hash(state),
        }
    }
}

/// Shows the type and the size, never the content: binds must not reach logs.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Bool(_) => f.write_str("Bool(..)"),
            Self::Int(_) => f.write_str("Int(..)"),
            Self::Float(_) => f.write_str("Float(..)"),
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::Json(_) => f.write_str("Json(..)"),
            Self::Timestamp(_) => f.write_str("Timestamp(..)"),
            Self::Uuid(_) => f.write_str("Uuid(..)"),
            Self::Array(items) => write!(f, "Array({} elements)", items.len()),
        }
    }
}

macro_rules! value_from {
    ($($from:ty, $name:ident => $into:expr;)*) => {$(
        impl From<$from> for Value {
            fn from($name: $from) -> Self {
                $into
            }
        }
    )*};
}

value_from! {
    bool, value => Self::Bool(value);
    i64, value => Self::Int(value);
    i32, value => Self::Int(value.into());
    i16, value => Self::Int(value.into());
    i8, value => Self::Int(value.into());
    u32, value => Self::Int(value.into());
    u16, value => Self::Int(value.into());
    u8, value => Self::Int(value.into());
    f64, value => Self::Float(value);
    f32, value => Self::Float(value.into());
    &str, value => Self::Text(value.to_owned());
    String, value => Self::Text(value);
    &crate::Key, value => Self::Text(value.as_str().to_owned());
    Bytes, value => Self::Bytes(value);
    Vec<u8>, value => Self::Bytes(value.into());
    &[u8], value => Self::Bytes(Bytes::copy_from_slice(value));
    serde_json::Value, value => Self::Json(value);
    Timestamp, value => Self::Timestamp(value);
    Uuid, value => Self::Uuid(value);
    Vec<Value>, value => Self::Array(value.into());
    &bool, value => Self::Bool(*value);
    &i64, value => Self::Int(*value);
    &i32, value => Self::Int((*value).into());
    &u32, value => Self::Int((*value).into());
    &f64, value => Self::Float(*value);
    &String, value => Self::Text(value.clone());
    &&str, value => Self::Text((*value).to_owned());
    &Bytes, value => Self::Bytes(value.clone());
    &Vec<u8>, value => Self::Bytes(Bytes::copy_from_slice(value));
    &serde_json::Value, value => Self::Json(value.clone());
    &Timestamp, value => Self::Timestamp(*value);
    &Uuid, value => Self::Uuid(*value);
    &Value, value => value.clone();
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_content() {
        let shown = format!("{:?}", [Value::from("secret"), Value::Int(42), Value::Bool(true)]);
        assert!(!shown.contains("secret") && !shown.contains("42") && !shown.contains("true"));
    }

    #[test]
    fn an_array_is_the_text_of_a_json_array_to_a_cache() {
        let items =
            vec![Value::Int(1), Value::Null, Value::from("a\""), Value::from(&b"\x00\xff"[..])];
        let array = Value::from(items);
        assert_eq!(array.to_bytes().unwrap(), &br#"[1,null,"a\"","00ff"]"#[..]);
        assert_eq!(format!("{array:?}"), "Array(4 elements)");
        assert_eq!(array, array.clone());
        assert!(array.heap_bytes() > 4 * size_of::<Value>());
    }

    #[test]
    fn numbers_in_json_travel_without_loss() {
        let mut bits = 1_u64;
        for _ in 0..20_000 {
            // Knuth's MMIX generator.
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let number = f64::from_bits(bits);
            if !number.is_finite() {
                continue;
            }
            let value = Value::Json(serde_json::json!([number]));
            let written = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value, "{number}");
        }
    }

    #[test]
    fn equality_is_by_type_and_content() {
        assert_ne!(Value::Int(1), Value::Float(1.0));
        assert_ne!(Value::Text("1".into()), Value::Int(1));
        assert_eq!(Value::Float(f64::NAN), Value::Float(f64::NAN));
        assert_eq!(Value::from(None::<i64>), Value::Null);
    }
}
