//! A generator on a database, with its keeper running.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zmsg_core::{Error, Result, SystemClock};
use zmsg_idgen::{IdGenerator, IdOptions, NodeLease, RawId, SqlLease, SqlLeaseOptions};
use zmsg_store::SqlStore;

use super::two_nodes;

/// The generator, and the loop beside it.
pub(crate) struct Kept {
    pub(crate) generator: IdGenerator,
    shutdown: CancellationToken,
    keeper: JoinSet<Result<()>>,
}

impl Kept {
    /// Begins, with little patience for a database that does not answer.
    pub(crate) async fn start(
        store: Arc<dyn SqlStore>,
        lease: Duration,
        reserve_ahead: Duration,
    ) -> Self {
        let options = SqlLeaseOptions {
            lease,
            grace: Duration::ZERO,
            request_timeout: Duration::from_millis(500),
            ..SqlLeaseOptions::default()
        };
        let leases: Arc<dyn NodeLease> = Arc::new(SqlLease::new(store, options).unwrap());
        let ids = IdOptions { reserve_ahead, ..IdOptions::default() };
        let clock = Arc::new(SystemClock);
        let began = Instant::now();
        let generator = loop {
            let leases = Arc::clone(&leases);
            match IdGenerator::start(two_nodes(), leases, clock.clone(), ids).await {
                Ok(generator) => break generator,
                // Connecting may take longer than that on a busy machine.
                Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "{error:?}"),
            }
        };
        let shutdown = CancellationToken::new();
        let mut keeper = JoinSet::new();
        keeper.spawn(generator.keeper().run(shutdown.clone()));
        Self { generator, shutdown, keeper }
    }

    /// Takes ids until there is none, and says why.
    pub(crate) async fn until_refused(&self, ids: &mut Vec<RawId>) -> Error {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            match self.generator.next().await {
                Ok(id) => ids.push(id),
                Err(error) => return error,
            }
        }
    }

    /// Waits until there are ids again, without a hand being moved.
    pub(crate) async fn until_served(&self, ids: &mut Vec<RawId>) {
        let began = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            match self.generator.next().await {
                Ok(id) => return ids.push(id),
                Err(error) => assert!(error.is_temporary(), "{error:?}"),
            }
            assert!(began.elapsed() < Duration::from_secs(30), "it does not recover");
        }
    }

    /// Ends, and makes sure of the ids.
    pub(crate) async fn end(mut self, ids: &[RawId]) {
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "ids rise");
        self.shutdown.cancel();
        self.keeper.join_next().await.unwrap().unwrap().unwrap();
        self.generator.close().await.unwrap();
    }
}
