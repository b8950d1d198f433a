//! Values on their way into PostgreSQL, each in the form that the server inferred for its place.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use bytes::BytesMut;
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type};
use zmsg_core::{Error, ErrorKind, Result, Timestamp, Value};

/// Microseconds from the Unix epoch to PostgreSQL's, the first of January 2000.
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A value that fits, ready to be sent.
///
/// What has an exact form on the wire travels in it. Everything else travels as text, which the
/// server reads as it reads a quoted literal: that is how text becomes `timestamptz`, `inet`, an
/// enum or any type that an extension brings.
pub(super) struct Bind<'a>(Form<'a>);

enum Form<'a> {
    Null,
    /// The first bytes of the array.
    Short([u8; 16], u8),
    Binary(Cow<'a, [u8]>),
    Text(Cow<'a, str>),
}

/// Why a value does not fit.
enum Misfit {
    Kind,
    Range,
    Nul,
}

impl<'a> Bind<'a> {
    /// Encodes the binds of a statement for the types of their places, or names the first that
    /// does not fit.
    pub(super) fn all(values: &'a [Value], types: &[Type]) -> Result<Vec<Self>> {
        let each = values.iter().zip(types).enumerate();
        each.map(|(index, (value, wanted))| {
            form(value, wanted).map(Self).map_err(|why| refusal(index + 1, value, wanted, &why))
        })
        .collect()
    }
}

fn refusal(number: usize, value: &Value, wanted: &Type, why: &Misfit) -> Error {
    let message = match why {
        Misfit::Kind => "a bind does not fit where it stands",
        Misfit::Range => "a bind is out of the range of its type",
        Misfit::Nul => "PostgreSQL's text cannot hold NUL",
    };
    // The Debug form of a value shows its kind and never its content.
    Error::new(ErrorKind::InvalidData, message)
        .with_context("bind", number)
        .with_context("value", format!("{value:?}"))
        .with_context("wanted", wanted)
}

fn form<'a>(value: &'a Value, wanted: &Type) -> Result<Form<'a>, Misfit> {
    if let Kind::Domain(base) = wanted.kind() {
        return form(value, base);
    }
    match value {
        Value::Null => Ok(Form::Null),
        Value::Bool(value) => of_bool(*value, wanted),
        Value::Int(value) => of_int(*value, wanted),
        Value::Float(value) => of_float(*value, wanted),
        Value::Text(text) => of_text(text, wanted),
        Value::Bytes(bytes) => of_bytes(bytes, wanted),
        Value::Json(json) => of_json(json, wanted),
        Value::Timestamp(at) => of_timestamp(*at, wanted),
        Value::Uuid(uuid) => match *wanted {
            Type::UUID | Type::BYTEA => Ok(short(uuid.as_bytes())),
            _ => loose(uuid.to_string(), wanted),
        },
        Value::Array(items) => of_array(items, value, wanted),
    }
}

fn of_bool(value: bool, wanted: &Type) -> Result<Form<'static>, Misfit> {
    match *wanted {
        Type::BOOL => Ok(short(&[u8::from(value)])),
        Type::JSON | Type::JSONB => Ok(text(value.to_string())),
        _ => loose(value.to_string(), wanted),
    }
}

fn of_int(value: i64, wanted: &Type) -> Result<Form<'static>, Misfit> {
    let range = |_| Misfit::Range;
    Ok(match *wanted {
        Type::INT8 => short(&value.to_be_bytes()),
        Type::INT4 => short(&i32::try_from(value).map_err(range)?.to_be_bytes()),
        Type::INT2 => short(&i16::try_from(value).map_err(range)?.to_be_bytes()),
        Type::OID => short(&u32::try_from(value).map_err(range)?.to_be_bytes()),
        Type::FLOAT8 => short(&(value as f64).to_be_bytes()),
        Type::FLOAT4 => short(&(value as f32).to_be_bytes()),
        Type::NUMERIC | Type::JSON | Type::JSONB => text(value.to_string()),
        _ => return loose(value.to_string(), wanted),
    })
}

