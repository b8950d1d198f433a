//! For tests: a disk in memory that fails on demand and loses its power, and a log that breaks its
//! rules.

mod crash;
mod disk;
mod fault;

pub use crate::sabotage::Sabotage;
pub use crash::{CrashPoint, Survival};
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
    let header = header.first_chunk().and_then(|header| Header::decode(header).ok());
    let (Some(header), Ok(stored_len)) = (header, u32::try_from(stored.len())) else {
        return Vec::new();
    };
    let mut frame = Vec::new();
    let content = Content { kind: 0, codec, payload_len, parts: &[stored], stored_len };
    frame::push(&mut frame, seq, &content);
    frame::seal(&mut frame, header.rules(), HEADER as u64, seq - 1);
    frame
}
