//! What has to be known of a filter to read its bits.

use std::fmt;

use crate::Params;

/// Describes the bits of one generation: how they were placed, and which generation it is.
///
/// Bits whose header differs in layout are never reinterpreted: that filter is rebuilt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The version of the placement: [`FORMAT`](Self::FORMAT) for what this crate writes.
    pub format: u16,
    /// Bits of the generation.
    pub bits: u64,
    /// Bits set for each key.
    pub hashes: u32,
    /// The seed of the hash. Not for logs: who knows it can make keys that collide.
    pub seed: u64,
    /// Which generation it is; later ones have higher numbers.
    pub generation: u64,
}

impl Header {
    /// XXH3-128 with a seed, double hashing, multiply-shift reduction, Redis bit order.
    pub const FORMAT: u16 = 1;

    /// The header of a generation that this crate makes.
    pub fn new(params: &Params, seed: u64, generation: u64) -> Self {
        let (bits, hashes) = (params.bits(), params.hashes());
        Self { format: Self::FORMAT, bits, hashes, seed, generation }
    }

    /// Whether a key has the same positions under both headers.
    pub fn same_layout(&self, other: &Self) -> bool {
        let layout = |header: &Self| (header.format, header.bits, header.hashes, header.seed);
        layout(self) == layout(other)
    }
}

/// Leaves the seed out.
impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, bits, hashes, generation, seed: _ } = self;
        f.debug_struct("Header")
            .field("format", format)
            .field("bits", bits)
            .field("hashes", hashes)
            .field("generation", generation)
            .finish_non_exhaustive()
    }
}
