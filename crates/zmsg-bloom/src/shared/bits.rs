//! Where the bits of shared generations are kept.

use std::fmt;

use async_trait::async_trait;
use zmsg_core::Result;

use super::{Place, Shape, SharedGeneration};

/// Bits that all nodes read and set.
///
/// - Every call names its generation with layout and identity, and is answered [`Held::Lost`]
///   unless the same server, in the same stretch of its history, still holds it whole as far as
///   the call looks. So an answer about the bits is an answer about everything that was ever
///   acknowledged for them.
/// - What was acknowledged is seen by every later call that is not answered `Lost`.
#[async_trait]
pub trait SharedBits: fmt::Debug + Send + Sync + 'static {
    /// Makes an empty generation and tells the identity of the server that holds it.
    ///
    /// # Errors
    /// If the server did not answer.
    ///
    /// # Cancel safety
    /// A dropped call may leave bits behind; [`names`](Self::names) lists them.
    async fn create(&self, shape: &Shape) -> Result<String>;

    /// Sets the bits of keys.
    ///
    /// # Errors
    /// If the server did not answer: bits may be set or not.
    ///
    /// # Cancel safety
    /// A dropped call may have set bits; setting them again is harmless.
    async fn add(&self, generation: &SharedGeneration, places: &[Place]) -> Result<Held>;

    /// Looks at the bits of one key.
    ///
    /// # Errors
    /// If the server did not answer.
    ///
    /// # Cancel safety
    /// Changes nothing.
    async fn test(&self, generation: &SharedGeneration, place: &Place) -> Result<Tested>;

    /// Looks whether the generation is there, every segment of it.
    ///
    /// # Errors
    /// If the server did not answer.
    ///
    /// # Cancel safety
    /// Changes nothing.
    async fn probe(&self, generation: &SharedGeneration) -> Result<Held>;

    /// From now on [`test`](Self::test) answers `Lost`; keys are still taken.
    ///
    /// # Errors
    /// If the server did not answer.
    ///
    /// # Cancel safety
    /// A dropped call may have taken effect.
    async fn retire(&self, generation: &SharedGeneration) -> Result<()>;

    /// The [names](Shape::name) of all generations of this filter that may have bits.
    ///
    /// # Errors
    /// If the server did not answer.
    ///
    /// # Cancel safety
    /// Changes nothing.
    async fn names(&self) -> Result<Vec<String>>;

    /// Removes a generation.
    ///
    /// # Errors
    /// If the server did not answer.
    ///
    /// # Cancel safety
    /// A dropped call may have removed it, wholly or in part.
    async fn remove(&self, name: &str) -> Result<()>;
}

/// Whether a generation is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It is, with this many bits set.
    Whole {
        /// Bits that are set, sentinels left out.
        ones: u64,
    },
    /// It is not: evicted, flushed, on another server, or in another history of this one.
    Lost,
}

/// What a test of a key's bits found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tested {
    /// The generation is there.
    Answered {
        /// Whether one of the key's bits is not set.
        absent: bool,
        /// Bits that are set in the whole generation.
        ones: u64,
    },
    /// It is not there, or is retired.
    Lost,
}
