//! Values on their way into SQLite and out of it.

use std::ops::Deref;

use bytes::Bytes;
use rusqlite::types::{ToSql, ToSqlOutput, Value as Owned, ValueRef};
use zmsg_core::{Error, ErrorKind, Result, Value};

/// A value as SQLite stores it: booleans as 0 or 1, JSON as text, timestamps as microseconds,
/// UUIDs as their 16 bytes.
#[derive(Debug)]
pub(super) struct Bind<'a>(&'a Value);

impl<'a> Bind<'a> {
    /// Refuses NaN, which SQLite would silently store as NULL, and arrays, which it has not.
    pub(super) fn new(value: &'a Value) -> Result<Self> {
        match value {
            Value::Float(float) if float.is_nan() => {
                Err(Error::new(ErrorKind::InvalidData, "sqlite cannot store NaN"))
            }
            Value::Array(_) => Err(Error::invalid_input("sqlite has no arrays")),
            _ => Ok(Self(value)),
        }
    }

    /// The value, owned by nobody else: the result of a registered function.
    pub(super) fn into_owned(self) -> Owned {
        match self.0 {
            Value::Text(text) => Owned::Text(text.clone()),
            Value::Bytes(bytes) => Owned::Blob(bytes.to_vec()),
            Value::Json(json) => Owned::Text(json.to_string()),
            Value::Uuid(uuid) => Owned::Blob(uuid.as_bytes().to_vec()),
            // `new` refuses arrays.
            Value::Null | Value::Array(_) => Owned::Null,
            Value::Bool(value) => Owned::Integer(i64::from(*value)),
            Value::Int(value) => Owned::Integer(*value),
            Value::Float(value) => Owned::Real(*value),
            Value::Timestamp(value) => Owned::Integer(value.0),
        }
    }
}

impl ToSql for Bind<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let borrowed = match self.0 {
            Value::Json(json) => return Ok(ToSqlOutput::Owned(Owned::Text(json.to_string()))),
            // `new` refuses arrays.
            Value::Null | Value::Array(_) => ValueRef::Null,
            Value::Bool(value) => ValueRef::Integer(i64::from(*value)),
            Value::Int(value) => ValueRef::Integer(*value),
            Value::Float(value) => ValueRef::Real(*value),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes.deref()),
            Value::Timestamp(value) => ValueRef::Integer(value.0),
            Value::Uuid(uuid) => ValueRef::Blob(uuid.as_bytes()),
        };
        Ok(ToSqlOutput::Borrowed(borrowed))
    }
}

/// The value of a storage class. Text that is not UTF-8 comes out as bytes, unchanged.
pub(super) fn from_storage(stored: ValueRef<'_>) -> Value {
    match stored {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Real(value) => Value::Float(value),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Bytes(Bytes::copy_from_slice(text)),
        },
        ValueRef::Blob(bytes) => Value::Bytes(Bytes::copy_from_slice(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_utf_8_comes_out_as_bytes() {
        assert_eq!(from_storage(ValueRef::Text(b"\xff\xfe")), Value::from(&b"\xff\xfe"[..]));
        assert_eq!(from_storage(ValueRef::Text("é".as_bytes())), Value::from("é"));
    }

    #[test]
    fn nan_is_refused() {
        assert_eq!(Bind::new(&Value::Float(f64::NAN)).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
