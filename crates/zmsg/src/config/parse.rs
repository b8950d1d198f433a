//! Values of the configuration: from what a file or the environment holds to typed ones.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;
use zmsg_core::OnMissing;

use super::{
    FilterBackend, JournalMode, LeaseBackend, LocalBackend, QueueBackend, RemoteBackend,
    Synchronous,
};

/// A password or a key: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being printed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A number of bytes, written `512KiB`, `64MiB`, `2GiB` or as a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 5] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1), ("", 1)];

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |unit: &&(&str, u64)| self.0 >= unit.1 && self.0.is_multiple_of(unit.1);
        let (name, size) = UNITS.iter().find(fits).unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / size)
    }
}

/// A type that a setting can have.
pub(super) trait Parse: Sized {
    /// What a value looks like, for messages and the documentation.
    const EXPECTS: &'static str;
    /// The typed value, or what is wrong with the raw one. The raw value is not repeated: it may
    /// be a secret.
    fn parse(raw: &Json) -> Result<Self, String>;
    /// The value as a file would hold it.
    fn show(&self) -> String;
}

fn expected<T: Parse>() -> String {
    format!("expected {}", T::EXPECTS)
}

/// The text of a string or a number: the environment knows only text.
fn text(raw: &Json) -> Option<String> {
    match raw {
        Json::String(text) => Some(text.trim().to_owned()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

macro_rules! parse_by_from_str {
    ($($type:ty => $expects:literal;)*) => {$(
        impl Parse for $type {
            const EXPECTS: &'static str = $expects;
            fn parse(raw: &Json) -> Result<Self, String> {
                text(raw).and_then(|text| text.parse().ok()).ok_or_else(expected::<Self>)
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

parse_by_from_str! {
    bool => "true or false";
    u8 => "a whole number from 0 to 255";
    u16 => "a whole number from 0 to 65535";
    u32 => "a whole number";
    u64 => "a whole number";
    usize => "a whole number";
    f64 => "a number";
}

impl Parse for String {
    const EXPECTS: &'static str = "text";
    fn parse(raw: &Json) -> Result<Self, String> {
        text(raw).ok_or_else(expected::<Self>)
    }
    fn show(&self) -> String {
        redacted(self)
    }
}

impl Parse for Secret {
    const EXPECTS: &'static str = "text";
    fn parse(raw: &Json) -> Result<Self, String> {
        text(raw).map(Self).ok_or_else(expected::<Self>)
    }
    fn show(&self) -> String {
        "***".to_owned()
    }
}

/// `none` in a later layer takes back what an earlier one said.
impl<T: Parse> Parse for Option<T> {
    const EXPECTS: &'static str = T::EXPECTS;
    fn parse(raw: &Json) -> Result<Self, String> {
        match text(raw).as_deref() {
            Some("none" | "") => Ok(None),
            _ => T::parse(raw).map(Some),
        }
    }
    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), T::show)
    }
}

impl Parse for PathBuf {
    const EXPECTS: &'static str = "a path";
    fn parse(raw: &Json) -> Result<Self, String> {
        text(raw).filter(|text| !text.is_empty()).map(Self::from).ok_or_else(expected::<Self>)
    }
    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Parse for Duration {
    const EXPECTS: &'static str = "a duration with its unit, such as 250ms, 5s or 10m";
    fn parse(raw: &Json) -> Result<Self, String> {
        let text = text(raw).ok_or_else(expected::<Self>)?;
        humantime::parse_duration(&text).map_err(|_| expected::<Self>())
    }
    fn show(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

impl Parse for ByteSize {
    const EXPECTS: &'static str = "a size such as 512KiB, 64MiB or 2GiB";
    fn parse(raw: &Json) -> Result<Self, String> {
        let text = text(raw).ok_or_else(expected::<Self>)?;
        UNITS
            .iter()
            .find_map(|(name, size)| {
                let number: u64 = text.strip_suffix(name)?.trim().parse().ok()?;
                number.checked_mul(*size).map(Self)
            })
            .ok_or_else(expected::<Self>)
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Parse for JournalMode {
    const EXPECTS: &'static str = "auto, off, always, or how often to sync, such as 100ms";
    fn parse(raw: &Json) -> Result<Self, String> {
        match text(raw).as_deref() {
            Some("auto") => Ok(Self::Auto),
            // YAML reads a bare `off` as false.
            Some("off" | "false") => Ok(Self::Off),
            Some("always") => Ok(Self::Always),
            _ => Duration::parse(raw).map(Self::Interval).map_err(|_| expected::<Self>()),
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Off => "off".to_owned(),
            Self::Interval(every) => every.show(),
            Self::Always => "always".to_owned(),
        }
    }
}

macro_rules! parse_choice {
    ($($type:ty => $expects:literal { $($name:literal => $variant:path,)* })*) => {$(
        impl Parse for $type {
            const EXPECTS: &'static str = $expects;
            fn parse(raw: &Json) -> Result<Self, String> {
                match text(raw).as_deref() {
                    $(Some($name) => Ok($variant),)*
                    _ => Err(expected::<Self>()),
                }
            }
            fn show(&self) -> String {
                match self {
                    $($variant => $name.to_owned(),)*
                }
            }
        }
    )*};
}

parse_choice! {
    Synchronous => "full or normal" {
        "full" => Synchronous::Full,
        "normal" => Synchronous::Normal,
    }
    RemoteBackend => "auto, none or redis" {
        "auto" => RemoteBackend::Auto,
        "none" => RemoteBackend::None,
        "redis" => RemoteBackend::Redis,
    }
    LocalBackend => "quick, stretto or moka" {
        "quick" => LocalBackend::Quick,
        "stretto" => LocalBackend::Stretto,
        "moka" => LocalBackend::Moka,
    }
    FilterBackend => "auto, none, local, bloomfilter or redis" {
        "auto" => FilterBackend::Auto,
        "none" => FilterBackend::None,
        "local" => FilterBackend::Local,
        "bloomfilter" => FilterBackend::Bloomfilter,
        "redis" => FilterBackend::Redis,
    }
    LeaseBackend => "auto, sql, file or fixed" {
        "auto" => LeaseBackend::Auto,
        "sql" => LeaseBackend::Sql,
        "file" => LeaseBackend::File,
        "fixed" => LeaseBackend::Fixed,
    }
    QueueBackend => "sql, memory, redis or outbox" {
        "sql" => QueueBackend::Sql,
        "memory" => QueueBackend::Memory,
        "redis" => QueueBackend::Redis,
        "outbox" => QueueBackend::Outbox,
    }
    OnMissing => "dead_letter, insert or ignore" {
        "dead_letter" => OnMissing::DeadLetter,
        "insert" => OnMissing::Insert,
        "ignore" => OnMissing::Ignore,
    }
}

/// A URL without its password.
pub(super) fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(authority_end);
    let tail = tail.split('?').next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((credentials, host)) => {
            let user = credentials.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{host}{tail}")
        }
        None => format!("{scheme}://{authority}{tail}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_and_durations_carry_their_units() {
        assert_eq!(ByteSize::parse(&json!("64MiB")), Ok(ByteSize(64 << 20)));
        assert_eq!(ByteSize::parse(&json!(512)), Ok(ByteSize(512)));
        assert!(ByteSize::parse(&json!("99999999999GiB")).is_err());
        assert!(ByteSize::parse(&json!("64 parsecs")).is_err());
        assert_eq!(ByteSize(64 << 20).to_string(), "64MiB");
        assert_eq!(ByteSize(0).to_string(), "0B");
        assert_eq!(Duration::parse(&json!("250ms")), Ok(Duration::from_millis(250)));
        assert!(Duration::parse(&json!(5)).is_err(), "a bare number has no unit");
    }

    #[test]
    fn a_journal_is_off_always_or_synced_so_often() {
        for (raw, mode) in [
            (json!("off"), JournalMode::Off),
            (json!(false), JournalMode::Off),
            (json!("always"), JournalMode::Always),
            (json!("100ms"), JournalMode::Interval(Duration::from_millis(100))),
            (json!("auto"), JournalMode::Auto),
        ] {
            assert_eq!(JournalMode::parse(&raw), Ok(mode));
            assert_eq!(JournalMode::parse(&json!(mode.show())), Ok(mode));
        }
        assert!(JournalMode::parse(&json!("sometimes")).is_err());
    }

    #[test]
    fn a_url_is_shown_without_its_password() {
        assert_eq!(redacted("postgres://app:s3cret@db/x?password=y"), "postgres://app:***@db/x");
        assert_eq!(redacted("postgres://app:p@ss@db/x"), "postgres://app:***@db/x");
        assert_eq!(redacted("sqlite:zmsg.db"), "sqlite:zmsg.db");
    }
}
