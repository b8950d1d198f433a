//! Whether a store has what flushes need.

use zmsg_core::{Error, ErrorKind, Result, Statement};
use zmsg_sqlbuilder::Dialect;

use crate::flush::Ledger;

impl Ledger {
    /// Finds out at the start what every flush would fail of.
    pub(super) async fn check_store(&self) -> Result<()> {
        self.probe("SELECT seq FROM zmsg_ledger LIMIT 0", "run zmsg's own migrations first")
            .await?;
        self.probe("SELECT id FROM zmsg_dead_letters LIMIT 0", "run zmsg's own migrations first")
            .await?;
        let (call, hint) = match self.store.dialect() {
            Dialect::Sqlite => (
                "SELECT zmsg_counter(NULL, 1, 0), zmsg_fold(NULL, '[1,\"zero\"]')",
                "open the SQLite store with sqlite_functions()",
            ),
            Dialect::Postgres => (
                "SELECT zmsg_add(NULL::bigint, 1::bigint), zmsg_counter(NULL::bigint, 1.0, 0.0), \
                 zmsg_fold(NULL::bigint, '[1,\"zero\"]'::jsonb)",
                "run zmsg's own migrations first",
            ),
        };
        self.probe(call, hint).await
    }

    async fn probe(&self, query: &'static str, hint: &'static str) -> Result<()> {
        let query = Statement::query(query, Vec::new());
        match self.store.fetch(&query).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                Err(Error::invalid_config("the store is not ready for flushes")
                    .with_context("hint", hint)
                    .with_source(error))
            }
            Err(error) => Err(error),
        }
    }
}
