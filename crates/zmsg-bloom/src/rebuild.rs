//! The token of a running rebuild.

use std::fmt;

/// A rebuild that runs. Dropping it abandons the rebuild.
#[must_use = "dropping it abandons the rebuild"]
pub struct Rebuild {
    id: u64,
    abandon: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Rebuild {
    /// A token for a filter to hand out. `abandon` runs if it is dropped before
    /// [`ended`](Self::ended).
    pub fn new(id: u64, abandon: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { id, abandon: Some(Box::new(abandon)) }
    }

    /// Which rebuild this is.
    pub fn id(&self) -> u64 {
        self.id
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
