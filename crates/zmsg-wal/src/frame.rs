//! One record on disk: a head of 32 bytes, the payload, and padding to eight.
//!
//! ```text
//!  0  crc             u32  CRC-32C of all that follows, seeded by segment and offset
//!  4  stored_len      u32  length of the payload as stored
//!  8  seq             u64
//! 16  synced_through  u64  everything up to here was on the disk when this was written
//! 24  kind            u8   the caller's, or which mark
//! 25  codec           u8   how the payload is stored; 255 for a mark
//! 26  check           u16  of bytes 4 to 26 alone, seeded likewise: a length is believed after this
//! 28  payload_len     u32  length of the payload once decompressed
//! 32  payload, zeros to a multiple of eight
//! ```
//!
//! All numbers are little-endian. The seed makes a frame valid in one place of one segment only: what
//! an older file left behind, a sector that was moved, and a payload that contains a frame do not
//! pass for a record.

use crate::format::{u16_at, u32_at, u64_at};

/// The bytes before the payload; the smallest frame.
pub(crate) const HEAD: usize = 32;

/// Where frames begin.
pub(crate) const ALIGN: usize = 8;

/// The codec of a frame that is no record.
const MARK: u8 = 255;

/// What a frame without a payload tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Everything up to its sequence is on the disk.
    Synced,
    /// The same, and no later sequence was given to anybody: the log was closed.
    Closed,
}

impl Mark {
    fn code(self) -> u8 {
        match self {
            Self::Synced => 1,
            Self::Closed => 2,
        }
    }
}

/// The head of a frame, as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) crc: u32,
    pub(crate) stored_len: u32,
    pub(crate) seq: u64,
    pub(crate) synced_through: u64,
    pub(crate) kind: u8,
    pub(crate) codec: u8,
    pub(crate) check: u16,
    pub(crate) payload_len: u32,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing was written here.
    Blank,
    /// The head does not pass its check.
    Head,
    /// The length is over the limit, or the file is shorter.
    Length,
    /// The frame does not pass its checksum.
    Checksum,
}

impl Flaw {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Blank => "nothing is there",
            Self::Head => "the head of the record is damaged",
            Self::Length => "the record is longer than the limit or than the file",
            Self::Checksum => "the checksum does not fit",
        }
    }
}

/// What makes a frame valid in one segment alone, and how long its payload may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) seed: u32,
    pub(crate) record_bytes_max: u32,
}

impl Rules {
    fn seed_at(self, offset: u64) -> u32 {
        // Offsets are multiples of eight: 32 bits reach 32 GiB, and the fold goes further.
        let place = offset / ALIGN as u64;
        #[expect(clippy::cast_possible_truncation, reason = "the upper half is folded in")]
        let folded = (place ^ (place >> 32)) as u32;
        self.seed ^ folded
    }
}

impl Head {
    pub(crate) fn read(bytes: &[u8; HEAD]) -> Self {
        Self {
            crc: u32_at(bytes, 0),
            stored_len: u32_at(bytes, 4),
            seq: u64_at(bytes, 8),
            synced_through: u64_at(bytes, 16),
            kind: bytes[24],
            codec: bytes[25],
            check: u16_at(bytes, 26),
            payload_len: u32_at(bytes, 28),
        }
    }

    /// The mark, if this is one.
    pub(crate) fn mark(&self) -> Option<Mark> {
        [Mark::Synced, Mark::Closed]
            .into_iter()
            .find(|mark| self.codec == MARK && self.kind == mark.code())
    }

    /// A frame that is no record and no mark we know.
    pub(crate) fn is_record(&self) -> bool {
        self.codec != MARK
    }

    /// With head and padding.
    pub(crate) fn frame_len(&self) -> usize {
        frame_len(self.stored_len as usize)
    }

    /// Whether the head may be believed: its own check, then the limits. `left` is what the file
    /// holds from the beginning of the frame.
    pub(crate) fn verify(
        &self,
        bytes: &[u8; HEAD],
        offset: u64,
        left: u64,
        rules: Rules,
    ) -> Result<(), Flaw> {
        if bytes.iter().all(|&byte| byte == 0) {
            return Err(Flaw::Blank);
        }
        if self.check != head_check(bytes, rules.seed_at(offset)) {
            return Err(Flaw::Head);
        }
        let max = rules.record_bytes_max;
        if self.stored_len > max || self.payload_len > max || self.frame_len() as u64 > left {
            return Err(Flaw::Length);
        }
        Ok(())
    }

    /// Whether all of a frame is as it was written.
    pub(crate) fn verify_all(&self, frame: &[u8], offset: u64, rules: Rules) -> Result<(), Flaw> {
        let whole = frame.get(4..).is_some_and(|rest| self.crc == sum(rules.seed_at(offset), rest));
        if whole { Ok(()) } else { Err(Flaw::Checksum) }
    }
}

/// With head and padding.
pub(crate) fn frame_len(stored_len: usize) -> usize {
    (HEAD + stored_len).next_multiple_of(ALIGN)
}

/// What is known of a record when it is appended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content<'a> {
    pub(crate) kind: u8,
    pub(crate) codec: u8,
    pub(crate) payload_len: u32,
    pub(crate) parts: &'a [&'a [u8]],
    pub(crate) stored_len: u32,
}

/// Adds a frame that still lacks what only its place decides: see [`seal`].
pub(crate) fn push(buffer: &mut Vec<u8>, seq: u64, content: &Content<'_>) {
    let begin = buffer.len();
    let mut head = [0; HEAD];
    head[4..8].copy_from_slice(&content.stored_len.to_le_bytes());
    head[8..16].copy_from_slice(&seq.to_le_bytes());
    head[24] = content.kind;
    head[25] = content.codec;
    head[28..32].copy_from_slice(&content.payload_len.to_le_bytes());
    buffer.extend_from_slice(&head);
    for part in content.parts {
        buffer.extend_from_slice(part);
    }
    let end = begin + frame_len(content.stored_len as usize);
    buffer.resize(end, 0);
}

/// Completes a frame for its place.
pub(crate) fn seal(frame: &mut [u8], rules: Rules, offset: u64, synced_through: u64) {
    let seed = rules.seed_at(offset);
    frame[16..24].copy_from_slice(&synced_through.to_le_bytes());
    if let Some(head) = frame.first_chunk::<HEAD>() {
        let check = head_check(head, seed);
        frame[26..28].copy_from_slice(&check.to_le_bytes());
    }
    let crc = sum(seed, &frame[4..]);
    frame[..4].copy_from_slice(&crc.to_le_bytes());
}

/// A complete mark for its place.
pub(crate) fn mark(mark: Mark, seq: u64, rules: Rules, offset: u64) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD);
    let (kind, codec) = (mark.code(), MARK);
    push(&mut frame, seq, &Content { kind, codec, payload_len: 0, parts: &[], stored_len: 0 });
    seal(&mut frame, rules, offset, seq);
    frame
}

fn head_check(head: &[u8; HEAD], seed: u32) -> u16 {
    let sum = sum(seed, &head[4..26]);
    #[expect(clippy::cast_possible_truncation, reason = "half of the sum is the check")]
    let check = (sum ^ (sum >> 16)) as u16;
    check
}

fn sum(seed: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(seed, bytes)
}
