//! What a batch queue writes to its log.
//!
//! | kind | payload |
//! | --- | --- |
//! | 1, 2 | an item: milliseconds since 1970 (u64, little endian), then JSON or `postcard` |
//! | 65, 66 | the same, of an item that comes before all that are not such |
//! | 8 | items that need no further delivery: [`Spans`] |
//! | 9 | tries that were spent (u32), then [`Spans`] |
//! | 16 | a dead letter: its head (`postcard`), which tells the kind, then the item without its time |
//!
//! Spans are pairs of LEB128 numbers: the distance from the end of the span before, and the length
//! less one.

use serde::Serialize;
use serde::de::DeserializeOwned;
use zmsg_core::{Error, ErrorKind, Result, UnixMillis};

use super::config::Encoding;

pub(super) const DONE: u8 = 8;
pub(super) const TRIED: u8 = 9;
pub(super) const LETTER: u8 = 16;
const FRONT: u8 = 64;
pub(super) const TIME_LEN: usize = 8;

/// The kind of an item's record.
pub(super) fn item_kind(encoding: Encoding, front: bool) -> u8 {
    let kind = match encoding {
        Encoding::Json => 1,
        Encoding::Postcard => 2,
    };
    if front { kind | FRONT } else { kind }
}

/// What the kind of an item's record says; `None` if it is no item.
pub(super) fn item_of(kind: u8) -> Option<(Encoding, bool)> {
    let front = kind & FRONT != 0;
    match kind & !FRONT {
        1 => Some((Encoding::Json, front)),
        2 => Some((Encoding::Postcard, front)),
        _ => None,
    }
}

/// When an item was enqueued, and its encoded form.
pub(super) fn split_item(payload: &[u8]) -> Result<(UnixMillis, &[u8])> {
    let (time, body) = payload.split_first_chunk::<TIME_LEN>().ok_or_else(|| short("an item"))?;
    Ok((u64::from_le_bytes(*time), body))
}

fn short(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupted, "a record of the queue is shorter than it can be")
        .with_context("record", what)
}

/// How items of one type are written and read. Function pointers, so that a queue in memory alone
/// needs no type that can be.
#[derive(Debug)]
pub(super) struct Codec<T> {
    encode: fn(Encoding, &T) -> Result<Vec<u8>>,
    decode: fn(Encoding, &[u8]) -> Result<T>,
}

impl<T> Clone for Codec<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Codec<T> {}

impl<T: Serialize + DeserializeOwned> Codec<T> {
    pub(super) fn serde() -> Self {
        Self { encode: encode::<T>, decode: decode::<T> }
    }
}

impl<T> Codec<T> {
    pub(super) fn encode(self, encoding: Encoding, item: &T) -> Result<Vec<u8>> {
        (self.encode)(encoding, item)
    }

    pub(super) fn decode(self, encoding: Encoding, body: &[u8]) -> Result<T> {
        (self.decode)(encoding, body)
    }
}

fn encode<T: Serialize>(encoding: Encoding, item: &T) -> Result<Vec<u8>> {
    let cannot = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::invalid_input("could not write the item in the encoding of the queue")
            .with_context("encoding", format_args!("{encoding:?}"))
            .with_context("cause", error)
    };
    match encoding {
        Encoding::Json => serde_json::to_vec(item).map_err(|error| cannot(error.into())),
        Encoding::Postcard => postcard::to_stdvec(item).map_err(|error| cannot(error.into())),
    }
}

fn decode<T: DeserializeOwned>(encoding: Encoding, body: &[u8]) -> Result<T> {
    let cannot = |error: Box<dyn std::error::Error + Send + Sync>| {
        let why =
            "could not read an item of the log as the type of the queue: did the type change?";
        Error::new(ErrorKind::InvalidData, why)
            .with_context("encoding", format_args!("{encoding:?}"))
            .with_context("cause", error)
    };
    match encoding {
        Encoding::Json => serde_json::from_slice(body).map_err(|error| cannot(error.into())),
        Encoding::Postcard => postcard::from_bytes(body).map_err(|error| cannot(error.into())),
    }
}

/// Sequences, as spans of first and last, in order and apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Spans(Vec<(u64, u64)>);

impl Spans {
    /// One span: every item of the queue in between is meant.
    pub(super) fn one(first: u64, last: u64) -> Self {
        Self(vec![(first, last)])
    }

    /// Adds a sequence; higher ones come last for this to be cheap.
    pub(super) fn add(&mut self, first: u64, last: u64) {
        match self.0.last_mut() {
            Some(top) if first > top.1.saturating_add(1) => self.0.push((first, last)),
            Some(top) if first >= top.0 => top.1 = top.1.max(last),
            Some(_) => self.add_below(first, last),
            None => self.0.push((first, last)),
        }
    }

