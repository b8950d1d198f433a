//! What a local filter remembers keys in.

use std::fmt;

use crate::{Bits, KeyHash, Params};

/// A set of keys that may contain more than was added to it, and never less: the memory of one
/// generation of a [`LocalFilter`](crate::LocalFilter), which adds to it when to believe it.
///
/// - Once `add` returned, `contains` finds the key, for every thread that learns of it.
/// - Neither call does I/O, and `contains` allocates nothing. Whether it takes a lock, the set says.
/// - `ones` grows with the keys as it does in a filter with these [`Params`]: what is over-filled
///   and how many keys there are is told from it.
pub trait KeySet: fmt::Debug + Send + Sync + 'static {
    /// A key in the form in which it is looked up, so that it is hashed once for two sets.
    type Hashed<'k>: Copy;

    /// An empty set.
    fn new(params: &Params, seed: u64) -> Self;

    /// Hashes a key, for all sets with this seed.
    fn hash(key: &str, seed: u64) -> Self::Hashed<'_>;

    /// Whether the key may have been added.
    fn contains(&self, key: Self::Hashed<'_>) -> bool;

    /// Adds a key. False if nothing changed, because all its bits were set already.
    fn add(&self, key: Self::Hashed<'_>) -> bool;

    /// The number of bits that are set, at most [`Params::bits`].
    fn ones(&self) -> u64;
}

/// The default set: [`Bits`] in the layout of [`Header::FORMAT`](crate::Header::FORMAT), without
/// locks.
#[derive(Debug)]
pub struct AtomicKeys {
    bits: Bits,
    hashes: u32,
}

impl KeySet for AtomicKeys {
    type Hashed<'k> = KeyHash;

    fn new(params: &Params, _seed: u64) -> Self {
        Self { bits: Bits::new(params.bits()), hashes: params.hashes() }
    }

    #[inline]
    fn hash(key: &str, seed: u64) -> KeyHash {
        KeyHash::new(key, seed)
    }

    #[inline]
    fn contains(&self, key: KeyHash) -> bool {
        key.positions(self.bits.size(), self.hashes).all(|position| self.bits.get(position))
    }

    #[inline]
    fn add(&self, key: KeyHash) -> bool {
        self.bits.set(key.positions(self.bits.size(), self.hashes)) > 0
    }

    fn ones(&self) -> u64 {
        self.bits.ones()
    }
}
