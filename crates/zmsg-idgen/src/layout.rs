//! How the 63 bits of an id are divided between time, node and sequence.

use std::fmt;

use zmsg_core::{Clock, Error, Result, UnixMillis};

use crate::RawId;

/// The division of an id: milliseconds since an epoch, then the node, then the sequence within
/// the millisecond, from the highest bit to the lowest ("Snowflake", Twitter, 2010).
///
/// All generators and all ids of one application need the same layout; the file leases store it
/// and refuse another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    epoch_ms: UnixMillis,
    time_bits: u8,
    node_bits: u8,
    sequence_bits: u8,
}

/// What an id says about its making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdParts {
    /// The generator's time, in milliseconds since the Unix epoch. It may run ahead of the wall
    /// clock, see [`IdOptions`](crate::IdOptions).
    pub time: UnixMillis,
    /// The node that made it.
    pub node: u32,
    /// Its place within the millisecond.
    pub sequence: u32,
}

impl Layout {
    /// 2021-01-01T00:00:00Z, the default epoch, in milliseconds since the Unix epoch.
    pub const EPOCH_2021_MS: UnixMillis = 1_609_459_200_000;

    /// The fewest bits of time: 38 bits of milliseconds last 8.7 years.
    pub const TIME_BITS_MIN: u8 = 38;

    const BITS: u32 = 63;

    /// A layout that counts time from `epoch_ms` (milliseconds since the Unix epoch).
    ///
    /// # Errors
    /// `InvalidConfig` unless the three numbers of bits add up to 63, time has at least
    /// [`TIME_BITS_MIN`](Self::TIME_BITS_MIN), node and sequence at least one each, and the last
    /// moment of the layout can be told in milliseconds since the Unix epoch.
    pub fn new(
        epoch_ms: UnixMillis,
        time_bits: u8,
        node_bits: u8,
        sequence_bits: u8,
    ) -> Result<Self> {
        let sum = u32::from(time_bits) + u32::from(node_bits) + u32::from(sequence_bits);
        let problem = if sum != Self::BITS {
            "the bits of time, node and sequence must add up to 63"
        } else if time_bits < Self::TIME_BITS_MIN {
            "an id needs at least 38 bits of time"
        } else if node_bits == 0 || sequence_bits == 0 {
            "an id needs at least one bit each of node and sequence"
        } else if epoch_ms > i64::MAX as u64 {
            "the epoch of ids is out of range"
        } else {
            return Ok(Self { epoch_ms, time_bits, node_bits, sequence_bits });
        };
        Err(Error::invalid_config(problem)
            .with_context("time_bits", time_bits)
            .with_context("node_bits", node_bits)
            .with_context("sequence_bits", sequence_bits)
            .with_context("epoch_ms", epoch_ms))
    }

    /// The moment at which the layout's time is 0, in milliseconds since the Unix epoch.
    pub fn epoch_ms(&self) -> UnixMillis {
        self.epoch_ms
    }

    /// The bits of time.
    pub fn time_bits(&self) -> u8 {
        self.time_bits
    }

    /// The bits of the node.
    pub fn node_bits(&self) -> u8 {
        self.node_bits
    }

    /// The bits of the sequence.
    pub fn sequence_bits(&self) -> u8 {
        self.sequence_bits
    }

    /// How many nodes there can be: their numbers are `0..nodes()`.
    pub fn nodes(&self) -> u32 {
        1 << self.node_bits
    }

    /// How many ids a node can make in one millisecond.
    pub fn sequences(&self) -> u32 {
        1 << self.sequence_bits
    }

    /// The last moment that an id can tell, in milliseconds since the Unix epoch.
    pub fn last_ms(&self) -> UnixMillis {
        self.unix_ms(self.times() - 1)
    }

    /// The id of these parts.
    ///
    /// # Errors
    /// `InvalidInput` if a part does not fit.
    pub fn encode(&self, parts: IdParts) -> Result<RawId> {
        let fits = (self.epoch_ms..=self.last_ms()).contains(&parts.time)
            && parts.node < self.nodes()
            && parts.sequence < self.sequences();
        if !fits {
            return Err(Error::invalid_input("the parts of an id do not fit its layout")
                .with_context("layout", self)
                .with_context("parts", format!("{parts:?}")));
        }
        RawId::new(self.pack(self.since_epoch(parts.time), parts.node, parts.sequence))
    }

    /// The parts of an id.
    pub fn decode(&self, id: RawId) -> IdParts {
        let raw = id.get();
        IdParts {
            time: self.unix_ms(self.time_of(raw)),
            node: self.node_of(raw),
            sequence: self.sequence_of(raw),
        }
    }

    pub(crate) fn refuse_future_epoch(&self, clock: &dyn Clock) -> Result<()> {
        let wall_ms = clock.wall();
        if self.epoch_ms <= wall_ms {
            return Ok(());
        }
        Err(Error::invalid_config("the epoch of ids lies in the future")
            .with_context("epoch_ms", self.epoch_ms)
            .with_context("wall_ms", wall_ms))
    }

    /// Milliseconds since the layout's epoch; 0 before it.
    pub(crate) fn since_epoch(&self, at: UnixMillis) -> u64 {
        at.saturating_sub(self.epoch_ms)
    }

    pub(crate) fn unix_ms(&self, since_epoch: u64) -> UnixMillis {
        self.epoch_ms.saturating_add(since_epoch)
    }

    /// How many milliseconds the layout has.
    pub(crate) fn times(&self) -> u64 {
        1 << self.time_bits
    }

    /// The raw number; `time` must lie below [`times`](Self::times).
    pub(crate) fn pack(&self, time: u64, node: u32, sequence: u32) -> u64 {
        time << self.time_shift() | u64::from(node) << self.sequence_bits | u64::from(sequence)
    }

    pub(crate) fn time_of(&self, raw: u64) -> u64 {
        raw >> self.time_shift()
    }

    pub(crate) fn node_of(&self, raw: u64) -> u32 {
        low_bits(raw >> self.sequence_bits, self.node_bits)
    }

    pub(crate) fn sequence_of(&self, raw: u64) -> u32 {
        low_bits(raw, self.sequence_bits)
    }

    fn time_shift(&self) -> u32 {
        u32::from(self.node_bits) + u32::from(self.sequence_bits)
    }
}

/// The low `bits` of `raw`; with at least 38 bits of time no other part has over 24.
fn low_bits(raw: u64, bits: u8) -> u32 {
    (raw & ((1 << bits) - 1)) as u32
}

impl Default for Layout {
    /// 41 bits of time from 2021 (until 2090), 10 of node, 12 of sequence.
    fn default() -> Self {
        Self { epoch_ms: Self::EPOCH_2021_MS, time_bits: 41, node_bits: 10, sequence_bits: 12 }
    }
}

/// Epoch and bits, as in `1609459200000/41/10/12`.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch_ms, time_bits, node_bits, sequence_bits } = self;
        write!(f, "{epoch_ms}/{time_bits}/{node_bits}/{sequence_bits}")
    }
}
