//! What lies in Redis under a key.
//!
//! Two bytes, format and tag, and what belongs to the tag:
//!
//! | tag | stands for | followed by |
//! |---|---|---|
//! | `v` | a value | its bytes |
//! | `a` | known to be absent | nothing |
//! | `h` | the hold of one writer | his token, 16 bytes |
//! | `c` | a hold that was contended | nothing |
//! | `n` | the hold that an invalidation left | nothing |
//!
//! The scripts read and write the same.

use bytes::Bytes;

use crate::HoldToken;

const FORMAT: u8 = 1;

/// The hold that an invalidation leaves.
pub(super) const NOBODY: &[u8] = &[FORMAT, b'n'];

/// What was found under a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `None`: known to be absent.
    Entry(Option<Bytes>),
    Hold,
    /// Somebody else's bytes.
    Unreadable,
}

impl Place {
    pub(super) fn read(bytes: &Bytes) -> Self {
        match (&**bytes, bytes.len()) {
            ([FORMAT, b'v', ..], _) => Self::Entry(Some(bytes.slice(2..))),
            ([FORMAT, b'a'], _) => Self::Entry(None),
            ([FORMAT, b'c' | b'n'], _) | ([FORMAT, b'h', ..], 18) => Self::Hold,
            _ => Self::Unreadable,
        }
    }
}

/// The bytes of a value, or of an "absent".
pub(super) fn entry(value: Option<&Bytes>) -> Vec<u8> {
    let Some(value) = value else { return vec![FORMAT, b'a'] };
    let mut bytes = Vec::with_capacity(2 + value.len());
    bytes.extend_from_slice(&[FORMAT, b'v']);
    bytes.extend_from_slice(value);
    bytes
}

/// The bytes of a writer's hold.
pub(super) fn hold(token: HoldToken) -> [u8; 18] {
    let mut bytes = [0; 18];
    bytes[..2].copy_from_slice(&[FORMAT, b'h']);
    bytes[2..].copy_from_slice(token.0.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for value in [None, Some(&b""[..]), Some(&b"\x01h"[..]), Some(&[0xff; 1000][..])] {
            let value = value.map(Bytes::copy_from_slice);
            let bytes = Bytes::from(entry(value.as_ref()));
            assert_eq!(Place::read(&bytes), Place::Entry(value));
        }
        let token = HoldToken::generate();
        assert_eq!(Place::read(&Bytes::copy_from_slice(&hold(token))), Place::Hold);
    }

    #[test]
    fn what_others_wrote_is_unreadable() {
        for bytes in
            ["", "v", "\x01", "\x02vx", "\x01x", "\x01ax", "\x01h short", "\x01nn", "hello", "{}"]
        {
            assert_eq!(Place::read(&Bytes::from(bytes)), Place::Unreadable, "{bytes:?}");
        }
    }
}
