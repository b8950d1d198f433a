//! The head of a segment: written once, synced before the segment gets its name.
//!
//! ```text
//!   0  magic             8 bytes "zmsg-wal"
//!   8  version           u32  1
//!  12  length            u32  128: where the first frame begins
//!  16  stream            16 bytes, the id of the log
//!  32  number            u64  of this segment, without gaps
//!  40  first_seq         u64  of its first record
//!  48  synced_through    u64  every record up to here is in the segments before, and was synced
//!  56  ceiling           u64  no sequence from here on was given out while this segment was the last
//!  64  salt              u64  random: part of the seed of every checksum
//!  72  record_bytes_max  u32
//!  76  zeros
//! 124  crc               u32  CRC-32C of the 124 bytes before
//! ```

use uuid::Uuid;

use crate::format::{u32_at, u64_at, u128_at};
use crate::frame::Rules;

/// How long a header is, and where the first frame begins.
pub(crate) const HEADER: usize = 128;

/// The version of the format that this code writes, and the only one it reads.
pub(crate) const VERSION: u32 = 1;

/// No record is longer, whatever a header says.
pub(crate) const RECORD_BYTES_CAP: u32 = 1 << 30;

/// No number of a record or a segment is higher, whatever a file says: so one more never overflows.
pub(crate) const NUMBER_CAP: u64 = 1 << 63;

/// A log whose next sequence is from here on is not opened: it would come too near the cap.
pub(crate) const SEQUENCES_END: u64 = 1 << 62;

const MAGIC: &[u8; 8] = b"zmsg-wal";
const CRC_AT: usize = HEADER - 4;

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) stream: Uuid,
    pub(crate) number: u64,
    pub(crate) first_seq: u64,
    pub(crate) synced_through: u64,
    pub(crate) ceiling: u64,
    pub(crate) salt: u64,
    pub(crate) record_bytes_max: u32,
}

impl Header {
    /// As it stands on disk.
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(HEADER as u32).to_le_bytes());
        bytes[16..32].copy_from_slice(&self.stream.as_u128().to_le_bytes());
        bytes[32..40].copy_from_slice(&self.number.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_seq.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.synced_through.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.ceiling.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.salt.to_le_bytes());
        bytes[72..76].copy_from_slice(&self.record_bytes_max.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header, or says what is wrong with it.
    pub(crate) fn decode(bytes: &[u8; HEADER]) -> Result<Self, &'static str> {
        if &bytes[..8] != MAGIC {
            return Err("this is no segment of a log");
        }
        if crc32c::crc32c(&bytes[..CRC_AT]) != u32_at(bytes, CRC_AT) {
            return Err("the header is damaged");
        }
        if u32_at(bytes, 8) != VERSION || u32_at(bytes, 12) as usize != HEADER {
            return Err("the segment was written by another version of the format");
        }
        let header = Self {
            stream: Uuid::from_u128(u128_at(bytes, 16)),
            number: u64_at(bytes, 32),
            first_seq: u64_at(bytes, 40),
            synced_through: u64_at(bytes, 48),
            ceiling: u64_at(bytes, 56),
            salt: u64_at(bytes, 64),
            record_bytes_max: u32_at(bytes, 72),
        };
        let ordered = header.synced_through < header.first_seq && header.first_seq < header.ceiling;
        let counted = header.ceiling <= NUMBER_CAP && header.number <= NUMBER_CAP;
        if !ordered || !counted || header.record_bytes_max > RECORD_BYTES_CAP {
            return Err("the header contradicts itself");
        }
        Ok(header)
    }

    /// What makes frames of this segment valid.
    pub(crate) fn rules(&self) -> Rules {
        let seed = crc32c::crc32c(&self.salt.to_le_bytes());
        let seed = crc32c::crc32c_append(seed, &self.stream.as_u128().to_le_bytes());
        let seed = crc32c::crc32c_append(seed, &self.number.to_le_bytes());
        Rules { seed, record_bytes_max: self.record_bytes_max }
    }
}
