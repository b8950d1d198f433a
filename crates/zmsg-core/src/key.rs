//! The name under which a value is cached and found.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::{Error, Result};

/// A validated key: 1 to 1,024 bytes of text without NUL.
///
/// Cloning it is one reference count; hash and equality are those of its text, so maps keyed by
/// `Key` can be asked with a `&str`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    /// The longest key, in bytes.
    pub const BYTES_MAX: usize = 1024;

    /// Validates `text` and keeps a copy of it.
    ///
    /// # Errors
    /// `InvalidInput` for an empty key, one over [`BYTES_MAX`](Self::BYTES_MAX), or one that
    /// contains NUL, which PostgreSQL cannot store.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        if text.is_empty() {
            return Err(Error::invalid_input("a key must not be empty"));
        }
        if text.len() > Self::BYTES_MAX {
            return Err(Error::invalid_input("a key has at most 1024 bytes")
                .with_context("bytes", text.len())
                .with_context("key", excerpt(text)));
        }
        if text.contains('\0') {
            return Err(Error::invalid_input("a key must not contain NUL")
                .with_context("key", excerpt(text)));
        }
        Ok(Self(Arc::from(text)))
    }

    /// The text of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The first characters of an untrusted text, escaped, for an error or a log line.
fn excerpt(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", excerpt(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_long_and_nul_keys_are_refused() {
        assert!(Key::new("").is_err());
        assert!(Key::new("a".repeat(1025)).is_err());
        assert!(Key::new("a\0b").is_err());
        assert!(Key::new("a".repeat(1024)).is_ok());
        assert!(Key::new("键:1").is_ok());
    }

    #[test]
    fn the_error_shows_the_key_escaped_and_cut() {
        let error = Key::new(format!("\u{1b}[31m\0{}", "x".repeat(500))).unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'), "{error}");
        assert!(error.len() < 200, "{error}");
    }
}