fn of_float(value: f64, wanted: &Type) -> Result<Form<'static>, Misfit> {
    Ok(match *wanted {
        Type::FLOAT8 => short(&value.to_be_bytes()),
        Type::FLOAT4 => {
            let narrow = value as f32;
            if narrow.is_infinite() && value.is_finite() {
                return Err(Misfit::Range);
            }
            short(&narrow.to_be_bytes())
        }
        Type::INT2 | Type::INT4 | Type::INT8 => return of_int(whole(value)?, wanted),
        Type::NUMERIC => text(format!("{value:?}")),
        Type::JSON | Type::JSONB if value.is_finite() => text(format!("{value:?}")),
        _ => return loose(format!("{value:?}"), wanted),
    })
}

/// The integer that a float is.
fn whole(value: f64) -> Result<i64, Misfit> {
    // Both bounds are powers of two, so they are floats themselves.
    let inside = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value);
    if !inside {
        return Err(Misfit::Range);
    }
    if value.fract() == 0.0 { Ok(value as i64) } else { Err(Misfit::Kind) }
}

fn of_text<'a>(value: &'a str, wanted: &Type) -> Result<Form<'a>, Misfit> {
    match *wanted {
        Type::BYTEA => Ok(Form::Binary(Cow::Borrowed(value.as_bytes()))),
        _ if value.contains('\0') => Err(Misfit::Nul),
        Type::JSONB => Ok(jsonb(value.as_bytes())),
        _ => Ok(Form::Text(Cow::Borrowed(value))),
    }
}

fn of_bytes<'a>(value: &'a [u8], wanted: &Type) -> Result<Form<'a>, Misfit> {
    match *wanted {
        Type::BYTEA => Ok(Form::Binary(Cow::Borrowed(value))),
        Type::UUID if value.len() == 16 => Ok(short(value)),
        Type::JSON | Type::JSONB => {
            of_text(std::str::from_utf8(value).map_err(|_| Misfit::Kind)?, wanted)
        }
        _ if is_text(wanted) => {
            of_text(std::str::from_utf8(value).map_err(|_| Misfit::Kind)?, wanted)
        }
        _ => Err(Misfit::Kind),
    }
}

fn of_json(value: &serde_json::Value, wanted: &Type) -> Result<Form<'static>, Misfit> {
    match *wanted {
        Type::JSONB => Ok(jsonb(value.to_string().as_bytes())),
        Type::BYTEA => Ok(Form::Binary(value.to_string().into_bytes().into())),
        Type::JSON => Ok(text(value.to_string())),
        _ => loose(value.to_string(), wanted),
    }
}

fn of_timestamp(value: Timestamp, wanted: &Type) -> Result<Form<'static>, Misfit> {
    match *wanted {
        Type::TIMESTAMPTZ | Type::TIMESTAMP => {
            Ok(short(&value.0.checked_sub(EPOCH_MICROS).ok_or(Misfit::Range)?.to_be_bytes()))
        }
        _ => Err(Misfit::Kind),
    }
}

fn of_array<'a>(items: &'a [Value], all: &Value, wanted: &Type) -> Result<Form<'a>, Misfit> {
    let Kind::Array(element) = wanted.kind() else {
        return match *wanted {
            Type::JSON | Type::JSONB => {
                let json = all.to_bytes().ok_or(Misfit::Kind)?;
                let json = String::from_utf8(json.into()).map_err(|_| Misfit::Kind)?;
                Ok(text(json))
            }
            _ => Err(Misfit::Kind),
        };
    };
    let forms: Result<Vec<Form<'a>>, Misfit> =
        items.iter().map(|item| form(item, element)).collect();
    let forms = forms?;
    match binary_array(&forms, element) {
        Some(bytes) => Ok(Form::Binary(bytes.into())),
        None => text_array(items, &forms).map(text),
    }
}

