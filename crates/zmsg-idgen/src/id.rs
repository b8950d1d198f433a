//! The id itself: a number, and the number with a prefix as its text.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zmsg_core::{Error, Result, Value};

use crate::{IdParts, Layout};

/// An id: a [`RawId`] and a prefix that says of what, `feed_123`; without a prefix, `123`.
///
/// The text is the id: it is what is stored, sent and shown, and [`parse`](Self::parse) takes
/// exactly what is printed. Cloning is one reference count. Ids are ordered by prefix, then by
/// number, which is the order of their making.
#[derive(Clone)]
pub struct Id {
    text: Arc<str>,
    prefix_bytes: usize,
    raw: RawId,
}

/// The number of an id, without a prefix: positive, 63 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RawId(u64);

/// A prefix, `_`, and the 19 digits of a number of 63 bits.
const TEXT_BYTES_MAX: usize = Id::PREFIX_BYTES_MAX + 1 + 19;

impl Id {
    /// The longest prefix, in bytes.
    pub const PREFIX_BYTES_MAX: usize = 64;

    /// The id of this number with this prefix, which may be empty.
    ///
    /// # Errors
    /// `InvalidInput` for a prefix over 64 bytes or with characters other than ASCII letters,
    /// digits, `_`, `:`, `.` and `-`.
    pub fn new(prefix: &str, raw: RawId) -> Result<Self> {
        validate_prefix(prefix)?;
        let separator = if prefix.is_empty() { "" } else { "_" };
        // On the stack first: the text is then the only allocation.
        let mut bytes = [0; TEXT_BYTES_MAX];
        let mut rest = &mut bytes[..];
        let written = write!(rest, "{prefix}{separator}{raw}");
        let left = rest.len();
        let text = str::from_utf8(&bytes[..TEXT_BYTES_MAX - left]);
        let text = written.ok().and(text.ok()).expect("a short prefix of ASCII and a number");
        Ok(Self { text: text.into(), prefix_bytes: prefix.len(), raw })
    }

    /// Reads what [`Display`](fmt::Display) printed: the number is what follows the last `_`.
    ///
    /// # Errors
    /// `InvalidInput` for anything that no id prints: signs, leading zeros, zero, spaces or
    /// other trailing characters, numbers over 63 bits, a prefix that [`new`](Self::new) refuses.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = || {
            Error::invalid_input("an id is PREFIX_NUMBER, such as feed_779274127599992832")
                .with_context("id", shown(text))
        };
        let (prefix, number) = match text.rsplit_once('_') {
            Some(("", _)) => return Err(refused()),
            Some(split) => split,
            None => ("", text),
        };
        let raw = parse_number(number).ok_or_else(refused)?;
        validate_prefix(prefix)?;
        Ok(Self { text: text.into(), prefix_bytes: prefix.len(), raw })
    }

    /// The number.
    pub fn raw(&self) -> RawId {
        self.raw
    }

    /// The prefix, without the `_` that ends it in the text.
    pub fn prefix(&self) -> &str {
        &self.text[..self.prefix_bytes]
    }

    /// The text: prefix, `_` and number, or the number alone.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// When and where it was made.
    pub fn parts(&self, layout: &Layout) -> IdParts {
        layout.decode(self.raw)
    }
}

impl RawId {
    /// Checks a number that came from outside.
    ///
    /// # Errors
    /// `InvalidInput` for 0 and for more than 63 bits.
    pub fn new(raw: u64) -> Result<Self> {
        if (1..=i64::MAX as u64).contains(&raw) {
            return Ok(Self(raw));
        }
        Err(Error::invalid_input("an id is a positive number of 63 bits").with_context("id", raw))
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The number as SQL knows it. Always positive.
    pub fn as_i64(self) -> i64 {
        self.0.cast_signed()
    }

    /// When and where it was made.
    pub fn parts(self, layout: &Layout) -> IdParts {
        layout.decode(self)
    }

    /// A number that a generator made; its ranges lie within 1 and `i64::MAX`.
    pub(crate) fn made(raw: u64) -> Self {
        debug_assert!((1..=i64::MAX as u64).contains(&raw), "{raw}");
        Self(raw)
    }
}

fn validate_prefix(prefix: &str) -> Result<()> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b':' | b'.' | b'-');
    if prefix.len() <= Id::PREFIX_BYTES_MAX && prefix.bytes().all(allowed) {
        return Ok(());
    }
    Err(Error::invalid_input(
        "the prefix of an id has at most 64 letters, digits, underscores, colons, dots and hyphens",
    )
    .with_context("prefix", shown(prefix)))
}

/// The number, if the digits are exactly those that it prints.
fn parse_number(digits: &str) -> Option<RawId> {
    let canonical = digits.bytes().all(|c| c.is_ascii_digit()) && !digits.starts_with('0');
    let raw = canonical.then(|| digits.parse().ok()).flatten()?;
    RawId::new(raw).ok()
}

/// The first characters of an untrusted text, escaped.
fn shown(text: &str) -> String {
    text.chars().take(96).flat_map(char::escape_debug).collect()
}

impl fmt::Display for RawId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<RawId> for u64 {
    fn from(raw: RawId) -> Self {
        raw.0
    }
}

impl From<RawId> for i64 {
    fn from(raw: RawId) -> Self {
        raw.as_i64()
    }
}

impl From<RawId> for Value {
    fn from(raw: RawId) -> Self {
        Self::Int(raw.as_i64())
    }
}

impl AsRef<str> for Id {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.text)
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Id {}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Ord for Id {
    fn cmp(&self, other: &Self) -> Ordering {
        self.prefix().cmp(other.prefix()).then(self.raw.cmp(&other.raw))
    }
}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Id {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.text.as_ref().to_owned()
    }
}

impl From<&Id> for Value {
    fn from(id: &Id) -> Self {
        Self::Text(id.as_str().to_owned())
    }
}

impl From<Id> for Value {
    fn from(id: Id) -> Self {
        Self::from(&id)
    }
}

impl From<&Id> for serde_json::Value {
    fn from(id: &Id) -> Self {
        Self::String(id.as_str().to_owned())
    }
}

impl From<Id> for serde_json::Value {
    fn from(id: Id) -> Self {
        Self::from(&id)
    }
}

/// As its text, so that no reader of JSON rounds it to a float.
impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}
