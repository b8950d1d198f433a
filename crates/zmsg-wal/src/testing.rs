//! For tests: a disk in memory that fails on demand and loses its power, and a log that breaks its
//! rules.

mod crash;
mod decode;
mod disk;
mod fault;

pub use crate::sabotage::Sabotage;
pub use crash::{CrashPoint, Survival};
pub use decode::{RECORD_BYTES_MAX, check_record, check_segment};
pub use disk::{Disk, Note};
pub use fault::{Fault, FaultKind};

use crate::frame::{self, Content};
use crate::header::{HEADER, Header};

/// A frame that is good at the beginning of the segment whose first bytes are `header`, whatever it
/// claims. Empty if the header is not good.
pub fn sealed_frame(
    header: &[u8],
    seq: u64,
    codec: u8,
    stored: &[u8],
    payload_len: u32,
) -> Vec<u8> {
    let claim = Claim { seq, synced_through: seq.saturating_sub(1), kind: 0, codec, payload_len };
    claim.sealed(header, HEADER as u64, stored)
}

/// What a forged frame says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// Its sequence.
    pub seq: u64,
    /// Up to where everything was synced.
    pub synced_through: u64,
    /// The kind of the record or of the mark.
    pub kind: u8,
    /// How the payload is stored; 255 for a mark.
    pub codec: u8,
    /// The length of the payload once decompressed.
    pub payload_len: u32,
}

impl Claim {
    /// The frame, good at `offset` of the segment whose first bytes are `header`. Empty if the header
    /// is not good.
    pub fn sealed(&self, header: &[u8], offset: u64, stored: &[u8]) -> Vec<u8> {
        let header = header.first_chunk().and_then(|header| Header::decode(header).ok());
        let (Some(header), Ok(stored_len)) = (header, u32::try_from(stored.len())) else {
            return Vec::new();
        };
        let Self { kind, codec, payload_len, .. } = *self;
        let mut frame = Vec::new();
        let content = Content { kind, codec, payload_len, parts: &[stored], stored_len };
        frame::push(&mut frame, self.seq, &content);
        frame::seal(&mut frame, header.rules(), offset, self.synced_through);
        frame
    }
}
