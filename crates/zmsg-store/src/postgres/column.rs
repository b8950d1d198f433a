//! Values on their way out of PostgreSQL.

use std::error::Error as StdError;

use bytes::Bytes;
use tokio_postgres::types::{FromSql, Kind, Type};
use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result, Timestamp, Value};

use super::bind::{EPOCH_MICROS, is_text};
use super::{json, numeric};

/// Whether values of a type can be read as they come; of all others the server is asked for the
/// text.
pub(super) fn is_known(kind: &Type) -> bool {
    match kind.kind() {
        Kind::Domain(base) | Kind::Array(base) => is_known(base),
        Kind::Enum(_) => true,
        _ => {
            is_text(kind)
                || matches!(
                    *kind,
                    Type::BOOL
                        | Type::INT2
                        | Type::INT4
                        | Type::INT8
                        | Type::OID
                        | Type::FLOAT4
                        | Type::FLOAT8
                        | Type::NUMERIC
                        | Type::BYTEA
                        | Type::JSON
                        | Type::JSONB
                        | Type::TIMESTAMP
                        | Type::TIMESTAMPTZ
                        | Type::UUID
                        | Type::VOID
                )
        }
    }
}

/// One column of a row as it came over the wire; `None` is NULL.
pub(super) struct Raw<'a>(pub(super) Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// The value of a known type.
///
/// `numeric` comes as its text, a timestamp without a zone as one in UTC, `infinity` as that
/// word, and JSON with a number that no machine type holds as text.
pub(super) fn decode(kind: &Type, raw: &[u8]) -> Result<Value> {
    value(kind, raw).ok_or_else(|| {
        Error::new(ErrorKind::Unexpected, "postgres sent a value in an unknown form")
            .with_context("type", kind)
            .with_context("bytes", raw.len())
    })
}

fn value(kind: &Type, raw: &[u8]) -> Option<Value> {
    match kind.kind() {
        Kind::Domain(base) => return value(base, raw),
        Kind::Array(element) => return array(element, raw),
        Kind::Enum(_) => return text(raw),
        _ => {}
    }
    Some(match *kind {
        Type::BOOL => Value::Bool(*raw.first()? != 0),
        Type::INT2 => Value::Int(i16::from_be_bytes(raw.try_into().ok()?).into()),
        Type::INT4 => Value::Int(i32::from_be_bytes(raw.try_into().ok()?).into()),
        Type::INT8 => Value::Int(i64::from_be_bytes(raw.try_into().ok()?)),
        Type::OID => Value::Int(u32::from_be_bytes(raw.try_into().ok()?).into()),
        Type::FLOAT4 => {
            // By its shortest text, so that 0.1 stays 0.1.
            let narrow = f32::from_be_bytes(raw.try_into().ok()?);
            Value::Float(narrow.to_string().parse().ok()?)
        }
        Type::FLOAT8 => Value::Float(f64::from_be_bytes(raw.try_into().ok()?)),
        Type::NUMERIC => Value::Text(numeric::text(raw)?),
        Type::BYTEA => Value::Bytes(Bytes::copy_from_slice(raw)),
        Type::JSON => json::value(raw)?,
        Type::JSONB => json::value(raw.strip_prefix(&[1])?)?,
        Type::UUID => Value::Uuid(Uuid::from_slice(raw).ok()?),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => moment(i64::from_be_bytes(raw.try_into().ok()?)),
        Type::VOID => Value::Null,
        _ => text(raw)?,
    })
}

fn text(raw: &[u8]) -> Option<Value> {
    std::str::from_utf8(raw).ok().map(Value::from)
}

fn moment(micros: i64) -> Value {
    match micros {
        i64::MAX => Value::from("infinity"),
        i64::MIN => Value::from("-infinity"),
        // The last moment that PostgreSQL knows is far from the end of these microseconds.
        _ => Value::Timestamp(Timestamp(micros.saturating_add(EPOCH_MICROS))),
    }
}

/// An array; one of several dimensions as arrays in arrays.
fn array(element: &Type, raw: &[u8]) -> Option<Value> {
    let mut rest = raw;
    let dimensions = usize::try_from(int(&mut rest)?).ok()?;
    let (_nulls, _oid) = (int(&mut rest)?, int(&mut rest)?);
    let mut lengths = Vec::new();
    for _ in 0..dimensions {
        lengths.push(usize::try_from(int(&mut rest)?).ok()?);
        let _first_index = int(&mut rest)?;
    }
    if lengths.is_empty() {
        return Some(Value::Array([].into()));
    }
    nested(element, &lengths, &mut rest)
}

fn nested(element: &Type, lengths: &[usize], rest: &mut &[u8]) -> Option<Value> {
    let Some((length, inner)) = lengths.split_first() else {
        let Ok(length) = usize::try_from(int(rest)?) else { return Some(Value::Null) };
        let (bytes, after) = rest.split_at_checked(length)?;
        *rest = after;
        return value(element, bytes);
    };
    let items: Option<Vec<Value>> = (0..*length).map(|_| nested(element, inner, rest)).collect();
    Some(Value::Array(items?.into()))
}

fn int(rest: &mut &[u8]) -> Option<i32> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(i32::from_be_bytes(*bytes))
}
