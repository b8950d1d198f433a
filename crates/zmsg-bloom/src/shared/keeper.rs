//! The loop that keeps a node's lease of the state.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use zmsg_core::Result;

use super::core::Core;

/// Reads the state again before the lease of the last read ends, three times a lease.
///
/// While it does not run, or the database does not answer, the lease ends by itself and the
/// filter rules nothing out. It also looks whether a generation that this node has not asked yet
/// is there, asks a backend that was away whether it is back, and takes rebuilds that were dropped
/// out of the state.
#[derive(Debug)]
#[must_use = "it does nothing until it runs"]
pub struct FilterKeeper {
    core: Arc<Core>,
}

impl FilterKeeper {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Keeps the lease until `shutdown`.
    ///
    /// # Errors
    /// None: what fails is tried again.
    ///
    /// # Cancel safety
    /// Dropping the future ends the lease by its time.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let mut away = false;
        loop {
            let renewed = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                renewed = self.renew() => renewed,
            };
            match (renewed, away) {
                (Err(error), false) => {
                    tracing::warn!(%error, "the shared filter rules nothing out until this works");
                    away = true;
                }
                (Err(_), true) => {}
                (Ok(()), _) => away = false,
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(self.core.options.lease / 3) => {}
            }
        }
    }

    async fn renew(&self) -> Result<()> {
        let core = &self.core;
        let view = core.refresh().await?;
        if let Some(live) = view.trusted()
            && (core.is_away() || !live.was_asked())
            && let Ok(held) = core.heard(core.bits.probe(live.generation()).await)
        {
            live.heard(held);
        }
        core.clear_abandoned().await
    }
}
