//! What lies in Redis under a key.
//!
//! Two bytes, format and tag, the [history](History) of the server in which it was put there, 20
//! bytes, and what belongs to the tag:
//!
//! | tag | stands for | followed by |
//! |---|---|---|
//! | `v` | a value | its bytes |
//! | `a` | known to be absent | nothing |
//! | `h` | the hold of one writer | his token, 16 bytes |
//! | `c` | a hold that was contended | nothing |
//! | `n` | the hold that an invalidation left | nothing |
//!
//! The scripts write it, and read the same.

use std::io::Write as _;

use bytes::Bytes;
use zmsg_redis::History;
use zmsg_redis::redis::{Cmd, RedisWrite as _};

use crate::HoldToken;

const FORMAT: u8 = 2;

/// Where what belongs to the tag begins.
const REST: usize = 2 + History::LEN;

/// A tag and what belongs to it, as the scripts take them.
pub(super) type Parts<'a> = (&'static str, &'a [u8]);

/// The hold that an invalidation leaves.
pub(super) const NOBODY: Parts<'static> = ("n", &[]);

/// What was found under a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `None`: known to be absent.
    Entry(Option<Bytes>),
    Hold,
    /// Put there in another history, whatever it is.
    Past,
    /// Somebody else's bytes.
    Unreadable,
}

impl Place {
    /// Reads the bytes of a server that is in this history now.
    pub(super) fn read(bytes: &Bytes, present: &[u8]) -> Self {
        let Some(([FORMAT, tag, history @ ..], rest)) = bytes.split_first_chunk::<REST>() else {
            return Self::Unreadable;
        };
        let place = match (tag, rest.len()) {
            (b'v', _) => Self::Entry(Some(bytes.slice(REST..))),
            (b'a', 0) => Self::Entry(None),
            (b'c' | b'n', 0) | (b'h', 16) => Self::Hold,
            _ => return Self::Unreadable,
        };
        if history == present { place } else { Self::Past }
    }
}

/// The parts of a value, or of an "absent".
pub(super) fn entry(value: Option<&Bytes>) -> Parts<'_> {
    value.map_or(("a", &[]), |value| ("v", value))
}

/// Adds to a command what the scripts put together: an entry of a server in this history.
pub(super) fn write((tag, rest): Parts<'_>, history: &History, cmd: &mut Cmd) {
    let mut arg = cmd.writer_for_next_arg();
    for part in [&[FORMAT], tag.as_bytes(), history.as_bytes(), rest] {
        arg.write_all(part).expect("a command is in memory");
    }
}

/// The parts of a writer's hold.
pub(super) fn hold(token: &HoldToken) -> Parts<'_> {
    ("h", token.0.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRESENT: &[u8; History::LEN] = b"0123456789abcdef0123";

    /// As the scripts put it together.
    fn put((tag, rest): Parts<'_>) -> Bytes {
        [&[FORMAT], tag.as_bytes(), PRESENT, rest].concat().into()
    }

    #[test]
    fn what_is_written_is_read() {
        for value in [None, Some(&b""[..]), Some(&b"\x02h"[..]), Some(&[0xff; 1000][..])] {
            let value = value.map(Bytes::copy_from_slice);
            let bytes = put(entry(value.as_ref()));
            assert_eq!(Place::read(&bytes, PRESENT), Place::Entry(value));
        }
        for parts in [hold(&HoldToken::generate()), NOBODY, ("c", &[])] {
            assert_eq!(Place::read(&put(parts), PRESENT), Place::Hold);
        }
    }

    #[test]
    fn what_was_written_in_another_history_is_past() {
        let value = Bytes::from_static(b"old");
        for parts in [entry(Some(&value)), entry(None), hold(&HoldToken::generate()), NOBODY] {
            assert_eq!(Place::read(&put(parts), b"0123456789abcdef0124"), Place::Past);
            assert_eq!(Place::read(&put(parts), b""), Place::Past, "it is not known");
        }
    }

    #[test]
    fn what_others_wrote_is_unreadable() {
        let others = ["", "v", "\x02", "\x02a", "\x01v a value of an earlier format", "hello"];
        for bytes in others.map(Bytes::from) {
            assert_eq!(Place::read(&bytes, PRESENT), Place::Unreadable, "{bytes:?}");
        }
        for parts in [("x", &b""[..]), ("a", b"x"), ("h", b"short"), ("n", b"n")] {
            assert_eq!(Place::read(&put(parts), PRESENT), Place::Unreadable, "{parts:?}");
        }
    }
}