/// The array on the wire, if every element has an exact form.
fn binary_array(forms: &[Form<'_>], element: &Type) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(20 + forms.len() * 12);
    let nulls = forms.iter().any(|form| matches!(form, Form::Null));
    let dimensions = i32::from(!forms.is_empty());
    out.extend(dimensions.to_be_bytes());
    out.extend(i32::from(nulls).to_be_bytes());
    out.extend(element.oid().to_be_bytes());
    if !forms.is_empty() {
        out.extend(i32::try_from(forms.len()).ok()?.to_be_bytes());
        out.extend(1_i32.to_be_bytes());
    }
    for form in forms {
        let bytes: &[u8] = match form {
            Form::Null => {
                out.extend((-1_i32).to_be_bytes());
                continue;
            }
            Form::Short(bytes, length) => &bytes[..usize::from(*length)],
            Form::Binary(bytes) => bytes,
            Form::Text(text) if is_text(element) => text.as_bytes(),
            Form::Text(_) => return None,
        };
        out.extend(i32::try_from(bytes.len()).ok()?.to_be_bytes());
        out.extend(bytes);
    }
    Some(out)
}

/// The array as a quoted literal would hold it: `{"a",NULL}`.
fn text_array(items: &[Value], forms: &[Form<'_>]) -> Result<String, Misfit> {
    let mut out = String::from("{");
    for (index, (item, form)) in items.iter().zip(forms).enumerate() {
        if index > 0 {
            out.push(',');
        }
        let shown: Cow<'_, str> = match (form, item) {
            (Form::Null, _) => {
                out.push_str("NULL");
                continue;
            }
            (Form::Text(text), _) => Cow::Borrowed(text),
            (_, Value::Uuid(uuid)) => Cow::Owned(uuid.to_string()),
            (_, Value::Bool(value)) => Cow::Owned(value.to_string()),
            (_, Value::Int(value)) => Cow::Owned(value.to_string()),
            (_, Value::Float(value)) => Cow::Owned(format!("{value:?}")),
            _ => return Err(Misfit::Kind),
        };
        out.push('"');
        for c in shown.chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    }
    out.push('}');
    Ok(out)
}

/// The text of a value that is of another kind, where text is as good as what it stands for:
/// in text, and in types that are not PostgreSQL's own, of which nothing is known here.
fn loose(shown: String, wanted: &Type) -> Result<Form<'static>, Misfit> {
    let foreign =
        Type::from_oid(wanted.oid()).is_none() && !matches!(wanted.kind(), Kind::Array(_));
    if is_text(wanted) || foreign { Ok(text(shown)) } else { Err(Misfit::Kind) }
}

/// Types whose form on the wire is their text.
pub(super) fn is_text(wanted: &Type) -> bool {
    matches!(*wanted, Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN)
}

fn text(text: String) -> Form<'static> {
    Form::Text(Cow::Owned(text))
}

fn short(bytes: &[u8]) -> Form<'static> {
    let mut all = [0; 16];
    let length = bytes.len().min(16);
    all[..length].copy_from_slice(&bytes[..length]);
    Form::Short(all, length as u8)
}

/// `jsonb` on the wire is its text after the number of the format.
fn jsonb(text: &[u8]) -> Form<'static> {
    let mut out = Vec::with_capacity(text.len() + 1);
    out.push(1);
    out.extend(text);
    Form::Binary(out.into())
}

impl ToSql for Bind<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match &self.0 {
            Form::Null => return Ok(IsNull::Yes),
            Form::Short(bytes, length) => out.extend_from_slice(&bytes[..usize::from(*length)]),
            Form::Binary(bytes) => out.extend_from_slice(bytes),
            Form::Text(text) => out.extend_from_slice(text.as_bytes()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        // Asked and answered when the value was encoded.
        true
    }

    fn to_sql_checked(
        &self,
        wanted: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        self.to_sql(wanted, out)
    }

    fn encode_format(&self, _: &Type) -> Format {
        match self.0 {
            Form::Text(_) => Format::Text,
            Form::Null | Form::Short(..) | Form::Binary(_) => Format::Binary,
        }
    }
}

/// The driver logs binds when it is asked to be talkative: their content is not for logs.
impl fmt::Debug for Bind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bind(..)")
    }
}
