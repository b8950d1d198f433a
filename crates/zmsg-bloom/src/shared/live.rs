//! What this node knows of a generation.

use std::fmt;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use zmsg_core::Key;

use super::{Held, Place, Shape, SharedGeneration};
use crate::{Bits, FilterState, KeyHash, Verdict};

/// A generation with the bits that are known here to be set: those of keys that this node added,
/// seeded, or asked for and found. They save the question to the backend for keys that are there.
pub(super) struct Live {
    generation: SharedGeneration,
    mirror: Option<Bits>,
    ones: AtomicU64,
    asked: AtomicBool,
    lost: AtomicBool,
}

impl Live {
    pub(super) fn new(generation: SharedGeneration) -> Self {
        let mirror = generation.shape().map(|shape| Bits::new(shape.bits()));
        let (ones, asked, lost) =
            (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
        Self { generation, mirror, ones, asked, lost }
    }

    pub(super) fn generation(&self) -> &SharedGeneration {
        &self.generation
    }

    pub(super) fn shape(&self) -> Option<&Shape> {
        self.generation.shape()
    }

    /// Why it says nothing; `Ready` if it does.
    pub(super) fn state(&self) -> FilterState {
        if self.mirror.is_none() || self.lost.load(Acquire) {
            FilterState::Lost
        } else if self.is_over_filled() {
            FilterState::OverFilled
        } else {
            FilterState::Ready
        }
    }

    /// "Absent" is a guess: the backend knows more.
    #[inline]
    pub(super) fn check(&self, key: &str) -> Verdict {
        match self.state() {
            FilterState::Ready if self.knows(key) => Verdict::Maybe,
            FilterState::Ready => Verdict::Absent,
            _ => Verdict::Unknown,
        }
    }

    /// Whether the backend has all bits of this key, for as long as it has the generation: none is
    /// ever taken out.
    pub(super) fn knows(&self, key: &str) -> bool {
        let (Some(mirror), Some(shape)) = (&self.mirror, self.shape()) else { return false };
        let hash = shape.hash(key);
        let base = u64::from(hash.segment(shape.segments)) * shape.segment_bits;
        let mut offsets = hash.positions(shape.segment_bits, shape.hashes);
        offsets.all(|offset| mirror.get(base + offset))
    }

    /// The bits of these keys are set in the backend.
    pub(super) fn learn(&self, keys: &[Key]) {
        let (Some(mirror), Some(shape)) = (&self.mirror, self.shape()) else { return };
        for key in keys {
            let hash: KeyHash = shape.hash(key.as_str());
            let base = u64::from(hash.segment(shape.segments)) * shape.segment_bits;
            let offsets = hash.positions(shape.segment_bits, shape.hashes);
            mirror.set(offsets.map(|offset| base + offset));
        }
    }

    /// The backend was asked.
    pub(super) fn heard(&self, held: Held) {
        match held {
            Held::Whole { ones } => {
                self.ones.fetch_max(ones, Relaxed);
            }
            // It does not come back: the server that answers now has another history.
            Held::Lost => {
                if !self.lost.swap(true, Release) {
                    tracing::warn!(generation = ?self.generation, "a shared filter's bits are lost");
                }
            }
        }
        self.asked.store(true, Release);
    }

    pub(super) fn place(&self, key: &Key) -> Option<Place> {
        self.shape().map(|shape| shape.place(key.as_str()))
    }

    pub(super) fn was_asked(&self) -> bool {
        self.asked.load(Acquire)
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Acquire)
    }

    /// Bits that are set, as far as this node has heard.
    pub(super) fn ones(&self) -> u64 {
        self.ones.load(Relaxed)
    }

    /// Different keys, estimated from the bits.
    pub(super) fn inserted(&self) -> u64 {
        self.shape().map_or(0, |shape| shape.params.estimate_keys(self.ones()))
    }

    pub(super) fn is_over_filled(&self) -> bool {
        self.shape().is_none_or(|shape| self.ones() > shape.params.ones_max())
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("generation", &self.generation)
            .field("ones", &self.ones())
            .field("lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}
