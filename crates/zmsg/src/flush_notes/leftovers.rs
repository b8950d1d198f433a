//! What engines that are gone have left in L2.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result, Statement, Value};
use zmsg_store::SqlStore;

use super::decode;
use crate::apply::Applier;
use crate::members;

/// How often it is looked for notes of engines that are gone.
const LOOK: Duration = Duration::from_secs(2);

/// Invalidates what the notes of other engines name.
#[derive(Debug)]
pub(crate) struct Leftovers {
    pub(crate) store: Arc<dyn SqlStore>,
    pub(crate) applier: Arc<Applier>,
    pub(crate) member: Uuid,
}

/// Where a note is, and which one it is.
#[derive(Debug)]
struct Place {
    member: Uuid,
    slot: i64,
    seq: i64,
}

impl Leftovers {
    /// Once, before an engine is used: the notes of all others, since one that was killed a moment
    /// ago looks alive. Taking out once too often costs a load and nothing else.
    pub(crate) async fn invalidate_all(&self) {
        let all = "SELECT member, slot, seq FROM zmsg_flushes WHERE member <> ?";
        if let Err(error) = self.sweep(all, false).await {
            tracing::warn!(%error, "L2 may be older than the database until this can be done");
        }
    }

    /// From then on the notes of those whose lease has ended, each once.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let gone = format!(
            "SELECT member, slot, seq FROM zmsg_flushes WHERE member <> ? AND NOT EXISTS \
             (SELECT 1 FROM zmsg_members WHERE id = member AND {})",
            members::live()
        );
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
            if let Err(error) = self.sweep(&gone, true).await {
                tracing::debug!(%error, "what an engine has left in L2 stays for a moment");
            }
        }
    }

    /// Stops at the first that cannot be done: the next ones could not either.
    async fn sweep(&self, places: &str, forget: bool) -> Result<()> {
        let query = Statement::query(places, vec![self.member.into()]);
        for row in self.store.fetch(&query).await? {
            let Value::Uuid(member) = *row.at(0)? else {
                return Err(Error::new(ErrorKind::Unexpected, "the id of a member is no uuid"));
            };
            let place = Place { member, slot: row.int(1)?, seq: row.int(2)? };
            self.invalidate(&place).await?;
            if forget {
                self.forget(&place).await?;
            }
        }
        Ok(())
    }

    async fn invalidate(&self, place: &Place) -> Result<()> {
        let text = "SELECT keys FROM zmsg_flushes WHERE member = ? AND slot = ?";
        let query = Statement::query(text, vec![place.member.into(), place.slot.into()]);
        let Some(row) = self.store.fetch(&query).await?.pop() else { return Ok(()) };
        self.applier.try_invalidate(&decode(row.bytes(0)?)).await
    }

    /// Only the note that was read: its engine may live after all, and have written another.
    async fn forget(&self, place: &Place) -> Result<()> {
        let text = "DELETE FROM zmsg_flushes WHERE member = ? AND slot = ? AND seq = ?";
        let binds = vec![place.member.into(), place.slot.into(), place.seq.into()];
        self.store.execute(&Statement::new(text, binds)).await.map(drop)
    }
}