    fn add_below(&mut self, mut first: u64, mut last: u64) {
        let from = self.0.partition_point(|&(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|&(begin, _)| begin <= last.saturating_add(1));
        if let Some(touched) = self.0.get(from..to).filter(|touched| !touched.is_empty()) {
            first = first.min(touched[0].0);
            last = last.max(touched[touched.len() - 1].1);
        }
        self.0.splice(from..to.max(from), [(first, last)]);
    }

    pub(super) fn extend(&mut self, other: &Self) {
        other.0.iter().for_each(|&(first, last)| self.add(first, last));
    }

    pub(super) fn contains(&self, seq: u64) -> bool {
        let at = self.0.partition_point(|&(_, last)| last < seq);
        self.0.get(at).is_some_and(|&(first, _)| first <= seq)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// The same in pieces that take no more bytes each when written.
    pub(super) fn pieces(&self, bytes_max: usize) -> impl Iterator<Item = Self> + '_ {
        // Two numbers of up to ten bytes.
        self.0.chunks((bytes_max / 20).max(1)).map(|spans| Self(spans.to_vec()))
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let mut end = 0;
        for &(first, last) in &self.0 {
            number(to, first - end);
            number(to, last - first);
            end = last;
        }
    }

    pub(super) fn read(mut from: &[u8]) -> Result<Self> {
        let mut spans = Self::default();
        let mut end = 0_u64;
        while !from.is_empty() {
            let distance = take_number(&mut from)?;
            let first = end.checked_add(distance).ok_or_else(|| short("spans"))?;
            end = first.checked_add(take_number(&mut from)?).ok_or_else(|| short("spans"))?;
            spans.add(first, end);
        }
        Ok(spans)
    }
}

fn number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn take_number(from: &mut &[u8]) -> Result<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first().ok_or_else(|| short("spans"))?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(short("spans"))
}

/// The payload of [`TRIED`].
pub(super) fn write_tried(tries: u32, spans: &Spans) -> Vec<u8> {
    let mut payload = tries.to_le_bytes().to_vec();
    spans.write(&mut payload);
    payload
}

pub(super) fn read_tried(payload: &[u8]) -> Result<(u32, Spans)> {
    let (tries, spans) = payload.split_first_chunk().ok_or_else(|| short("tries"))?;
    Ok((u32::from_le_bytes(*tries), Spans::read(spans)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(pairs: &[(u64, u64)]) -> Spans {
        let mut spans = Spans::default();
        pairs.iter().for_each(|&(first, last)| spans.add(first, last));
        spans
    }

    #[test]
    fn spans_hold_what_was_added_in_any_order() {
        for _ in 0..2_000 {
            let mut spans = Spans::default();
            let mut model = std::collections::BTreeSet::new();
            for _ in 0..fastrand::usize(1..20) {
                let first = fastrand::u64(1..60);
                let last = first + fastrand::u64(0..6);
                spans.add(first, last);
                model.extend(first..=last);
            }
            let held: Vec<_> = (0..80).filter(|&seq| spans.contains(seq)).collect();
            assert_eq!(held, model.into_iter().collect::<Vec<_>>(), "{spans:?}");
            let apart = spans.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0);
            assert!(apart, "{spans:?}");
            let mut bytes = Vec::new();
            spans.write(&mut bytes);
            assert_eq!(Spans::read(&bytes).unwrap(), spans);
        }
    }

    #[test]
    fn spans_of_any_bytes_are_read_or_refused() {
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..fastrand::usize(0..24)).map(|_| fastrand::u8(..)).collect();
            let _ = Spans::read(&bytes);
        }
        assert!(Spans::read(&[0xff; 11]).is_err());
        assert!(Spans::read(&[1]).is_err(), "half a span");
        let wide = spans(&[(u64::MAX - 1, u64::MAX)]);
        let mut bytes = Vec::new();
        wide.write(&mut bytes);
        assert_eq!(Spans::read(&bytes).unwrap(), wide);
        number(&mut bytes, 1);
        number(&mut bytes, 0);
        assert!(Spans::read(&bytes).is_err(), "beyond the last number");
    }

    #[test]
    fn an_item_says_how_it_was_written() {
        for encoding in [Encoding::Json, Encoding::Postcard] {
            for front in [false, true] {
                assert_eq!(item_of(item_kind(encoding, front)), Some((encoding, front)));
            }
        }
        for other in [0, DONE, TRIED, LETTER, FRONT, 255] {
            assert_eq!(item_of(other), None);
        }
        assert!(split_item(&[0; 7]).is_err());
        let tried = write_tried(3, &spans(&[(4, 9)]));
        assert_eq!(read_tried(&tried).unwrap(), (3, spans(&[(4, 9)])));
    }
}
