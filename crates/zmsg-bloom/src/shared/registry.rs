//! What the nodes agree on, and where they agree on it.

use std::fmt;

use async_trait::async_trait;
use zmsg_core::Result;

use super::SharedGeneration;

/// Where nodes agree on the state of a filter that they share: one row of the database that their
/// writes go to.
///
/// - A read gives the newest committed row, never that of a replica.
/// - A swap compares the version and sets the whole row, in one atomic step; every version is
///   higher than those before it.
/// - A transaction that ends with the guard of a version commits only if no swap to another
///   version had been committed when the guard was evaluated.
/// - [`older_transactions_ended`](Self::older_transactions_ended) returns when every transaction has
///   ended whose guard was evaluated before the call.
#[async_trait]
pub trait FilterRegistry: fmt::Debug + Send + Sync + 'static {
    /// The row; makes [`FilterRow::default`] if there is none.
    ///
    /// # Errors
    /// If the database did not answer.
    ///
    /// # Cancel safety
    /// Changes nothing but to make the row.
    async fn read(&self) -> Result<FilterRow>;

    /// Sets the row if its version is still `version`; says whether it was.
    ///
    /// # Errors
    /// If the database did not answer; the row may be set or not.
    ///
    /// # Cancel safety
    /// A dropped call has set the row or not.
    async fn swap(&self, version: u64, row: &FilterRow) -> Result<bool>;

    /// Says that the builder of `building` lives, by raising [`FilterRow::beat`].
    ///
    /// # Errors
    /// If the database did not answer.
    ///
    /// # Cancel safety
    /// A dropped call has raised it or not.
    async fn beat(&self, building: &SharedGeneration) -> Result<()>;

    /// Waits until every transaction has ended that passed a guard before this call.
    ///
    /// # Errors
    /// If the database did not answer.
    ///
    /// # Cancel safety
    /// Dropping the future only stops waiting.
    async fn older_transactions_ended(&self) -> Result<()>;
}

/// The state of a shared filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRow {
    /// Raised by every change.
    pub version: u64,
    /// The generation whose "absent" counts.
    pub trusted: Option<SharedGeneration>,
    /// The generation that is being filled.
    pub building: Option<SharedGeneration>,
    /// The generation that was trusted before, for the readers whose lease still says so.
    pub retiring: Option<SharedGeneration>,
    /// False while a reader may trust a generation that is not named here any more.
    pub settled: bool,
    /// Why nothing is trusted, if nothing is.
    pub cause: Cause,
    /// What the trusted generation was seeded from; see [`Rebuild::cover`](crate::Rebuild::cover).
    pub covers: Vec<String>,
    /// Grows while the builder lives.
    pub beat: u64,
}

/// Why no generation is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// No rebuild has ended yet.
    Unseeded,
    /// Rows were written whose keys the filter was not told.
    Distrusted,
    /// A generation was lost, or did not take a key.
    Lost,
}

impl Default for FilterRow {
    /// The state of a filter that nobody has built: nothing to trust, nothing to wait for.
    fn default() -> Self {
        Self {
            version: 1,
            trusted: None,
            building: None,
            retiring: None,
            settled: true,
            cause: Cause::Unseeded,
            covers: Vec::new(),
            beat: 0,
        }
    }
}

impl FilterRow {
    /// The generations that a write adds its keys to.
    pub fn generations(&self) -> impl Iterator<Item = &SharedGeneration> {
        [&self.trusted, &self.building, &self.retiring].into_iter().flatten()
    }

    /// This row, to be changed, under the next version.
    pub(crate) fn next(&self) -> Self {
        Self { version: self.version + 1, ..self.clone() }
    }

    /// Takes out the generations that `which` names. Whether readers may still trust one of them
    /// decides if the row is settled.
    pub(crate) fn take_out(&mut self, cause: Cause, which: impl Fn(&SharedGeneration) -> bool) {
        self.building = self.building.take().filter(|building| !which(building));
        if self.trusted.as_ref().is_some_and(&which) {
            self.trusted = None;
            self.covers.clear();
            self.cause = cause;
            self.settled = false;
        }
        if self.retiring.as_ref().is_some_and(&which) {
            self.retiring = None;
            self.settled = false;
        }
    }
}

impl Cause {
    /// The word that stands for it in the state.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unseeded => "unseeded",
            Self::Distrusted => "distrusted",
            Self::Lost => "lost",
        }
    }

    /// The cause of a word; one that another version wrote counts as [`Lost`](Self::Lost).
    pub fn from_text(text: &str) -> Self {
        match text {
            "unseeded" => Self::Unseeded,
            "distrusted" => Self::Distrusted,
            _ => Self::Lost,
        }
    }
}
