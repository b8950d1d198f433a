//! A bitmap that many threads read and set at once.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use zmsg_core::{Error, ErrorKind, Result};

/// A fixed number of bits in the order of a Redis string: bit 0 is the most significant bit of
/// byte 0. Bits are only ever set.
///
/// All accesses are relaxed: a bit carries no other data, and whoever may ask for a key has
/// learned of it from somebody after its bits were set.
pub struct Bits {
    // Big-endian words have the bit order of Redis' bytes.
    words: Box<[AtomicU64]>,
    size: u64,
    ones: AtomicU64,
}

impl Bits {
    /// `size` bits, none of them set.
    pub fn new(size: u64) -> Self {
        let words = (0..size.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { words, size, ones: AtomicU64::new(0) }
    }

    /// `size` bits from the bytes of a Redis string, which may be shorter: Redis does not store
    /// trailing zeros that were never written.
    ///
    /// # Errors
    /// `Corrupted` if the string is too long, or has bits set beyond `size`.
    pub fn from_bytes(bytes: &[u8], size: u64) -> Result<Self> {
        let too_long = bytes.len() as u64 > size.div_ceil(8);
        let spare = (size.div_ceil(8) * 8 - size) as u32;
        let full = bytes.len() as u64 == size.div_ceil(8);
        let stray = full && bytes.last().is_some_and(|last| last.trailing_zeros() < spare);
        if too_long || stray {
            return Err(Error::new(ErrorKind::Corrupted, "a bitmap is longer than its filter")
                .with_context("bytes", bytes.len())
                .with_context("bits", size));
        }
        let bits = Self::new(size);
        for (word, chunk) in bits.words.iter().zip(bytes.chunks(8)) {
            let mut eight = [0; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            let value = u64::from_be_bytes(eight);
            word.store(value, Relaxed);
            bits.ones.fetch_add(u64::from(value.count_ones()), Relaxed);
        }
        Ok(bits)
    }

    /// The bytes of a Redis string with the same bits.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            self.words.iter().flat_map(|word| word.load(Relaxed).to_be_bytes()).collect();
        bytes.truncate(self.size.div_ceil(8) as usize);
        bytes
    }

    /// Whether the bit at `position` is set.
    ///
    /// # Panics
    /// If `position` is not below [`size`](Self::size).
    #[inline]
    pub fn get(&self, position: u64) -> bool {
        let (word, mask) = place(position);
        self.words[word].load(Relaxed) & mask != 0
    }

    /// Sets the bits at `positions` and returns how many were not set before.
    ///
    /// # Panics
    /// If a position is not below [`size`](Self::size).
    #[inline]
    pub fn set(&self, positions: impl Iterator<Item = u64>) -> u64 {
        let mut fresh = 0;
        for position in positions {
            let (word, mask) = place(position);
            let word = &self.words[word];
            // Look first: most bits of a known key are set, and a plain load leaves the cache
            // line with the other cores.
            if word.load(Relaxed) & mask == 0 && word.fetch_or(mask, Relaxed) & mask == 0 {
                fresh += 1;
            }
        }
        if fresh > 0 {
            self.ones.fetch_add(fresh, Relaxed);
        }
        fresh
    }

    /// The number of bits, set or not.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The number of bits that are set, counted as they were set.
    pub fn ones(&self) -> u64 {
        self.ones.load(Relaxed)
    }
}

/// The word of a position and the mask of its bit.
#[inline]
fn place(position: u64) -> (usize, u64) {
    ((position / 64) as usize, (1 << 63) >> (position % 64))
}

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bits").field("size", &self.size).field("ones", &self.ones()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bit_zero_is_the_most_significant_bit_of_byte_zero_as_in_redis() {
        let bits = Bits::new(80);
        bits.set([0, 7, 8, 63, 64, 79].into_iter());
        assert_eq!(bits.to_bytes(), [0x81, 0x80, 0, 0, 0, 0, 0, 0x01, 0x80, 0x01]);
    }

    #[test]
    fn a_string_with_bits_beyond_the_filter_is_refused() {
        assert!(Bits::from_bytes(&[0, 0b1000_0000], 9).is_ok());
        assert!(Bits::from_bytes(&[0, 0b0100_0000], 9).is_err());
        assert!(Bits::from_bytes(&[0, 0, 0], 9).is_err());
        assert!(Bits::from_bytes(&[0; 17], 64).is_err());
        assert!(Bits::from_bytes(&[], 9).is_ok());
    }

    #[test]
    fn threads_that_set_the_same_bits_count_them_once() {
        let bits = Bits::new(10_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..10_000).step_by(3).for_each(|bit| {
                        bits.set([bit].into_iter());
                    })
                });
            }
        });
        assert_eq!(bits.ones(), 3_334);
    }

    proptest! {
        #[test]
        fn bytes_and_bits_are_the_same_set(
            size in 1u64..300,
            picks in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let positions: Vec<u64> = picks.iter().map(|pick| pick.index(size as usize) as u64).collect();
            let bits = Bits::new(size);
            bits.set(positions.iter().copied());
            let copy = Bits::from_bytes(&bits.to_bytes(), size).unwrap();
            prop_assert_eq!(copy.ones(), bits.ones());
            for position in 0..size {
                prop_assert_eq!(bits.get(position), positions.contains(&position));
                prop_assert_eq!(copy.get(position), bits.get(position));
            }
        }
    }
}
