//! The loop that keeps an engine's row and mark.

use tokio_util::sync::CancellationToken;
use zmsg_core::Result;

use super::{BEAT, Member};

impl Member {
    /// Renews the lease until `shutdown`. The row stays: who closes removes it when nothing writes
    /// any more.
    ///
    /// An outage of the database costs the lease and nothing else. Who shares something else may
    /// have entered then, which is told in the log: this engine has been at work all the time, and
    /// stopping it would help nobody.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let mut is_well = true;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(BEAT) => {}
            }
            let renewed = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                renewed = self.beat() => renewed,
            };
            match renewed {
                Ok(()) => is_well = true,
                Err(error) if is_well => {
                    is_well = false;
                    tracing::warn!(%error, "the row of this node could not be renewed; it is tried again");
                }
                Err(error) => tracing::debug!(%error, "the row of this node could not be renewed"),
            }
        }
    }

    async fn beat(&self) -> Result<()> {
        let put = self.marks.put(self.rows.id()).await;
        if self.rows.renew(i64::from(put)).await? {
            return Ok(());
        }
        if let Some(other) = self.rows.different().await? {
            let error = self.refused(
                "another node has opened this database, while this one could not renew its lease, \
                 that shares something else with the others in Redis: close one of them",
                &other,
            );
            tracing::error!(%error, "the nodes of this database do not share the same things");
        }
        Ok(())
    }
}
