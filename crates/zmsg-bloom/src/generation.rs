//! One generation of a filter: its bits, and whether their absence may be believed.

use std::sync::atomic::{
    AtomicU8, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

use zmsg_core::{Error, ErrorKind, Result};

use crate::{FilterState, Header, KeySet, Params, Verdict};

/// Keys that were added under one header, and their trust.
///
/// Trust moves one way, `Unseeded → Ready → OverFilled`, and from anywhere to `Distrusted`; only a
/// new generation starts again.
#[derive(Debug)]
pub(crate) struct Generation<K> {
    header: Header,
    params: Params,
    ones_max: u64,
    keys: K,
    seeded: AtomicU64,
    trust: AtomicU8,
}

const UNSEEDED: u8 = 0;
const READY: u8 = 1;
const OVER_FILLED: u8 = 2;
const DISTRUSTED: u8 = 3;

impl<K: KeySet> Generation<K> {
    /// An empty generation that nobody believes yet.
    pub(crate) fn new(params: Params, seed: u64, generation: u64) -> Self {
        Self {
            header: Header::new(&params, seed, generation),
            params,
            ones_max: params.ones_max(),
            keys: K::new(&params, seed),
            seeded: AtomicU64::new(0),
            trust: AtomicU8::new(UNSEEDED),
        }
    }

    #[inline]
    pub(crate) fn check(&self, key: &str) -> Verdict {
        if self.trust.load(Acquire) != READY {
            return Verdict::Unknown;
        }
        if self.keys.contains(K::hash(key, self.header.seed)) {
            Verdict::Maybe
        } else if self.trust.load(Acquire) == READY {
            Verdict::Absent
        } else {
            // Trust was lost while the bits were read.
            Verdict::Unknown
        }
    }

    /// Adds the key of a write.
    pub(crate) fn insert(&self, key: K::Hashed<'_>) {
        let fresh = self.keys.add(key);
        if fresh && self.keys.ones() > self.ones_max {
            let turned = self.trust.compare_exchange(READY, OVER_FILLED, AcqRel, Relaxed);
            if turned.is_ok() {
                tracing::warn!(
                    capacity = self.params.capacity(),
                    "the membership filter is over-filled and rules nothing out until it is rebuilt"
                );
            }
        }
    }

    /// Adds a key of the source.
    pub(crate) fn seed(&self, key: K::Hashed<'_>) {
        self.insert(key);
        self.seeded.fetch_add(1, Relaxed);
    }

    /// From now on absence is believed, unless something spoke against it meanwhile.
    pub(crate) fn open(&self) -> Result<()> {
        if self.keys.ones() > self.ones_max {
            return Err(Error::new(ErrorKind::Overloaded, "a rebuild met more keys than expected")
                .temporary()
                .with_context("capacity", self.params.capacity())
                .with_context("seeded", self.seeded()));
        }
        // Every seeded bit is visible to those who see the trust.
        self.trust.compare_exchange(UNSEEDED, READY, AcqRel, Acquire).map_err(|_| {
            Error::new(ErrorKind::Conflict, "rows were written behind a rebuild's back").temporary()
        })?;
        Ok(())
    }

    /// Absence is never believed again. True if it was until now.
    pub(crate) fn distrust(&self) -> bool {
        self.trust.swap(DISTRUSTED, AcqRel) == READY
    }

    pub(crate) fn number(&self) -> u64 {
        self.header.generation
    }

    pub(crate) fn params(&self) -> &Params {
        &self.params
    }

    pub(crate) fn header(&self) -> Header {
        self.header
    }

    pub(crate) fn ones(&self) -> u64 {
        self.keys.ones()
    }

    /// Keys that came from the source, with repetitions.
    pub(crate) fn seeded(&self) -> u64 {
        self.seeded.load(Relaxed)
    }

    pub(crate) fn state(&self) -> FilterState {
        match self.trust.load(Acquire) {
            UNSEEDED => FilterState::Unseeded,
            READY => FilterState::Ready,
            OVER_FILLED => FilterState::OverFilled,
            _ => FilterState::Distrusted,
        }
    }
}
