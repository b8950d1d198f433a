//! The filter of one process on the `bloomfilter` crate.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock};

use bloomfilter::Bloom;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::{KeySet, LocalFilter, Params};

/// A [`LocalFilter`] that keeps its keys in the `bloomfilter` crate: SipHash, byte-wise bits.
///
/// It keeps every promise of the default one but that a check takes no lock. The crate needs
/// `&mut` to add a key, so its filter is split, and each part has a lock that checks share.
pub type ClassicFilter = LocalFilter<ClassicKeys>;

/// The keys of a [`ClassicFilter`].
pub struct ClassicKeys {
    parts: Box<[RwLock<Part>]>,
    seed: u64,
    bits: u64,
    ones: AtomicU64,
}

struct Part {
    bloom: Bloom<str>,
    /// Bits that are set: expected, for the crate does not tell.
    ones: f64,
}

/// Enough that threads rarely meet.
const PARTS: u64 = 16;

/// Fewer keys than this are not split: by chance some parts would be filled well above others.
const PART_KEYS_MIN: u64 = 8_192;

impl ClassicKeys {
    /// The part that a key belongs to.
    fn part(&self, key: &str) -> &RwLock<Part> {
        if let [only] = &*self.parts {
            return only;
        }
        let hash = xxh3_64_with_seed(key.as_bytes(), self.seed);
        &self.parts[hash as usize % self.parts.len()]
    }
}

impl KeySet for ClassicKeys {
    type Hashed<'k> = &'k str;

    /// # Panics
    /// Never: a filter with parameters has at least one key and one bit.
    fn new(params: &Params, seed: u64) -> Self {
        let parts = if params.capacity() < PARTS * PART_KEYS_MIN { 1 } else { PARTS };
        let bytes = params.bits().div_ceil(parts * 8) as usize;
        let keys = params.capacity().div_ceil(parts) as usize;
        let part = |number: u64| {
            let bloom = Bloom::new_with_seed(bytes, keys, &sip_keys(seed, number));
            RwLock::new(Part { bloom: bloom.expect("a valid size"), ones: 0.0 })
        };
        let parts = (0..parts).map(part).collect();
        Self { parts, seed, bits: params.bits(), ones: AtomicU64::new(0) }
    }

    #[inline]
    fn hash(key: &str, _seed: u64) -> &str {
        key
    }

    #[inline]
    fn contains(&self, key: &str) -> bool {
        self.part(key).read().unwrap_or_else(PoisonError::into_inner).bloom.check(key)
    }

    fn add(&self, key: &str) -> bool {
        // Most keys of a write that repeats are there; readers are not kept out for them.
        if self.contains(key) {
            return false;
        }
        let mut part = self.part(key).write().unwrap_or_else(PoisonError::into_inner);
        let Part { bloom, ones } = &mut *part;
        if bloom.check_and_set(key) {
            return false;
        }
        let before = *ones as u64;
        *ones += expected_ones(bloom.len(), bloom.number_of_hash_functions(), *ones);
        self.ones.fetch_add(*ones as u64 - before, Relaxed);
        true
    }

    fn ones(&self) -> u64 {
        self.ones.load(Relaxed).min(self.bits)
    }
}

/// Tells nothing of the seed, as the crate's own would.
impl fmt::Debug for ClassicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassicKeys")
            .field("parts", &self.parts.len())
            .field("bits", &self.bits)
            .field("ones", &self.ones())
            .finish_non_exhaustive()
    }
}

/// How many bits a key sets that not all were set of: k·(1 − f) on average over all keys, of which
/// a part f^k sets none.
fn expected_ones(bits: u64, hashes: u32, ones: f64) -> f64 {
    let filled = ones / bits as f64;
    let all_set = filled.powi(hashes as i32);
    // At least the one that was missing; and a full part has no room for more.
    let fresh = f64::from(hashes) * (1.0 - filled) / (1.0 - all_set);
    if fresh.is_finite() { fresh.max(1.0).min(bits as f64 - ones) } else { 0.0 }
}

/// The two keys of a part's hashes, in a row.
fn sip_keys(seed: u64, part: u64) -> [u8; 32] {
    let mut keys = [0; 32];
    for (half, key) in keys.chunks_mut(16).enumerate() {
        let text = [part.to_le_bytes(), (half as u64).to_le_bytes()].concat();
        key.copy_from_slice(&xxh3_128_with_seed(&text, seed).to_le_bytes());
    }
    keys
}
