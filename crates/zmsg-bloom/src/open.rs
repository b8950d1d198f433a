//! The filter that rules nothing out.

use async_trait::async_trait;
use zmsg_core::{Key, Result};

use crate::{Checks, FilterState, FilterStats, Insertion, MembershipFilter, Rebuild, Verdict};

/// A filter that is not there: every key is unknown, every change succeeds and does nothing.
///
/// For sources that cannot list their keys, and for several nodes without a shared filter.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenFilter;

#[async_trait]
impl MembershipFilter for OpenFilter {
    fn check(&self, _key: &str) -> Verdict {
        Verdict::Unknown
    }

    async fn confirm_absent(&self, _key: &Key) -> Result<bool> {
        Ok(false)
    }

    async fn insert(&self, _keys: &[Key]) -> Result<Insertion> {
        Ok(Insertion::untracked())
    }

    async fn begin_rebuild(&self, _expected: u64) -> Result<Rebuild> {
        Ok(Rebuild::new(0, || ()))
    }

    async fn seed(&self, _rebuild: &Rebuild, _keys: &[Key]) -> Result<()> {
        Ok(())
    }

    async fn finish_rebuild(&self, rebuild: Rebuild) -> Result<()> {
        rebuild.ended();
        Ok(())
    }

    async fn distrust(&self) -> Result<Insertion> {
        Ok(Insertion::untracked())
    }

    /// All zero, checks included: an open filter keeps nothing.
    fn stats(&self) -> FilterStats {
        FilterStats {
            state: FilterState::Open,
            rebuilding: false,
            capacity: 0,
            error_rate: 1.0,
            bits: 0,
            hashes: 0,
            inserted: 0,
            fill_ratio: 0.0,
            checks: Checks::default(),
            rebuilds: 0,
            wants_rebuild: false,
        }
    }
}
