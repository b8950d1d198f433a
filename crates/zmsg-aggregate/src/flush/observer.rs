//! Who hears of flushes.

use std::fmt;

use async_trait::async_trait;
use zmsg_core::{Key, Result};
use zmsg_store::Step;

/// What an observer wants to be kept for as long as a flush is on its way.
pub type FlushGuard = Box<dyn Hold>;

/// Something that is kept while a flush is on its way, and dropped when its outcome is known.
pub trait Hold: fmt::Debug + Send + Sync {
    /// A check of the observer failed, and nothing was committed: it will be asked anew at once.
    fn outdated(self: Box<Self>) {}
}

impl Hold for () {}

/// What an observer gives to a flush before it begins.
#[derive(Debug)]
pub struct Flushing {
    /// Kept for as long as the flush is on its way.
    pub guard: FlushGuard,
    /// Run in the transaction of the flush, before its own statements: each must fail with
    /// `Conflict` if what the observer did for the keys no longer holds. The flush is rolled
    /// back then, the observer is asked anew, and the flush is tried again.
    pub checks: Vec<Step>,
}

impl Flushing {
    /// Nothing to keep and nothing to check.
    pub fn unobserved() -> Self {
        Self { guard: Box::new(()), checks: Vec::new() }
    }
}

/// Hears of every flush, so that caches can follow the tables.
///
/// - It is called after a seal was applied or dead-lettered and before anybody who waits for
///   one of its operations is told.
/// - Every key that was submitted with an operation of the seal is among `keys`, once.
/// - A panic in it is logged and loses nothing.
/// - It must not flush: the flush that it is told of ends only after it returns.
#[async_trait]
pub trait FlushObserver: fmt::Debug + Send + Sync + 'static {
    /// Operations of these keys are about to be committed and may bring rows about: what has to
    /// know of a row before it can exist learns of it here. The guard is kept until the outcome
    /// is known, over failed attempts too. It is asked again for the same flush if a check of
    /// its own failed.
    ///
    /// # Errors
    /// The flush is not begun, and is tried again.
    async fn flushing(&self, keys: &[Key]) -> Result<Flushing> {
        let _ = keys;
        Ok(Flushing::unobserved())
    }

    /// The operations of these keys have taken effect, or never will.
    async fn flushed(&self, keys: &[Key]);
}

/// Nobody listens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

#[async_trait]
impl FlushObserver for Unobserved {
    async fn flushed(&self, _keys: &[Key]) {}
}
