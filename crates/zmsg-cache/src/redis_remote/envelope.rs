//! What lies in Redis under a key.
//!
//! Two bytes, format and tag, the [history](History) of the server in which it was put there, 20
//! bytes, and what belongs to the tag:
//!
//! | tag | stands for | followed by |
//! |---|---|---|
//! | `v` | a value | when it ends, 8 bytes; its bytes |
//! | `a` | known to be absent | when that ends, 8 bytes |
//! | `h` | the hold of one writer | his token, 16 bytes |
//! | `c` | a hold that was contended | nothing |
//! | `n` | the hold that an invalidation left | nothing |
//!
//! An end is the server's Unix time in milliseconds, the most significant byte first: what the TTL
//! of the key says, for readers who ask for nothing but the key.
//!
//! The scripts write it, and read the same.

use std::io::Write as _;

use bytes::Bytes;
use zmsg_redis::History;
use zmsg_redis::redis::{Cmd, RedisWrite as _};

use crate::HoldToken;

const FORMAT: u8 = 3;

/// Where what belongs to the tag begins.
const REST: usize = 2 + History::LEN;

/// Where a value begins.
const VALUE: usize = REST + size_of::<u64>();

/// A tag and what belongs to it, as the scripts take them.
pub(super) type Parts<'a> = (&'static str, &'a [u8]);

/// The hold that an invalidation leaves.
pub(super) const NOBODY: Parts<'static> = ("n", &[]);

/// What was found under a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `None`: known to be absent. When it ends, by the server's Unix time in milliseconds.
    Entry(Option<Bytes>, u64),
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
        let place = match (tag, rest.split_first_chunk()) {
            (b'v', Some((end, _))) => {
                Self::Entry(Some(bytes.slice(VALUE..)), u64::from_be_bytes(*end))
            }
            (b'a', Some((end, []))) => Self::Entry(None, u64::from_be_bytes(*end)),
            (b'h', _) if rest.len() == 16 => Self::Hold,
            (b'c' | b'n', _) if rest.is_empty() => Self::Hold,
            _ => return Self::Unreadable,
        };
        if history == present { place } else { Self::Past }
    }
}

/// The parts of a value, or of an "absent".
pub(super) fn entry(value: Option<&Bytes>) -> Parts<'_> {
    value.map_or(("a", &[]), |value| ("v", value))
}

/// Adds to a command what the scripts put together: an entry of a server in this history, which
/// ends then.
pub(super) fn write((tag, rest): Parts<'_>, history: &History, end: u64, cmd: &mut Cmd) {
    let mut arg = cmd.writer_for_next_arg();
    for part in [&[FORMAT], tag.as_bytes(), history.as_bytes(), &end.to_be_bytes(), rest] {
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

    const END: u64 = 1_800_000_000_000;

    /// As the scripts put it together.
    fn put((tag, rest): Parts<'_>) -> Bytes {
        let end = END.to_be_bytes();
        let end: &[u8] = if matches!(tag, "v" | "a") { &end } else { &[] };
        [&[FORMAT], tag.as_bytes(), PRESENT, end, rest].concat().into()
    }

    #[test]
    fn what_is_written_is_read() {
        for value in [None, Some(&b""[..]), Some(&b"\x03h"[..]), Some(&[0xff; 1000][..])] {
            let value = value.map(Bytes::copy_from_slice);
            let bytes = put(entry(value.as_ref()));
            assert_eq!(Place::read(&bytes, PRESENT), Place::Entry(value, END));
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
        let others = ["", "v", "\x03", "\x03a", "\x02v a value of an earlier format", "hello"];
        for bytes in others.map(Bytes::from) {
            assert_eq!(Place::read(&bytes, PRESENT), Place::Unreadable, "{bytes:?}");
        }
        for parts in [("x", &b""[..]), ("a", b"x"), ("h", b"short"), ("n", b"n")] {
            assert_eq!(Place::read(&put(parts), PRESENT), Place::Unreadable, "{parts:?}");
        }
        for tag in ["v", "a"] {
            let cut = put((tag, b"")).slice(..VALUE - 1);
            assert_eq!(Place::read(&cut, PRESENT), Place::Unreadable, "{tag}: it has no end");
        }
    }
}
