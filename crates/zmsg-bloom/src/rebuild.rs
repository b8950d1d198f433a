//! The token of a running rebuild.

use std::collections::BTreeSet;
use std::fmt;

/// A rebuild that runs. Dropping it abandons the rebuild.
#[must_use = "dropping it abandons the rebuild"]
pub struct Rebuild {
    id: u64,
    covers: BTreeSet<String>,
    abandon: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Rebuild {
    /// A token for a filter to hand out. `abandon` runs if it is dropped before
    /// [`ended`](Self::ended).
    pub fn new(id: u64, abandon: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { id, covers: BTreeSet::new(), abandon: Some(Box::new(abandon)) }
    }

    /// Which rebuild this is.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Says that all keys of `scope` were seeded, so that nodes that share the filter know which
    /// absences it may tell. What a scope is, its user decides; one with a line break is left out.
    pub fn cover(&mut self, scope: impl Into<String>) {
        let scope = scope.into();
        if !scope.contains('\n') {
            self.covers.insert(scope);
        }
    }

    /// What was seeded, in order.
    pub fn covers(&self) -> impl Iterator<Item = &str> {
        self.covers.iter().map(String::as_str)
    }

    /// Takes the token back without abandoning: for a filter that has switched.
    pub fn ended(mut self) {
        self.abandon = None;
    }
}

impl Drop for Rebuild {
    fn drop(&mut self) {
        if let Some(abandon) = self.abandon.take() {
            abandon();
        }
    }
}

impl fmt::Debug for Rebuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rebuild").field("id", &self.id).finish_non_exhaustive()
    }
}
