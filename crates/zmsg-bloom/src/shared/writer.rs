//! Writes: their keys go into every generation that the state names, or it ceases to name it.

use std::sync::Arc;

use futures_util::future::join_all;
use zmsg_core::{Key, Result};

use super::core::{Core, crowded};
use super::counts::count;
use super::live::Live;
use super::view::View;
use super::{Cause, FilterRow, Held};

/// Keys of one call to the backend: it bounds how long the server is busy with one.
pub(super) const KEYS_PER_CALL: usize = 256;

/// How often a write starts again because the state changed under it.
const ATTEMPTS: u32 = 16;

impl Core {
    /// Adds `keys` to every generation that the state names; the version that this is true for.
    ///
    /// The state may have changed long ago, and a call may take long: the write's transaction
    /// checks the version.
    pub(super) async fn admit(&self, keys: &[Key]) -> Result<u64> {
        let mut view = self.known().await?;
        for _ in 0..ATTEMPTS {
            // A reader may still trust a generation that gets no more keys.
            view = self.settle(view).await?;
            let refused = self.add_to_all(&view, keys).await;
            if refused.is_empty() {
                count(&self.counts.admitted);
                return Ok(view.row.version);
            }
            view = self.take_out(&view, &refused).await?;
        }
        Err(crowded())
    }

    /// Takes the trust from whatever has it, and spoils what is being built. The version under
    /// which nothing is trusted by anybody.
    pub(super) async fn distrust(&self) -> Result<u64> {
        for _ in 0..ATTEMPTS {
            let view = self
                .change(|view| {
                    view.row.generations().next()?;
                    let mut row = view.row.next();
                    row.take_out(Cause::Distrusted, |_| true);
                    row.cause = Cause::Distrusted;
                    Some(row)
                })
                .await?;
            let view = self.settle(view).await?;
            // A rebuild may have begun while this waited: it knows nothing of the write either.
            if view.row.generations().next().is_none() {
                return Ok(view.row.version);
            }
        }
        Err(crowded())
    }

    async fn add_to_all(&self, view: &View, keys: &[Key]) -> Vec<Arc<Live>> {
        let adding = view.lives().iter().map(|live| async move {
            let added = self.add(live, keys).await;
            (!matches!(added, Ok(Held::Whole { .. }))).then(|| Arc::clone(live))
        });
        join_all(adding).await.into_iter().flatten().collect()
    }

    /// Adds keys to one generation. Those that it is known to have are not sent again: if it was lost
    /// since, they are no more absent than all others.
    pub(super) async fn add(&self, live: &Live, keys: &[Key]) -> Result<Held> {
        if live.is_lost() {
            return Ok(Held::Lost);
        }
        let mut held = Held::Whole { ones: live.ones() };
        let unknown: Vec<Key> =
            keys.iter().filter(|key| !live.knows(key.as_str())).cloned().collect();
        for some in unknown.chunks(KEYS_PER_CALL) {
            let places: Option<Vec<_>> = some.iter().map(|key| live.place(key)).collect();
            let Some(places) = places else { return Ok(Held::Lost) };
            held = self.call(|| self.bits.add(live.generation(), &places)).await?;
            live.heard(held);
            if held == Held::Lost {
                return Ok(held);
            }
            live.learn(some);
        }
        Ok(held)
    }

    /// Takes generations that did not take a key out of the state, unless it has changed anyway.
    async fn take_out(&self, view: &View, refused: &[Arc<Live>]) -> Result<Arc<View>> {
        let fresh = self.refresh().await?;
        if fresh.row.version != view.row.version {
            return Ok(fresh);
        }
        let mut row = fresh.row.next();
        row.take_out(Cause::Lost, |named| refused.iter().any(|live| live.generation() == named));
        let swapped: Option<Arc<View>> = self.swap(&fresh, row).await?;
        match swapped {
            Some(view) => {
                count(&self.counts.dropped);
                tracing::warn!(generations = ?refused, "a shared filter did not take a key and is built anew");
                Ok(view)
            }
            None => self.refresh().await,
        }
    }
}

/// The row without `generation` as the one that is being built; `None` if it is not named so.
pub(super) fn without_building(
    view: &View,
    generation: &super::SharedGeneration,
) -> Option<FilterRow> {
    let named = view.row.building.as_ref() == Some(generation);
    named.then(|| FilterRow { building: None, ..view.row.next() })
}
